// make bench-selection MODEL=file.gguf TEXTS="name=file.tok …" [ARGS="--seeds 11 --budget 4e6 …"]: whether evolution earns its
// keep. On models whose best routing was planted, and on a trained model against random search, ranks of experts, greedy
// removal, allocation by dynamic programming, EvoPress' level switch and hill climbing: equal budgets in token · layer
// forwards, paired seeds, text that no decision has seen. Each figure stands beside its bar; exit status 1 where one is missed.
//
// Everybody pays for calibration, Gram cache and probes, and then for every token of every genome that is scored or confirmed,
// times the model's layers: what the evaluator saves by resuming behind known layers is no method's merit and counts for none.
// Token files are those of `moe-train tokens`.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/mathx.h"
#include "evolution/fitness.h"
#include "evolution/local_searches.h"
#include "evolution/saliency.h"
#include "evolution/search.h"
#include "evolution/statistics.h"
#include "evolution/streams.h"
#include "models/train/token_file.h"
#include "tests/evolution/planted.h"

namespace {

using namespace moe;

struct Arguments {
  std::string model, csv, only;  // only: a part of a setting's name
  std::vector<std::string> texts;
  int seeds = 11, planted_seeds = 40, threads = 1;
  // Token · layers of a search behind the calibration; where FLOPs are limited, numbers, widths and thresholds are looked for,
  // which are more than masks.
  double budget = 5e6, work_budget = 8e6;
  int score_tokens = 2048, select_tokens = 16384, test_tokens = 32768, calibration_tokens = 16384, sampled = 1024;
  int rungs = 1;
  int population = 16, oversample = 32;
  std::string algorithm = "genetic", mutations;  // mutations: names with commas between; empty: mutations()
  int parents = 4;                               // 0: as many as children
  double crossover = 0.5, more = 0.3;            // chance of a father, of each further mutation
  int guided = 1, baselines = 1, learn = 1, fresh = 1, first_seed = 1;
  int controls = 2;  // seeds of the shuffled one
  std::string methods = "evolution,random search,level switch,hill climb";
};

template <class T>
T must(Result<T> r) {
  if (r.ok()) return std::move(r).value();
  std::fprintf(stderr, "bench-selection: %s\n", r.status().message().c_str());
  std::exit(2);
}
void must(const Status& s) {
  if (s.ok()) return;
  std::fprintf(stderr, "bench-selection: %s\n", s.message().c_str());
  std::exit(2);
}

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

int g_missed = 0;

void row(const std::string& what, double found, const char* bar_sign, double bar, const std::string& rest = "") {
  const bool met = std::strcmp(bar_sign, ">=") == 0 ? found >= bar : found <= bar;
  g_missed += !met;
  std::printf("  %-58s %10.4g %2s %6.4g  %-6s %s\n", what.c_str(), found, bar_sign, bar, met ? "ok" : "MISSED", rest.c_str());
}

// --- what a method pays ---

// Of one method: an evaluation costs its tokens times the layers, the same genome on the same text once. `shuffled`: forward
// passes tell of another genome than the one asked about, which leaves nothing to learn from them or from predictions.
class Metered final : public Evaluator {
 public:
  Metered(Evaluator& inner, int n_layers, bool whole, bool shuffled)
      : inner_(inner), n_layers_(n_layers), whole_(whole), shuffled_(shuffled) {}

  Status screen(std::span<const Genome> genomes, std::span<Evaluation> results) override {
    MOE_TRY(inner_.screen(genomes, results));
    if (shuffled_)
      for (size_t i = 0; i < genomes.size(); ++i) results[i].layer_error = number_of(genomes[i]);
    return {};
  }
  Status score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
               std::span<Evaluation> results) override {
    MOE_TRY(inner_.score(generation, genomes, keep, results));
    charge(genomes, results, whole_ ? 0 : inner_.text_of(generation) + uint64_t{1});
    return {};
  }
  Status confirm(std::span<const Genome> genomes, std::span<Evaluation> results) override {
    MOE_TRY(inner_.confirm(genomes, results));
    charge(genomes, results, 0);
    return {};
  }
  Status held_out(std::span<const Genome> genomes, std::span<Evaluation> results) override {
    return inner_.held_out(genomes, results);
  }
  uint32_t text_of(uint32_t generation) const override { return inner_.text_of(generation); }
  double token_layers() const override { return spent_; }
  std::vector<Tier> tiers() const override { return inner_.tiers(); }

