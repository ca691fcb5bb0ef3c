// moe-eval: how well a model, or a model under another routing topology, predicts a text.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/file.h"
#include "models/perplexity.h"
#include "models/routing_stats.h"
#include "tools/model_options.h"
#include "tools/zoo.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  ModelArguments model;
  std::string text, save, against, stats;
  int n_ctx = 0, n_chunks = 0, batch = 512;
};

constexpr int kDefaultContext = 512;

void add_options(CLI::App& app, Arguments& a) {
  add_model_options(app, a.model);
  app.add_option("-f,--file", a.text, "text to evaluate; - reads standard input");
  app.add_option("--ctx,-c", a.n_ctx, "tokens a chunk; default: 512, or what --kl-against has")->check(CLI::Range(4, 1 << 20));
  app.add_option("--chunks", a.n_chunks, "chunks to evaluate; 0: all")->check(CLI::Range(0, 1 << 30))->capture_default_str();
  app.add_option("--batch,-b", a.batch, "tokens evaluated at once; several chunks where they fit")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--save-logits", a.save, "write the distribution of every scored token to this file");
  app.add_option("--kl-against", a.against, "compare with distributions saved before; -f is not needed, the file has the text");
  app.add_option("--stats", a.stats, "write what the routers did as JSON (models/README.md)");
  add_topology_options(app, a.model);
}

// The text in chunks: of -f, of the file to compare with, or of both, which then must agree.
Result<TokenChunks> read_chunks(const Arguments& a, const Model& model, const LogitReader* base) {
  if (base && base->n_vocab() != model.config().n_vocab)
    return Status::InvalidArgument(a.against + ": made with a vocabulary of " + std::to_string(base->n_vocab()) +
                                   " tokens, this model has " + std::to_string(model.config().n_vocab));
  if (base && a.n_ctx != 0 && a.n_ctx != base->chunks().n_ctx)
    return Status::InvalidArgument(a.against + ": made with --ctx " + std::to_string(base->chunks().n_ctx) + ", found --ctx " +
                                   std::to_string(a.n_ctx));
  if (base && a.n_chunks > base->chunks().n_chunks)
    return Status::InvalidArgument(a.against + ": holds " + std::to_string(base->chunks().n_chunks) +
                                   " chunks, found --chunks " + std::to_string(a.n_chunks));
  TokenChunks chunks;
  if (base) {
    chunks = base->chunks();
    if (a.n_chunks > 0) chunks.n_chunks = a.n_chunks;
    chunks.tokens.resize(static_cast<size_t>(chunks.n_chunks) * static_cast<size_t>(chunks.n_ctx));
    if (a.text.empty()) return chunks;
  }
  if (!model.tokenizer()) return model.tokenizer_status().Annotate(a.model.path + ": no tokenizer for the text");
  MOE_ASSIGN(const std::string text, read_text_file(a.text));
  const int n_ctx = base ? chunks.n_ctx : a.n_ctx ? a.n_ctx : kDefaultContext;
  auto own = cut_into_chunks(*model.tokenizer(), text, n_ctx, base ? chunks.n_chunks : a.n_chunks);
  if (!own.ok()) return own.status().Annotate(a.text);
  if (base && *own != chunks)
    return Status::InvalidArgument(a.against + ": made from another text than " + a.text + ", or with another tokenizer");
  return own;
}

Json json_of(const PerplexityScore& p) {
  return {{"perplexity", p.perplexity}, {"perplexity_error", p.error}, {"nll", p.nll}, {"nll_error", p.nll_error}};
}

Json json_of(const DivergenceScore& d) {
  return {{"mean", d.kl},           {"error", d.kl_error},
          {"median", d.median},     {"p90", d.p90},
          {"p99", d.p99},           {"max", d.max},
          {"same_top", d.same_top}, {"same_top_error", d.same_top_error},
          {"ratio", d.ratio},       {"ratio_error", d.ratio_error},
          {"base", json_of(d.base)}};
}

