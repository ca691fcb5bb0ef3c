// moe/evolve.h, but for what callbacks see (api_draft.cpp): the handle, and calls that pass through to Search.
#include <cmath>

#include "core/mathx.h"
#include "evolution/algorithm.h"
#include "evolution/api_search_setup.h"
#include "evolution/journal.h"
#include "models/api_support.h"

using namespace moe;
using namespace moe::api;

struct moe_search {
  std::shared_ptr<const Model> model;
  std::shared_ptr<Callbacks> callbacks = std::make_shared<Callbacks>();
  std::atomic<bool> cancelled{false};
  std::shared_ptr<GenePool> pool = std::make_shared<GenePool>();
  std::unique_ptr<ThreadPool> threads;
  std::unique_ptr<Fitness> fitness;
  std::unique_ptr<Search> search;
  std::unique_ptr<Journal> journal;
  Status broken;                   // why no generation can be made any more: the journal lacks one
  SearchStatistics statistics;     // of the last generation
  double token_layers = 0;         //
  std::vector<std::string> names;  // of mutations, then of crossovers
  bool finished = false;           // then the points are:
  std::vector<Candidate> front;
  std::vector<Evaluation> held_out;  // (points)
  moe_error error{};
};

namespace {

static_assert(MOE_MOST_OBJECTIVES == kMostObjectives);

template <class F>
moe_status in_search(moe_search* s, F&& f) noexcept {
  return s ? guarded(&s->error, std::forward<F>(f)) : MOE_ERROR_INVALID_ARGUMENT;
}

std::span<const Candidate> points_of(const moe_search& s) {
  return s.finished ? std::span<const Candidate>(s.front) : s.search->archive();
}

void note(moe_search& s, const GenerationRecord& record) {
  s.statistics = record.statistics, s.token_layers = record.token_layers;
  s.finished = false;
}

Status open_journal(moe_search& s, const char* path, const std::string& identity) {
  Result<JournalText> known = read_journal(path);
  if (known.status().code() == StatusCode::kNotFound) {
    MOE_ASSIGN(Journal journal, Journal::create(path, identity));
    s.journal = std::make_unique<Journal>(std::move(journal));
    return Status::Ok();
  }
  if (!known.ok()) return known.status();
  if (known->settings.empty()) return Status::InvalidArgument(std::string(path) + ": wanted a journal, or no file at all");
  MOE_TRY(same_identity(path, known->settings, identity));
  for (const GenerationRecord& record : known->generations) {
    const Status lived = s.search->replay(record);
    MOE_TRY(s.callbacks->status());
    if (!lived.ok()) return lived.Annotate(path);
    note(s, record);
  }
  MOE_ASSIGN(Journal journal, Journal::resume(path, *known));
  s.journal = std::make_unique<Journal>(std::move(journal));
  return Status::Ok();
}

Status make_fitness(moe_search& s, std::span<const moe_search_document> documents, const moe_search_options& o) {
  MOE_ASSIGN(TextData text, text_of_documents(*s.model, documents, o));
  FitnessOptions options = fitness_options(o);
  if (o.on_progress)
    options.on_progress = [&o](const char* stage, int64_t done, int64_t all) {
      return o.on_progress(o.progress_user, stage, done, all) == 0;
    };
  MOE_ASSIGN(s.fitness, Fitness::create(*s.model, std::move(text), options));
  s.fitness->cancelled = [&s] { return s.cancelled || s.callbacks->failed(); };
  return Status::Ok();
}

Status make_search(moe_search& s, ObjectiveSet objectives, const moe_search_options& o) {
  s.threads = std::make_unique<ThreadPool>(o.threads > 0 ? o.threads : s.model->backend().info().n_threads);
  MOE_ASSIGN(SearchSpace space, space_of(o, *s.fitness, s.model->routing_shape()));
  MOE_ASSIGN(Variation variation, variation_of(o, space, s.callbacks));
  for (const MutationOp& op : variation.mutations()) s.names.push_back(op.name);
  for (const CrossoverOp& op : variation.crossovers()) s.names.push_back(op.name);
  MOE_ASSIGN(const std::vector<Genome> first, first_genomes(o, space, *s.fitness, *s.threads, *s.pool));
  SearchOptions options = search_options(o, objectives.objectives.size(), s.callbacks);
  MOE_ASSIGN(s.search, Search::create(std::move(space), std::move(variation), std::move(objectives), std::move(options), first,
                                      s.pool, *s.fitness, *s.threads));
  MOE_TRY(s.callbacks->status());
  if (!o.journal) return Status::Ok();
  return open_journal(s, o.journal, identity_of(o, *s.model, *s.search, s.fitness->text(), first));
}

// What is wrong before a call that evaluates, or went wrong in it.
Status stopped(moe_search& s) {
  MOE_TRY(s.callbacks->status());
  MOE_TRY(s.broken);
  return Status::Ok();
}

// f() evaluates and ends early when it is asked to.
template <class F>
Status evaluate(moe_search& s, F&& f) {
  MOE_TRY(stopped(s));
  if (s.cancelled.exchange(false)) return Status::Cancelled("the search was cancelled");
  Status status = f();
  MOE_TRY(stopped(s));
  if (status.code() == StatusCode::kCancelled) s.cancelled = false;
  return status;
}

Status step(moe_search& s) {
  Result<GenerationRecord> record = s.search->step(0);  // a clock is the caller's
  if (!record.ok()) return record.status();
  MOE_TRY(s.callbacks->status());
  note(s, *record);
  if (s.journal) s.broken = s.journal->append(*record);
  return s.broken;
}

Status finish(moe_search& s) {
  MOE_ASSIGN(std::vector<Candidate> front, s.search->final_front());
  std::vector<Genome> genomes;
  genomes.reserve(front.size());
  for (const Candidate& c : front) genomes.push_back(c.genome);
  std::vector<Evaluation> held_out(front.size());
  if (!front.empty()) MOE_TRY(s.fitness->held_out(genomes, held_out));
  s.front = std::move(front), s.held_out = std::move(held_out), s.finished = true;
  return Status::Ok();
}

Result<const Candidate*> point_at(const moe_search& s, size_t i) {
  const std::span<const Candidate> points = points_of(s);
  if (i < points.size()) return &points[i];
  return Status::OutOfRange("point: wanted one below " + std::to_string(points.size()) + ", found " + std::to_string(i));
}

double perplexity(const Evaluation& e) { return std::isfinite(e.nll) ? mathx::exp(e.nll) : kNotMeasured; }

moe_search_point describe(const moe_search& s, const Candidate& c, const Evaluation& held_out) {
  const Evaluation& e = c.evaluation;
  moe_search_point p{};
  p.size = sizeof p, p.hash = hash(c.genome);
  const std::vector<const ObjectiveDef*>& objectives = s.search->objectives().objectives;
  p.n_objectives = static_cast<int32_t>(objectives.size());
  for (size_t m = 0; m < objectives.size(); ++m) p.objectives[m] = objectives[m]->value(e);
  p.kl = e.kl, p.kl_error = e.kl_error, p.worst_domain_kl = e.worst_domain_kl, p.perplexity = perplexity(e);
  p.active_flops = e.active_flops, p.bytes_per_token = e.bytes_per_token, p.resident_bytes = e.resident_bytes;
  p.latency_ms = e.latency_ms, p.kept_share = e.kept_share, p.k_mean = e.k_mean;
  p.load_cv = e.load_cv, p.diversity = e.diversity;
  p.held_out_kl = held_out.kl, p.held_out_kl_error = held_out.kl_error;
  p.held_out_worst_domain_kl = held_out.worst_domain_kl, p.held_out_perplexity = perplexity(held_out);
  return p;
}

moe_search_end end_of(SearchEnd ended) {
  return ended == SearchEnd::kRunning       ? MOE_SEARCH_RUNNING
         : ended == SearchEnd::kGenerations ? MOE_SEARCH_GENERATIONS
                                            : MOE_SEARCH_BUDGET;
}

// The i-th of a table whose names are literals.
template <class Table>
const char* literal_at(const Table& table, size_t i) {
  return i < table.size() ? table[i].name : nullptr;
}

// The same of names that are strings; `names` is filled once and lives for ever.
template <class Table>
std::vector<std::string> names_in(const Table& table) {
  std::vector<std::string> names;
  names.reserve(table.size());
  for (const auto& row : table) names.push_back(row.name);
  return names;
}

template <class Names>
const char* name_at(Names&& names, size_t i) {
  const char* name = nullptr;
  guarded(nullptr, [&] {
    const std::vector<std::string>& all = names();
    if (i < all.size()) name = all[i].c_str();
    return Status::Ok();
  });
  return name;
}

}  // namespace

