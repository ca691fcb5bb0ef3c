#include "models/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "core/mathx.h"

namespace moe {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr int kMaxPenaltyWindow = 1 << 24;

// A strict total order: ids settle ties, so that no choice is left to std::sort or std::nth_element.
bool likelier(const TokenChoice& a, const TokenChoice& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

bool more_typical(const TokenChoice& a, const TokenChoice& b) {
  return a.surprise != b.surprise ? a.surprise < b.surprise : likelier(a, b);
}

// Brings the best `wanted` to the front, in order, given that the first `sorted` are there already.
template <class Before>
void sort_front(std::span<TokenChoice> c, size_t sorted, size_t wanted, Before before) {
  const auto begin = c.begin() + static_cast<std::ptrdiff_t>(sorted), end = c.begin() + static_cast<std::ptrdiff_t>(wanted);
  if (wanted < c.size()) std::nth_element(begin, end, c.end(), before);
  std::sort(begin, end, before);
}

// Visits candidates from the best on until enough(candidate, how many so far), and returns how many that took; those stand at
// the front, in order. Sorts no further than it must: nearly always a few dozen of 200,000.
template <class Before, class Enough>
size_t shortest_prefix(std::span<TokenChoice> c, Before before, Enough enough) {
  size_t sorted = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    if (i == sorted) {
      const size_t wanted = std::min(c.size(), std::max<size_t>(64, 4 * sorted));
      sort_front(c, sorted, wanted, before);
      sorted = wanted;
    }
    if (enough(c[i], i + 1)) return i + 1;
  }
  return c.size();
}

// +infinity would leave no difference to the next logit; the largest float does.
TokenChoice candidate(Token id, float logit) { return {id, std::min(logit, std::numeric_limits<float>::max()), 0, 0}; }

Status refuse(const char* option, const std::string& wanted, const std::string& found) {
  return Status::InvalidArgument(std::string("sampler option ") + option + ": wanted " + wanted + ", found " + found);
}

constexpr double kHuge = std::numeric_limits<float>::max();
constexpr double kTiny = std::numeric_limits<float>::min();

struct Bound {
  const char* option;
  double value, low, high;
  const char* wanted;
};

Status validate(const SamplerOptions& o, int n_vocab) {
  if (n_vocab < 1) return refuse("n_vocab", "at least 1", std::to_string(n_vocab));
  const Bound bounds[] = {
      {"temperature", o.temperature, -kHuge, kHuge, "a finite number"},
      {"top_p", o.top_p, 0, 1, "0 to 1"},
      {"min_p", o.min_p, 0, 1, "0 to 1"},
      {"typical_p", o.typical_p, 0, 1, "0 to 1"},
      {"repeat_penalty", o.repeat_penalty, kTiny, kHuge, "finite and above 0"},
      {"frequency_penalty", o.frequency_penalty, -kHuge, kHuge, "a finite number"},
      {"presence_penalty", o.presence_penalty, -kHuge, kHuge, "a finite number"},
      {"penalty_last_n", double(o.penalty_last_n), 0, kMaxPenaltyWindow, "0 to 16777216"},
      {"min_keep", double(o.min_keep), 0, std::numeric_limits<int>::max(), "0 or more"},
  };
  for (const Bound& b : bounds) {
    if (!(b.value >= b.low && b.value <= b.high)) return refuse(b.option, b.wanted, std::to_string(b.value));  // NaN too
  }
  for (const auto& [id, bias] : o.logit_bias) {
    if (id < 0 || id >= n_vocab)
      return refuse("logit_bias", "token ids from 0 to " + std::to_string(n_vocab - 1), std::to_string(id));
    if (!std::isfinite(bias) && bias != kNever) {
      return refuse("logit_bias", "a finite bias or -inf for token " + std::to_string(id), std::to_string(bias));
    }
  }
  return Status::Ok();
}

}  // namespace

Result<Sampler> Sampler::create(const SamplerOptions& options, int n_vocab) {
  MOE_TRY(validate(options, n_vocab));
  return Sampler(options, n_vocab);
}

