// What every row of the table of algorithms promises, whatever the problem.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "core/rng.h"
#include "evolution/algorithm.h"
#include "evolution/pareto.h"
#include "tests/evolution/problems.h"

using namespace moe;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

AlgorithmOptions options_for(const AlgorithmRow& row) {
  const std::string name = row.name;
  AlgorithmOptions options;
  options.seed = 7;
  options.n_objectives = name == "nsga2" ? 2 : name == "nsga3" ? 3 : 1;
  options.population = 12;
  return options;
}

std::unique_ptr<Algorithm> make(const AlgorithmRow& row) { return row.make(options_for(row)).value(); }

// Scores of candidate number `first` and after: some alike, some infeasible, some dropped; better as the search goes on.
std::vector<Score> scores_from(uint64_t first, size_t n, int m) {
  std::vector<Score> scores(n);
  for (size_t i = 0; i < n; ++i) {
    Rng rng(99, first + i);
    for (int k = 0; k < m; ++k) scores[i].values[k] = static_cast<double>(rng.below(40)) - 0.01 * static_cast<double>(first);
    const uint64_t kind = rng.below(8);
    if (kind == 0) scores[i].violation = kDropped;
    if (kind == 1) scores[i].violation = 1 + static_cast<double>(rng.below(3));
  }
  return scores;
}

void step(Algorithm& algorithm) {
  const size_t n = algorithm.generation() == 0 ? algorithm.options().population + 5 : algorithm.ask().size();
  REQUIRE(algorithm.tell(scores_from(1000 * algorithm.generation(), n, algorithm.options().n_objectives)).ok());
}

std::vector<std::byte> saved(const Algorithm& algorithm) {
  ByteWriter out;
  algorithm.save(out);
  return {out.bytes().begin(), out.bytes().end()};
}

bool same(std::span<const Mating> a, std::span<const Mating> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Mating& x, const Mating& y) { return x.mother == y.mother && x.father == y.father; });
}

}  // namespace

TEST_CASE("algorithms are made by name, and a wrong name is answered with the right ones") {
  std::set<std::string> names;
  for (const AlgorithmRow& row : algorithms()) {
    const auto made = make_algorithm(row.name, options_for(row));
    REQUIRE(made.ok());
    CHECK(std::string((*made)->name()) == row.name);
    names.insert(row.name);
  }
  CHECK(names == std::set<std::string>{"genetic", "level-switch", "nsga2", "nsga3"});
  const auto unknown = make_algorithm("annealing", {});
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().message() == "algorithm: wanted one of nsga2, nsga3, genetic, level-switch, found 'annealing'");
}

TEST_CASE("survivors are different slots and children, the population is theirs, and parents are slots") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto algorithm = make(row);
    CHECK(algorithm->ask().empty());
    for (int g = 0; g < 30; ++g) {
      const size_t n_old = algorithm->population().size();
      std::vector<Score> all(algorithm->population().begin(), algorithm->population().end());
      const size_t n_children = g == 0 ? 20 : algorithm->ask().size();
      for (const Mating& mating : algorithm->ask()) CHECK((mating.mother < 12 && mating.father < 12));
      const auto children = scores_from(1000 * static_cast<uint64_t>(g), n_children, algorithm->options().n_objectives);
      all.insert(all.end(), children.begin(), children.end());
      REQUIRE(algorithm->tell(children).ok());
      const auto survivors = algorithm->survivors();
      REQUIRE(survivors.size() == 12);
      CHECK(std::set(survivors.begin(), survivors.end()).size() == 12);
      for (size_t slot = 0; slot < 12; ++slot) {
        REQUIRE(survivors[slot] < n_old + n_children);
        CHECK(algorithm->population()[slot].values == all[survivors[slot]].values);
        CHECK(algorithm->population()[slot].violation == all[survivors[slot]].violation);
      }
      CHECK(algorithm->generation() == static_cast<uint32_t>(g) + 1);
    }
  }
}

TEST_CASE("the best never gets lost") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto algorithm = make(row);
    const int m = algorithm->options().n_objectives;
    for (int g = 0; g < 30; ++g) {
      const std::vector<Score> before(algorithm->population().begin(), algorithm->population().end());
      step(*algorithm);
      if (before.empty()) continue;
      const Fronts fronts = sort_fronts(before, m);
      const auto after = algorithm->population();
      bool kept = false;  // one of the first front, or somebody who beats one
      for (const uint32_t i : fronts[0])
        kept |= std::any_of(after.begin(), after.end(), [&](const Score& s) {
          return dominates(s, before[i], m) || (s.values == before[i].values && s.violation == before[i].violation);
        });
      CHECK(kept);
    }
  }
}