 private:
  double number_of(const Genome& g) const { return Rng(hash(g), 99).uniform_double(); }
  void charge(std::span<const Genome> genomes, std::span<Evaluation> results, uint64_t text) {
    for (size_t i = 0; i < genomes.size(); ++i) {
      int64_t& paid = paid_[hash(genomes[i]) ^ text * 0x9e3779b97f4a7c15u];
      spent_ += static_cast<double>(std::max<int64_t>(results[i].tokens - paid, 0)) * n_layers_;
      paid = std::max(paid, results[i].tokens);
      if (shuffled_ && !results[i].dropped) results[i].kl = number_of(genomes[i]);
    }
  }
  Evaluator& inner_;
  const int n_layers_;
  const bool whole_;  // generations are scored on all that confirm() reads
  const bool shuffled_;
  double spent_ = 0;
  std::unordered_map<uint64_t, int64_t> paid_;
};

// --- one setting: what is removed or saved, and how a search may do it ---

struct Setting {
  const char* name;
  double kept = 1;  // of experts
  double cut = 0;   // of the FLOPs of a token
};
constexpr Setting kSettings[] = {{"25 % of experts removed", 0.75, 0},
                                 {"50 % of experts removed", 0.5, 0},
                                 {"35 % of FLOPs saved", 1, 0.35},
                                 {"42 % of FLOPs saved", 1, 0.42}};

struct Figures {
  double select = 0, kl = 0, worst = 0;
};
using Table = std::map<std::string, std::vector<Figures>>;  // a method's, one a seed

class Trial {
 public:
  Trial(const Arguments& arguments, const Model& model, Fitness& fitness, const Setting& setting, uint64_t seed, FILE* csv)
      : a_(arguments), model_(model), fitness_(fitness), setting_(setting), seed_(seed), csv_(csv), threads_(a_.threads) {
    for (const auto& l : model.routing_shape().layers) n_experts_ += l.n_experts;
    kept_ = std::lround(setting.kept * static_cast<double>(n_experts_));
    const SearchSpace plain = must(SearchSpace::create(model.routing_shape(), {}));
    const Genome full = must(genome_of(full_topology(plain.shape()), plain.shape(), *pool_));
    must(fitness.screen({&full, 1}, {&full_, 1}));
    objectives_.objectives = {must(find_objective("kl"))};
    if (setting.cut > 0) {
      // A hair for the sample, which a threshold's mean is of.
      limit_ = full_.active_flops * (1 - setting.cut) * 1.0005;
      work_ = 1 - setting.cut * full_.active_flops / full_.expert_flops;
      objectives_.limits = {{must(find_objective("active-flops")), limit_}};
    }
  }
  double work() const { return work_; }