Sampler::Sampler(const SamplerOptions& options, int n_vocab)
    : options_(options), n_vocab_(static_cast<size_t>(n_vocab)), rng_(options.seed) {
  const bool penalties = options.repeat_penalty != 1 || options.frequency_penalty != 0 || options.presence_penalty != 0;
  if (penalties) window_.resize(static_cast<size_t>(options.penalty_last_n));
  if (penalizes()) counts_.resize(n_vocab_);
  if (penalizes() || !options.logit_bias.empty()) adjusted_.resize(n_vocab_);
  const size_t k = options.top_k > 0 ? static_cast<size_t>(options.top_k) : n_vocab_;
  candidates_.resize(std::min(n_vocab_, 2 * k + 256));  // collect_top_k() thins out whenever this is full
}

void Sampler::reset() {
  rng_ = Rng(options_.seed);
  std::fill(counts_.begin(), counts_.end(), 0);
  window_used_ = window_next_ = 0;
}

void Sampler::accept(Token token) {
  if (!penalizes() || token < 0 || static_cast<size_t>(token) >= n_vocab_) return;
  Token& slot = window_[window_next_];
  if (window_used_ == window_.size()) {
    --counts_[static_cast<size_t>(slot)];
  } else {
    ++window_used_;
  }
  slot = token;
  ++counts_[static_cast<size_t>(token)];
  window_next_ = (window_next_ + 1) % window_.size();
}

std::span<const float> Sampler::adjust(std::span<const float> logits) {
  if (adjusted_.empty()) return logits;
  std::copy(logits.begin(), logits.end(), adjusted_.begin());
  for (const auto& [id, bias] : options_.logit_bias) adjusted_[static_cast<size_t>(id)] += bias;
  penalize();
  return adjusted_;
}

// The window may hold a token many times and it pays once: a negated count marks the paid ones until the second pass.
void Sampler::penalize() {
  const std::span<const Token> recent = std::span(window_).first(window_used_);
  for (Token id : recent) {
    int32_t& count = counts_[static_cast<size_t>(id)];
    if (count < 0) continue;
    float& logit = adjusted_[static_cast<size_t>(id)];
    logit = logit <= 0 ? logit * options_.repeat_penalty : logit / options_.repeat_penalty;
    logit -= static_cast<float>(count) * options_.frequency_penalty + options_.presence_penalty;
    count = -count;
  }
  for (Token id : recent) counts_[static_cast<size_t>(id)] = std::abs(counts_[static_cast<size_t>(id)]);
}

void Sampler::collect(std::span<const float> logits) {
  n_candidates_ = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > kNever) candidates_[n_candidates_++] = candidate(static_cast<Token>(i), logits[i]);  // NaN compares false
  }
}

// One pass that takes what beats the k-th best so far, and cuts back to k whenever the buffer is full: nearly every logit costs
// one comparison, and even ascending logits only cost a selection among 2k + 256 for every k + 256 of them. A later token that
// equals the k-th best loses to it by id, hence the strict comparison.
void Sampler::collect_top_k(std::span<const float> logits) {
  const size_t k = static_cast<size_t>(options_.top_k);
  float bar = kNever;
  n_candidates_ = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > bar)) continue;
    if (n_candidates_ == candidates_.size()) {
      const auto kth = candidates_.begin() + static_cast<std::ptrdiff_t>(k - 1);
      std::nth_element(candidates_.begin(), kth, candidates_.end(), likelier);
      bar = kth->logit;
      n_candidates_ = k;
      if (!(logits[i] > bar)) continue;
    }
    candidates_[n_candidates_++] = candidate(static_cast<Token>(i), logits[i]);
  }
  const size_t kept = std::min(k, n_candidates_);
  sort_front(candidates(), 0, kept, likelier);
  n_candidates_ = kept;
}

void Sampler::keep_only_best(std::span<const float> logits) {
  float best = kNever;
  n_candidates_ = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > best)) continue;
    best = logits[i];
    candidates_[0] = candidate(static_cast<Token>(i), best);
    n_candidates_ = 1;
  }
}

