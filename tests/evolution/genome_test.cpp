#include "evolution/genome.h"

#include <doctest/doctest.h>

#include <thread>

#include "tests/evolution/evolution_fixture.h"

namespace moe {
namespace {

using namespace test;

TEST_CASE("topologies come back from genomes as they were") {
  const RoutingShape shape = four_layers();
  GenePool pool;
  int valid = 0, skipped = 0, redirected = 0, narrow = 0, biased = 0;
  for (uint64_t seed = 0; seed < 20000; ++seed) {
    const RoutingTopology t = random_topology(shape, seed);
    const Result<Genome> g = genome_of(t, shape, pool);
    REQUIRE(g.ok() == validate(t, shape).ok());
    if (!g.ok()) continue;
    ++valid;
    const RoutingTopology back = topology_of(*g, shape);
    CAPTURE(seed);
    CHECK(validate(back, shape).ok());
    CHECK(back.n_classes == t.n_classes);
    CHECK(back.token_class == t.token_class);
    for (size_t i = 0; i < t.layers.size(); ++i) {
      LayerRouting wanted = t.layers[i];
      // Vectors of neutral values come back empty.
      if (std::all_of(wanted.redirect.begin(), wanted.redirect.end(), [](int32_t v) { return v < 0; })) wanted.redirect.clear();
      if (std::all_of(wanted.width.begin(), wanted.width.end(), [&](int32_t v) { return v == shape.layers[i].d_ff; }))
        wanted.width.clear();
      CHECK(back.layers[i] == wanted);
      skipped += wanted.n_experts > 0 && wanted.k_max == 0, redirected += !wanted.redirect.empty();
      narrow += !wanted.width.empty(), biased += !wanted.bias.empty();
    }
    const Result<Genome> again = genome_of(back, shape, pool);
    REQUIRE(again.ok());
    CHECK(same(*again, *g));
    CHECK(hash(*again) == hash(*g));
  }
  for (const int n : {valid, skipped, redirected, narrow, biased}) CHECK(n > 500);
}

TEST_CASE("every genome that repair lets through is a valid topology and comes back from it") {
  for (const std::string& name : space_names()) {
    const SearchSpace space = space_named(name);
    GenePool pool;
    for (uint64_t seed = 0; seed < 2000; ++seed) {
      const Genome g = random_genome(space, pool, seed);
      const RoutingTopology t = topology_of(g, space.shape());
      const Status s = validate(t, space.shape());
      CAPTURE(name);
      CAPTURE(seed);
      REQUIRE_MESSAGE(s.ok(), s.message());
      const Result<Genome> back = genome_of(t, space.shape(), pool);
      REQUIRE_MESSAGE(back.ok(), back.status().message());
      CHECK(same(*back, g));
    }
  }
}

TEST_CASE("a width that is no quarter is refused by name, and quarters round up to what the format can cut") {
  const RoutingShape shape = four_layers();
  GenePool pool;
  RoutingTopology t = full_topology(shape);
  t.layers[2].width.assign(8, 96);
  t.layers[2].width[3] = 95;
  const Status s = genome_of(t, shape, pool).status();
  CHECK(s.code() == StatusCode::kUnsupported);
  CHECK(s.message() == "genome: layer 2: width[3]: wanted a quarter of the width (24, 48, 72, 96), found 95");
  const RoutingShape::Layer& coarse = shape.layers[3];  // 128 by 64
  CHECK(channels_of(1, coarse) == 64);
  CHECK(channels_of(2, coarse) == 64);
  CHECK(channels_of(3, coarse) == 128);
  CHECK(widest_alike(1, coarse) == 2);
  CHECK(widest_alike(3, coarse) == 4);
  RoutingTopology invalid = full_topology(shape);
  invalid.layers[1].k_max = 9;
  CHECK(genome_of(invalid, shape, pool).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("the hash of a layer is this number on every platform") {
  LayerGene g;
  g.n_experts = 70, g.n_classes = 2, g.k_min = 1, g.k_max = 4, g.threshold = 0.25f;
  g.keep = {~uint64_t{0}, 0x3f, 0x123456789abcdef0u, 0x15};
  g.set_quarters(40, 2);
  g.set_bias(3, -0.5f);
  g.set_redirect(0, 69);
  CHECK(hash_to_hex(hash(g)) == "f19ce6b2bc743c68");
  CHECK(g.n_kept() == 70);
  CHECK(g.quarters(40) == 2);
  CHECK(g.quarters(41) == 4);
  g.set_quarters(40, 4), g.set_bias(3, 0), g.set_redirect(0, -1);
  CHECK(g.narrow.empty());
  CHECK(g.bias.empty());
  CHECK(g.redirect.empty());
  g.k_max = 0;
  CHECK(g.n_kept() == 0);
}

TEST_CASE("equal layers are one block, from whichever of eight threads they come") {
  GenePool pool;
  const auto gene = [](uint64_t i) {
    LayerGene g;
    g.n_experts = 64, g.k_min = g.k_max = 1, g.keep = {i | 1};
    return g;
  };
  constexpr uint64_t kGenes = 2000;
  std::vector<std::vector<LayerRef>> seen(8, std::vector<LayerRef>(kGenes));
  std::vector<std::thread> threads;
  for (size_t t = 0; t < seen.size(); ++t)
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kGenes; ++i) {
        const uint64_t at = (i * 7 + t * 311) % kGenes;  // every thread in an order of its own
        seen[t][at] = pool.intern(gene(2 * at));
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(pool.size() == kGenes);
  for (size_t t = 1; t < seen.size(); ++t) CHECK(seen[t] == seen[0]);
  for (uint64_t i = 0; i < kGenes; ++i) CHECK(seen[0][i]->hash == hash(gene(2 * i)));
  CHECK(pool.collect() == 0);
  seen.clear();
  const LayerRef one = pool.intern(gene(10));
  CHECK(pool.collect() == kGenes - 1);
  CHECK(pool.size() == 1);
  CHECK(pool.intern(gene(10)) == one);
}

// What 4,096 genomes cost follows from what 64 cost: children that change one or two layers share the others.
TEST_CASE("4,096 genomes of 64 layers x 1,024 experts x 16 classes fit in 1 GiB, whatever they share") {
  RoutingShape shape;
  shape.n_vocab = 1000;
  shape.layers.assign(64, {1024, 8, 512, 32});
  GenePool pool;
  RoutingTopology t = full_topology(shape);
  t.n_classes = 16;
  t.token_class.assign(1000, 3);
  for (LayerRouting& r : t.layers) r.allow.assign(16 * 1024, 1);
  const Result<Genome> first = genome_of(t, shape, pool);
  REQUIRE(first.ok());
  const size_t shared = pool.bytes();
  Rng rng(1);
  std::vector<Genome> all;
  size_t own = 0;
  constexpr size_t kGenomes = 64;
  for (size_t n = 0; n < kGenomes; ++n) {
    GenomeDraft draft(*first);
    for (int j = 0; j < 2; ++j) {
      LayerGene& g = draft.edit(static_cast<int>(rng.below(64)));
      set_bit(g.row(static_cast<int>(rng.below(16))), static_cast<int>(rng.below(1024)), false);
      g.set_quarters(static_cast<int>(rng.below(1024)), 2);
    }
    all.push_back(draft.finish(pool, {}));
    own += all.back().own_bytes();
  }
  const double layer = static_cast<double>(pool.bytes() - shared) / (2 * kGenomes),
               genome = static_cast<double>(own) / kGenomes;
  CHECK(layer < 2700);   // masks 2,048, widths 256, the rest
  CHECK(genome < 1400);  // 64 references
  const double gib = 1u << 30;
  CHECK(4096 * (genome + 2 * layer) < 0.03 * gib);
  CHECK(4096 * (genome + 64 * layer) < 0.75 * gib);  // nothing shared
}

TEST_CASE("the distance of masks counts connections") {
  const SearchSpace space = space_named("free");
  GenePool pool;
  const Genome a = full_genome(space, pool);
  GenomeDraft draft(a);
  set_bit(draft.edit(1).row(0), 5, false);
  set_bit(draft.edit(3).row(0), 0, false);
  const Genome b = draft.finish(pool, {});
  CHECK(mask_distance(a, a) == 0);
  CHECK(mask_distance(a, b) == 2);
  CHECK(b.layers[2] == a.layers[2]);
}

}  // namespace
}  // namespace moe
