#include "evolution/surrogate.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "core/rng.h"
#include "evolution/genome_draft.h"
#include "evolution/statistics.h"
#include "tests/evolution/search_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Space {
  RoutingShape shape = planted_shape(3);
  GenePool pool;
  Genome full = genome_of(full_topology(shape), shape, pool).value();

  Genome edited(const std::function<void(GenomeDraft&)>& edit) {
    GenomeDraft draft(full);
    edit(draft);
    return draft.finish(pool, {});
  }
  // Each expert of each layer stays with even odds, two of a layer at least.
  Genome random_masks(Rng& rng) {
    return edited([&](GenomeDraft& d) {
      for (int l = 0; l < 3; ++l)
        for (int e = 2; e < 8; ++e) set_bit(d.edit(l).row(0), e, rng.below(2) == 0);
    });
  }
};

// √ of what it costs: experts by their number, and a pair whose last one is missed ten times as much.
double cost_of(const Genome& g) {
  double root = 0.1;
  for (size_t l = 0; l < g.layers.size(); ++l) {
    const std::vector<uint64_t> kept = g.layers[l]->value.kept();
    for (int e = 2; e < 8; ++e) root += has_bit(kept, e) ? 0 : 0.01 * e * static_cast<double>(l + 1);
    if (!has_bit(kept, 2) && !has_bit(kept, 3)) root += 0.3;
  }
  return root * root;
}

double rank_of_guesses(const Surrogate& s, Space& space, Rng& rng) {
  std::vector<double> guesses, truth;
  for (int i = 0; i < 40; ++i) {
    const Genome g = space.random_masks(rng);
    guesses.push_back(s.guess(g, 0)), truth.push_back(cost_of(g));
  }
  return kendall_tau(guesses, truth);
}

TEST_CASE("what experts and pairs of them are worth is learnt from scores, without a prior that says so") {
  Space space;
  Rng rng(7);
  Surrogate s;
  std::vector<double> ranks;
  for (const int upto : {16, 64, 200}) {
    while (static_cast<int>(s.size()) < upto) {
      const Genome g = space.random_masks(rng);
      s.add(g, 0, cost_of(g), false);
    }
    s.fit();
    ranks.push_back(rank_of_guesses(s, space, rng));
  }
  CHECK(ranks[0] > 0.2);
  CHECK(ranks[1] > 0.6);
  CHECK(ranks[2] > 0.85);
}

TEST_CASE("what was scored is guessed near its score, what is unknown near the mean along the prior") {
  Space space;
  Rng rng(3);
  Surrogate s;
  std::vector<Genome> known;
  for (int i = 0; i < 30; ++i) {
    known.push_back(space.random_masks(rng));
    s.add(known.back(), cost_of(known.back()), cost_of(known.back()), false);
  }
  s.fit();
  for (const Genome& g : known) CHECK(std::abs(s.guess(g, cost_of(g)) / cost_of(g) - 1) < 0.1);
  const Genome other = space.random_masks(rng);
  CHECK(s.guess(other, 2.0) > s.guess(other, 1.0));
}

TEST_CASE("every gene tells genomes apart") {
  struct Gene {
    std::string name;
    std::function<void(LayerGene&, int)> set;  // to one of four levels
  };
  const Gene genes[] = {
      {"k_max", [](LayerGene& g, int i) { g.k_min = 1, g.k_max = 1 + i; }},
      {"k_min", [](LayerGene& g, int i) { g.k_max = 4, g.k_min = 1 + i; }},
      {"skip", [](LayerGene& g, int i) { g.k_max = i > 1 ? 0 : 2, g.threshold = 0.01f * static_cast<float>(i); }},
      {"threshold", [](LayerGene& g, int i) { g.threshold = 0.1f * static_cast<float>(i); }},
      {"temperature", [](LayerGene& g, int i) { g.temperature = 0.5f + 0.3f * static_cast<float>(i); }},
      {"bias", [](LayerGene& g, int i) { g.set_bias(5, 0.1f * static_cast<float>(i)); }},
      {"width",
       [](LayerGene& g, int i) {
         for (int e = 0; e < 8; ++e) g.set_quarters(e, 4 - i);
       }},
      {"redirect", [](LayerGene& g, int i) {
         set_bit(g.row(0), 7, false);
         g.set_redirect(7, i < 2 ? -1 : 3);
       }}};
  for (const Gene& gene : genes) {
    CAPTURE(gene.name);
    Space space;
    Surrogate s;
    const auto genome_at = [&](int layer, int level) {
      return space.edited([&](GenomeDraft& d) { gene.set(d.edit(layer), level); });
    };
    for (int level = 0; level < 4; ++level) {
      s.add(genome_at(0, level), 0, 0.1 + level, false);
      s.add(genome_at(2, level), 0, 0.1, false);
    }
    s.fit();
    const auto spread = [&](int layer) { return s.guess(genome_at(layer, 3), 0) - s.guess(genome_at(layer, 0), 0); };
    CHECK(spread(0) > 0.5);
    CHECK(std::abs(spread(2)) < spread(0) / 2);
  }
}

TEST_CASE("another text moves what is known; the oldest are forgotten; what is no number teaches nothing") {
  Space space;
  Rng rng(5);
  Surrogate s(20);
  const Genome g = space.random_masks(rng);
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {kNan, kInfinity, -1.0}) s.add(g, 0, bad, false);
  s.add(g, kNan, 1, false), s.add(g, kInfinity, 1, false);
  CHECK(s.size() == 0);
  for (int i = 0; i < 50; ++i) {
    const Genome other = space.random_masks(rng);
    s.add(other, 0, cost_of(other), i % 2 == 0);
  }
  CHECK(s.size() == 20);
  s.fit();
  const double before = s.guess(g, 0);
  s.shift(0.25);
  s.fit();
  CHECK(s.guess(g, 0) == doctest::Approx((std::sqrt(before) + 0.25) * (std::sqrt(before) + 0.25)));
  s.shift(kNan);
  s.fit();
  CHECK(std::isfinite(s.guess(g, 0)));
}

TEST_CASE("scores on less text weigh less") {
  Space space;
  const Genome a = space.edited([](GenomeDraft& d) { set_bit(d.edit(0).row(0), 7, false); });
  const auto guess = [&](bool rough) {
    Surrogate s;
    s.add(space.full, 0, 1, false);
    s.add(a, 0, 4, false), s.add(a, 0, 1, rough);
    s.fit();
    return s.guess(a, 0);
  };
  CHECK(guess(true) > guess(false) + 0.2);
}

// Evaluations until a search over the planted truth knows the best genome of its budget.
uint32_t generations_until_found(bool learn, uint64_t seed) {
  PlantedSearch::Setup setup;
  setup.layers = 6, setup.kept = 24, setup.algorithm = "genetic", setup.generations = 60, setup.seed = seed,
  setup.learn = learn, setup.mutations = {"rewire_expert", "level_switch_kept", "level_switch_ranked"};
  PlantedSearch s(setup);
  const double wanted = s.truth.least_loss(24) + 1e-9;
  while (s.search->ended() == SearchEnd::kRunning) {
    REQUIRE(s.search->step(0).ok());
    if (s.search->archive().size() > 0 && s.search->archive()[0].score.values[0] <= wanted) return s.search->generation();
  }
  return setup.generations;
}

TEST_CASE("a search that learns needs fewer generations") {
  uint32_t with = 0, without = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed)
    with += generations_until_found(true, seed), without += generations_until_found(false, seed);
  CAPTURE(with);
  CAPTURE(without);
  CHECK(with * 10 < without * 9);
}

}  // namespace
}  // namespace moe