// p of every candidate.
void Sampler::softmax(double temperature) {
  const std::span<TokenChoice> c = candidates();
  const double top = std::min_element(c.begin(), c.end(), likelier)->logit;
  double sum = 0;
  for (TokenChoice& x : c) {
    x.p = mathx::exp((x.logit - top) / temperature);
    sum += x.p;
  }
  for (TokenChoice& x : c) x.p /= sum;
}

// Information -log p is reckoned from logits, so that p = 0 needs no log.
void Sampler::keep_typical() {
  if (options_.typical_p >= 1) return;
  softmax(1);
  const std::span<TokenChoice> c = candidates();
  const TokenChoice top = *std::min_element(c.begin(), c.end(), likelier);
  const double log_sum = -mathx::log(top.p);  // p of the top is at least 1 / n
  double entropy = 0;
  for (TokenChoice& x : c) {
    x.surprise = double(top.logit) - x.logit + log_sum;
    entropy += x.p * x.surprise;
  }
  for (TokenChoice& x : c) x.surprise = std::fabs(x.surprise - entropy);
  double sum = 0;
  n_candidates_ = shortest_prefix(c, more_typical, [&](const TokenChoice& x, size_t n) {
    sum += x.p;
    return sum > options_.typical_p && n >= static_cast<size_t>(options_.min_keep);
  });
}

void Sampler::keep_top_p() {
  if (options_.top_p >= 1) return;
  softmax(1);
  double sum = 0;
  n_candidates_ = shortest_prefix(candidates(), likelier, [&](const TokenChoice& x, size_t n) {
    sum += x.p;
    return sum >= options_.top_p && n >= static_cast<size_t>(options_.min_keep);
  });
}

void Sampler::keep_min_p() {
  if (options_.min_p <= 0) return;
  const std::span<TokenChoice> c = candidates();
  const double bar = std::min_element(c.begin(), c.end(), likelier)->logit + mathx::log(options_.min_p);
  const auto too_low = [bar](const TokenChoice& x) { return x.logit < bar; };
  const size_t passing = c.size() - static_cast<size_t>(std::count_if(c.begin(), c.end(), too_low));
  const size_t least = std::min(c.size(), static_cast<size_t>(options_.min_keep));
  if (passing >= least) {
    std::ignore = std::remove_if(c.begin(), c.end(), too_low);  // keeps the order, which std::partition would not
  } else {
    sort_front(c, 0, least, likelier);
  }
  n_candidates_ = std::max(passing, least);
}

std::span<const TokenChoice> Sampler::distribution(std::span<const float> logits) {
  MOE_CHECK(logits.size() == n_vocab_);
  const bool greedy = options_.temperature <= 0;
  const std::span<const float> x = adjust(logits);
  if (greedy && options_.typical_p >= 1) {  // the other filters never drop the best
    keep_only_best(x);
  } else if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < n_vocab_) {
    collect_top_k(x);
  } else {
    collect(x);
  }
  if (n_candidates_ == 0) candidates_[0] = {0, kNever, 1, 0}, n_candidates_ = 1;
  if (n_candidates_ > 1) {
    keep_typical();
    keep_top_p();
    keep_min_p();
  }
  if (greedy) sort_front(candidates(), 0, 1, likelier), n_candidates_ = 1;
  if (n_candidates_ == 1) {
    candidates_[0].p = 1;
  } else {
    softmax(options_.temperature);
  }
  return candidates();
}

Token Sampler::sample(std::span<const float> logits) {
  const std::span<const TokenChoice> c = distribution(logits);
  if (options_.temperature <= 0) return c[0].id;
  const double u = rng_.uniform_double();
  double sum = 0;
  Token last = c[0].id;
  for (const TokenChoice& x : c) {
    if (x.p > 0) last = x.id;  // what rounding leaves above the sum goes to the last token that can be drawn
    sum += x.p;
    if (sum > u) return x.id;
  }
  return last;
}

}  // namespace moe
