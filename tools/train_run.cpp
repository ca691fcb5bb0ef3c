#include "tools/train_run.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/generate.h"
#include "models/synth.h"
#include "tools/folder_lock.h"
#include "tools/train_log.h"

namespace moe::tools {
namespace {

namespace fs = std::filesystem;

constexpr double kLn2 = 0.6931471805599453;

Result<Dataset> open_data(const RunConfig& c, DatasetSplit split, std::span<const CorpusConfig> corpora) {
  std::vector<DatasetCorpus> opened;
  for (const CorpusConfig& corpus : corpora) {
    MOE_ASSIGN(TokenFile file, TokenFile::open(corpus.tokens));
    opened.push_back({corpus.name, std::move(file), corpus.weight});
  }
  DatasetOptions o = c.data;
  o.split = split;
  if (split == DatasetSplit::kHeldOut) o.shuffle = false, o.max_epochs = 1, o.span = 0;
  return Dataset::create(std::move(opened), o);
}

// One training run: what the configuration names, opened.
class Run {
 public:
  Run(Program& program, const RunConfig& config, const TrainRunOptions& options)
      : program_(program), config_(config), options_(options), folder_(config.out) {}

  Status run() {
    MOE_TRY(open());
    MOE_TRY(begin_log());
    describe();
    Status s = loop();
    if (s.ok()) return finish();
    TrainRow row = event("error", s.message());
    if (s.code() == StatusCode::kCancelled) row.name = "interrupted";
    MOE_TRY(log_->append(row));
    return s;
  }

 private:
  std::string path(const char* name) const { return (folder_ / name).string(); }
  std::string checkpoint() const { return path("checkpoint.gguf"); }

  TrainRow row_of(TrainRowKind kind) const {
    TrainRow row;
    row.kind = kind, row.step = trainer_->steps(), row.tokens = static_cast<double>(trainer_->tokens());
    row.seconds = seconds_;
    return row;
  }
  TrainRow event(const char* name, std::string text) const {
    TrainRow row = row_of(TrainRowKind::kEvent);
    row.name = name, row.text = std::move(text);
    return row;
  }

  Status open() {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) return Status::Io(config_.out + ": " + error.message());
    MOE_TRY(lock_.take(path("lock")));
    const bool there = fs::exists(checkpoint());
    if (there && !options_.resume && !options_.overwrite)
      return Status::InvalidArgument(checkpoint() + " is there already\n  --resume goes on from it, --overwrite begins anew");
    MOE_ASSIGN(Dataset data, open_data(config_, DatasetSplit::kTrain, config_.corpora));
    repairs_ = data.repairs();
    MOE_TRY(make_trainer(std::move(data)));
    if (!config_.teacher.empty()) {
      ModelOptions o;
      o.backend_options = program_.backend_options();
      MOE_ASSIGN(teacher_, Model::load(config_.teacher, o));
      MOE_TRY(trainer_->set_teacher(*teacher_));
    }
    if (config_.data.held_out > 0)
      for (const CorpusConfig& corpus : config_.corpora) {
        auto held_out = open_data(config_, DatasetSplit::kHeldOut, {&corpus, 1});
        if (held_out.ok())
          valid_.push_back({corpus.name, std::move(held_out).value(), {}});
        else
          repairs_.push_back("corpus '" + corpus.name + "' has no held-out documents: it is not validated");
      }
    for (Valid& v : valid_) v.start = v.data.position();
    if (options_.resume && there) {
      MOE_TRY(trainer_->restore(checkpoint()));
      resumed_ = true, saved_ = trainer_->steps();
    } else if (options_.resume) {
      program_.warn("there is no " + checkpoint() + ": the run begins anew");
    }
    return Status::Ok();
  }

