#include "evolution/search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "evolution/pareto.h"
#include "tests/evolution/search_fixture.h"

namespace moe {
namespace {

using namespace test;
using Setup = PlantedSearch::Setup;

// Equal searches behave alike from here on: their populations and archives are the same genomes with the same numbers.
uint64_t fingerprint(const Search& s) {
  uint64_t h = s.generation();
  const auto add = [&](std::span<const Candidate> all) {
    for (const Candidate& c : all) {
      h = (h ^ hash(c.genome)) * 31 + c.genome.lineage.id;
      h = (h ^ std::bit_cast<uint64_t>(c.score.values[0])) * 31;
    }
  };
  add(s.population());
  add(s.archive());
  return h;
}

TEST_CASE("one objective under an exact budget: every algorithm finds the best of all genomes, pairs included") {
  for (const char* algorithm : {"genetic", "level-switch", "nsga2"}) {
    CAPTURE(algorithm);
    Setup setup;
    setup.kept = 12, setup.algorithm = algorithm, setup.generations = 80;
    if (setup.algorithm == "level-switch") setup.population = 1;
    PlantedSearch s(setup);
    s.run();
    REQUIRE(s.search->archive().size() == 1);
    const Candidate& best = s.search->archive()[0];
    CHECK(satisfies(best.genome, s.search->space()).ok());
    CHECK(best.score.values[0] == doctest::Approx(s.truth.least_loss(12)).epsilon(1e-9));
  }
}

TEST_CASE("two objectives: the archive is a front from the full model down, near the best loss for every number of experts") {
  Setup setup;
  setup.objectives = {"kl", "kept-share"}, setup.population = 48, setup.generations = 120;
  PlantedSearch s(setup);
  const std::vector<GenerationRecord> records = s.run();
  const std::span<const Candidate> archive = s.search->archive();
  REQUIRE(archive.size() >= 12);
  CHECK(archive.front().score.values[0] == 0);
  CHECK(archive.front().score.values[1] == 1);
  for (size_t i = 0; i < archive.size(); ++i) {
    const int kept = static_cast<int>(std::lround(archive[i].score.values[1] * 24));
    if (kept >= 8) CHECK(archive[i].score.values[0] <= 1.1 * s.truth.least_loss(kept));
    for (size_t j = 0; j < archive.size(); ++j) CHECK_FALSE(dominates(archive[i].score, archive[j].score, 2));
  }
  for (size_t g = 1; g < records.size(); ++g)
    CHECK(records[g].statistics.hypervolume >= records[g - 1].statistics.hypervolume * 0.999);
  CHECK(records.back().statistics.hypervolume > records.front().statistics.hypervolume);
}

TEST_CASE("a weighted sum of objectives is minimised as one") {
  for (const char* algorithm : {"genetic", "level-switch"}) {
    CAPTURE(algorithm);
    Setup setup;
    setup.objectives = {"kl", "kept-share"}, setup.weights = {1, 2.5}, setup.algorithm = algorithm, setup.generations = 120;
    if (setup.algorithm == "level-switch") setup.population = 1;
    PlantedSearch s(setup);
    const std::vector<GenerationRecord> records = s.run();
    double least = 1e9;
    int best_kept = 0;
    for (int kept = 6; kept <= 24; ++kept)
      if (const double sum = s.truth.least_loss(kept) + 2.5 * kept / 24; sum < least) least = sum, best_kept = kept;
    REQUIRE(best_kept > 6);  // neither end
    REQUIRE(best_kept < 24);
    REQUIRE(s.search->archive().size() == 1);
    const Candidate& found = s.search->archive()[0];
    CHECK(found.score.values[0] == doctest::Approx(least).epsilon(1e-9));
    const std::vector<double>& told = records.back().statistics.best;
    REQUIRE(told.size() == 2);
    CHECK(told[0] == found.evaluation.kl);
    CHECK(told[1] == found.evaluation.kept_share);
  }
}

TEST_CASE("a final front has others' genomes where they are better and keep the constraints, once each") {
  Setup setup;
  setup.objectives = {"kl", "kept-share"}, setup.population = 48, setup.generations = 60;
  PlantedSearch good(setup);
  good.run();
  const std::span<const Candidate> best = good.search->archive();
  std::vector<Genome> others;
  for (const Candidate& c : best) others.push_back(c.genome), others.push_back(c.genome);

  setup.generations = 1, setup.seed = 2, setup.archive = 4;
  PlantedSearch poor(setup);
  poor.run();
  const std::vector<Candidate> alone = *poor.search->final_front(), front = *poor.search->final_front(others);
  const auto times = [](std::span<const Candidate> in, const Candidate& c) {
    return std::count_if(in.begin(), in.end(), [&](const Candidate& o) { return o.score.values == c.score.values; });
  };
  int gained = 0;
  for (const Candidate& c : best) gained += times(alone, c) == 0 && times(front, c) == 1;
  CHECK(gained >= 5);
  for (const Candidate& c : best)  // none of them is beside the front and better
    CHECK((times(front, c) == 1 ||
           std::any_of(front.begin(), front.end(), [&](const Candidate& o) { return dominates(o.score, c.score, 2); })));
  for (const Candidate& a : front) {
    CHECK(times(front, a) == 1);
    for (const Candidate& b : front) CHECK_FALSE(dominates(a.score, b.score, 2));
  }

  setup.kept = 12;
  PlantedSearch exact(setup);
  exact.run();
  const std::vector<Candidate> allowed = *exact.search->final_front(others);
  for (const Candidate& c : allowed) CHECK(satisfies(c.genome, exact.search->space()).ok());
}

TEST_CASE("1, 2 and 8 threads search alike") {
  std::vector<uint64_t> prints;
  for (const int threads : {1, 2, 8}) {
    Setup setup;
    setup.objectives = {"kl", "kept-share"}, setup.generations = 6, setup.threads = threads, setup.fresh_every = 2;
    PlantedSearch s(setup);
    s.run();
    prints.push_back(fingerprint(*s.search));
  }
  CHECK(prints[1] == prints[0]);
  CHECK(prints[2] == prints[0]);
}

TEST_CASE("a run that is lived through again from its records and goes on ends where the whole run ends") {
  Setup setup;
  setup.objectives = {"kl", "kept-share"}, setup.generations = 9, setup.fresh_every = 3;
  PlantedSearch whole(setup);
  const std::vector<GenerationRecord> records = whole.run();
  REQUIRE(records.size() == 9);
  for (size_t cut = 0; cut <= records.size(); ++cut) {
    CAPTURE(cut);
    PlantedSearch again(setup);
    for (size_t g = 0; g < cut; ++g) {
      const Status s = again.search->replay(records[g]);
      REQUIRE_MESSAGE(s.ok(), s.message());
    }
    CHECK(again.truth.calls == 0);  // nothing is measured twice
    const std::vector<GenerationRecord> rest = again.run();
    if (!rest.empty()) CHECK(rest.back().token_layers == records.back().token_layers);  // what was spent before counts
    CHECK(fingerprint(*again.search) == fingerprint(*whole.search));
    CHECK(again.search->ended() == whole.search->ended());
  }
}

TEST_CASE("another text: the population is scored again in the generation that has it, and only there") {
  Setup setup;
  setup.generations = 7, setup.fresh_every = 3;
  PlantedSearch s(setup);
  const std::vector<GenerationRecord> records = s.run();
  for (const GenerationRecord& r : records) CHECK(r.rescored.empty() == (r.generation % 3 != 0 || r.generation == 0));
  CHECK(records[3].rescored.size() == 16);
}

TEST_CASE("a step that fails leaves the search where it was") {
  Setup setup;
  setup.objectives = {"kl", "kept-share"}, setup.generations = 5, setup.fresh_every = 2;
  PlantedSearch whole(setup);
  whole.run();
  PlantedSearch s(setup);
  for (int fail_after = 0; s.search->ended() == SearchEnd::kRunning; ++fail_after) {
    s.truth.fail_after = fail_after;
    const uint64_t before = fingerprint(*s.search);
    const Result<GenerationRecord> record = s.search->step(s.search->generation());
    if (record.ok()) continue;
    CHECK(record.status().code() == StatusCode::kCancelled);
    CHECK(fingerprint(*s.search) == before);
    s.truth.calls = 0, fail_after = -1;
    s.truth.fail_after = -1;
    REQUIRE(s.search->step(s.search->generation()).ok());
  }
  CHECK(fingerprint(*s.search) == fingerprint(*whole.search));
}

TEST_CASE("records of another search, another order or with pieces missing are refused") {
  Setup setup;
  setup.generations = 3;
  PlantedSearch s(setup);
  const std::vector<GenerationRecord> records = s.run();
  setup.seed = 2;
  PlantedSearch other(setup);
  CHECK(other.search->replay(records[1]).message().starts_with("generation 1: wanted generation 0"));
  REQUIRE(other.search->replay(records[0]).code() == StatusCode::kCorrupt);  // other first candidates
  setup.seed = 1;
  PlantedSearch same(setup);
  REQUIRE(same.search->replay(records[0]).ok());
  GenerationRecord damaged = records[1];
  damaged.evaluations.pop_back();
  CHECK(same.search->replay(damaged).message().starts_with("generation 1: another number of evaluations"));
  damaged = records[1];
  damaged.picked[0] = 99;
  CHECK(same.search->replay(damaged).code() == StatusCode::kCorrupt);
  damaged = records[1];
  damaged.confirmed.emplace_back();
  CHECK(same.search->replay(damaged).code() == StatusCode::kCorrupt);
  CHECK(same.search->replay(records[1]).ok());  // refusals changed nothing
}

TEST_CASE("options out of range are refused by name") {
  PlantedSearch s({});
  const auto create = [&](const std::function<void(SearchOptions&)>& change) {
    SearchOptions o = s.search->options();
    change(o);
    return Search::create(s.search->space(), s.search->variation(), s.search->objectives(), o, {}, s.pool, s.truth, s.threads)
        .status()
        .message();
  };
  CHECK(create([](SearchOptions& o) { o.oversample = 0; }).starts_with("search: oversample"));
  CHECK(create([](SearchOptions& o) { o.keep = 0; }).starts_with("search: keep"));
  CHECK(create([](SearchOptions& o) { o.archive = 0; }).starts_with("search: archive"));
  CHECK(create([](SearchOptions& o) { o.confirm = 0; }).starts_with("search: confirm"));
  CHECK(create([](SearchOptions& o) { o.limits = {}; }) != "");
  CHECK(create([](SearchOptions& o) { o.algorithm = "luck"; }) != "");
  CHECK(create([](SearchOptions&) {}) == "");
}

}  // namespace
}  // namespace moe