  void run(Table& table, bool control) {
    const bool by_kept = setting_.cut == 0;
    const SearchSpace space = make_space(by_kept, a_.guided != 0);
    const BaselineInput input{&space, &fitness_.calibration(), &fitness_.gram(), fitness_.layer_weights(), &threads_, seed_};
    std::vector<Genome> seeds;
    Genome reap;
    for (const BaselineDef& def : by_kept ? kept_baselines() : work_baselines()) {
      Result<Genome> made =
          by_kept ? kept_baseline(def.name, input, kept_, *pool_) : work_baseline(def.name, input, work_, *pool_);
      if (!made.ok()) {
        std::fprintf(stderr, "# %s: %s\n", setting_.name, made.status().message().c_str());
        continue;
      }
      if (a_.baselines) {
        Figures& known = known_figures(hash(*made));
        if (std::isnan(known.kl)) {
          Evaluation confirmed;
          must(fitness_.confirm({&*made, 1}, {&confirmed, 1}));
          known = measured(def.name, *made, confirmed);
        }
        report(table, def.name, known);
      }
      if (std::string_view(def.name) == "reap" || std::string_view(def.name) == "uniform-k") reap = *made;
      // What fits the space's budgets begins a search; a threshold or a width does where the limit is on FLOPs.
      seeds.push_back(*std::move(made));
    }
    if (!by_kept) {  // what random search begins with as well
      constexpr uint32_t kDrawn = 12, kOf = 32;
      for (uint32_t i = 0; i < kDrawn; ++i) {
        std::vector<Genome> drawn;
        for (uint32_t j = 0; j < kOf; ++j) {
          Rng rng = stream_of(seed_, Purpose::kFirstPopulation, 1, i * kOf + j);
          drawn.push_back(must(random_candidate(space, work_, rng, *pool_)));
        }
        std::vector<Evaluation> screened(drawn.size());
        must(fitness_.screen(drawn, screened));
        const auto best = std::min_element(screened.begin(), screened.end(),
                                           [](const auto& a, const auto& b) { return a.layer_error < b.layer_error; });
        seeds.push_back(drawn[static_cast<size_t>(best - screened.begin())]);
      }
    }
    const Variation variation = must(Variation::create(space, {.mutate_more = a_.more}, mutations()));
    const auto metered = [&](bool shuffled = false) {
      return Metered(fitness_, static_cast<int>(model_.routing_shape().layers.size()), a_.score_tokens >= a_.select_tokens,
                     shuffled);
    };
    if (wanted("random search")) {
      Metered m = metered();
      report(table, "random search", must(random_search(local(space, m))));
    }
    if (wanted("hill climb")) {
      Metered m = metered();
      report(table, "hill climb", must(hill_climb(local(space, m), variation)));
    }
    if (!reap.layers.empty() && wanted("level switch")) {
      Metered m = metered();
      std::vector<LayerOrder> orders;
      const auto saliency = saliency_table(*must(find_saliency("reap")), fitness_.calibration());
      for (size_t l = 0; by_kept && l < saliency.size(); ++l) {
        const std::vector<double> v(saliency[l].begin(), saliency[l].end());
        orders.push_back(v.empty() ? LayerOrder{} : order_by(v, static_cast<int>(l), space));
      }
      report(table, "level switch", must(level_switch(local(space, m), reap, orders)));
    }
    if (wanted("evolution")) {
      Metered m = metered();
      evolve(table, "evolution", space, variation, m, seeds);
    }
    if (control) {  // guides would know what measurements cannot tell
      Metered m = metered(true);
      const SearchSpace blind = make_space(by_kept, false);
      evolve(table, "shuffled", blind, must(Variation::create(blind, {.mutate_more = a_.more}, mutations())), m, {});
    }
  }

 private:
  bool wanted(std::string_view name) const { return a_.methods.find(name) != std::string::npos; }

  SearchSpace make_space(bool by_kept, bool guided) const {
    Constraints c;
    if (by_kept) {
      c.kept = IntRange{kept_, kept_};
    } else {
      c.skip = work_ * mean_k() < 1;
    }
    c.classes = 1;
    c.narrowest = fitness_.gram().has_widths() && !by_kept ? 1 : kQuarters;
    Guides g;
    if (guided) g.saliency = saliency_table(*must(find_saliency("reap")), fitness_.calibration());
    return must(SearchSpace::create(model_.routing_shape(), c, g));
  }
  double mean_k() const { return full_.k_mean; }
  double budget() const { return setting_.cut > 0 ? a_.work_budget : a_.budget; }

  LocalSearch local(const SearchSpace& space, Metered& m) const {
    LocalSearch s;
    s.space = &space, s.objectives = &objectives_, s.evaluator = &m, s.pool = pool_.get();
    s.seed = seed_, s.token_layers = budget(), s.children = a_.population, s.oversample = a_.oversample;
    if (setting_.cut > 0) s.work = work_;
    return s;
  }