  Status make_trainer(Dataset data) {
    const BackendOptions backend = program_.backend_options();
    if (!config_.init.empty()) {
      MOE_ASSIGN(const GgufFile file, GgufFile::open(config_.init));
      MOE_ASSIGN(trainer_, Trainer::create_from(file, std::move(data), config_.trainer, backend));
      return Status::Ok();
    }
    MOE_ASSIGN(const GgufFile vocabulary, GgufFile::open(config_.vocabulary));
    SynthOptions synth;
    synth.arch = config_.arch, synth.settings = config_.settings, synth.seed = config_.trainer.seed;
    synth.vocabulary = &vocabulary.metadata();
    MOE_ASSIGN(SynthPlan plan, plan_synth(synth));
    if (!config_.name.empty()) plan.metadata.set("general.name", config_.name);
    MOE_ASSIGN(trainer_, Trainer::create(plan.metadata, std::move(data), config_.trainer, backend));
    return Status::Ok();
  }

  Status begin_log() {
    if (resumed_) {
      MOE_ASSIGN(TrainLog log, TrainLog::resume(path("log.csv"), trainer_->steps()));
      log_ = std::move(log);
      MOE_ASSIGN(const std::vector<TrainRow> rows, read_train_log(path("log.csv")));
      for (const TrainRow& row : rows)
        if (row.seconds > seconds_) seconds_ = row.seconds;
    } else {
      MOE_ASSIGN(TrainLog log, TrainLog::create(path("log.csv")));
      log_ = std::move(log);
      std::ofstream(path("samples.txt"), std::ios::trunc);
    }
    MOE_TRY(log_->append(event(resumed_ ? "resume" : "start", trainer_->config().name)));
    for (const std::string& repair : repairs_) {
      program_.warn(repair);
      MOE_TRY(log_->append(event("repair", repair)));
    }
    return Status::Ok();
  }

  void describe() const {
    const ModelConfig& c = trainer_->config();
    std::fprintf(stderr, "%s: %s, %d layers of %d, %d experts (%d used), %s of weights learn, %s\n",
                 resumed_ ? "resumed" : "new run", c.arch.c_str(), c.n_layer, c.d_model, c.n_expert, c.n_expert_used,
                 format_count(static_cast<double>(trainer_->trained())).c_str(),
                 format_bytes(static_cast<double>(trainer_->memory_bytes())).c_str());
    for (size_t i = 0; i < trainer_->data().corpora().size(); ++i)
      std::fprintf(stderr, "  %-16s %s tokens in %s documents\n", trainer_->data().corpora()[i].name.c_str(),
                   format_grouped(static_cast<int64_t>(trainer_->data().n_targets(i))).c_str(),
                   format_grouped(static_cast<int64_t>(trainer_->data().n_documents(i))).c_str());
  }

  static bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

  Status loop() {
    const int64_t total = config_.trainer.schedule.total_steps, first = trainer_->steps();
    Progress progress("train", static_cast<double>(total - first), Progress::Unit::kCount, "steps");
    double smooth = 0;
    while (trainer_->steps() < total) {
      if (interrupted()) {
        progress.finish();
        MOE_TRY(save());
        return interrupted_status();
      }
      StepReport r;
      MOE_TRY(trainer_->step(r));
      if (r.step_tokens == 0) {
        progress.finish();
        program_.warn("the data are used up after " + format_grouped(trainer_->steps()) + " steps (data.epochs)");
        break;
      }
      seconds_ += r.seconds;
      const double rate = static_cast<double>(r.step_tokens) / r.seconds;
      MOE_TRY(log_step(r, rate));
      smooth = smooth == 0 ? r.loss : 0.98 * smooth + 0.02 * r.loss;
      progress.update(static_cast<double>(r.step - first), "step " + format_grouped(r.step) + "  loss " +
                                                               format_fixed(r.loss, 3) + " (" + format_fixed(smooth, 3) +
                                                               ")  " + format_grouped(std::llround(rate)) + " tok/s");
      if (due(config_.usage_every, r.step)) MOE_TRY(log_usage());
      if (due(config_.validate_every, r.step)) {
        progress.finish();
        MOE_TRY(validate());
        tell_usage();
      }
      if (due(config_.checkpoint_every, r.step)) {
        progress.finish();
        MOE_TRY(save());
      }
      if (due(config_.sample_every, r.step)) {
        progress.finish();
        if (saved_ != r.step) MOE_TRY(save());
        MOE_TRY(sample());
      }
    }
    progress.finish();
    if (validated_ != trainer_->steps()) MOE_TRY(validate());
    if (saved_ != trainer_->steps()) MOE_TRY(save());
    return Status::Ok();
  }

