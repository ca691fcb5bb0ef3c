#include "evolution/breed.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "core/threads.h"
#include "tests/evolution/evolution_fixture.h"

namespace moe {
namespace {

using namespace test;

// Generations of random mating, a fixed gain for some operators: what a search does, without scores.
std::vector<Genome> run(const SearchSpace& space, Variation& v, GenePool& pool, int n_threads, int generations) {
  constexpr uint32_t kSize = 24;
  std::vector<Genome> now;
  for (uint32_t i = 0; i < kSize; ++i) {
    now.push_back(random_genome(space, pool, i));
    now.back().lineage.id = genome_id(0, i);
  }
  ThreadPool threads(n_threads);
  for (uint32_t g = 1; g <= static_cast<uint32_t>(generations); ++g) {
    Rng rng = stream_of(1, Purpose::kMating, g);
    std::vector<std::pair<size_t, size_t>> parents;
    for (uint32_t i = 0; i < kSize; ++i) {
      const size_t mother = rng.below(kSize);
      parents.emplace_back(mother, rng.below(kSize));
    }
    std::vector<Genome> next(kSize);
    auto work = [&](int thread) {
      for (uint32_t i = static_cast<uint32_t>(thread); i < kSize; i += static_cast<uint32_t>(n_threads))
        next[i] = breed(now[parents[i].first], now[parents[i].second], v, space, 1, g, i, pool);
    };
    threads.run(work);
    for (const Genome& child : next) v.reward(child.lineage, child.lineage.operators.size() > 1 ? 1 : 0.5);
    v.end_generation();
    now = std::move(next);
    pool.collect();
  }
  return now;
}

TEST_CASE("1, 2 and 8 threads breed the same genomes with the same lineage") {
  for (const std::string& name : space_names()) {
    CAPTURE(name);
    const SearchSpace space = space_named(name);
    std::vector<uint64_t> wanted;
    std::vector<Lineage> lineage;
    for (const int n_threads : {1, 2, 8}) {
      GenePool pool;
      Result<Variation> v = Variation::create(space);
      REQUIRE_MESSAGE(v.ok(), v.status().message());
      const std::vector<Genome> found = run(space, *v, pool, n_threads, 30);
      std::vector<uint64_t> hashes;
      std::vector<Lineage> lines;
      for (const Genome& g : found) hashes.push_back(hash(g)), lines.push_back(g.lineage);
      for (const Genome& g : found) {
        const Status s = satisfies(g, space);
        CHECK_MESSAGE(s.ok(), s.message());
      }
      if (wanted.empty()) wanted = hashes, lineage = lines;
      CHECK(hashes == wanted);
      CHECK(lines == lineage);
    }
  }
}

TEST_CASE("a child says who its parents are and what was done, and is no copy of its mother") {
  const SearchSpace space = space_named("guided");
  GenePool pool;
  Result<Variation> v = Variation::create(space);
  REQUIRE(v.ok());
  Genome mother = random_genome(space, pool, 1), father = random_genome(space, pool, 2);
  mother.lineage.id = 8, father.lineage.id = 9;
  int crossed = 0, copies = 0;
  for (uint32_t i = 0; i < 1000; ++i) {
    const Genome child = breed(mother, father, *v, space, 3, 5, i, pool);
    CHECK(child.lineage.id == genome_id(5, i));
    CHECK(child.lineage.mother == 8);
    CHECK(child.lineage.generation == 5);
    const bool is_crossed = child.lineage.father == 9;
    const auto& ops = child.lineage.operators;
    CHECK(is_crossed == std::any_of(ops.begin(), ops.end(), [](uint16_t op) { return (op & kCrossoverBit) != 0; }));
    for (const uint16_t op : ops) CHECK(v->name_of(op) != "?");
    copies += same(child, mother);
    CHECK(same(child, mother) == ops.empty());
    crossed += is_crossed;
  }
  CHECK(crossed > 500);
  CHECK(crossed < 800);
  CHECK(copies < 20);
  const Genome alone = breed(mother, mother, *v, space, 3, 5, 0, pool);
  CHECK(alone.lineage.father == 0);
}

TEST_CASE("a caller's own operator joins the table, gets credit and its name") {
  const SearchSpace space = space_named("free");
  std::vector<MutationOp> table = {{.name = "cooler",
                                    .help = "halves the temperature of layer 1",
                                    .changes = kFieldTemperature,
                                    .layers = 1,
                                    .usable = {},
                                    .apply = [](GenomeDraft& d, const SearchSpace&, Rng&) {
                                      d.edit(1).temperature *= 0.5f;
                                      return true;
                                    }}};
  Result<Variation> v = Variation::create(space, {}, table, {});
  REQUIRE_MESSAGE(v.ok(), v.status().message());
  GenePool pool;
  const Genome g = full_genome(space, pool);
  const Genome child = breed(g, g, *v, space, 1, 1, 1, pool);
  CHECK(child.layers[1]->value.temperature <= 0.5f);
  CHECK(v->name_of(child.lineage.operators.at(0)) == "cooler");
}

TEST_CASE("options out of range and tables without use are refused") {
  const SearchSpace space = space_named("exact");
  for (void (*edit)(BreedOptions&) :
       {+[](BreedOptions& o) { o.crossover_rate = 1.5; }, +[](BreedOptions& o) { o.mutate_more = -1; },
        +[](BreedOptions& o) { o.most_mutations = 0; }, +[](BreedOptions& o) { o.credit.rate = 0; },
        +[](BreedOptions& o) { o.mutate_crossed = std::numeric_limits<double>::quiet_NaN(); },
        +[](BreedOptions& o) { o.credit.floor = 2; }}) {
    BreedOptions o;
    edit(o);
    CHECK(Variation::create(space, o).status().code() == StatusCode::kInvalidArgument);
  }
  CHECK_FALSE(Variation::create(space, {}, {layer_skip()}).ok());  // this space skips nothing
}

TEST_CASE("credit of a variation is restored for the same operators only") {
  const SearchSpace space = space_named("free");
  Result<Variation> a = Variation::create(space), b = Variation::create(space);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  a->reward({1, 0, 0, 0, {0, 2, kCrossoverBit | 1}}, 1);
  a->end_generation();
  ByteWriter out;
  a->save(out);
  ByteReader in(out.bytes());
  REQUIRE(b->load(in).ok());
  CHECK(std::ranges::equal(a->mutation_credit().probabilities(), b->mutation_credit().probabilities()));
  CHECK(std::ranges::equal(a->crossover_credit().probabilities(), b->crossover_credit().probabilities()));
  Result<Variation> other = Variation::create(space, {}, {rewire_expert()});
  REQUIRE(other.ok());
  ByteReader again(out.bytes());
  CHECK(other->load(again).code() == StatusCode::kCorrupt);
}

}  // namespace
}  // namespace moe
