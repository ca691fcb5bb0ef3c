#include "tools/runner.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <optional>

#include "core/file.h"

namespace moe::tools {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

size_t common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

SamplerOptions sampler_options(Program& program, const RunArguments& a, const Tokenizer* tokenizer) {
  SamplerOptions o = a.sampling;
  if (a.greedy) o.temperature = 0;
  if (o.temperature > 0) o.seed = program.seed();
  for (const std::string& text : a.logit_bias) o.logit_bias.push_back(parse_logit_bias(text));
  if (a.ignore_eos && tokenizer)
    for (Token t = 0; t < tokenizer->n_vocab(); ++t)
      if (tokenizer->is_end_of_generation(t)) o.logit_bias.emplace_back(t, -std::numeric_limits<float>::infinity());
  return o;
}

// The rows of logits of a prompt, on their way to --logits-out. An error is kept until commit().
class LogitsFile {
 public:
  explicit LogitsFile(AtomicFile file) : file_(std::move(file)) {}
  void append(std::span<const float> rows) {
    static_assert(std::endian::native == std::endian::little);
    if (status_.ok()) status_ = file_.write(rows.data(), rows.size_bytes());
  }
  Status commit() {
    MOE_TRY(status_);
    return file_.commit();
  }

 private:
  AtomicFile file_;
  Status status_;
};

}  // namespace

Runner::Runner(Program& program, const RunArguments& arguments, std::unique_ptr<Model> model)
    : program_(program),
      arguments_(arguments),
      model_(std::move(model)),
      stats_(model_->routing_shape()),
      decode_stats_(model_->routing_shape()) {}

Result<std::unique_ptr<Runner>> Runner::create(Program& program, const RunArguments& arguments) {
  MOE_ASSIGN(std::unique_ptr<Model> model, load_model(program, arguments.model));
  std::unique_ptr<Runner> runner(new Runner(program, arguments, std::move(model)));
  MOE_TRY(runner->open_session());
  return runner;
}

Status Runner::open_session() {
  const ModelConfig& config = model_->config();
  MOE_ASSIGN(const RoutingTopology topology, make_topology(*model_, arguments_.model));
  MOE_ASSIGN(session_, Session::create(*model_, session_options(arguments_, config.n_vocab)));
  MOE_TRY(session_->set_topology(topology));
  if (session_->options().n_ctx > config.n_ctx_train)
    program_.warn("the context of " + std::to_string(session_->options().n_ctx) + " tokens is longer than the " +
                  std::to_string(config.n_ctx_train) + " that the model was trained for");
  session_->set_observer([this](const RouterView& view) {
    stats_.add(view);
    if (decoding_) decode_stats_.add(view);
  });
  return Status::Ok();
}

// Late, so that a random seed is not announced before an error.
Status Runner::make_sampler() {
  if (sampler_ || arguments_.n_predict == 0) return Status::Ok();
  MOE_ASSIGN(Sampler sampler,
             Sampler::create(sampler_options(program_, arguments_, model_->tokenizer()), model_->config().n_vocab));
  sampler_ = std::make_unique<Sampler>(std::move(sampler));
  return Status::Ok();
}

std::optional<uint64_t> Runner::seed() const {
  if (!sampler_ || sampler_->options().temperature <= 0) return std::nullopt;
  return sampler_->options().seed;
}

Status Runner::evaluate(std::span<const Token> tokens) {
  MOE_CHECK(!tokens.empty());
  if (tokens.size() > static_cast<size_t>(session_->options().n_ctx))
    return Status::OutOfRange("the prompt is too long: " + std::to_string(tokens.size()) + " tokens, the context holds " +
                              std::to_string(session_->options().n_ctx) + " (--ctx)");
  MOE_TRY(make_sampler());
  if (sampler_)
    for (size_t i = common_prefix(tokens_, tokens); i < tokens.size(); ++i) sampler_->accept(tokens[i]);
  tokens_.assign(tokens.begin(), tokens.end());
  const size_t kept = std::min(common_prefix(session_->tokens(), tokens), tokens.size() - 1);
  MOE_TRY(session_->truncate(0, static_cast<int>(kept)));
  return evaluate_new(tokens.subspan(kept));
}

