#include "evolution/repair.h"

#include <doctest/doctest.h>

#include "evolution/masks.h"
#include "tests/evolution/evolution_fixture.h"

namespace moe {
namespace {

using namespace test;

TEST_CASE("repair brings anything to what the constraints ask for, and leaves that alone") {
  for (const std::string& name : space_names()) {
    const SearchSpace space = space_named(name);
    GenePool pool;
    for (uint64_t seed = 0; seed < 3000; ++seed) {
      const Genome g = random_genome(space, pool, seed);
      const Status s = satisfies(g, space);
      CAPTURE(name);
      CAPTURE(seed);
      REQUIRE_MESSAGE(s.ok(), s.message());
      Rng rng(5);
      GenomeDraft draft(g);
      CHECK(repair(draft, space, rng));
      CHECK(rng.position() == 0);
      CHECK(same(draft.finish(pool, {}), g));
    }
  }
}

TEST_CASE("repair takes the experts away that are missed least, and brings those that are missed most") {
  Constraints c;
  c.kept = IntRange{4, 4}, c.k_high = 1;
  Guides g;
  RoutingShape shape;
  shape.layers.assign(1, {16, 2, 64, 1});
  g.saliency = {{}};
  for (int e = 0; e < 16; ++e) g.saliency[0].push_back(static_cast<float>(e));
  const Result<SearchSpace> space = SearchSpace::create(shape, c, g);
  REQUIRE(space.ok());
  GenePool pool;
  int high = 0, all = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    GenomeDraft down(full_genome(*space, pool)), up(full_genome(*space, pool));
    up.edit(0).keep = {1};
    Rng rng(seed);
    REQUIRE(repair(down, *space, rng));
    REQUIRE(repair(up, *space, rng));
    for (const GenomeDraft* d : {&down, &up})
      for (int e = 1; e < 16; ++e)
        if (has_bit(d->layer(0).row(0), e)) all += 1, high += e >= 8;
  }
  CHECK(high > 0.7 * all);
  CHECK(high < all);  // chances fall with the rank, to none of them to zero
}

TEST_CASE("a budget that layers cannot give is said, not approached") {
  Constraints c;
  c.kept = IntRange{10, 10}, c.skip = true;
  const Result<SearchSpace> space = SearchSpace::create(four_layers(), c);
  REQUIRE(space.ok());
  GenePool pool;
  GenomeDraft draft(full_genome(*space, pool));
  for (const int i : {1, 2}) draft.edit(i).k_min = draft.edit(i).k_max = 0;
  Rng rng(1);
  CHECK_FALSE(repair(draft, *space, rng));  // layer 3 has 5 experts
}

TEST_CASE("the same draft, space and stream give the same repair") {
  const SearchSpace space = space_named("exact");
  GenePool pool;
  for (uint64_t seed = 0; seed < 50; ++seed) CHECK(same(random_genome(space, pool, seed), random_genome(space, pool, seed)));
  CHECK_FALSE(same(random_genome(space, pool, 1), random_genome(space, pool, 2)));
}

}  // namespace
}  // namespace moe