void print_divergence(const DivergenceScore& d, const std::string& base) {
  std::printf("against %s\n", base.c_str());
  std::printf("  base perplexity   %.4f ± %.4f\n", d.base.perplexity, d.base.error);
  std::printf("  perplexity ratio  %.6f ± %.6f\n", d.ratio, d.ratio_error);
  std::printf("  KL divergence     %.6f ± %.6f nats a token; median %.6f, 90%% %.6f, 99%% %.6f, largest %.6f\n", d.kl,
              d.kl_error, d.median, d.p90, d.p99, d.max);
  std::printf("  same top token    %.3f ± %.3f %%\n", 100 * d.same_top, 100 * d.same_top_error);
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Outcome {
  PerplexityScore perplexity;
  std::optional<DivergenceScore> divergence;
  Json running = Json::array();           // perplexity after each batch
  double seconds = 0, score_seconds = 0;  // the latter of the former
  double tokens_per_second = 0;
  int64_t n_bytes = 0;  // that the scored tokens stand for; 0 without a tokenizer

  double bits_per_byte() const {
    return perplexity.nll * static_cast<double>(perplexity.n_tokens) / (std::numbers::ln2 * static_cast<double>(n_bytes));
  }
};

Result<Outcome> run(const Program& program, Session& session, const TokenChunks& chunks, LogitWriter* save,
                    const LogitReader* base) {
  Outcome out;
  PerplexityScorer scorer(program.n_threads(), save, base);
  const Tokenizer* tokenizer = session.model().tokenizer();
  const double n_tokens = static_cast<double>(chunks.n_chunks) * (chunks.n_ctx - 1);
  Progress progress("perplexity", n_tokens, Progress::Unit::kCount, "tokens");
  const auto start = Clock::now();
  const auto on_rows = [&](std::span<const float> logits, std::span<const Token> targets) {
    const auto before = Clock::now();
    Status status = scorer.add(logits, targets);
    out.score_seconds += seconds_since(before);
    for (const Token t : targets) out.n_bytes += tokenizer ? static_cast<int64_t>(tokenizer->piece(t).size()) : 0;
    const PerplexityScore p = scorer.perplexity();
    out.running.push_back({{"n_tokens", p.n_tokens}, {"perplexity", p.perplexity}});
    return status;
  };
  const auto on_progress = [&](int done) {
    const PerplexityScore p = scorer.perplexity();
    progress.update(done, p.n_tokens > 0 ? "perplexity " + format_fixed(p.perplexity, 4) : std::string());
    return !interrupted();
  };
  MOE_TRY(eval_chunks(session, chunks, on_rows, on_progress));
  out.seconds = seconds_since(start);
  out.tokens_per_second = n_tokens / out.seconds;
  out.perplexity = scorer.perplexity();
  if (base) out.divergence = scorer.divergence();
  return out;
}

void print_outcome_json(const Arguments& a, const Session& session, const TokenChunks& chunks, const Outcome& out) {
  Json j = {{"model", a.model.path},
            {"model_hash", hash_to_hex(session.model().hash())},
            {"topology_hash", hash_to_hex(hash(session.topology()))},
            {"text", a.text},
            {"n_ctx", chunks.n_ctx},
            {"n_chunks", chunks.n_chunks},
            {"n_tokens", out.perplexity.n_tokens}};
  j.update(json_of(out.perplexity));
  if (out.n_bytes > 0) j["bits_per_byte"] = out.bits_per_byte();
  if (out.divergence) j["kl"] = json_of(*out.divergence);
  j["running"] = out.running;
  j["seconds"] = out.seconds, j["score_seconds"] = out.score_seconds, j["tokens_per_second"] = out.tokens_per_second;
  print_json(j);
}

void print_outcome(const Arguments& a, const Model& model, const TokenChunks& chunks, const Outcome& out) {
  const PerplexityScore& p = out.perplexity;
  std::printf("perplexity %.4f ± %.4f (%s tokens)", p.perplexity, p.error, format_grouped(p.n_tokens).c_str());
  std::printf(out.n_bytes > 0 ? "  %.4f bits/byte\n" : "\n", out.bits_per_byte());
  if (out.divergence) print_divergence(*out.divergence, a.against);
  const std::string routing = topology_text(a.model);
  std::printf("# %s%s%s, %d chunks of %d, %s tok/s, %s, of it scoring %s\n",
              model_type(model.file(), model.config().arch).c_str(), routing.empty() ? "" : ", ", routing.c_str(),
              chunks.n_chunks, chunks.n_ctx, format_fixed(out.tokens_per_second, 1).c_str(),
              format_duration(out.seconds).c_str(), format_duration(out.score_seconds).c_str());
}

Result<std::unique_ptr<Session>> open_session(const Model& model, const Arguments& a, const TokenChunks& chunks) {
  SessionOptions options = session_for_chunks(chunks, a.batch);
  MOE_ASSIGN(options.cache_k, parse_cache_type(a.model.cache_type));
  options.cache_v = options.cache_k;
  options.observe_router = !a.stats.empty();
  MOE_ASSIGN(std::unique_ptr<Session> session, Session::create(model, options));
  MOE_ASSIGN(const RoutingTopology topology, make_topology(model, a.model));
  MOE_TRY(session->set_topology(topology));
  return session;
}

Status evaluate(const Program& program, Arguments& a) {
  MOE_TRY(find_model(program, a.model.path));
  MOE_TRY(pick_topology(program, a.model));
  if (a.text.empty() && a.against.empty()) usage_error("-f TEXT is required unless --kl-against names a file with a text");
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, a.model));
  std::optional<LogitReader> base;
  if (!a.against.empty()) {
    MOE_ASSIGN(base, LogitReader::open(a.against));
  }
  MOE_ASSIGN(const TokenChunks chunks, read_chunks(a, *model, base ? &*base : nullptr));
  if (chunks.n_ctx > model->config().n_ctx_train)
    program.warn("chunks of " + std::to_string(chunks.n_ctx) + " tokens exceed the " +
                 std::to_string(model->config().n_ctx_train) + " that the model was trained for");
  MOE_ASSIGN(const std::unique_ptr<Session> session, open_session(*model, a, chunks));
  RoutingStats stats(model->routing_shape());
  std::optional<AtomicFile> stats_file;
  if (!a.stats.empty()) {
    MOE_ASSIGN(stats_file, AtomicFile::create(a.stats));
    session->set_observer([&](const RouterView& view) { stats.add(view); });
  }
  std::optional<LogitWriter> save;
  if (!a.save.empty()) {
    MOE_ASSIGN(save, LogitWriter::create(a.save, model->hash(), model->config().n_vocab, chunks));
  }
  std::fprintf(stderr, "%s: %s tokens in %d chunks of %d, %d at once; %s\n", program.name().c_str(),
               format_grouped(int64_t{chunks.n_chunks} * chunks.n_ctx).c_str(), chunks.n_chunks, chunks.n_ctx,
               session->options().n_seqs, model->backend().info().description.c_str());
  catch_interrupts();
  const Result<Outcome> out = run(program, *session, chunks, save ? &*save : nullptr, base ? &*base : nullptr);
  if (!out.ok()) return interrupted() ? interrupted_status() : out.status();
  if (save) MOE_TRY(save->commit());
  if (stats_file) {
    const std::string text = stats.to_json(session->topology());
    MOE_TRY(stats_file->write(text.data(), text.size()));
    MOE_TRY(stats_file->commit());
  }
  if (program.json())
    print_outcome_json(a, *session, chunks, *out);
  else
    print_outcome(a, *model, chunks, *out);
  return Status::Ok();
}

}  // namespace
}  // namespace moe::tools

int main(int argc, char** argv) {
  using namespace moe::tools;
  Program program("moe-eval", "Perplexity of a model on a text, and its divergence from another model.");
  Arguments arguments;
  add_options(program.app(), arguments);
  return program.run(argc, argv, [&] { return evaluate(program, arguments); });
}