  Status log_step(const StepReport& r, double rate) {
    TrainRow row = row_of(TrainRowKind::kStep);
    row.loss = r.loss, row.rate = r.rate, row.grad_norm = r.grad_norm, row.tokens_per_s = rate;
    row.switch_loss = r.switch_loss, row.z_loss = r.z;
    if (!config_.trainer.widths.empty()) row.narrow_loss = r.narrow_loss, row.kl = r.kl;
    if (teacher_) row.kl = r.kl;
    if (config_.trainer.diversity_loss > 0) row.diversity = r.diversity;
    return log_->append(row);
  }

  Status log_usage() {
    for (size_t i = 0; i < trainer_->n_experts().size(); ++i) {
      if (trainer_->n_experts()[i] == 0) continue;
      const LayerUsage u = trainer_->usage(i);
      TrainRow row = row_of(TrainRowKind::kUsage);
      row.layer = static_cast<int>(i), row.value = u.variation;
      row.values = u.share;
      MOE_TRY(log_->append(row));
    }
    return Status::Ok();
  }

  // Experts whose use is further from their fair share than the threshold says, on stderr.
  void tell_usage() const {
    const auto list = [](const std::vector<int>& experts) {
      std::string text;
      for (const int e : experts) text += (text.empty() ? "" : ", ") + std::to_string(e);
      return text;
    };
    for (size_t i = 0; i < trainer_->n_experts().size(); ++i) {
      if (trainer_->n_experts()[i] == 0) continue;
      const LayerUsage u = trainer_->usage(i);
      if (u.over.empty() && u.under.empty()) continue;
      std::fprintf(stderr, "step %s  layer %zu: use varies by %.2f%s%s%s%s\n", format_grouped(trainer_->steps()).c_str(), i,
                   u.variation, u.over.empty() ? "" : "; experts used too much: ", list(u.over).c_str(),
                   u.under.empty() ? "" : "; too little: ", list(u.under).c_str());
    }
  }

  // Held-out text of every corpus, and of all together as the mean over the corpora's targets.
  Status validate() {
    validated_ = trainer_->steps();
    std::vector<std::string> variants = {""};
    variants.insert(variants.end(), config_.valid_variants.begin(), config_.valid_variants.end());
    for (const std::string& variant : variants) {
      EvaluationOptions o;
      if (!variant.empty()) {
        MOE_ASSIGN(o, parse_variant(variant));
      }
      o.max_targets = static_cast<int64_t>(config_.valid_targets);
      HeldOutLoss all;
      for (Valid& v : valid_) {
        MOE_TRY(v.data.seek(v.start));
        MOE_ASSIGN(const HeldOutLoss e, trainer_->evaluate(v.data, o));
        all.loss += e.loss, all.n_targets += e.n_targets, all.bytes += e.bytes;
        MOE_TRY(log_valid(v.name, variant, e));
      }
      if (valid_.size() > 1) MOE_TRY(log_valid("all", variant, all));
    }
    return Status::Ok();
  }