  // Those that change what the setting is about: a search of a hundred evaluations has none to spare for the others.
  std::vector<MutationOp> mutations() const {
    const std::string wanted = !a_.mutations.empty() ? a_.mutations
                               : setting_.cut == 0   ? "rewire_expert,level_switch_kept,level_switch_ranked"
                                                     : "k_range,level_switch_k,threshold_step,work_switch,width_step,"
                                                       "width_shift";
    std::vector<std::string> names;
    for (size_t at = 0; at <= wanted.size();) {
      const size_t end = std::min(wanted.find(',', at), wanted.size());
      names.push_back(wanted.substr(at, end - at));
      at = end + 1;
    }
    return must(mutations_by_name(default_mutations(), names));
  }

  void evolve(Table& table, const char* name, const SearchSpace& space, const Variation& variation, Metered& m,
              const std::vector<Genome>& seeds) {
    SearchOptions o;
    o.seed = seed_, o.algorithm = a_.algorithm, o.oversample = a_.oversample;
    o.settings.children = static_cast<uint32_t>(a_.population);
    o.settings.population = a_.parents > 0 ? static_cast<uint32_t>(a_.parents) : o.settings.children;
    o.settings.crossover_rate = a_.crossover, o.learn = a_.learn != 0;
    o.limits.evaluations = static_cast<uint64_t>(budget());
    const auto search = must(Search::create(space, variation, objectives_, o, seeds, pool_, m, threads_));
    double rank_screen = 0, rank_learnt = 0;
    while (search->ended() == SearchEnd::kRunning) {
      const SearchStatistics s = must(search->step(0)).statistics;
      rank_screen = s.rank_screen, rank_learnt = s.rank_learnt;
    }
    const std::vector<Candidate> front = must(search->final_front());
    if (front.empty()) {
      std::fprintf(stderr, "# %s, %s: nothing feasible\n", setting_.name, name);
      return;
    }
    std::fprintf(stderr, "# %s: %u generations, %.3g token-layers, tau of what layers tell %.2f, of what was learnt %.2f\n",
                 name, search->generation(), m.token_layers(), rank_screen, rank_learnt);
    Evaluation confirmed;
    must(fitness_.confirm({&front[0].genome, 1}, {&confirmed, 1}));
    report(table, name, front[0].genome, confirmed);
  }

  // Most baselines are the same for every seed.
  static Figures& known_figures(uint64_t genome) {
    static std::unordered_map<uint64_t, Figures> known;
    return known.try_emplace(genome, Figures{0, kNotMeasured, 0}).first->second;
  }

  Figures measured(const char* name, const Genome& genome, const Evaluation& confirmed) const {
    Evaluation e;
    must(fitness_.held_out({&genome, 1}, {&e, 1}));
    if (setting_.cut > 0 && confirmed.active_flops > limit_)
      std::fprintf(stderr, "# %s, %s: %.4f of the FLOPs that are allowed\n", setting_.name, name,
                   confirmed.active_flops / limit_);
    return {confirmed.kl, e.kl, e.worst_domain_kl};
  }
  void report(Table& table, const char* name, const LocalResult& r) { report(table, name, r.genome, r.evaluation); }
  void report(Table& table, const char* name, const Genome& genome, const Evaluation& confirmed) {
    report(table, name, measured(name, genome, confirmed));
  }
  void report(Table& table, const char* name, const Figures& f) {
    table[name].push_back(f);
    if (!csv_) return;
    std::fprintf(csv_, "%s,%s,%llu,%.9g,%.9g,%.9g\n", setting_.name, name, static_cast<unsigned long long>(seed_), f.select,
                 f.kl, f.worst);
    std::fflush(csv_);
  }

  const Arguments& a_;
  const Model& model_;
  Fitness& fitness_;
  const Setting& setting_;
  const uint64_t seed_;
  FILE* csv_;
  ThreadPool threads_;
  std::shared_ptr<GenePool> pool_ = std::make_shared<GenePool>();
  int64_t n_experts_ = 0, kept_ = 0;
  Evaluation full_;
  double limit_ = 0, work_ = 1;
  ObjectiveSet objectives_;
};

// --- verdicts ---

std::vector<double> column(const std::vector<Figures>& rows, double Figures::*figure) {
  std::vector<double> values;
  for (const Figures& f : rows) values.push_back(f.*figure);
  return values;
}

