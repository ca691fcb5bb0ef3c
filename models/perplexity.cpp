#include "models/perplexity.h"

#include <algorithm>
#include <cmath>

namespace moe {
namespace {

constexpr int kMinContext = 4;  // one scored token with two before it

// ln Σ exp(x), the sum in double: at 150,000 terms float would lose the fourth digit of small probabilities.
double log_sum_exp(std::span<const float> x) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const float v : x) sum += std::exp(double{v} - top);
  return top + std::log(sum);
}

}  // namespace

Result<TokenChunks> cut_into_chunks(const Tokenizer& tokenizer, std::string_view text, int n_ctx, int max_chunks) {
  if (n_ctx < kMinContext)
    return Status::InvalidArgument("chunks of a text: wanted at least " + std::to_string(kMinContext) + " tokens, found " +
                                   std::to_string(n_ctx));
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  TokenChunks c;
  MOE_ASSIGN(c.tokens, tokenizer.encode(text));
  const size_t n = c.tokens.size() / static_cast<size_t>(n_ctx);
  if (n == 0)
    return Status::InvalidArgument("the text is too short: wanted at least " + std::to_string(n_ctx) +
                                   " tokens for one chunk, found " + std::to_string(c.tokens.size()));
  c.n_ctx = n_ctx;
  c.n_chunks = static_cast<int>(max_chunks > 0 ? std::min(n, static_cast<size_t>(max_chunks)) : n);
  if (tokenizer.add_bos()) c.bos = tokenizer.bos();
  c.tokens.resize(static_cast<size_t>(c.n_chunks) * static_cast<size_t>(n_ctx));
  return c;
}

SessionOptions session_for_chunks(const TokenChunks& chunks, int max_batch) {
  SessionOptions o;
  o.n_ctx = chunks.n_ctx;
  o.n_seqs = std::clamp(max_batch / chunks.n_ctx, 1, chunks.n_chunks);
  o.max_batch = o.n_seqs > 1 ? o.n_seqs * chunks.n_ctx : std::min(max_batch, chunks.n_ctx);
  o.max_outputs = std::min(o.max_batch, o.n_seqs * chunks.rows_scored());
  return o;
}

Status eval_chunks(Session& session, const TokenChunks& c, const RowsFunction& on_rows,
                   const Session::ProgressFunction& on_progress) {
  const auto n_vocab = static_cast<size_t>(session.model().config().n_vocab);
  const int n_seqs = session.options().n_seqs, step = std::min(session.options().max_batch / n_seqs, c.n_ctx);
  std::vector<BatchToken> batch;
  std::vector<Token> targets;
  int done = 0;
  for (int chunk = 0; chunk < c.n_chunks; chunk += n_seqs) {
    const int seqs = std::min(n_seqs, c.n_chunks - chunk);
    for (int s = 0; s < n_seqs; ++s) MOE_TRY(session.truncate(s, 0));
    for (int begin = 0; begin < c.n_ctx - 1; begin += step) {  // nothing is asked of the last token
      const int end = std::min(begin + step, c.n_ctx - 1);
      batch.clear(), targets.clear();
      for (int s = 0; s < seqs; ++s) {
        const Token* tokens = c.tokens.data() + static_cast<size_t>(chunk + s) * static_cast<size_t>(c.n_ctx);
        for (int i = begin; i < end; ++i) {
          const bool scored = i >= c.first_row();
          batch.push_back({i == 0 && c.bos != kNoToken ? c.bos : tokens[i], s, scored});
          if (scored) targets.push_back(tokens[i + 1]);
        }
      }
      MOE_TRY(session.eval(batch));
      if (!targets.empty()) MOE_TRY(on_rows({session.logits(0).data(), targets.size() * n_vocab}, targets));
      done += static_cast<int>(batch.size());
      if (on_progress && !on_progress(done)) return Status::Cancelled("stopped after " + std::to_string(done) + " tokens");
    }
  }
  return Status::Ok();
}

double MeanError::mean() const { return n_ > 0 ? sum_ / static_cast<double>(n_) : 0; }

double MeanError::error() const {
  if (n_ < 2) return 0;
  const double variance = squares_ / static_cast<double>(n_) - mean() * mean();
  return std::sqrt(std::max(variance, 0.0) / static_cast<double>(n_ - 1));
}

double quantile(std::span<const double> sorted, double q) {
  MOE_CHECK(!sorted.empty() && q >= 0 && q <= 1);
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto i = static_cast<size_t>(at);
  const double share = at - static_cast<double>(i);
  return (1 - share) * sorted[i] + share * sorted[std::min(i + 1, sorted.size() - 1)];
}