TEST_CASE("dropped children do not survive while there is anybody else") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto algorithm = make(row);
    const size_t n = algorithm->options().population;
    std::vector<Score> first(n);
    for (size_t i = 0; i < n; ++i) first[i].values[0] = static_cast<double>(i);
    REQUIRE(algorithm->tell(first).ok());
    std::vector<Score> children(algorithm->ask().size());
    for (Score& child : children) {
      child.values.fill(kNan);
      child.violation = kDropped;
    }
    REQUIRE(algorithm->tell(children).ok());
    for (const uint32_t i : algorithm->survivors()) CHECK(i < n);
  }
}

TEST_CASE("ask answers alike until told, and equal seeds decide alike") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto a = make(row), b = make(row);
    for (int g = 0; g < 10; ++g) {
      const std::vector<Mating> once(a->ask().begin(), a->ask().end());
      CHECK(same(a->ask(), once));
      CHECK(same(b->ask(), once));
      step(*a);
      step(*b);
      CHECK(std::ranges::equal(a->survivors(), b->survivors()));
    }
    AlgorithmOptions other = options_for(row);
    other.seed = 8;
    const auto c = row.make(other).value();
    while (c->generation() < 10) step(*c);
    if (std::string(row.name) != "level-switch") CHECK_FALSE(same(a->ask(), c->ask()));  // which mates without a draw
  }
}

TEST_CASE("a search saved after any generation and restored goes on as the undisturbed one") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto undisturbed = make(row);
    std::vector<std::vector<std::byte>> states = {saved(*undisturbed)};
    for (int g = 0; g < 12; ++g) {
      step(*undisturbed);
      states.push_back(saved(*undisturbed));
    }
    for (size_t cut = 0; cut + 1 < states.size(); ++cut) {
      const auto resumed = make(row);
      ByteReader in(states[cut]);
      REQUIRE(resumed->restore(in).ok());
      CHECK(in.remaining() == 0);
      for (size_t g = cut; g + 1 < states.size(); ++g) {
        CHECK(saved(*resumed) == states[g]);
        (void)resumed->ask();
        step(*resumed);
      }
      CHECK(saved(*resumed) == states.back());
      CHECK(std::ranges::equal(resumed->survivors(), undisturbed->survivors()));
    }
  }
}

TEST_CASE("a saved search that is cut short, broken or of other settings is refused, and nothing changes") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto algorithm = make(row);
    for (int g = 0; g < 3; ++g) step(*algorithm);
    const std::vector<std::byte> whole = saved(*algorithm);
    step(*algorithm);
    const std::vector<std::byte> later = saved(*algorithm);
    for (size_t n = 0; n < whole.size(); ++n) {
      const std::vector<std::byte> prefix(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
      ByteReader in(prefix);
      CHECK_FALSE(algorithm->restore(in).ok());
    }
    for (size_t at = 0; at < whole.size(); ++at) {
      std::vector<std::byte> broken = whole;
      broken[at] = std::byte{0xff};
      ByteReader in(broken);
      const auto victim = make(row);
      if (victim->restore(in).ok()) (void)victim->ask();  // a wrong number is a number; it must not harm
    }
    CHECK(saved(*algorithm) == later);

    AlgorithmOptions other = options_for(row);
    other.seed = 8;
    ByteReader in(whole);
    const Status refused = row.make(other).value()->restore(in);
    CHECK(refused.code() == StatusCode::kInvalidArgument);
    CHECK(refused.message().find("seed 8") != std::string::npos);
    CHECK(refused.message().find("seed 7") != std::string::npos);
  }
}

TEST_CASE("scores that are no scores are refused with the child's number, and nothing changes") {
  for (const AlgorithmRow& row : algorithms()) {
    CAPTURE(row.name);
    const auto algorithm = make(row);
    CHECK_FALSE(algorithm->tell(std::vector<Score>(11)).ok());
    step(*algorithm);
    const std::vector<std::byte> before = saved(*algorithm);
    std::vector<Score> children(algorithm->ask().size());
    CHECK_FALSE(algorithm->tell(std::span(children).first(children.size() - 1)).ok());
    const auto refuses = [&](double value, double violation) {
      children[3].values[0] = value;
      children[3].violation = violation;
      const Status status = algorithm->tell(children);
      return !status.ok() && status.message().starts_with("child 3: wanted ");
    };
    CHECK(refuses(kNan, 0));
    CHECK(refuses(kInfinity, 0));
    CHECK(refuses(-kInfinity, 2));
    CHECK(refuses(1, -1));
    CHECK(refuses(1, kNan));
    CHECK(saved(*algorithm) == before);
    children[3] = {};
    CHECK(algorithm->tell(children).ok());
  }
}

