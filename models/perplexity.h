// Perplexity of a model on a text as the field computes it, so that numbers compare with llama.cpp's: the text is tokenised
// once, cut into chunks of n_ctx tokens without overlap, each chunk is evaluated from an empty cache, and the tokens of its
// second half are scored, so that every scored token has at least n_ctx / 2 tokens of context.
//
//   tokens   | b  1  2  3  4  5  6  7 |      n_ctx = 8; b: bos in the place of token 0, where the model adds one
//   rows used              ▲  ▲  ▲           first = n_ctx / 2: row i predicts token i + 1
//   scored                    5  6  7        n_ctx − 1 − first a chunk
//
// logit_file.h keeps the distributions of one model for another one to be compared with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/threads.h"
#include "models/logit_file.h"
#include "models/session.h"

namespace moe {

// Cuts off what does not fill a chunk. `max_chunks` 0: all. A newline at the very end of the text does not count, as in
// llama.cpp. kInvalidArgument for n_ctx < 4 and for texts shorter than one chunk.
Result<TokenChunks> cut_into_chunks(const Tokenizer& tokenizer, std::string_view text, int n_ctx, int max_chunks = 0);

// What a session needs for the chunks: several at once as sequences of their own where max_batch holds them.
SessionOptions session_for_chunks(const TokenChunks& chunks, int max_batch);

// Calls on_rows with all rows that are scored, in order: logits (n, n_vocab), targets (n). Its error ends the evaluation;
// on_progress(tokens evaluated) may return false: kCancelled. Forgets what the session held.
using RowsFunction = std::function<Status(std::span<const float> logits, std::span<const Token> targets)>;
Status eval_chunks(Session& session, const TokenChunks& chunks, const RowsFunction& on_rows,
                   const Session::ProgressFunction& on_progress = {});

// Mean of samples and its standard error, √((E[x²] − E[x]²) / (n − 1)).
class MeanError {
 public:
  void add(double x) { sum_ += x, squares_ += x * x, ++n_; }
  int64_t count() const { return n_; }
  double mean() const;   // 0 without samples
  double error() const;  // 0 with less than two

 private:
  double sum_ = 0, squares_ = 0;
  int64_t n_ = 0;
};

// The q-quantile of sorted values, linear between neighbours; q in [0, 1], values not empty.
double quantile(std::span<const double> sorted, double q);

struct PerplexityScore {
  double perplexity = 0, error = 0;  // exp(mean of −ln p) and its standard error
  double nll = 0, nll_error = 0;     // nats a token
  int64_t n_tokens = 0;              // scored
};

// Against the distributions of a file: KL(base ‖ model), nats a token.
struct DivergenceScore {
  double kl = 0, kl_error = 0, median = 0, p90 = 0, p99 = 0, max = 0;
  double same_top = 0, same_top_error = 0;  // share of tokens where both find the same token most probable
  PerplexityScore base;
  double ratio = 0, ratio_error = 0;  // perplexity / base's
};

// Takes rows of logits as eval_chunks() gives them. Sums in double; the threads share the rows, never a sum, so results do not
// depend on their number. Not thread-safe.
class PerplexityScorer {
 public:
  // `save` gets every row, every row is compared with `base`'s; both may be null and must outlive this.
  explicit PerplexityScorer(int n_threads, LogitWriter* save = nullptr, const LogitReader* base = nullptr);

  // kCorrupt for logits that make no distribution, and what writing and reading rows may say.
  Status add(std::span<const float> logits, std::span<const Token> targets);

  PerplexityScore perplexity() const;
  DivergenceScore divergence() const;  // only with a base

 private:
  struct Row {
    double nll = 0, base_nll = 0, kl = 0;
    bool same_top = false;
    Status status;
  };
  Row score_row(int64_t index, std::span<const float> logits, Token target, std::byte* encoded) const;

  ThreadPool pool_;
  LogitWriter* save_;
  const LogitReader* base_;
  std::vector<Row> rows_;           // of one add()
  std::vector<std::byte> encoded_;  // of one add(), when saving
  int64_t n_rows_ = 0, n_same_top_ = 0;
  MeanError nll_, base_nll_, ratio_, kl_;
  std::vector<double> divergences_;
};

}  // namespace moe
