#include "tools/evolve_config.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "evolution/saliency.h"
#include "tools/byte_size.h"
#include "tools/evolve_targets.h"

namespace moe::tools {
namespace {

// Whether a setting belongs to what a search is, or only to where it ends and what it leaves where.
enum Role { kIdentity, kAround };

// Calls v(name, member, role, meaning) for every setting that has one value.
template <class C, class V>
void visit(C& c, V&& v) {
  auto& s = c.search;
  auto& a = s.settings;
  v("out", c.out, kAround, "folder for journal, front and topologies");
  v("seed", s.seed, kIdentity, "of every random choice");
  v("device", c.device, kIdentity,
    "edge, mobile, server, a file of moe-bench calibrate, or one of hardware_targets; several with commas");
  v("evolution.algorithm", s.algorithm, kIdentity, "nsga2, nsga3; of one objective: genetic, level-switch");
  v("evolution.population_size", a.population, kIdentity, "0: the algorithm's own, as all 0 here");
  v("evolution.children", a.children, kIdentity, "of a generation");
  v("evolution.generations", c.generations, kAround, "0: no limit");
  v("evolution.mutation_rate", c.breed.mutate_crossed, kIdentity,
    "chance of a mutation behind a crossover; others always have one");
  v("evolution.more_mutations", c.breed.mutate_more, kIdentity, "chance of each further one");
  v("evolution.most_mutations", c.breed.most_mutations, kIdentity, "of one child");
  v("evolution.crossover_rate", c.crossover_rate, kIdentity, "share of children of two parents; -1: the algorithm's own");
  v("evolution.selection.method", a.selection, kIdentity, "tournament, rank, roulette, truncation; of one objective");
  v("evolution.selection.tournament_size", a.pressure, kIdentity, "and what the others take for pressure");
  v("evolution.elites", a.elites, kIdentity, "slots that the best keep, of one objective");
  v("evolution.divisions", a.divisions, kIdentity, "of each objective, for the directions of nsga3");
  v("evolution.oversample", s.oversample, kIdentity, "children bred and screened for each one that is scored");
  v("evolution.learn", s.learn, kIdentity, "rank them by what earlier scores taught, too");
  v("evolution.keep", s.keep, kIdentity, "share of a generation that passes a cheap rung");
  v("evolution.archive", s.archive, kIdentity, "most points of the front");
  v("evolution.confirm", s.confirm, kIdentity, "most newcomers of a generation measured on the whole text");
  v("evolution.credit_rate", c.breed.credit.rate, kIdentity, "weight of the latest generation in operators' credit");
  v("evolution.credit_floor", c.breed.credit.floor, kIdentity, "share of draws spread evenly; 1: no credit");
  v("stop.budget", c.budget, kAround, "token · layer forwards; 0: no limit, as all 0 here");
  v("stop.seconds", c.seconds, kAround, "");
  v("stop.target", c.target, kAround, "value of the only objective");
  v("stop.stagnation", c.stagnation, kAround, "generations without …");
  v("stop.gain", c.gain, kAround, "… the best falling by this share");
  v("constraints.kept", c.kept, kIdentity, "experts kept in all: 50%, 64, 25%-50%");
  v("constraints.active", c.active, kIdentity, "experts a token uses, summed over layers: 75%, 24, 50%-75%");
  v("constraints.max_active_experts", c.k_high, kIdentity, "of a layer; 0: the model's own");
  v("constraints.min_active_experts", c.k_low, kIdentity, "of a layer");
  v("constraints.min_experts", c.kept_low, kIdentity, "kept in a layer");
  v("constraints.skip_layers", c.skip, kIdentity, "whether a layer's experts may be left out altogether");
  v("constraints.classes", c.classes, kIdentity, "most classes of tokens with masks of their own");
  v("constraints.widths", c.widths, kIdentity, "whether experts may run narrower: for models trained for it");
  v("constraints.temperature_low", c.temperature_low, kIdentity, "");
  v("constraints.temperature_high", c.temperature_high, kIdentity, "");
  v("constraints.bias_high", c.bias_high, kIdentity, "most that a selection score is moved");
  v("guides.saliency", c.saliency, kIdentity, "which experts operators prefer: frequency, gate, ean, reap, man");
  v("guides.bias_step", c.bias_step, kIdentity, "");
  v("seeds.baselines", c.baselines, kIdentity, "generation 0 has what simpler ways choose");
  v("text.layout", c.layout, kIdentity, "document of a JSON object of .jsonl files");
  v("text.separator", c.separator, kIdentity, "line between two documents of others");
  v("text.most", c.most_text, kIdentity, "read of one file");
  v("text.context", c.data.n_ctx, kIdentity, "tokens of a chunk");
  v("text.block", c.data.block_tokens, kIdentity, "tokens of a forward pass");
  v("text.calibration_tokens", c.data.calibration_tokens, kIdentity, "what measures: 0: all there is, as for the next two");
  v("text.select_tokens", c.data.select_tokens, kIdentity, "what decides: candidates for the front read all of it");
  v("text.test_tokens", c.data.test_tokens, kIdentity, "what no decision sees");
  v("questions.layout", c.question_layout, kIdentity, "prompt of a question, fields of its object in braces");
  v("fitness.tokens", c.score_tokens, kIdentity, "of a generation's text, about");
  v("fitness.rungs", c.rungs, kIdentity, "each with four times the text of the one before");
  v("fitness.fresh_every", c.fresh_every, kIdentity, "generations that share a text; 0: all");
  v("fitness.sampled", c.sampled, kIdentity, "tokens whose experts' outputs are kept");
  v("fitness.candidates", c.candidates, kIdentity, "experts of each of them; 0: all");
  v("fitness.probe_tokens", c.probe_tokens, kIdentity, "for the weights of layers; 0: all count alike");
  v("fitness.memory", c.memory, kAround, "for what is known of prefixes");
  v("measure.points", c.measure_points, kAround, "of the front that are run at the end, against the clock; 0: none");
  v("measure.seconds", c.measure_seconds, kAround, "after which no more of them begin");
}

struct List {
  const char* name;
  const char* meaning;
  std::vector<std::string> EvolveConfig::*values;
  bool names;  // of operators, several with commas as well
};
constexpr List kLists[] = {
    {"evolution.mutations", "operators by name, or one text with commas; empty: all", &EvolveConfig::mutations, true},
    {"evolution.crossovers", "the same", &EvolveConfig::crossovers, true},
    {"questions.files", "for the objective accuracy: {\"question\", \"choices\", \"answer\": index} a line",
     &EvolveConfig::questions, false},
    {"seeds.topologies", "files that generation 0 has", &EvolveConfig::topologies, false},
};

// What others' files say that means nothing here, and what does instead.
struct Meaningless {
  const char *name, *instead;
};
constexpr Meaningless kMeaningless[] = {
    {"constraints.min_expert_usage",
     "how often an expert is used follows from what is kept: make diversity or load-balance an objective or a limit "
     "(limits.load-balance), or keep fewer experts (constraints.kept)"},
    {"evolution.strategy", "say evolution.algorithm and evolution.selection.method"},
};

Status apply_list(EvolveConfig& c, const List& l, const ConfigEntry& e) {
  std::vector<std::string>& values = c.*l.values;
  if (e.name == l.name && e.value.empty()) {
    values.clear();
    return Status::Ok();
  }
  for (size_t at = 0; at <= e.value.size();) {
    const size_t end = l.names ? std::min(e.value.find(',', at), e.value.size()) : e.value.size();
    values.push_back(e.value.substr(at, end - at));
    at = end + 1;
  }
  return Status::Ok();
}

Status apply(EvolveConfig& c, TargetEntries& targets, const ConfigEntry& e) {
  for (const Meaningless& m : kMeaningless)
    if (e.name == m.name) return Status::InvalidArgument(e.name + " has no meaning here: " + m.instead);
  if (targets.takes(e.name)) return targets.add(e);
  for (const List& l : kLists)
    if (e.name == l.name || e.name.starts_with(std::string(l.name) + ".")) return apply_list(c, l, e);
  bool known = false, good = false;
  std::string all;
  visit(c, [&](const char* name, auto& member, Role, const char*) {
    all += (all.empty() ? "" : ", ") + std::string(name);
    if (e.name == name) known = true, good = parse_value(e.value, member);
  });
  for (const List& l : kLists) all += ", " + std::string(l.name);
  if (!known)
    return Status::InvalidArgument("unknown setting '" + e.name + "'; known: " + all +
                                   ", texts, objectives, limits, constraints.max_memory, hardware_targets");
  if (!good) return Status::InvalidArgument(e.name + ": '" + e.value + "' is no value for it");
  return Status::Ok();
}

bool knows_one_objective(const std::string& algorithm) { return algorithm == "genetic" || algorithm == "level-switch"; }

Status check(const EvolveConfig& c) {
  if (c.out.empty()) return Status::InvalidArgument("out: wanted the folder that the search writes to");
  if (c.texts.empty()) return Status::InvalidArgument("texts: wanted at least one, -f NAME=FILE");
  for (size_t i = 0; i < c.texts.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (c.texts[i].name == c.texts[j].name)
        return Status::InvalidArgument("texts: wanted different names, found '" + c.texts[i].name + "' twice");
  const bool one = c.objectives.size() == 1 || weights_count(c);
  if (!one && knows_one_objective(c.search.algorithm))
    return Status::InvalidArgument("evolution.algorithm: " + c.search.algorithm + " minimises one objective, found " +
                                   std::to_string(c.objectives.size()) +
                                   "; with weights it minimises their sum, nsga2 finds the front");
  if (!one && !std::isnan(c.target))
    return Status::InvalidArgument("stop.target: wanted one objective, found " + std::to_string(c.objectives.size()));
  std::vector<const ObjectiveDef*> measured;
  for (const EvolveObjective& o : c.objectives) {
    MOE_ASSIGN(const ObjectiveDef* def, find_objective(o.name));
    measured.push_back(def);
  }
  for (const ObjectiveLimit& l : c.limits) measured.push_back(l.objective);
  for (const ObjectiveDef* def : measured)
    if (c.questions.empty() && def->tier == Tier::kChoices)
      return Status::InvalidArgument(std::string(def->name) + ": wanted files of questions (questions.files)");
  MOE_TRY(parse_bytes(c.most_text).status().Annotate("text.most"));
  MOE_TRY(parse_bytes(c.memory).status().Annotate("fitness.memory"));
  if (c.measure_points < 0 || !(c.measure_seconds >= 0))
    return Status::InvalidArgument("measure.points, measure.seconds: wanted 0 or more");
  MOE_TRY(find_saliency(c.saliency).status().Annotate("guides.saliency"));
  if (!c.kept.empty()) MOE_TRY(budget_range("constraints.kept", c.kept, 1 << 20).status());
  if (!c.active.empty()) MOE_TRY(budget_range("constraints.active", c.active, 1 << 20).status());
  return Status::Ok();
}

// The settings that are other structs' members under other names.
void settle(EvolveConfig& c) {
  if (c.crossover_rate >= 0) c.search.settings.crossover_rate = c.crossover_rate, c.breed.crossover_rate = 1;
  TerminationLimits& l = c.search.limits;
  l.evaluations = static_cast<uint64_t>(c.budget);
  l.generations = c.generations;
  l.seconds = c.seconds;
  if (!std::isnan(c.target)) l.target = c.target;
  l.window = c.stagnation;
  l.gain = c.stagnation > 0 ? c.gain : 0;
  if (l.evaluations == 0 && l.generations == 0 && l.seconds == 0 && l.window == 0) l.generations = kDefaultGenerations;
}

}  // namespace

bool weights_count(const EvolveConfig& c) {
  return knows_one_objective(c.search.algorithm) && c.objectives.size() > 1 &&
         std::all_of(c.objectives.begin(), c.objectives.end(), [](const EvolveObjective& o) { return o.weight.has_value(); });
}

Result<EvolveConfig> read_evolve_config(std::span<const ConfigEntry> entries) {
  EvolveConfig c;
  TargetEntries targets;
  for (const ConfigEntry& e : entries)
    if (const Status s = apply(c, targets, e); !s.ok()) return s.Annotate(e.where);
  MOE_TRY(targets.finish(c));
  MOE_TRY(check(c));
  settle(c);
  return c;
}

std::string describe_evolve_config() {
  EvolveConfig c;
  std::string text;
  visit(c, [&](const char* name, auto& member, Role, const char* meaning) {
    text += setting_line(name, show_value(member), meaning);
  });
  for (const List& l : kLists) text += setting_line(l.name, "[]", l.meaning);
  return text + describe_targets();
}

std::vector<std::pair<std::string, std::string>> identity_of(const EvolveConfig& config) {
  std::vector<std::pair<std::string, std::string>> all;
  visit(config, [&](const char* name, const auto& member, Role role, const char*) {
    if (role == kIdentity) all.emplace_back(name, show_value(member));
  });
  for (const List& l : kLists)
    for (const std::string& value : config.*l.values) all.emplace_back(l.name, value);
  for (const EvolveObjective& o : config.objectives)
    all.emplace_back("objectives", o.name + (weights_count(config) ? " · " + show_value(*o.weight) : ""));
  for (const ObjectiveLimit& l : config.limits)
    all.emplace_back("limits." + std::string(l.objective->name), show_value(l.limit));
  for (const EvolveText& t : config.texts) all.emplace_back("texts", t.name);
  return all;
}

}  // namespace moe::tools