TEST_CASE("new scores of the population change who is best") {
  const auto algorithm = make_algorithm("level-switch", {}).value();
  const Score first{{5}, 0};
  REQUIRE(algorithm->tell({&first, 1}).ok());
  const Score harder{{7}, 0};
  REQUIRE(algorithm->rescore({&harder, 1}).ok());
  std::vector<Score> children(32, Score{{9}, 0});
  children[4].values[0] = 6;
  REQUIRE(algorithm->tell(children).ok());
  CHECK(algorithm->survivors()[0] == 1 + 4);
  CHECK_FALSE(algorithm->rescore(children).ok());
}

TEST_CASE("level-switch: a child as good as its parent takes its place, a worse one does not") {
  AlgorithmOptions options;
  options.children = 3;
  const auto algorithm = make_algorithm("level-switch", options).value();
  const std::vector<Score> first = {{{8}, 0}, {{5}, 0}, {{5}, 0}, {{6}, 0}};
  REQUIRE(algorithm->tell(first).ok());
  CHECK(algorithm->survivors()[0] == 1);
  REQUIRE(algorithm->tell(std::vector<Score>{{{6}, 0}, {{5}, 0}, {{5}, 0}}).ok());
  CHECK(algorithm->survivors()[0] == 1 + 1);
  REQUIRE(algorithm->tell(std::vector<Score>{{{6}, 0}, {{5.5}, 0}, {{1}, 0.1}}).ok());
  CHECK(algorithm->survivors()[0] == 0);
}

TEST_CASE("genetic: elites stay however bad the children, and the children take every other slot") {
  AlgorithmOptions options;
  options.population = 10;
  options.elites = 3;
  const auto algorithm = make_algorithm("genetic", options).value();
  std::vector<Score> first(10);
  for (size_t i = 0; i < 10; ++i) first[i].values[0] = static_cast<double>((i * 7) % 10);
  REQUIRE(algorithm->tell(first).ok());
  REQUIRE(algorithm->ask().size() == 7);
  REQUIRE(algorithm->tell(std::vector<Score>(7, Score{{100}, 0})).ok());
  std::vector<double> values;
  for (const Score& s : algorithm->population()) values.push_back(s.values[0]);
  CHECK(values == std::vector<double>{0, 1, 2, 100, 100, 100, 100, 100, 100, 100});
}

TEST_CASE("options out of range or at odds are refused with what was wanted") {
  const auto message = [](const char* name, auto change) {
    AlgorithmOptions options;
    change(options);
    return make_algorithm(name, options).status().message();
  };
  CHECK(message("genetic", [](AlgorithmOptions& o) { o.n_objectives = 2; }) ==
        "genetic: wanted 1 objective (several: a weighted sum of them, or nsga2), found 2");
  CHECK(message("nsga3", [](AlgorithmOptions& o) { o.n_objectives = 1; }) == "nsga3: wanted 2 to 12 objectives, found 1");
  CHECK(message("nsga2", [](AlgorithmOptions& o) { o.n_objectives = 13; }) == "nsga2: wanted 1 to 12 objectives, found 13");
  CHECK_FALSE(message("nsga2", [](AlgorithmOptions& o) { o.crossover_rate = 1.5; }).empty());
  CHECK_FALSE(message("nsga2", [](AlgorithmOptions& o) { o.crossover_rate = kNan; }).empty());
  CHECK_FALSE(message("nsga2", [](AlgorithmOptions& o) { o.population = 1u << 30; }).empty());
  CHECK_FALSE(message("genetic", [](AlgorithmOptions& o) { o.selection = "lottery"; }).empty());
  CHECK_FALSE(message("genetic", [](AlgorithmOptions& o) { o.pressure = -2; }).empty());
  CHECK_FALSE(message("genetic", [](AlgorithmOptions& o) { o.pressure = kNan; }).empty());
  CHECK(message("genetic", [](AlgorithmOptions& o) { o.population = 10, o.elites = 2, o.children = 7; }) ==
        "genetic: 2 elites and 7 children do not fill a population of 10");
  CHECK_FALSE(message("nsga3", [](AlgorithmOptions& o) { o.n_objectives = 5, o.population = 4; }).empty());
  CHECK_FALSE(message("nsga3", [](AlgorithmOptions& o) { o.n_objectives = 12, o.divisions = 40; }).empty());
}

TEST_CASE("the (1+1)-EA takes as many evaluations as theory says") {
  const auto mean_of_100 = [](int (*distance)(const test::BitString&), int n_bits) {
    double sum = 0;
    for (uint64_t seed = 1; seed <= 100; ++seed)
      sum += static_cast<double>(test::evaluations_to_optimum(distance, n_bits, seed));
    return sum / 100;
  };
  CHECK(mean_of_100(test::zeros, 60) == doctest::Approx(test::expected_one_max(60)).epsilon(0.1));
  CHECK(mean_of_100(test::bits_after_first_zero, 40) == doctest::Approx(test::expected_leading_ones(40)).epsilon(0.1));
}