  Status log_valid(const std::string& name, const std::string& variant, const HeldOutLoss& e) {
    if (e.n_targets == 0) return Status::Ok();
    TrainRow row = row_of(TrainRowKind::kValid);
    row.name = name + (variant.empty() ? "" : "@" + variant);
    row.loss = e.loss / static_cast<double>(e.n_targets);
    if (e.bytes > 0) row.value = e.loss / kLn2 / e.bytes;
    std::fprintf(stderr, "step %s  %-28s loss %.4f  perplexity %.3f%s\n", format_grouped(trainer_->steps()).c_str(),
                 row.name.c_str(), row.loss, std::exp(row.loss),
                 e.bytes > 0 ? ("  bits/byte " + format_fixed(row.value, 4)).c_str() : "");
    results_[row.name] = {{"loss", row.loss}, {"perplexity", std::exp(row.loss)}, {"targets", e.n_targets}};
    if (e.bytes > 0) results_[row.name]["bits_per_byte"] = row.value;
    return log_->append(row);
  }

  Status save() {
    MOE_TRY(trainer_->save(checkpoint()));
    saved_ = trainer_->steps();
    return log_->append(event("checkpoint", "checkpoint.gguf"));
  }

  // From the checkpoint that was just written, as its user would run it.
  Status sample() {
    ModelOptions o;
    o.backend_options = program_.backend_options();
    MOE_ASSIGN(const std::unique_ptr<Model> model, Model::load(checkpoint(), o));
    if (!model->tokenizer()) return Status::Ok();
    MOE_ASSIGN(const std::vector<Token> prompt, model->tokenizer()->encode(config_.prompt));
    SessionOptions s;
    s.n_ctx = static_cast<int>(prompt.size()) + config_.sample_tokens;
    MOE_ASSIGN(const std::unique_ptr<Session> session, Session::create(*model, s));
    SamplerOptions sampling;
    sampling.seed = config_.trainer.seed + static_cast<uint64_t>(trainer_->steps());
    MOE_ASSIGN(Sampler sampler, Sampler::create(sampling, model->config().n_vocab));
    GenerateOptions g;
    g.n_predict = config_.sample_tokens;
    std::string text = config_.prompt;
    const auto add = [&](Token, std::string_view piece) {
      text += piece;
      return true;
    };
    MOE_ASSIGN(const GenerateResult made, generate(*session, sampler, prompt, g, add));
    static_cast<void>(made);
    std::ofstream file(path("samples.txt"), std::ios::app);
    file << "--- step " << trainer_->steps() << "\n" << text << "\n";
    if (!file.flush()) return Status::Io(path("samples.txt") + ": could not be written");
    return log_->append(event("sample", text));
  }

  Status finish() {
    MOE_TRY(log_->append(event("done", "")));
    if (program_.json())
      print_json({{"out", config_.out},
                  {"checkpoint", checkpoint()},
                  {"steps", trainer_->steps()},
                  {"tokens", trainer_->tokens()},
                  {"valid", results_}});
    else
      std::printf("# %s  %s steps, %s tokens\n", checkpoint().c_str(), format_grouped(trainer_->steps()).c_str(),
                  format_grouped(static_cast<int64_t>(trainer_->tokens())).c_str());
    return Status::Ok();
  }

  struct Valid {
    std::string name;
    Dataset data;
    DatasetPosition start;
  };

  Program& program_;
  const RunConfig& config_;
  TrainRunOptions options_;
  fs::path folder_;
  FolderLock lock_;
  std::unique_ptr<Model> teacher_;
  std::unique_ptr<Trainer> trainer_;
  std::vector<Valid> valid_;
  std::vector<std::string> repairs_;
  std::optional<TrainLog> log_;
  nlohmann::ordered_json results_ = nlohmann::ordered_json::object();
  bool resumed_ = false;
  int64_t saved_ = -1, validated_ = -1;  // steps
  double seconds_ = 0;                   // trained, before a resume too
};

}  // namespace

Status run_training(Program& program, const RunConfig& config, const TrainRunOptions& options) {
  return Run(program, config, options).run();
}

}  // namespace moe::tools
