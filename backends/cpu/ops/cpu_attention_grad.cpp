// The reverse pass of attention over the keys of a run, without a cache (FlashAttention, arXiv 2205.14135, appendix B.2, has
// the formulas). Tasks are (sequences, key head); one of them makes dq, dk and dv of its heads by products over blocks of
// queries:
//
//   block of queries x the keys that they see       S = scale · q kᵀ      P = exp(softcap(S) − top) / sum
//                                                   dP = dy vᵀ            dS = P · (dP − D), D = Σ dy · y of a query
//   dv += Pᵀ dy     dk += scale · dSᵀ q     dq = scale · dS k
//
// Weights keep their exp; dy of a query is divided by its sum instead, which is a row and not as many numbers as there are
// keys. All heads that share a key head and all blocks of its sequence follow one another on one thread, so that the bits
// depend on neither threads nor what else is in the batch. Memory grows with the longest sequence times kQueries, not with its
// square.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

// A block's rows of S, P and dP stay in the second-level cache, and few keys are met that its first queries do not see.
constexpr int64_t kQueries = 56;

constexpr int64_t kRowsAhead = 8;

// Gradients of sinks are summed up in shares of the sequences, whatever the number of threads.
constexpr int64_t kMostShares = 64;

// A thread's memory, for n tokens.
struct Scratch {
  float *keys, *values, *dk, *dv;  // (n, head_dim or v_dim) of a sequence and key head
  float *q, *dy, *dq;              // (kQueries, …) q times scale, dy over the sum of weights
  float* weights;                  // (kQueries, n)
  float* ds;                       // (kQueries, n) dP, then dS
  float* scores;                   // (kQueries, n) with a softcap: the scores
  float* row;                      // (n)
  std::byte* gemm;
  int32_t* tokens;     // (n) of sequence after sequence by position
  int32_t* sequences;  // (n + 1) where each begins among them

  // take(bytes) is called once for each piece.
  template <class Take>
  static Scratch lay_out(const AttentionAttrs& a, int64_t n, Take&& take) {
    const auto floats = [&](int64_t count) {
      return reinterpret_cast<float*>(take(static_cast<size_t>(count) * sizeof(float)));
    };
    Scratch s;
    s.keys = floats(n * a.head_dim), s.values = floats(n * a.v_dim);
    s.dk = floats(n * a.head_dim), s.dv = floats(n * a.v_dim);
    s.q = floats(kQueries * a.head_dim), s.dy = floats(kQueries * a.v_dim), s.dq = floats(kQueries * a.head_dim);
    s.weights = floats(kQueries * n), s.ds = floats(kQueries * n);
    s.scores = floats(a.softcap > 0 ? kQueries * n : 0), s.row = floats(n);
    s.gemm = take(kMostGemmScratch);
    s.tokens = reinterpret_cast<int32_t*>(floats(n)), s.sequences = reinterpret_cast<int32_t*>(floats(n + 1));
    return s;
  }
};

class AttentionGrad {
 public:
  explicit AttentionGrad(const OpContext& c)
      : c_(c),
        kernels_(c.kernels),
        a_(c.attrs<AttentionAttrs>()),
        group_(a_.n_head / a_.n_kv_head),
        n_tokens_(c.in(0).shape[0]),
        positions_(c.in(5).i32()),
        slots_(c.in(6).i32()),
        sinks_(c.has(7) ? c.in(7).f32() : nullptr) {}

  void run() {
    Arena::Frame frame(c_.scratch);
    s_ = Scratch::lay_out(a_, n_tokens_, [&](size_t bytes) { return c_.scratch.take<std::byte>(bytes); });
    find_sequences();
    const int64_t shares = std::min(n_sequences_, kMostShares);
    const bool sums = c_.has(8);
    if (sums) c_.barrier();  // shared memory is ours from here on
    for (int64_t task = c_.take_task(); task < shares * a_.n_kv_head; task = c_.take_task()) {
      const int64_t share = task / a_.n_kv_head, h = task % a_.n_kv_head;
      sink_sums_ = sums ? partial(share) : nullptr;
      if (sums) std::fill_n(sink_sums_ + h * group_, group_, 0.0f);
      const Range mine = split_range(n_sequences_, static_cast<int>(share), static_cast<int>(shares));
      for (int64_t i = mine.begin; i < mine.end; ++i) run_sequence(i, h);
    }
    if (!sums) return;
    c_.barrier();
    const Range heads = c_.my_range(a_.n_head);
    for (int64_t share = 0; share < shares; ++share)
      for (int64_t h = heads.begin; h < heads.end; ++h) c_.in(8).f32()[h] += partial(share)[h];
  }

 private:
  float* partial(int64_t share) const { return reinterpret_cast<float*>(c_.shared) + share * a_.n_head; }