PerplexityScorer::PerplexityScorer(int n_threads, LogitWriter* save, const LogitReader* base)
    : pool_(n_threads), save_(save), base_(base) {}

PerplexityScorer::Row PerplexityScorer::score_row(int64_t index, std::span<const float> logits, Token target,
                                                  std::byte* encoded) const {
  Row row;
  const double total = log_sum_exp(logits);
  if (!std::isfinite(total)) {
    row.status = Status::Corrupt("scored token " + std::to_string(index) + ": the logits make no distribution: the sum of " +
                                 "their exponentials is " + std::to_string(total));
    return row;
  }
  row.nll = total - double{logits[static_cast<size_t>(target)]};
  if (encoded) encode_logit_row(logits, total, target, encoded);
  if (!base_) return row;
  const Result<LogitRow> base = base_->row(index);
  if (!base.ok()) {
    row.status = base.status();
    return row;
  }
  // KL(P ‖ model) for P = p / Σp, p the file's rounded probabilities: without the division their rounding would show in the
  // first order, and a model would diverge from itself.
  double mass = 0, sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!base->holds(i)) continue;
    const double log_p = base->log_prob(i), p = std::exp(log_p);
    mass += p;
    sum += p * (log_p - (double{logits[i]} - total));
  }
  row.kl = std::max(0.0, sum / mass - std::log(mass));
  row.base_nll = -double{base->target_log_prob};
  row.same_top = std::max_element(logits.begin(), logits.end()) - logits.begin() == base->top;
  return row;
}

Status PerplexityScorer::add(std::span<const float> logits, std::span<const Token> targets) {
  const size_t n = targets.size(), n_vocab = logits.size() / n;
  MOE_CHECK(n > 0 && logits.size() == n * n_vocab);
  if (base_ && n_rows_ + static_cast<int64_t>(n) > base_->n_rows())
    return Status::OutOfRange(base_->path() + ": holds " + std::to_string(base_->n_rows()) + " distributions, more were asked");
  const size_t row_bytes = save_ ? logit_row_bytes(static_cast<int>(n_vocab)) : 0;
  rows_.assign(n, {});
  encoded_.resize(n * row_bytes);
  auto score = [&](int thread) {
    const Range r = split_range(static_cast<int64_t>(n), thread, pool_.size());
    for (int64_t i = r.begin; i < r.end; ++i) {
      const auto at = static_cast<size_t>(i);
      rows_[at] = score_row(n_rows_ + i, logits.subspan(at * n_vocab, n_vocab), targets[at],
                            save_ ? encoded_.data() + at * row_bytes : nullptr);
    }
  };
  pool_.run(score);
  for (const Row& row : rows_) {
    MOE_TRY(row.status);
    nll_.add(row.nll);
    if (!base_) continue;
    base_nll_.add(row.base_nll), ratio_.add(row.nll - row.base_nll), kl_.add(row.kl);
    divergences_.push_back(row.kl);
    n_same_top_ += row.same_top;
  }
  n_rows_ += static_cast<int64_t>(n);
  return save_ ? save_->write_rows(encoded_) : Status::Ok();
}

namespace {

PerplexityScore score_of(const MeanError& nll) {
  const double perplexity = std::exp(nll.mean());
  return {perplexity, perplexity * nll.error(), nll.mean(), nll.error(), nll.count()};
}

}  // namespace

PerplexityScore PerplexityScorer::perplexity() const { return score_of(nll_); }

DivergenceScore PerplexityScorer::divergence() const {
  DivergenceScore d;
  if (divergences_.empty()) return d;
  std::vector<double> sorted = divergences_;
  std::sort(sorted.begin(), sorted.end());
  d.kl = kl_.mean(), d.kl_error = kl_.error();
  d.median = quantile(sorted, 0.5), d.p90 = quantile(sorted, 0.9), d.p99 = quantile(sorted, 0.99), d.max = sorted.back();
  const auto n = static_cast<double>(sorted.size());
  d.same_top = static_cast<double>(n_same_top_) / n;
  d.same_top_error = n > 1 ? std::sqrt(d.same_top * (1 - d.same_top) / (n - 1)) : 0;
  d.base = score_of(base_nll_);
  d.ratio = std::exp(ratio_.mean()), d.ratio_error = d.ratio * ratio_.error();
  return d;
}

}  // namespace moe
