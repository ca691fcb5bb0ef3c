#include "tools/evolve_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "evolution/journal.h"
#include "evolution/repair.h"
#include "tools/byte_size.h"
#include "tools/device_file.h"
#include "tools/evolve_choices.h"
#include "tools/evolve_devices.h"
#include "tools/evolve_front.h"
#include "tools/evolve_report.h"
#include "tools/evolve_seeds.h"
#include "tools/folder_lock.h"

namespace moe::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;  // sorted: what is compared has no other order
using Clock = std::chrono::steady_clock;

// One search: what the settings name, opened.
class Run {
 public:
  Run(Program& program, const EvolveConfig& config, const EvolveRunOptions& options)
      : program_(program), config_(config), options_(options), folder_(config.out) {}

  Status run() {
    MOE_TRY(open_folder());
    MOE_TRY(open_model());
    MOE_TRY(begin_journal());
    MOE_TRY(make_fitness());
    MOE_TRY(make_search());
    MOE_TRY(replay());
    MOE_TRY(loop());
    MOE_TRY(finish());
    return interrupted() ? interrupted_status() : Status::Ok();
  }

 private:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string journal_path() const { return path("journal.jsonl"); }

  Status open_folder() {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) return Status::Io(config_.out + ": " + error.message());
    MOE_TRY(lock_.take(path("lock")));
    if (options_.overwrite) fs::remove(journal_path(), error);
    const bool there = fs::exists(journal_path());
    if (there && !options_.resume)
      return Status::InvalidArgument(journal_path() + " is there already\n  --resume goes on from it, --overwrite begins anew");
    if (!there && options_.resume) program_.warn("there is no " + journal_path() + ": the run begins anew");
    if (!there) return Status::Ok();
    MOE_ASSIGN(known_, read_journal(journal_path()));
    if (known_.settings.empty()) fs::remove(journal_path(), error);  // killed before its first line was whole
    return Status::Ok();
  }

  Status open_model() {
    MOE_ASSIGN(model_, load_model(program_, options_.model));
    MOE_ASSIGN(const std::vector<TextDomain> domains, read_domains(config_, *model_, options_.open));
    TextDataOptions data = config_.data;
    if (const Tokenizer* t = model_->tokenizer(); t && t->add_bos()) data.bos = t->bos();
    data.n_ctx = std::min(data.n_ctx, model_->config().n_ctx_train);
    data.block_tokens = std::max(data.block_tokens, data.n_ctx);
    MOE_ASSIGN(TextData text, TextData::create(domains, data));
    for (const TextDomain& domain : domains) {
      int64_t tokens = 0;
      for (const std::vector<Token>& document : domain.documents) tokens += static_cast<int64_t>(document.size());
      domain_tokens_.push_back(tokens);
    }
    text_ = std::make_unique<TextData>(std::move(text));
    return choose_devices();
  }

  // What no routing could do on one of the devices is said before anything is measured.
  Status choose_devices() {
    MOE_ASSIGN(devices_, devices_of(config_));
    for (const DeviceProfile& d : devices_) MOE_TRY(check_limits(*model_, config_, &d));
    return devices_.empty() ? check_limits(*model_, config_, nullptr) : Status::Ok();
  }

  // --- The journal ---

  Json settings() const {
    Json all = Json::object();
    for (const auto& [name, value] : identity_of(config_)) {
      if (!all.contains(name))
        all[name] = value;
      else if (all[name].is_array())
        all[name].push_back(value);
      else
        all[name] = Json::array({all[name], value});
    }
    Json devices = Json::array();
    for (const DeviceProfile& d : devices_) devices.push_back(Json::parse(to_json(d)));
    return {{"model", {{"name", model_->config().name}, {"hash", hash_to_hex(model_->hash())}}},
            {"texts", hash_to_hex(text_->hash())},
            {"device", devices_.size() == 1 ? devices[0]
                       : devices.empty()    ? Json(nullptr)
                                            : devices},
            {"settings", std::move(all)}};
  }

  Status begin_journal() {
    const Json ours = settings();
    if (known_.settings.empty()) {
      Json opening = ours;
      opening["moe"] = kVersion;
      MOE_ASSIGN(Journal journal,
                 Journal::create(journal_path(), opening.dump(-1, ' ', false, Json::error_handler_t::replace)));
      journal_ = std::make_unique<Journal>(std::move(journal));
      return Status::Ok();
    }
    const Json theirs = Json::parse(known_.settings, nullptr, false);
    for (const auto& [name, value] : ours.items())
      if (theirs.value(name, Json()) != value) return other_settings(name, value, theirs.value(name, Json()));
    if (theirs.value("moe", Json()) != kVersion)
      program_.warn("the journal is of another version of this program: what it goes on with may differ");
    MOE_ASSIGN(Journal journal, Journal::resume(journal_path(), known_));
    journal_ = std::make_unique<Journal>(std::move(journal));
    return Status::Ok();
  }

  Status other_settings(const std::string& name, const Json& ours, const Json& theirs) const {
    if (name == "settings" && theirs.is_object())
      for (const auto& [key, value] : ours.items())
        if (theirs.value(key, Json()) != value) return other_settings(key, value, theirs.value(key, Json()));
    return Status::InvalidArgument(journal_path() + ": another search: its " + name + " is " + theirs.dump() + ", this one's " +
                                   ours.dump() + "\n  --overwrite begins anew, -o names another folder");
  }

  // --- What searches ---

  Status make_fitness() {
    FitnessOptions o;
    o.seed = config_.search.seed;
    o.n_sampled = config_.sampled, o.n_candidates = config_.candidates;
    o.widths = config_.widths;
    o.score_tokens = config_.score_tokens, o.rungs = config_.rungs, o.fresh_every = config_.fresh_every;
    o.probe_tokens = config_.probe_tokens;
    if (!devices_.empty()) o.device = devices_[0];
    if (!config_.questions.empty()) {
      if (!model_->tokenizer()) return model_->tokenizer_status().Annotate("the model has no tokenizer for questions");
      MOE_ASSIGN(Choices choices, read_choices(config_.questions, unescape(config_.question_layout), *model_->tokenizer()));
      o.choices = std::move(choices.select), o.test_choices = std::move(choices.test);
    }
    MOE_ASSIGN(const double memory, parse_bytes(config_.memory));
    o.memory.residual_bytes = static_cast<size_t>(std::min(memory, 1e15));
    std::unique_ptr<Progress> progress;
    std::string stage;
    o.on_progress = [&](const char* now, int64_t done, int64_t total) {
      if (stage != now) {
        stage = now;
        progress.reset();
        progress = std::make_unique<Progress>(now, static_cast<double>(total), Progress::Unit::kCount);
      }
      progress->update(static_cast<double>(done));
      return !interrupted();
    };
    Result<std::unique_ptr<Fitness>> made = Fitness::create(*model_, *text_, o);
    progress.reset();
    if (!made.ok()) return interrupted() ? interrupted_status() : made.status();
    fitness_ = *std::move(made);
    log_ = std::make_unique<ConfirmedLog>(*fitness_);
    return Status::Ok();
  }

  Status make_search() {
    MOE_ASSIGN(SearchSpace space, make_space(config_, model_->routing_shape(), fitness_->calibration()));
    std::vector<MutationOp> mutations = default_mutations();
    std::vector<CrossoverOp> crossovers = default_crossovers();
    if (!config_.mutations.empty()) {
      MOE_ASSIGN(mutations, mutations_by_name(mutations, config_.mutations));
    }
    if (!config_.crossovers.empty()) {
      MOE_ASSIGN(crossovers, crossovers_by_name(crossovers, config_.crossovers));
    }
    MOE_ASSIGN(Variation variation, Variation::create(space, config_.breed, std::move(mutations), std::move(crossovers)));
    MOE_ASSIGN(simple_, simple_points(config_, space, *fitness_, *threads_, *pool_));
    MOE_ASSIGN(const std::vector<NamedGenome> given, given_points(config_, model_->routing_shape(), *pool_));
    const std::vector<Genome> seeds = allowed(space, given);
    MOE_ASSIGN(ObjectiveSet set, search_objectives(config_, devices_));
    if (weights_count(config_)) {
      MOE_ASSIGN(set.sum, sum_of(set));
    }
    MOE_ASSIGN(search_, Search::create(std::move(space), std::move(variation), std::move(set), config_.search, seeds, pool_,
                                       *log_, *threads_));
    return write_analysis(analysis_of(fitness_->calibration(), text_->names(), search_->variation()), path("analysis.json"));
  }

  // Of shares of what the full model scores; where that is 0, as of its divergence from itself, the unit counts.
  Result<WeightedSum> sum_of(const ObjectiveSet& set) {
    if (devices_.size() > 1)
      return Status::InvalidArgument("weights: wanted one device for a sum, found " + std::to_string(devices_.size()) +
                                     "; nsga2 finds a front for each");
    Evaluation full;
    MOE_TRY(fitness_->confirm({&simple_.front().genome, 1}, {&full, 1}));
    std::vector<double> weights, baseline;
    for (size_t m = 0; m < set.objectives.size(); ++m) {
      const double value = std::fabs(set.objectives[m]->value(full));
      weights.push_back(*config_.objectives[m].weight);
      baseline.push_back(value > 0 ? value : 1);
    }
    return WeightedSum::make(weights, baseline);
  }

  // Those that repair can bring to the budgets; all, for the search to refuse, where there are none.
  std::vector<Genome> allowed(const SearchSpace& space, const std::vector<NamedGenome>& given) const {
    std::vector<Genome> all, good;
    for (const std::vector<NamedGenome>* from : {&given, &simple_})
      for (const NamedGenome& g : *from) {
        GenomeDraft draft(g.genome);
        Rng rng(config_.search.seed, 0);
        all.push_back(g.genome);
        if (repair(draft, space, rng))
          good.push_back(g.genome);
        else if (from == &given)
          program_.warn(g.name + " does not begin the search: its layers cannot keep the budgets");
      }
    return good.empty() ? all : good;
  }

  Status replay() {
    for (const GenerationRecord& record : known_.generations) {
      if (const Status s = search_->replay(record); !s.ok()) return s.Annotate(journal_path());
      log_->replayed(record);
      count(record);
    }
    if (!known_.generations.empty())
      std::fprintf(stderr, "%s: goes on behind generation %zu\n", program_.name().c_str(), known_.generations.size() - 1);
    known_.generations.clear();
    return Status::Ok();
  }

  void count(const GenerationRecord& record) {
    seconds_ = record.seconds;
    spent_.token_layers = record.token_layers;
    spent_.generations = record.generation + 1.0;
    spent_.evaluations += static_cast<double>(record.evaluations.size() + record.rescored.size() + record.confirmed.size());
  }

  // --- The loop ---

  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  Status loop() {
    const double before = seconds_;
    start_ = Clock::now();
    const uint32_t wanted = config_.search.limits.generations;
    const uint32_t first = search_->generation();
    Progress progress("evolve", wanted > first ? wanted - first : 0, Progress::Unit::kCount, "generations");
    std::vector<Evaluator::Tier> counts = fitness_->tiers();
    while (search_->ended() == SearchEnd::kRunning && !interrupted()) {
      const double from = elapsed();
      Result<GenerationRecord> record = search_->step(before + from);
      if (!record.ok()) return record.status();
      MOE_TRY(journal_->append(*record));
      count(*record);
      seconds_ = before + elapsed();
      const std::vector<Evaluator::Tier> now = fitness_->tiers();
      progress.update(record->generation + 1 - first, note_of(*record, counts, now, elapsed() - from));
      counts = now;
    }
    progress.finish();
    return Status::Ok();
  }

  // "kl 0.0123  bytes-per-token 7.1 MB  volume 0.813  screen 640/s  score 81/s"
  std::string note_of(const GenerationRecord& record, const std::vector<Evaluator::Tier>& before,
                      const std::vector<Evaluator::Tier>& now, double seconds) const {
    const SearchStatistics& s = record.statistics;
    std::string text;
    for (size_t m = 0; m < s.best.size(); ++m) {
      const ObjectiveDef& o = *search_->objectives().objectives[m];
      text += std::string(o.name) + " " + value_text(o, s.best[m]) + "  ";
    }
    if (s.best.size() > 1) text += "volume " + format_fixed(s.hypervolume, 3) + "  ";
    text += "diversity " + format_fixed(s.diversity, 3);
    for (size_t t = 0; t < now.size(); ++t) {
      const auto made = static_cast<double>(now[t].evaluations - before[t].evaluations);
      if (made > 0) text += "  " + std::string(now[t].name) + " " + format_count(std::round(made / seconds)) + "/s";
    }
    return text;
  }

  // --- The end ---

  Status finish() {
    MOE_ASSIGN(const FoundPoints found, found_points());
    FrontFacts facts;
    facts.config = &config_;
    facts.model = model_.get();
    facts.text = text_.get();
    facts.domain_tokens = domain_tokens_;
    facts.devices = devices_;
    facts.objectives = search_->objectives();
    facts.spent = spent_;
    facts.spent.seconds = seconds_;
    MOE_ASSIGN(WrittenResult result, write_result(facts, *fitness_, found, simple_, config_.out));
    const std::string reason = interrupted() ? "interrupted" : search_end_name(search_->ended());
    const Json end = {{"reason", reason},
                      {"generations", search_->generation()},
                      {"points", result.front.points.size()},
                      {"chosen", chosen_point(config_, result.front)},
                      {"seconds", seconds_}};
    MOE_TRY(journal_->append_end(end.dump()));
    MOE_TRY(measure(result.front, found));
    if (const Result<ReportFacts> report = write_report({.folder = config_.out}); !report.ok())
      program_.warn("no report: " + report.status().message());
    if (program_.json())
      print_result(end, result);
    else
      print_lines(end, result);
    return Status::Ok();
  }

  Result<FoundPoints> found_points() {
    FoundPoints found;
    // Simple ways are measured for the table anyhow: where the search found nothing better, they are points.
    std::vector<Genome> simple;
    for (const NamedGenome& g : simple_) simple.push_back(g.genome);
    MOE_ASSIGN(found.candidates, search_->final_front(simple));
    found.n_front = found.candidates.size();
    if (devices_.size() <= 1) return found;
    const std::span<const Candidate> all = log_->candidates();
    const RoutingShape& shape = model_->routing_shape();
    for (const DeviceProfile& d : devices_) {
      MOE_ASSIGN(const ObjectiveSet set, objectives_for(config_, &d));
      MOE_ASSIGN(const std::vector<size_t> front,
                 device_front(all, set, d, shape, static_cast<size_t>(config_.search.archive)));
      found.of_device.emplace_back();
      for (const size_t i : front) {
        const auto at = std::find_if(found.candidates.begin(), found.candidates.end(),
                                     [&](const Candidate& c) { return hash(c.genome) == hash(all[i].genome); });
        found.of_device.back().push_back(static_cast<size_t>(at - found.candidates.begin()));
        if (at == found.candidates.end()) found.candidates.push_back(all[i]);
      }
      if (front.empty()) program_.warn("no point that was found keeps the limits of " + d.name);
    }
    return found;
  }

  // With a clock, in processes of their own. Model and threads are gone behind it: a process that forks has no others.
  Status measure(FrontFile& front, const FoundPoints& found) {
    if (config_.measure_points == 0 || interrupted()) return Status::Ok();
    const MeasureOptions o{config_.measure_points, config_.measure_seconds, program_.n_threads()};
    std::vector<MeasureItem> items =
        items_to_measure(front, model_->routing_shape(), simple_, found, static_cast<size_t>(o.points));
    search_.reset(), log_.reset(), fitness_.reset(), text_.reset(), threads_.reset(), model_.reset();
    MOE_ASSIGN(const MeasureFacts facts, measure_items(program_, options_.model, items, o));
    measured_ = measure_text(facts, o);
    return write_front(front, path("front.json"));
  }

  void print_result(const Json& end, const WrittenResult& result) const {
    nlohmann::ordered_json devices = nlohmann::ordered_json::array();
    for (const auto& [file, front] : result.devices)
      devices.push_back({{"name", front.device->name}, {"front", file}, {"points", front.points.size()}});
    print_json({{"out", config_.out},
                {"end", end},
                {"measured", measured_},
                {"devices", std::move(devices)},
                {"front", nlohmann::ordered_json::parse(to_json(result.front))}});
  }

  void print_lines(const Json& end, const WrittenResult& result) const {
    std::printf("%s", front_table(result.front).c_str());
    for (const auto& [file, front] : result.devices)
      std::printf("# %s  %zu points for %s\n", file.c_str(), front.points.size(), device_text(*front.device).c_str());
    if (!measured_.empty()) std::printf("# measured: %s\n", measured_.c_str());
    std::printf("# %s  %u generations, %zu points, %s: %s\n", path("front.json").c_str(), end["generations"].get<unsigned>(),
                result.front.points.size(), format_duration(seconds_).c_str(), end["reason"].get<std::string>().c_str());
  }

  Program& program_;
  const EvolveConfig& config_;
  const EvolveRunOptions& options_;
  fs::path folder_;
  FolderLock lock_;
  JournalText known_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<TextData> text_;
  std::vector<int64_t> domain_tokens_;
  std::vector<DeviceProfile> devices_;
  std::unique_ptr<ThreadPool> threads_ = std::make_unique<ThreadPool>(program_.n_threads());
  std::unique_ptr<Fitness> fitness_;
  std::unique_ptr<ConfirmedLog> log_;                              // what the search asks
  std::shared_ptr<GenePool> pool_ = std::make_shared<GenePool>();  // of the search too
  std::vector<NamedGenome> simple_;
  std::unique_ptr<Search> search_;
  FrontFile::Spent spent_;
  std::string measured_;  // what was, for people
  Clock::time_point start_;
  double seconds_ = 0;  // of the search, before a resume too
};

}  // namespace

Status run_evolution(Program& program, const EvolveConfig& config, const EvolveRunOptions& options) {
  return Run(program, config, options).run();
}

}  // namespace moe::tools