  // Tokens by slot, then position: 0, 1, … of each slot, which is what the op's text demands.
  void find_sequences() {
    std::iota(s_.tokens, s_.tokens + n_tokens_, 0);
    const auto before = [&](int32_t a, int32_t b) {
      return slots_[a] != slots_[b] ? slots_[a] < slots_[b] : positions_[a] < positions_[b];
    };
    if (!std::is_sorted(s_.tokens, s_.tokens + n_tokens_, before)) std::sort(s_.tokens, s_.tokens + n_tokens_, before);
    for (int64_t i = 0; i < n_tokens_; ++i) {
      if (i == 0 || slots_[s_.tokens[i]] != slots_[s_.tokens[i - 1]]) s_.sequences[n_sequences_++] = static_cast<int32_t>(i);
      MOE_CHECK(positions_[s_.tokens[i]] == i - s_.sequences[n_sequences_ - 1]);
    }
    s_.sequences[n_sequences_] = static_cast<int32_t>(n_tokens_);
  }

  // The n numbers of a head in row t of a tensor of `heads` heads.
  static float* head_row(const Tensor& x, int64_t heads, int64_t t, int64_t head) {
    const int64_t n = x.shape.last() / heads;
    return x.f32() + t * x.shape.last() + head * n;
  }

  // Rows of a head are a few cache lines here and there, which no prefetcher of a processor foresees: keys and values are asked
  // for some rows ahead, queries and their gradients a block ahead.
  void ask_for(const Tensor& x, int64_t heads, int64_t t, int64_t head) const {
    const auto* row = reinterpret_cast<const std::byte*>(head_row(x, heads, t, head));
    const int64_t bytes = x.shape.last() / heads * static_cast<int64_t>(sizeof(float));
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
  }
  void ask_for_keys(const Tensor& k, const Tensor& v, int64_t j) const {
    if (j >= length_) return;
    ask_for(k, a_.n_kv_head, tokens_[j], h_);
    ask_for(v, a_.n_kv_head, tokens_[j], h_);
  }
  void ask_for_queries(Range queries) const {
    for (int64_t i = queries.begin; i < queries.end; ++i) {
      for (const size_t input : {0, 3, 4}) ask_for(c_.in(input), a_.n_head, token(i), head(i));
      ask_for(c_.out(0), a_.n_head, token(i), head(i));
    }
  }

  void run_sequence(int64_t i, int64_t h) {
    tokens_ = s_.tokens + s_.sequences[i], length_ = s_.sequences[i + 1] - s_.sequences[i], h_ = h;
    const int64_t d = a_.head_dim, e = a_.v_dim;
    for (int64_t j = 0; j < length_; ++j) {
      ask_for_keys(c_.in(1), c_.in(2), j + kRowsAhead);
      std::copy_n(head_row(c_.in(1), a_.n_kv_head, tokens_[j], h), d, s_.keys + j * d);
      std::copy_n(head_row(c_.in(2), a_.n_kv_head, tokens_[j], h), e, s_.values + j * e);
    }
    std::fill_n(s_.dk, length_ * d, 0.0f), std::fill_n(s_.dv, length_ * e, 0.0f);
    for (int64_t first = 0; first < length_ * group_; first += kQueries)
      run_block({first, std::min(first + kQueries, length_ * group_)});
    for (int64_t j = 0; j < length_; ++j) {
      ask_for_keys(c_.out(1), c_.out(2), j + kRowsAhead);
      std::copy_n(s_.dk + j * d, d, head_row(c_.out(1), a_.n_kv_head, tokens_[j], h));
      std::copy_n(s_.dv + j * e, e, head_row(c_.out(2), a_.n_kv_head, tokens_[j], h));
    }
  }

  // Queries of a sequence and key head are numbered (position, head of the group).
  int64_t token(int64_t query) const { return tokens_[query / group_]; }
  int64_t head(int64_t query) const { return h_ * group_ + query % group_; }
  Range seen(int64_t query) const {
    const int64_t p = query / group_;
    return {a_.window > 0 ? std::max<int64_t>(0, p - a_.window + 1) : 0, p + 1};
  }

