#include "tools/evolve_config.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace moe;
using namespace moe::tools;

namespace {

std::vector<ConfigEntry> entries_of(const std::vector<std::pair<std::string, std::string>>& settings) {
  std::vector<ConfigEntry> entries = {{"out", "folder", "test"}, {"texts.0.file", "a.txt", "test"}};
  for (const auto& [name, value] : settings) entries.push_back({name, value, "test:3"});
  return entries;
}
Result<EvolveConfig> read(const std::vector<std::pair<std::string, std::string>>& settings) {
  return read_evolve_config(entries_of(settings));
}
std::string refusal(const std::vector<std::pair<std::string, std::string>>& settings) {
  const auto config = read(settings);
  return config.ok() ? "none" : config.status().message();
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("A search without settings looks for a front of divergence and bytes, for fifty generations") {
  const auto c = read({});
  REQUIRE(c.ok());
  REQUIRE(c->objectives.size() == 2);
  CHECK(c->objectives[0].name == "kl");
  CHECK(c->objectives[1].name == "bytes-per-token");
  CHECK(c->search.limits.generations == 50);
  CHECK(warnings_of(*c).empty());
}

TEST_CASE("The form of others' files means objectives, limits, budgets and devices here") {
  const auto c = read({{"evolution.population_size", "100"},
                       {"evolution.generations", "1000"},
                       {"evolution.mutation_rate", "0.1"},
                       {"evolution.crossover_rate", "0.7"},
                       {"evolution.selection.method", "tournament"},
                       {"evolution.selection.tournament_size", "3"},
                       {"objectives.0.name", "kl"},
                       {"objectives.0.weight", "1.0"},
                       {"objectives.1.name", "latency"},
                       {"objectives.1.weight", "-0.2"},
                       {"objectives.1.target", "10"},
                       {"objectives.2.name", "sparsity"},
                       {"objectives.2.weight", "0.1"},
                       {"objectives.2.target", "0.9"},
                       {"constraints.max_active_experts", "4"},
                       {"constraints.max_memory", "4GB"},
                       {"hardware_targets.0.name", "edge"},
                       {"hardware_targets.0.memory", "1GB"},
                       {"hardware_targets.0.compute", "int8"},
                       {"hardware_targets.1.name", "mobile"},
                       {"hardware_targets.1.memory", "500MB"},
                       {"device", "mobile"}});
  REQUIRE_MESSAGE(c.ok(), c.status().message());
  CHECK(c->search.settings.population == 100);
  CHECK(c->search.limits.generations == 1000);
  CHECK(c->breed.mutate_crossed == 0.1);
  CHECK(c->search.settings.crossover_rate == 0.7);
  CHECK(c->breed.crossover_rate == 1);
  CHECK(c->search.settings.selection == "tournament");
  CHECK(c->search.settings.pressure == 3);
  CHECK(c->k_high == 4);
  REQUIRE(c->objectives.size() == 3);
  CHECK(*c->objectives[1].weight == 0.2);
  CHECK(c->objectives[2].name == "kept-share");
  REQUIRE(c->limits.size() == 3);
  CHECK(std::string(c->limits[0].objective->name) == "latency");
  CHECK(c->limits[0].limit == 10);
  CHECK(c->limits[1].limit == doctest::Approx(0.1));
  CHECK(std::string(c->limits[2].objective->name) == "resident-bytes");
  CHECK(c->limits[2].limit == 4e9);
  REQUIRE(c->devices.size() == 2);
  CHECK(c->devices[0].memory_bytes == 1e9);
  CHECK(c->devices[0].fp32_gflops == 0);
  CHECK(c->devices[1].memory_bytes == 5e8);
  const auto warnings = warnings_of(*c);
  REQUIRE(warnings.size() == 1);
  CHECK(has(warnings[0], "different units"));
}

TEST_CASE("Every device of others' files gets a front, unless the options name some") {
  const auto two = read({{"hardware_targets.0.name", "edge"}, {"hardware_targets.1.name", "server"}});
  REQUIRE_MESSAGE(two.ok(), two.status().message());
  CHECK(two->device == "edge,server");
}

TEST_CASE("Settings that mean nothing are refused where they stand, with what does instead") {
  CHECK(has(refusal({{"constraints.min_expert_usage", "0.1"}}), "test:3: constraints.min_expert_usage has no meaning here"));
  CHECK(has(refusal({{"evolution.populations", "9"}}), "test:3: unknown setting 'evolution.populations'; known: out, seed"));
  CHECK(has(refusal({{"evolution.population_size", "many"}}), "evolution.population_size: 'many' is no value for it"));
  CHECK(has(refusal({{"objectives.0.name", "speed"}}), "wanted one of kl"));
  CHECK(has(refusal({{"objectives.0.name", "kl"}, {"objectives.0.colour", "red"}}), "wanted one of name, weight, target"));
  CHECK(has(refusal({{"objectives.0.name", "kl"}, {"objectives.1.name", "kl"}}), "each objective once"));
  CHECK(has(refusal({{"objectives.0.name", "diversity"}, {"objectives.0.weight", "-1"}}), "at least 0"));
  CHECK(has(refusal({{"objectives.0.name", "kl"}, {"objectives.0.weight", "1"}, {"objectives.1.name", "latency"}}),
            "weights for all or for none"));
  CHECK(has(refusal({{"objectives.x.name", "kl"}}), "to be a list"));
  CHECK(has(refusal({{"objectives", "kl"}}), "wanted [{name: kl}"));
  CHECK(has(refusal({{"limits.latency", "2GB"}}), "wanted a number, found '2GB'"));
  CHECK(has(refusal({{"limits.resident-bytes", "much"}}), "wanted a size such as 2GB"));
  CHECK(has(refusal({{"hardware_targets.0.name", "toaster"}}), "wanted edge, mobile or server"));
  CHECK(has(refusal({{"evolution.algorithm", "genetic"}}), "minimises one objective, found 2"));
  CHECK(has(refusal({{"constraints.kept", "half"}}), "wanted a number, a share or a range"));
  CHECK(has(refusal({{"texts.1.name", "a.txt"}, {"texts.1.file", "b.txt"}}), "wanted different names"));
  CHECK(has(refusal({{"fitness.memory", "lots"}}), "fitness.memory"));
  CHECK(has(refusal({{"guides.saliency", "luck"}}), "guides.saliency"));
  CHECK(has(refusal({{"objectives.0.name", "accuracy"}}), "wanted files of questions"));
  CHECK(has(refusal({{"out", ""}}), "out: wanted the folder"));
}

TEST_CASE("Later settings win, and a list's name alone empties it") {
  const auto c = read({{"limits.resident-bytes", "1GB"},
                       {"constraints.max_memory", "2GB"},
                       {"objectives.0.name", "latency"},
                       {"objectives", ""},
                       {"objectives.0.name", "kl"},
                       {"evolution.mutations.0", "rewire"},
                       {"evolution.mutations", ""},
                       {"evolution.mutations.0", "bias"}});
  REQUIRE(c.ok());
  REQUIRE(c->limits.size() == 1);
  CHECK(c->limits[0].limit == 2e9);
  REQUIRE(c->objectives.size() == 1);
  CHECK(c->objectives[0].name == "kl");
  CHECK(c->mutations == std::vector<std::string>{"bias"});
  CHECK(read({{"evolution.mutations", "bias,k_range"}})->mutations == std::vector<std::string>{"bias", "k_range"});
  CHECK(read({{"seeds.topologies.0", "a,b.json"}})->topologies == std::vector<std::string>{"a,b.json"});
  CHECK(warnings_of(*c).empty());  // a limit asks for less
  REQUIRE(read({{"objectives.0.name", "kl"}}).ok());
  CHECK(warnings_of(*read({{"objectives.0.name", "kl"}})).size() == 1);
}

TEST_CASE("Budgets are numbers, shares and ranges of both") {
  const auto range = [](const std::string& text) {
    const auto r = budget_range("kept", text, 128);
    return r.ok() ? std::to_string(r->low) + " " + std::to_string(r->high) : r.status().message();
  };
  CHECK(range("64") == "64 64");
  CHECK(range("50%") == "64 64");
  CHECK(range("25%-50%") == "32 64");
  CHECK(range("100-128") == "100 128");
  for (const char* wrong : {"", "%", "-", "50%-25%", "1.5", "101%", "-3", "12-", "nan", "1e12", "5 0"}) {
    CAPTURE(wrong);
    CHECK(has(range(wrong), "kept: wanted a number"));
  }
}

TEST_CASE("What a search is does not depend on where it ends or what it leaves where") {
  const auto base = identity_of(*read({{"constraints.kept", "50%"}}));
  CHECK(identity_of(*read({{"constraints.kept", "50%"},
                           {"out", "elsewhere"},
                           {"evolution.generations", "7"},
                           {"stop.budget", "1e6"},
                           {"fitness.memory", "1GB"}})) == base);
  CHECK(identity_of(*read({{"constraints.kept", "64"}})) != base);
  CHECK(identity_of(*read({{"constraints.kept", "50%"}, {"limits.latency", "3"}})) != base);
  CHECK(identity_of(*read({{"constraints.kept", "50%"}, {"objectives.0.name", "kl"}})) != base);
  CHECK(identity_of(*read({{"constraints.kept", "50%"}, {"evolution.mutations.0", "bias"}})) != base);
}

TEST_CASE("Weights are of a sum where the algorithm knows one objective, else they choose a point at the end") {
  const auto weighted = [](const char* algorithm, const char* weight) {
    return read({{"evolution.algorithm", algorithm},
                 {"objectives.0.name", "kl"},
                 {"objectives.0.weight", "1"},
                 {"objectives.1.name", "latency"},
                 {"objectives.1.weight", weight}});
  };
  for (const char* one : {"genetic", "level-switch"}) {
    REQUIRE_MESSAGE(weighted(one, "2").ok(), weighted(one, "2").status().message());
    CHECK(weights_count(*weighted(one, "2")));
    CHECK(identity_of(*weighted(one, "2")) != identity_of(*weighted(one, "3")));
  }
  REQUIRE(weighted("nsga2", "2").ok());
  CHECK_FALSE(weights_count(*weighted("nsga2", "2")));
  CHECK(identity_of(*weighted("nsga2", "2")) == identity_of(*weighted("nsga2", "3")));
  REQUIRE(read({{"evolution.algorithm", "genetic"}, {"objectives.0.name", "kl"}, {"objectives.0.weight", "1"}}).ok());
  CHECK_FALSE(
      weights_count(*read({{"evolution.algorithm", "genetic"}, {"objectives.0.name", "kl"}, {"objectives.0.weight", "1"}})));
}

TEST_CASE("Every setting of the description is one that is read") {
  const std::string text = describe_evolve_config();
  size_t begin = 0, lines = 0;
  while (begin < text.size()) {
    const size_t end = text.find('\n', begin);
    const std::string line = text.substr(begin, end - begin);
    const size_t colon = line.find(": ");
    const std::string name = line.substr(0, colon), value = line.substr(colon + 2, line.find('#') - colon - 2);
    begin = end + 1, ++lines;
    if (value.starts_with("[") || value.starts_with("{") || name == "out") continue;
    CAPTURE(line);
    std::string trimmed = value.substr(0, value.find_last_not_of(' ') + 1);
    CHECK(!has(refusal({{name, trimmed}}), "unknown setting"));
  }
  CHECK(lines > 40);
}