// The one of `names` with the least median.
std::string best_of(const Table& table, std::initializer_list<const char*> names) {
  std::string best;
  double least = HUGE_VAL;
  for (const char* name : names) {
    const auto it = table.find(name);
    if (it == table.end()) continue;
    const double m = median(column(it->second, &Figures::kl));
    if (m < least) least = m, best = name;
  }
  return best;
}

void against(const Table& table, const std::string& opponent, double bar, int seeds) {
  if (opponent.empty()) return;
  const std::vector<double> mine = column(table.at("evolution"), &Figures::kl),
                            theirs = column(table.at(opponent), &Figures::kl);
  const double p = signed_rank_test(mine, theirs).p_less;
  char rest[64];
  std::snprintf(rest, sizeof rest, "A12 %.2f", a12(theirs, mine));
  row("median KL over that of " + opponent, median(mine) / median(theirs), "<=", bar, rest);
  // n pairs cannot say more than 2^-n.
  if (seeds >= 7) row("Wilcoxon p against " + opponent, p, "<=", 0.01);
}

void verdict(const Setting& setting, const Table& table, int seeds) {
  std::printf("\n%s: held-out KL of %d seeds\n  %-18s %9s %9s %9s %9s %9s\n", setting.name, seeds, "", "median", "least",
              "most", "worst dom", "test/sel");
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [name, rows] : table) order.push_back({median(column(rows, &Figures::kl)), name});
  std::sort(order.begin(), order.end());
  for (const auto& [kl, name] : order) {
    const std::vector<Figures>& rows = table.at(name);
    const std::vector<double> all = column(rows, &Figures::kl);
    std::printf("  %-18s %9.5f %9.5f %9.5f %9.5f %9.3f\n", name.c_str(), kl, *std::min_element(all.begin(), all.end()),
                *std::max_element(all.begin(), all.end()), median(column(rows, &Figures::worst)),
                kl / median(column(rows, &Figures::select)));
  }
  if (!table.count("evolution")) return row("evolution found something", 0, ">=", 1);
  against(table, best_of(table, {"random search", "random", "random-k", "frequency", "frequency-global"}), 0.90, seeds);
  against(table, best_of(table, {"greedy", "greedy-dp", "dp", "k-dp", "k-width-dp", "reap", "reap-global"}), 0.97, seeds);
  against(table, best_of(table, {"hill climb", "level switch"}), 1, seeds);
  against(table, best_of(table, {"uniform-k", "threshold", "width", "k-width"}), 1, seeds);  // one number for all layers
  const char* reap = setting.cut > 0 ? "uniform-k" : "reap";
  if (table.count(reap))
    row(std::string("worst domain over that of ") + reap,
        median(column(table.at("evolution"), &Figures::worst)) / median(column(table.at(reap), &Figures::worst)), "<=", 1);
  row("held-out KL over selection KL",
      median(column(table.at("evolution"), &Figures::kl)) / median(column(table.at("evolution"), &Figures::select)),
      "<=", 1.15);
  if (table.count("shuffled") && table.count("random"))
    row("shuffled fitness: KL over that of random masks",
        median(column(table.at("shuffled"), &Figures::kl)) / median(column(table.at("random"), &Figures::kl)), ">=", 0.9);
}

// --- planted models ---

struct PlantedRun {
  double kl = 1;
  uint32_t generations = 0;
};

