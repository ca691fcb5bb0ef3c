#include "evolution/api_search_setup.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "evolution/baselines.h"
#include "evolution/repair.h"
#include "evolution/saliency.h"
#include "models/api_support.h"

namespace moe::api {
namespace {

using Json = nlohmann::json;  // sorted

constexpr int64_t kMostPopulation = 100000;  // breeding generation 0 draws some 30 streams a slot (streams.h has 2^24)
constexpr int64_t kMostCount = int64_t{1} << 30;

struct Number {
  const char* name;
  int64_t value, low, high;
};

Status check_numbers(std::initializer_list<Number> numbers) {
  for (const Number& n : numbers)
    if (n.value < n.low || n.value > n.high)
      return Status::InvalidArgument(std::string(n.name) + ": wanted " + std::to_string(n.low) + " to " +
                                     std::to_string(n.high) + ", found " + std::to_string(n.value));
  return Status::Ok();
}

// Rows of one kind of own operators: named, with a function, unlike any name before.
template <class Own, class F>
Status check_own(const char* list, const Own* rows, size_t n, F Own::*function, std::set<std::string>& names) {
  if (!rows && n > 0) return null_argument(list);
  for (size_t i = 0; i < n; ++i) {
    const std::string at = std::string(list) + "[" + std::to_string(i) + "]";
    if (!rows[i].name) return null_argument((at + ".name").c_str());
    if (!(rows[i].*function)) return Status::InvalidArgument(at + ": wanted a function, found NULL");
    if (!*rows[i].name) return Status::InvalidArgument(at + ".name: wanted at least a character");
    if (!names.insert(rows[i].name).second)
      return Status::InvalidArgument(at + ".name: wanted one that no other operator has, found '" + rows[i].name + "'");
  }
  return Status::Ok();
}

Status check_texts(const char* list, const char* const* texts, size_t n) {
  if (!texts && n > 0) return null_argument(list);
  for (size_t i = 0; i < n; ++i)
    if (!texts[i]) return null_argument((std::string(list) + "[" + std::to_string(i) + "]").c_str());
  return Status::Ok();
}

std::optional<IntRange> range_of(int64_t low, int64_t high) {
  if (low == 0 && high == 0) return std::nullopt;
  return IntRange{low, high};
}

// Of the library's rows those that are asked for by name. What is not in this table is in the other one.
template <class Op>
std::vector<Op> asked_for(std::vector<Op> table, const moe_search_options& o, std::set<std::string>& known) {
  if (o.n_operators == 0) return table;
  std::erase_if(table, [&](const Op& op) {
    known.insert(op.name);
    return std::none_of(o.operators, o.operators + o.n_operators, [&](const char* name) { return op.name == name; });
  });
  return table;
}

Json names_of(const Search& search) {
  Json names = Json::array();
  for (const MutationOp& op : search.variation().mutations()) names.push_back(op.name);
  for (const CrossoverOp& op : search.variation().crossovers()) names.push_back(op.name);
  for (const SelectionRow& row : search.options().settings.selections) names.push_back(row.name);
  return names;
}

}  // namespace

Status check_options(const moe_search_options& o) {
  constexpr int64_t kMost32 = INT32_MAX, kMost64 = INT64_MAX;
  MOE_TRY(check_numbers(
      {{"population", o.population, 0, kMostPopulation},
       {"children", o.children, 0, kMostPopulation},
       {"generations", o.generations, 0, kMost32},
       {"kept_low", o.kept_low, 0, kMost64},
       {"active_low", o.active_low, 0, kMost64},
       {"n_ctx", o.n_ctx, 0, kMost32},
       {"calibration_tokens", o.calibration_tokens, 0, kMost64},
       {"select_tokens", o.select_tokens, 0, kMost64},
       {"test_tokens", o.test_tokens, 0, kMost64},
       {"score_tokens", o.score_tokens, 1, kMostCount},
       {"sampled", o.sampled, 1, kMostCount},
       {"threads", o.threads, 0, 1024},
       {"n_objectives", static_cast<int64_t>(std::min<size_t>(o.n_objectives, kMostCount)), 0, MOE_MOST_OBJECTIVES}}));
  if (!(o.budget >= 0 && o.budget < 1e18)) return Status::InvalidArgument("budget: wanted 0 or more");
  if (!(o.pressure >= 0)) return Status::InvalidArgument("pressure: wanted 0 or more");
  MOE_TRY(check_texts("objectives", o.objectives, o.n_objectives));
  MOE_TRY(check_texts("seeds", o.seeds, o.n_seeds));
  MOE_TRY(check_texts("operators", o.operators, o.n_operators));
  if (!o.limits && o.n_limits > 0) return null_argument("limits");
  for (size_t i = 0; i < o.n_limits; ++i) {
    if (!o.limits[i].objective) return null_argument("limits[].objective");
    if (!std::isfinite(o.limits[i].limit)) return Status::InvalidArgument("limits[].limit: wanted a finite number");
  }
  std::set<std::string> names;
  for (const MutationOp& op : default_mutations()) names.insert(op.name);
  for (const CrossoverOp& op : default_crossovers()) names.insert(op.name);
  for (const SelectionRow& row : selections()) names.insert(row.name);
  MOE_TRY(check_own("mutations", o.mutations, o.n_mutations, &moe_mutation::apply, names));
  MOE_TRY(check_own("crossovers", o.crossovers, o.n_crossovers, &moe_crossover::apply, names));
  return check_own("selections", o.selections, o.n_selections, &moe_selection::select, names);
}

Result<TextData> text_of_documents(const Model& model, std::span<const moe_search_document> documents,
                                   const moe_search_options& o) {
  std::vector<TextDomain> domains;
  for (size_t i = 0; i < documents.size(); ++i) {
    const moe_search_document& d = documents[i];
    if (!d.domain) return null_argument("documents[].domain");
    if (!d.tokens && d.n_tokens > 0) return null_argument("documents[].tokens");
    auto at = std::find_if(domains.begin(), domains.end(), [&](const TextDomain& t) { return t.name == d.domain; });
    if (at == domains.end()) at = domains.insert(at, {d.domain, {}});
    at->documents.emplace_back(d.tokens, d.tokens + d.n_tokens);
  }
  TextDataOptions options;
  if (o.n_ctx > 0) options.n_ctx = o.n_ctx;
  options.n_ctx = std::min(options.n_ctx, model.config().n_ctx_train);
  options.block_tokens = std::max(options.block_tokens, options.n_ctx);
  options.calibration_tokens = o.calibration_tokens;
  options.select_tokens = o.select_tokens, options.test_tokens = o.test_tokens;
  if (const Tokenizer* t = model.tokenizer(); t && t->add_bos()) options.bos = t->bos();
  return TextData::create(domains, options);
}

FitnessOptions fitness_options(const moe_search_options& o) {
  FitnessOptions f;
  f.seed = o.seed, f.n_sampled = o.sampled, f.score_tokens = o.score_tokens, f.widths = o.widths != 0;
  f.memory.residual_bytes = static_cast<size_t>(std::min<uint64_t>(o.memory, uint64_t{1} << 50));
  return f;
}

Result<ObjectiveSet> objectives_of(const moe_search_options& o) {
  static constexpr const char* kUsual[] = {"kl", "bytes-per-token"};
  const std::span<const char* const> names = o.n_objectives > 0 ? std::span(o.objectives, o.n_objectives) : std::span(kUsual);
  ObjectiveSet set;
  for (const char* name : names) {
    MOE_ASSIGN(const ObjectiveDef* def, find_objective(name));
    set.objectives.push_back(def);
  }
  for (size_t i = 0; i < o.n_limits; ++i) {
    MOE_ASSIGN(const ObjectiveDef* def, find_objective(o.limits[i].objective));
    set.limits.push_back({def, o.limits[i].limit});
  }
  const auto no_choices = [](const ObjectiveDef* d) { return d->tier == Tier::kChoices; };
  if (std::any_of(set.objectives.begin(), set.objectives.end(), no_choices) ||
      std::any_of(set.limits.begin(), set.limits.end(), [&](const ObjectiveLimit& l) { return no_choices(l.objective); }))
    return Status::Unsupported("objective accuracy: it needs questions, which moe-evolve reads and this API does not");
  return set;
}

Result<SearchSpace> space_of(const moe_search_options& o, const Fitness& fitness, const RoutingShape& shape) {
  Constraints c;
  c.kept = range_of(o.kept_low, o.kept_high), c.active = range_of(o.active_low, o.active_high);
  c.k_low = o.k_low, c.k_high = o.k_high, c.skip = o.skip_layers != 0, c.classes = o.classes;
  c.narrowest = o.widths ? 1 : kQuarters;
  Guides guides;
  MOE_ASSIGN(const SaliencyDef* saliency, find_saliency("reap"));
  guides.saliency = saliency_table(*saliency, fitness.calibration());
  return SearchSpace::create(shape, std::move(c), std::move(guides));
}

Result<Variation> variation_of(const moe_search_options& o, const SearchSpace& space,
                               const std::shared_ptr<Callbacks>& callbacks) {
  std::set<std::string> known;
  std::vector<MutationOp> mutations = asked_for(default_mutations(), o, known);
  std::vector<CrossoverOp> crossovers = asked_for(default_crossovers(), o, known);
  for (size_t i = 0; i < o.n_operators; ++i)
    if (!known.contains(o.operators[i])) {
      std::string all;
      for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
      return Status::NotFound("operators: wanted some of " + all + ", found '" + o.operators[i] + "'");
    }
  for (size_t i = 0; i < o.n_mutations; ++i) mutations.push_back(mutation_of(o.mutations[i], callbacks));
  for (size_t i = 0; i < o.n_crossovers; ++i) crossovers.push_back(crossover_of(o.crossovers[i], callbacks));
  return Variation::create(space, {}, std::move(mutations), std::move(crossovers));
}

SearchOptions search_options(const moe_search_options& o, size_t n_objectives, const std::shared_ptr<Callbacks>& callbacks) {
  SearchOptions s;
  s.seed = o.seed;
  s.algorithm = o.algorithm ? o.algorithm : n_objectives == 1 ? "genetic" : n_objectives <= 3 ? "nsga2" : "nsga3";
  s.settings.population = static_cast<uint32_t>(o.population), s.settings.children = static_cast<uint32_t>(o.children);
  if (o.selection) s.settings.selection = o.selection;
  s.settings.pressure = o.pressure;
  for (size_t i = 0; i < o.n_selections; ++i) s.settings.selections.push_back(selection_of(o.selections[i], callbacks));
  s.oversample = o.oversample, s.archive = o.archive;
  s.limits.generations = static_cast<uint32_t>(o.generations), s.limits.evaluations = static_cast<uint64_t>(o.budget);
  if (s.limits.generations == 0 && s.limits.evaluations == 0) s.limits.generations = UINT32_MAX;
  return s;
}

Result<std::vector<Genome>> first_genomes(const moe_search_options& o, const SearchSpace& space, const Fitness& fitness,
                                          ThreadPool& threads, GenePool& pool) {
  const RoutingShape& shape = space.shape();
  const RoutingTopology full = full_topology(shape);
  std::vector<Genome> all, good;
  int64_t n_experts = 0;
  int most_k = 0;
  for (const int i : space.routed()) n_experts += space.shape(i).n_experts, most_k = std::max(most_k, space.shape(i).k);
  for (size_t i = 0; i < o.n_seeds; ++i) {
    const std::string at = "seeds[" + std::to_string(i) + "]";
    const Result<RoutingTopology> topology = topology_from_json(o.seeds[i]);
    if (!topology.ok()) return topology.status().Annotate(at);
    Result<Genome> genome = genome_of(*topology, shape, pool);
    if (!genome.ok()) return genome.status().Annotate(at);
    all.push_back(*std::move(genome));
  }
  for (int k = most_k; k >= 1; --k) {
    const RoutingTopology fewer = with_k(full, shape, k);
    if (!validate(fewer, shape).ok()) continue;
    MOE_ASSIGN(Genome genome, genome_of(fewer, shape, pool));
    all.push_back(std::move(genome));
  }
  if (o.baselines && o.kept_high > 0 && o.kept_high < n_experts) {
    const BaselineInput input{&space, &fitness.calibration(), &fitness.gram(), fitness.layer_weights(), &threads, o.seed};
    for (const BaselineDef& def : kept_baselines())
      if (Result<Genome> genome = kept_baseline(def.name, input, o.kept_high, pool); genome.ok())
        all.push_back(*std::move(genome));
  }
  for (const Genome& g : all) {
    GenomeDraft draft(g);
    Rng rng(o.seed, 0);
    if (repair(draft, space, rng)) good.push_back(g);
  }
  return good.empty() ? all : good;  // for the search to refuse
}

std::string identity_of(const moe_search_options& o, const Model& model, const Search& search, const TextData& text,
                        std::span<const Genome> first) {
  const SearchOptions& s = search.options();
  const Constraints& c = search.space().constraints();
  Json objectives = Json::array(), limits = Json::array(), seeds = Json::array();
  for (const ObjectiveDef* def : search.objectives().objectives) objectives.push_back(def->name);
  for (const ObjectiveLimit& l : search.objectives().limits) limits.push_back({l.objective->name, l.limit});
  for (const Genome& g : first) seeds.push_back(hash_to_hex(hash(g)));
  const Json all = {{"model", hash_to_hex(model.hash())},
                    {"texts", hash_to_hex(text.hash())},
                    {"seed", s.seed},
                    {"algorithm", s.algorithm},
                    {"objectives", objectives},
                    {"limits", limits},
                    {"operators", names_of(search)},
                    {"population", s.settings.population},
                    {"children", s.settings.children},
                    {"selection", s.settings.selection},
                    {"pressure", s.settings.pressure},
                    {"oversample", s.oversample},
                    {"archive", s.archive},
                    {"kept", {o.kept_low, o.kept_high}},
                    {"active", {o.active_low, o.active_high}},
                    {"k", {c.k_low, c.k_high}},
                    {"classes", c.classes},
                    {"skip_layers", c.skip},
                    {"widths", o.widths != 0},
                    {"score_tokens", o.score_tokens},
                    {"sampled", o.sampled},
                    {"memory", o.memory},
                    {"seeds", seeds}};
  return all.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Status same_identity(const std::string& path, const std::string& theirs, const std::string& ours) {
  const Json found = Json::parse(theirs, nullptr, false), wanted = Json::parse(ours, nullptr, false);
  for (const auto& [name, value] : wanted.items()) {
    const Json other = found.is_object() ? found.value(name, Json()) : Json();
    if (other == value) continue;
    std::string differs = path;
    differs += ": another search: wanted its " + name + " to be " + value.dump();
    return Status::InvalidArgument(differs + ", found " + other.dump());
  }
  return Status::Ok();
}

}  // namespace moe::api