  void run_block(Range queries) {
    const int64_t d = a_.head_dim, e = a_.v_dim, m = queries.end - queries.begin;
    const Range keys{seen(queries.begin).begin, seen(queries.end - 1).end};
    const int64_t n = keys.end - keys.begin;
    const float *k = s_.keys + keys.begin * d, *v = s_.values + keys.begin * e;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t query = queries.begin + i;
      kernels_.scale(head_row(c_.in(0), a_.n_head, token(query), head(query)), a_.scale, s_.q + i * d, d);
    }
    product({m, n, d, s_.q, k, s_.weights, d, d, n, false, true, false, nullptr});
    ask_for_queries({queries.end, std::min(queries.end + kQueries, length_ * group_)});
    float along[kQueries];
    for (int64_t i = 0; i < m; ++i) along[i] = soften(queries.begin + i, keys, i, n);
    product({m, n, e, s_.dy, v, s_.ds, e, e, n, false, true, false, nullptr});
    product({n, e, m, s_.weights, s_.dy, s_.dv + keys.begin * e, n, e, e, true, false, true, nullptr});
    for (int64_t i = 0; i < m; ++i) weights_to_gradients(queries.begin + i, keys, i, n, along[i]);
    product({m, d, n, s_.ds, k, s_.dq, n, d, d, false, false, false, nullptr});
    product({n, d, m, s_.ds, s_.q, s_.dk + keys.begin * d, n, d, d, true, false, true, nullptr});
    for (int64_t i = 0; i < m; ++i) {
      const int64_t query = queries.begin + i;
      kernels_.scale(s_.dq + i * d, a_.scale, head_row(c_.out(0), a_.n_head, token(query), head(query)), d);
    }
  }

  void product(GemmArgs g) const {
    g.scratch = s_.gemm;
    kernels_.gemm_f32(g);
  }

  float dot(const float* a, const float* b, int64_t n) const {
    float sum = 0;
    float* y = &sum;
    const void* x = b;
    kernels_.dot_f32[static_cast<size_t>(DType::kF32)]({a, 0, n, 1, &x, 1, &y});
    return sum;
  }

  // Row i of the scores becomes exp(score − top), 0 for keys that the query does not see, and row i of dy that of the query
  // over the sum of these. Returns D over the sum.
  float soften(int64_t query, Range keys, int64_t i, int64_t n) const {
    const Range mine = seen(query);
    const int64_t from = mine.begin - keys.begin, to = mine.end - keys.begin, count = to - from;
    float* row = s_.weights + i * n;
    if (a_.softcap > 0) {
      kernels_.softcap(row + from, a_.softcap, count);
      std::copy_n(row + from, count, s_.scores + i * n + from);
    }
    std::fill(row, row + from, 0.0f), std::fill(row + to, row + n, 0.0f);
    float top = kernels_.max(row + from, count);
    if (sinks_) top = std::max(top, sinks_[head(query)]);
    float sum = kernels_.exp_minus_max(row + from, top, count);
    const float sink = sinks_ ? std::exp(sinks_[head(query)] - top) : 0;
    sum += sink;
    const float* y = head_row(c_.in(3), a_.n_head, token(query), head(query));
    float* dy = s_.dy + i * a_.v_dim;
    kernels_.scale(head_row(c_.in(4), a_.n_head, token(query), head(query)), sum > 0 ? 1 / sum : 0.0f, dy, a_.v_dim);
    const float along = dot(dy, y, a_.v_dim);
    if (sink_sums_) sink_sums_[head(query)] -= sink * along;
    return along;
  }

  // Row i of dP becomes dS: P · (dP − D), times the slope of the softcap, 1 − (score / cap)².
  void weights_to_gradients(int64_t query, Range keys, int64_t i, int64_t n, float along) const {
    const Range mine = seen(query);
    const int64_t from = mine.begin - keys.begin, to = mine.end - keys.begin, count = to - from;
    const float* weights = s_.weights + i * n + from;
    float* ds = s_.ds + i * n + from;
    kernels_.mul(weights, ds, ds, count);
    kernels_.axpy(-along, weights, ds, count);
    std::fill(s_.ds + i * n, ds, 0.0f), std::fill(ds + count, s_.ds + (i + 1) * n, 0.0f);
    if (a_.softcap <= 0) return;
    const float* score = s_.scores + i * n + from;
    kernels_.mul(score, score, s_.row, count);
    kernels_.mul(s_.row, ds, s_.row, count);
    kernels_.axpy(-1 / (a_.softcap * a_.softcap), s_.row, ds, count);
  }

  const OpContext& c_;
  const KernelTable& kernels_;
  const AttentionAttrs& a_;
  int64_t group_, n_tokens_, n_sequences_ = 0;
  const int32_t *positions_, *slots_;
  const float* sinks_;
  Scratch s_{};
  float* sink_sums_ = nullptr;  // (n_head) of the share at hand
  // The sequence at hand.
  const int32_t* tokens_ = nullptr;
  int64_t length_ = 0, h_ = 0;
};

}  // namespace

size_t scratch_attention_grad(const Graph&, const Node& node, int64_t max_tokens) {
  size_t total = 0;
  Scratch::lay_out(std::get<AttentionAttrs>(node.attrs), max_tokens, [&](size_t bytes) {
    total += align_up(bytes);
    return static_cast<std::byte*>(nullptr);
  });
  return total;
}

size_t shared_attention_grad(const Graph&, const Node& node, int) {
  return static_cast<size_t>(kMostShares * std::get<AttentionAttrs>(node.attrs).n_head) * sizeof(float);
}

void run_attention_grad(const OpContext& c) { AttentionGrad(c).run(); }

}  // namespace moe::cpu