PlantedRun search_planted(const Model& model, uint64_t seed, bool seeded, const Arguments& a) {
  TextDataOptions to;
  to.n_ctx = 40, to.block_tokens = 80;
  FitnessOptions fo;
  fo.seed = seed, fo.n_sampled = 128, fo.score_tokens = 240, fo.probe_tokens = 160, fo.rungs = 1;
  const auto fitness = must(Fitness::create(model, must(TextData::create(test::planted_text(20), to)), fo));
  Constraints c;
  c.kept = IntRange{test::kPlantedKept, test::kPlantedKept};
  c.narrowest = kQuarters;
  const SearchSpace space = must(SearchSpace::create(model.routing_shape(), c));  // saliency would mislead: no guides
  const auto pool = std::make_shared<GenePool>();
  const BaselineInput input{&space, &fitness->calibration(), &fitness->gram(), fitness->layer_weights()};
  std::vector<Genome> seeds = {must(kept_baseline(seeded ? "greedy-dp" : "random", input, test::kPlantedKept, *pool))};
  ObjectiveSet objectives;
  objectives.objectives = {must(find_objective("kl"))};
  SearchOptions o;
  o.seed = seed, o.algorithm = a.algorithm, o.oversample = 32;
  o.settings.population = o.settings.children = 32, o.settings.crossover_rate = a.crossover;
  o.limits.generations = 60, o.limits.target = 1e-6;
  ThreadPool threads(1);
  const auto search = must(Search::create(space, must(Variation::create(space, {.mutate_more = 0.6})), objectives, o, seeds,
                                          pool, *fitness, threads));
  while (search->ended() == SearchEnd::kRunning) must(search->step(0).status());
  return {must(search->final_front())[0].evaluation.kl, search->generation()};
}

void planted_table(const Arguments& a) {
  const test::TempFolder folder;
  const auto planted = test::load_model(test::planted_model().write(folder, "planted.gguf"));
  std::printf("planted routing, %d seeds\n", a.planted_seeds);
  for (const bool seeded : {true, false}) {
    std::vector<double> generations;
    int found = 0;
    for (int seed = 1; seed <= a.planted_seeds; ++seed) {
      const PlantedRun r = search_planted(*planted, static_cast<uint64_t>(seed), seeded, a);
      found += r.kl < 1e-6;
      generations.push_back(r.generations);
    }
    char rest[64];
    std::snprintf(rest, sizeof rest, "generations: median %.0f, most %.0f", median(generations), quantile_of(generations, 1));
    row(seeded ? "share of seeds that find it, from greedy-dp" : "share of seeds that find it, from random masks",
        static_cast<double>(found) / a.planted_seeds, ">=", 0.95, rest);
  }
  const auto same = test::load_model(test::identical_experts_model().write(folder, "identical.gguf"));
  row("identical experts: KL of the best mask", search_planted(*same, 1, false, a).kl, "<=", 1e-6);
}

// --- the trained model ---

constexpr uint64_t kDomainTokens = 200'000;

TextDomain read_domain(const std::string& text) {
  const size_t at = text.find('=');
  const TokenFile file = must(TokenFile::open(text.substr(at + 1)));
  TextDomain d{text.substr(0, at), {}};
  uint64_t n = 0;
  for (uint64_t i = file.n_documents(); i-- > 0 && n < kDomainTokens;) {
    std::vector<Token>& document = d.documents.emplace_back(file.document_end(i) - file.document_begin(i));
    must(file.read(file.document_begin(i), document));
    n += document.size();
  }
  return d;
}

