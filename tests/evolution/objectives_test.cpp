#include "evolution/objectives.h"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

using namespace moe;

namespace {

const ObjectiveDef* named(const char* name) {
  const Result<const ObjectiveDef*> o = find_objective(name);
  REQUIRE(o.ok());
  return *o;
}

Evaluation evaluation() {
  Evaluation e;
  e.kl = 0.5, e.nll = 2, e.accuracy = 0.75, e.resident_bytes = 3e6;
  return e;
}

}  // namespace

TEST_CASE("objectives: every row has a name of its own and a value once it is measured") {
  std::set<std::string> names;
  Evaluation all;
  for (double* v :
       {&all.active_flops, &all.expert_flops, &all.bytes_per_token, &all.resident_bytes, &all.latency_ms, &all.kept_share,
        &all.k_mean, &all.load_cv, &all.diversity, &all.layer_error, &all.kl, &all.worst_domain_kl, &all.nll, &all.accuracy})
    *v = 0.25;
  for (const ObjectiveDef& o : all_objectives()) {
    CAPTURE(o.name);
    CHECK(names.insert(o.name).second);
    CHECK(named(o.name) == &o);
    CHECK(std::isnan(o.value(Evaluation{})));
    CHECK(std::isfinite(o.value(all)));
  }
  CHECK(names.size() == 14);
  CHECK(named("perplexity")->value(evaluation()) == doctest::Approx(std::exp(2.0)));
  const Status unknown = find_objective("speed").status();
  CHECK(unknown.code() == StatusCode::kNotFound);
  CHECK(unknown.message().find("bytes-per-token") != std::string::npos);
}

TEST_CASE("objectives: scores are minimised, violations are relative and add up") {
  ObjectiveSet set;
  set.objectives = {named("kl"), named("accuracy")};
  set.limits = {{named("resident-bytes"), 2e6}, {named("accuracy"), 1.0}, {named("kl"), 0.5}, {named("kl"), 0}};
  const Result<Score> score = set.score(evaluation());
  REQUIRE(score.ok());
  CHECK(score->values[0] == 0.5);
  CHECK(score->values[1] == -0.75);
  CHECK(score->violation == doctest::Approx(0.5 + 0.25 + 0 + 0.5));
}

TEST_CASE("objectives: what was dropped is not scored, and what was not measured is named") {
  ObjectiveSet set;
  set.objectives = {named("latency")};
  Evaluation e = evaluation();
  CHECK(set.score(e).status().message().find("latency") != std::string::npos);
  e.dropped = true;
  REQUIRE(set.score(e).ok());
  CHECK(set.score(e)->dropped());
  e.dropped = false;
  set.objectives = {named("kl")};
  set.limits = {{named("diversity"), 0.5}};
  CHECK(set.score(e).status().code() == StatusCode::kInternal);
}
