#include "evolution/constraints.h"

#include <doctest/doctest.h>

#include <limits>

#include "evolution/masks.h"
#include "tests/evolution/evolution_fixture.h"

namespace moe {
namespace {

using namespace test;

TEST_CASE("constraints that nothing can satisfy are refused with the sums that show it") {
  struct Case {
    const char* message;
    void (*edit)(Constraints&, Guides&);
  };
  const Case cases[] = {
      {"constraints: kept: wanted at least what every layer needs (k_low, kept_low and protected ones), 1 x 3 + 2 x 2 = 7, "
       "found at most 6",
       [](Constraints& c, Guides&) {
         c.k_low = 2, c.kept = IntRange{0, 6}, c.protect = {{}, {1, 2, 3}, {}, {}};
       }},
      {"constraints: kept: wanted at least what every layer needs (protected ones, and k that add up to 7), 1 x 2 + 1 x 3 + 1 "
       "x "
       "2 = 7, found at most 6",
       [](Constraints& c, Guides&) {
         c.active = IntRange{7, 7}, c.kept = IntRange{6, 6};
       }},
      {"constraints: kept: wanted at most the experts that there are, 1 x 6 + 1 x 8 + 1 x 5 = 19, found at least 20",
       [](Constraints& c, Guides&) {
         c.kept = IntRange{20, 30};
       }},
      {"constraints: active: wanted at most the sum of every layer's k_high, 1 x 2 + 1 x 3 + 1 x 2 = 7, found at least 8",
       [](Constraints& c, Guides&) {
         c.active = IntRange{8, 8};
       }},
      {"constraints: active: wanted at least the sum of every layer's k_low, 3 x 2 = 6, found at most 5",
       [](Constraints& c, Guides&) {
         c.k_low = 2, c.active = IntRange{5, 5};
       }},
      {"constraints: layer 1: k: wanted k from k_low = 3 on, found at most 2 of 6 experts",
       [](Constraints& c, Guides&) { c.k_low = 3; }},
      {"constraints: layer 1: protect: wanted 0 to 5, found 6",
       [](Constraints& c, Guides&) {
         c.protect = {{}, {6}, {}, {}};
       }},
      {"constraints: protect: wanted none or 4 layers, found 1", [](Constraints& c, Guides&) { c.protect = {{1}}; }},
      {"constraints: layer 3: kept_low: wanted at most the layer's 5 experts, found 6",
       [](Constraints& c, Guides&) { c.kept_low = 6; }},
      {"constraints: kept: wanted 0 <= low <= high, found 5 to 4",
       [](Constraints& c, Guides&) {
         c.kept = IntRange{5, 4};
       }},
      {"constraints: classes: wanted 1 to 16, found 17", [](Constraints& c, Guides&) { c.classes = 17; }},
      {"constraints: narrowest: wanted 1 to 4, found 0", [](Constraints& c, Guides&) { c.narrowest = 0; }},
      {"constraints: temperature: wanted 0 < low <= high", [](Constraints& c, Guides&) { c.temperature_low = 0; }},
      {"constraints: bias_high: wanted 0 or more", [](Constraints& c, Guides&) { c.bias_high = -1; }},
      {"constraints: layer 2: saliency: wanted 8 numbers, found 1",
       [](Constraints&, Guides& g) {
         g.saliency = {{}, {}, {1}, {}};
       }},
      {"constraints: layer 3: saliency: wanted finite numbers, found nan",
       [](Constraints&, Guides& g) {
         g.saliency = {{}, {}, {}, std::vector<float>(5, std::numeric_limits<float>::quiet_NaN())};
       }},
      {"constraints: layer 3: groups: wanted experts from 0 to 4, found 5",
       [](Constraints&, Guides& g) {
         g.groups = {{}, {}, {}, {{1, 5}}};
       }},
      {"constraints: token_group: wanted none or 12 tokens, found 3",
       [](Constraints&, Guides& g) {
         g.token_group = {0, 0, 1};
       }},
  };
  REQUIRE(SearchSpace::create(four_layers(), {}).ok());
  for (const Case& c : cases) {
    Constraints constraints;
    Guides guides;
    c.edit(constraints, guides);
    const Status s = SearchSpace::create(four_layers(), constraints, guides).status();
    CAPTURE(c.message);
    CHECK(s.code() == StatusCode::kInvalidArgument);
    CHECK_MESSAGE(s.message().starts_with(c.message), s.message());
  }
  RoutingShape dense;
  dense.layers.resize(3);
  CHECK_FALSE(SearchSpace::create(dense, {}).ok());
}

TEST_CASE("whatever budget is not refused, repair reaches") {
  int refused = 0, met = 0;
  for (int64_t kept = 1; kept <= 20; ++kept)
    for (int64_t active = 2; active <= 8; ++active) {
      Constraints c;
      c.kept = IntRange{kept, kept}, c.active = IntRange{active, active};
      const Result<SearchSpace> space = SearchSpace::create(four_layers(), c);
      if (!space.ok()) {
        ++refused;
        continue;
      }
      GenePool pool;
      Rng rng(static_cast<uint64_t>(kept * 100 + active));
      GenomeDraft draft(full_genome(*space, pool));
      CAPTURE(kept);
      CAPTURE(active);
      CHECK(repair(draft, *space, rng));
      CHECK(satisfies(draft.finish(pool, {}), *space).ok());
      ++met;
    }
  CHECK(refused > 10);
  CHECK(met > 50);
}

TEST_CASE("what limited groups guarantee agrees with validate()") {
  const RoutingShape shape = four_layers();
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    Rng rng(seed);
    RoutingTopology t = full_topology(shape);
    LayerRouting& r = t.layers[2];
    for (uint8_t& a : r.allow) a = rng.below(2);
    r.redirect.assign(8, -1);
    const auto from = rng.below(8), to = rng.below(8);
    if (from != to && !r.allow[from] && r.allow[to]) r.redirect[from] = static_cast<int32_t>(to);
    LayerGene g;
    g.n_experts = 8, g.keep = {0};
    for (int e = 0; e < 8; ++e) set_bit(g.row(0), e, r.allow[static_cast<size_t>(e)]);
    for (int e = 0; e < 8; ++e) g.set_redirect(e, r.redirect[static_cast<size_t>(e)]);
    for (int k = 1; k <= 4; ++k) {
      r.k_min = r.k_max = k;
      CHECK(validate(t, shape).ok() == (guaranteed(g, 0, shape.layers[2]) >= k));
    }
  }
}

}  // namespace
}  // namespace moe