void model_tables(const Arguments& a) {
  ModelOptions mo;
  mo.backend_options.n_threads = a.threads;
  const auto model = must(Model::load(a.model, mo));
  std::vector<TextDomain> domains;
  for (const std::string& text : a.texts) domains.push_back(read_domain(text));
  TextDataOptions to;
  to.calibration_tokens = a.calibration_tokens, to.select_tokens = a.select_tokens, to.test_tokens = a.test_tokens;
  const TextData text = must(TextData::create(domains, to));
  FILE* csv = a.csv.empty() ? nullptr : std::fopen(a.csv.c_str(), "w");
  if (csv) std::fprintf(csv, "setting,method,seed,select_kl,held_out_kl,worst_domain_kl\n");
  std::map<std::string, Table> tables;
  for (int seed = a.first_seed; seed < a.first_seed + a.seeds; ++seed) {
    const double start = cpu_seconds();
    std::unique_ptr<Fitness> of_masks, of_work;  // whoever saves work may narrow experts, which takes a larger Gram cache
    for (const Setting& s : kSettings) {
      if (std::string_view(s.name).find(a.only) == std::string_view::npos) continue;
      std::unique_ptr<Fitness>& fitness = s.cut > 0 ? of_work : of_masks;
      if (!fitness) {
        FitnessOptions fo;
        fo.seed = static_cast<uint64_t>(seed), fo.n_sampled = s.cut > 0 ? a.sampled / 4 : a.sampled;
        fo.score_tokens = a.score_tokens, fo.rungs = a.rungs;
        fo.fresh_every = static_cast<uint32_t>(a.fresh), fo.widths = s.cut > 0;
        fitness = must(Fitness::create(*model, text, fo));
        std::fprintf(stderr, "# seed %d: calibrated in %.0f s, %.3g token-layers\n", seed, cpu_seconds() - start,
                     fitness->token_layers());
      }
      Trial trial(a, *model, *fitness, s, static_cast<uint64_t>(seed), csv);
      if (seed == a.first_seed && s.cut > 0) std::printf("# %s: %.3f of the experts' FLOPs are left\n", s.name, trial.work());
      if (trial.work() <= 0) continue;
      trial.run(tables[s.name], s.cut == 0 && seed < a.first_seed + a.controls);
      std::fprintf(stderr, "# seed %d, %s: %.0f s\n", seed, s.name, cpu_seconds() - start);
    }
  }
  if (csv) std::fclose(csv);
  for (const Setting& s : kSettings)
    if (tables.count(s.name)) verdict(s, tables[s.name], a.seeds);
}

Arguments parse(int n, char** given) {
  Arguments a;
  struct Number {
    const char* name;
    int* value;
  };
  const Number numbers[] = {{"--seeds", &a.seeds},
                            {"--planted-seeds", &a.planted_seeds},
                            {"--threads", &a.threads},
                            {"--score-tokens", &a.score_tokens},
                            {"--select-tokens", &a.select_tokens},
                            {"--test-tokens", &a.test_tokens},
                            {"--calibration-tokens", &a.calibration_tokens},
                            {"--sampled", &a.sampled},
                            {"--population", &a.population},
                            {"--guided", &a.guided},
                            {"--parents", &a.parents},
                            {"--baselines", &a.baselines},
                            {"--learn", &a.learn},
                            {"--controls", &a.controls},
                            {"--fresh", &a.fresh},
                            {"--first-seed", &a.first_seed},
                            {"--oversample", &a.oversample},
                            {"--rungs", &a.rungs}};
  for (int i = 1; i < n; ++i) {
    const std::string arg = given[i];
    const auto value = [&] { return i + 1 < n ? given[++i] : ""; };
    const auto* number = std::find_if(std::begin(numbers), std::end(numbers), [&](const Number& x) { return arg == x.name; });
    if (number != std::end(numbers)) {
      *number->value = std::max(0, std::atoi(value()));
    } else if (arg == "--budget") {
      a.budget = std::atof(value());
    } else if (arg == "--work-budget") {
      a.work_budget = std::atof(value());
    } else if (arg == "--crossover") {
      a.crossover = std::atof(value());
    } else if (arg == "--more") {
      a.more = std::atof(value());
    } else if (arg == "--mutations") {
      a.mutations = value();
    } else if (arg == "--algorithm") {
      a.algorithm = value();
    } else if (arg == "--csv") {
      a.csv = value();
    } else if (arg == "--methods") {
      a.methods = value();
    } else if (arg == "--only") {
      a.only = value();
    } else if (arg.find('=') != std::string::npos) {
      a.texts.push_back(arg);
    } else if (a.model.empty() && arg.rfind("--", 0) != 0) {
      a.model = arg;
    } else {
      std::fprintf(stderr, "bench-selection: unknown %s\n", arg.c_str());
      std::exit(2);
    }
  }
  return a;
}

}  // namespace

int main(int n, char** arguments) {
  doctest::Context asserts;
  asserts.setAsDefaultForAssertsOutOfTestCases();
  const Arguments a = parse(n, arguments);
  if (a.planted_seeds > 0) planted_table(a);
  if (!a.model.empty() && !a.texts.empty() && a.seeds > 0) model_tables(a);
  std::printf("\n# %d bars missed, %.0f s of CPU\n", g_missed, cpu_seconds());
  return g_missed == 0 ? 0 : 1;
}