extern "C" {

const char* moe_objective_name(size_t i) { return literal_at(all_objectives(), i); }
const char* moe_algorithm_name(size_t i) { return literal_at(algorithms(), i); }

const char* moe_mutation_name(size_t i) {
  return name_at(
      []() -> auto& {
        static const std::vector<std::string> kNames = names_in(default_mutations());
        return kNames;
      },
      i);
}

const char* moe_crossover_name(size_t i) {
  return name_at(
      []() -> auto& {
        static const std::vector<std::string> kNames = names_in(default_crossovers());
        return kNames;
      },
      i);
}

const char* moe_selection_name(size_t i) {
  return name_at(
      []() -> auto& {
        static const std::vector<std::string> kNames = names_in(selections());
        return kNames;
      },
      i);
}

void moe_search_options_init(moe_search_options* options, size_t size) {
  moe_search_options o{};
  o.seed = 1, o.oversample = 4, o.archive = 64, o.generations = 100;
  o.k_low = 1, o.classes = 1, o.baselines = 1;
  o.calibration_tokens = o.select_tokens = o.test_tokens = 32768;
  o.score_tokens = 8192, o.sampled = 512, o.memory = uint64_t{512} << 20;
  init_options(options, size, o);
}

moe_search* moe_search_create(moe_model* model, const moe_search_document* documents, size_t n_documents,
                              const moe_search_options* options, moe_error* error) {
  std::unique_ptr<moe_search> search;
  const moe_status status = guarded(error, [&]() -> Status {
    MOE_TRY(not_null({{"model", model}, {"documents", documents}}));
    MOE_ASSIGN(const moe_search_options o, options_or("moe_search_options", options, moe_search_options_init));
    MOE_TRY(check_options(o));
    search = std::make_unique<moe_search>();
    search->model = model->model;
    MOE_ASSIGN(ObjectiveSet objectives, objectives_of(o));
    MOE_TRY(make_fitness(*search, {documents, n_documents}, o));
    return make_search(*search, std::move(objectives), o);
  });
  return status == MOE_OK ? search.release() : nullptr;
}

void moe_search_free(moe_search* search) { delete search; }

const moe_error* moe_search_error(const moe_search* search) {
  static constexpr moe_error kNull = {MOE_ERROR_INVALID_ARGUMENT, "search: wanted an address, found NULL"};
  return search ? &search->error : &kNull;
}

moe_status moe_search_step(moe_search* search) {
  return in_search(search, [&] { return evaluate(*search, [&] { return step(*search); }); });
}

void moe_search_cancel(moe_search* search) {
  if (search) search->cancelled = true;
}

moe_status moe_search_get_info(moe_search* search, moe_search_info* info) {
  return in_search(search, [&]() -> Status {
    MOE_TRY(not_null({{"info", info}}));
    MOE_TRY(check_size("moe_search_info", *info));
    moe_search_info i{};
    i.size = sizeof i, i.generations = search->search->generation(), i.ended = end_of(search->search->ended());
    i.n_objectives = static_cast<int32_t>(search->search->objectives().objectives.size());
    i.n_points = points_of(*search).size(), i.n_operators = search->names.size();
    i.token_layers = i.generations > 0 ? search->token_layers : search->fitness->token_layers();
    i.hypervolume = search->statistics.hypervolume, i.diversity = search->statistics.diversity;
    for (size_t m = 0; m < kMostObjectives; ++m)
      i.best[m] = m < search->statistics.best.size() ? search->statistics.best[m] : kNotMeasured;
    *info = i;
    return Status::Ok();
  });
}

const char* moe_search_operator_name(const moe_search* search, size_t i, double* share) {
  if (!search || i >= search->names.size()) return nullptr;
  const Variation& v = search->search->variation();
  const size_t n_mutations = v.mutations().size();
  if (share)
    *share = i < n_mutations ? v.mutation_credit().probabilities()[i] : v.crossover_credit().probabilities()[i - n_mutations];
  return search->names[i].c_str();
}

moe_status moe_search_finish(moe_search* search) {
  return in_search(search, [&] { return evaluate(*search, [&] { return finish(*search); }); });
}

moe_status moe_search_get_point(moe_search* search, size_t i, moe_search_point* point) {
  return in_search(search, [&]() -> Status {
    MOE_TRY(not_null({{"point", point}}));
    MOE_TRY(check_size("moe_search_point", *point));
    MOE_ASSIGN(const Candidate* c, point_at(*search, i));
    *point = describe(*search, *c, search->finished ? search->held_out[i] : Evaluation());
    return Status::Ok();
  });
}

char* moe_search_get_topology(moe_search* search, size_t i) {
  char* text = nullptr;
  in_search(search, [&]() -> Status {
    MOE_ASSIGN(const Candidate* c, point_at(*search, i));
    return give(to_json(topology_of(c->genome, search->model->routing_shape())), text);
  });
  return text;
}

}  // extern "C"