Status Runner::evaluate_new(std::span<const Token> tokens) {
  std::optional<LogitsFile> logits_file;
  Session::LogitsFunction on_logits;
  if (!arguments_.logits_out.empty()) {
    MOE_ASSIGN(AtomicFile file, AtomicFile::create(arguments_.logits_out));
    logits_file.emplace(std::move(file));
    on_logits = [&](int, std::span<const float> rows) { logits_file->append(rows); };
  }
  Progress progress("prompt", static_cast<double>(tokens.size()), Progress::Unit::kCount, "tokens");
  const auto start = Clock::now();
  MOE_TRY(session_->eval_prompt(tokens, 0, on_logits, [&](int done) {
    if (done < static_cast<int>(tokens.size())) progress.update(done);
    return !interrupted();
  }));
  totals_.prompt_seconds += seconds_since(start);
  totals_.n_prompt += static_cast<int>(tokens.size());
  totals_.logits_hash = hash_logits(session_->logits(session_->n_logits() - 1));
  return logits_file ? logits_file->commit() : Status::Ok();
}

Result<GenerateResult> Runner::generate(std::vector<std::string> stop, const TokenFunction& on_token) {
  GenerateOptions options;
  options.n_predict = arguments_.n_predict;
  options.stop = std::move(stop);
  options.stop.insert(options.stop.end(), arguments_.stop.begin(), arguments_.stop.end());
  options.ignore_eos = arguments_.ignore_eos;
  options.render_special = arguments_.special;
  if (!sampler_) return GenerateResult{};
  const int before = session_->length();
  decoding_ = true;
  const auto result = moe::generate(*session_, *sampler_, {}, options, [&](Token token, std::string_view text) {
    if (token != kNoToken) tokens_.push_back(token);
    return on_token(token, text) && !interrupted();
  });
  decoding_ = false;
  if (!result.ok()) return result;
  totals_.n_generated += result->n_generated, totals_.n_decoded += result->n_decoded;
  totals_.generate_seconds += result->generate_seconds;
  totals_.kv_length += result->n_decoded * (before + (result->n_decoded + 1) / 2.0);  // before + 1, before + 2, …
  return result;
}

Status Runner::restore(const std::string& path) { return session_->restore(0, path); }

Status Runner::save(const std::string& path) {
  const auto held = static_cast<size_t>(session_->length());
  if (held < tokens_.size() && session_->length() < session_->options().n_ctx)
    MOE_TRY(session_->eval_prompt(std::span(tokens_).subspan(held)));
  return session_->save(0, path);
}

double Runner::bytes_per_token() const {
  if (totals_.n_decoded == 0) return 0;
  RunShape shape;
  shape.kv_length = static_cast<int64_t>(totals_.kv_length / totals_.n_decoded);
  shape.k_mean = decode_stats_.summarize(session_->topology()).work_mean;
  return cost(session_->graph().graph, shape).bytes_read;
}

std::string Runner::summary() const {
  const Totals& t = totals_;
  return "# prompt " + std::to_string(t.n_prompt) + " tok " + format_fixed(t.prompt_rate(), 1) + " tok/s | gen " +
         std::to_string(t.n_generated) + " tok " + format_fixed(t.generate_rate(), 1) + " tok/s | " +
         format_fixed(bytes_per_token() * t.generate_rate() / 1e9, 1) + " GB/s | peak " +
         format_bytes(static_cast<double>(peak_memory_bytes())) + " | logits " + hash_to_hex(t.logits_hash);
}

uint64_t hash_logits(std::span<const float> row) {
  uint64_t h = 0xcbf29ce484222325;
  for (const float x : row) {
    const auto bits = std::bit_cast<uint32_t>(x);
    for (int shift = 0; shift < 32; shift += 8) h = (h ^ (bits >> shift & 0xff)) * 0x100000001b3;
  }
  return h;
}

size_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

}  // namespace moe::tools
