// Attention over the cache: stores the new keys and values, then streams the visible keys in chunks with a running maximum and
// sum (online softmax, arXiv 1805.02867; FlashAttention, arXiv 2205.14135).
//
// Chunks begin at multiples of kChunk positions whatever the batch, and one thread does all of a query's chunks in order, so a
// query's bits depend on nothing but its own keys. Queries of the heads that share a key head go through a chunk together.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr int64_t kChunk = 128;     // keys scored at a time
constexpr int64_t kHeadBlock = 16;  // most query heads of one key head in a task
constexpr int64_t kQueries = 32;    // most queries (heads × tokens) in a task

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

// One cache tensor (n_slots, n_kv, n_ctx, dim) in its format.
struct Cache {
  explicit Cache(const Tensor& t) : tensor(t), row_bytes(t.row_bytes()) {}
  std::byte* row(int64_t slot, int64_t head, int64_t position) const {
    const int64_t index = (slot * tensor.shape[1] + head) * tensor.shape[2] + position;
    return static_cast<std::byte*>(tensor.data) + static_cast<size_t>(index) * row_bytes;
  }
  size_t format() const { return static_cast<size_t>(tensor.dtype); }
  Tensor tensor;
  size_t row_bytes;
};

void encode(const KernelTable& k, DType dtype, const float* from, void* to, int64_t n) {
  switch (dtype) {
    case DType::kF16:
      return k.encode_f16(from, to, n);
    case DType::kQ8_0:
      return k.encode_q8_0(from, to, n);
    default:
      std::copy(from, from + n, static_cast<float*>(to));
  }
}

class AttentionRun {
 public:
  explicit AttentionRun(const OpContext& c)
      : c_(c),
        a_(c.attrs<AttentionAttrs>()),
        q_(c.in(0)),
        k_(c.in(1)),
        v_(c.in(2)),
        keys_(c.in(3)),
        values_(c.has(4) ? c.in(4) : c.in(3)),
        positions_(c.in(5).i32()),
        slots_(c.in(6).i32()),
        sinks_(c.has(7) ? c.in(7).f32() : nullptr),
        n_tokens_(q_.shape[0]),
        group_(a_.n_head / a_.n_kv_head) {}

  void run() {
    Arena::Frame frame(c_.scratch);
    scores_ = c_.scratch.take<float>(kQueries * kChunk);
    acc_ = c_.scratch.take<float>(kQueries * static_cast<size_t>(a_.v_dim));
    // With whole key heads a part, nobody needs another part's keys: no barrier.
    if (n_tokens_ <= 4 && a_.n_kv_head % c_.parts == 0) {
      const Range heads = c_.my_range(a_.n_kv_head);
      store(heads.begin, heads.end, 0, n_tokens_);
      for (int64_t h = heads.begin; h < heads.end; ++h)
        for (int64_t g = 0; g < group_; g += kHeadBlock)
          for (int64_t t = 0; t < n_tokens_; ++t) attend(h, g, std::min(g + kHeadBlock, group_), t, t + 1);
      return;
    }
    const Range tokens = c_.my_range(n_tokens_);
    store(0, a_.n_kv_head, tokens.begin, tokens.end);
    c_.barrier();
    const int64_t head_block = n_tokens_ <= 4 ? std::clamp<int64_t>(a_.n_head / c_.parts, 1, std::min(group_, kHeadBlock))
                                              : std::min(group_, kHeadBlock);
    const int64_t token_block = std::max<int64_t>(1, kQueries / head_block);
    const int64_t head_blocks = (group_ + head_block - 1) / head_block,
                  token_blocks = (n_tokens_ + token_block - 1) / token_block;
    const int64_t n_tasks = a_.n_kv_head * head_blocks * token_blocks;
    for (int64_t task = c_.take_task(); task < n_tasks; task = c_.take_task()) {
      const int64_t tb = token_blocks - 1 - task / (a_.n_kv_head * head_blocks);  // the latest tokens see most keys: first
      const int64_t rest = task % (a_.n_kv_head * head_blocks), g = rest % head_blocks * head_block;
      each_slot(tb * token_block, std::min(n_tokens_, (tb + 1) * token_block),
                [&](int64_t t0, int64_t t1) { attend(rest / head_blocks, g, std::min(g + head_block, group_), t0, t1); });
    }
  }

 private:
  void store(int64_t head_begin, int64_t head_end, int64_t token_begin, int64_t token_end) const {
    for (int64_t t = token_begin; t < token_end; ++t)
      for (int64_t h = head_begin; h < head_end; ++h) {
        encode(c_.kernels, keys_.tensor.dtype, k_.f32() + (t * a_.n_kv_head + h) * a_.head_dim,
               keys_.row(slots_[t], h, positions_[t]), a_.head_dim);
        if (v_)
          encode(c_.kernels, values_.tensor.dtype, v_.f32() + (t * a_.n_kv_head + h) * a_.v_dim,
                 values_.row(slots_[t], h, positions_[t]), a_.v_dim);
      }
  }

  // Splits [t0, t1) where the sequence changes.
  template <class F>
  void each_slot(int64_t t0, int64_t t1, F&& f) const {
    for (int64_t t = t0; t < t1;) {
      int64_t end = t + 1;
      while (end < t1 && slots_[end] == slots_[t]) ++end;
      f(t, end);
      t = end;
    }
  }

  int64_t first_key(int64_t t) const { return a_.window > 0 ? std::max<int64_t>(0, positions_[t] - a_.window + 1) : 0; }

  // Query heads [g0, g1) of key head h for tokens [t0, t1) of one sequence.
  void attend(int64_t h, int64_t g0, int64_t g1, int64_t t0, int64_t t1) const {
    const int64_t n_heads = g1 - g0, n = n_heads * (t1 - t0);
    const void* q[kQueries];
    float* score[kQueries];
    float top[kQueries], sum[kQueries];
    int64_t begin = std::numeric_limits<int64_t>::max(), end = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t t = t0 + i / n_heads, head = h * group_ + g0 + i % n_heads;
      q[i] = q_.f32() + (t * a_.n_head + head) * a_.head_dim;
      top[i] = kNoScore, sum[i] = 0;
      begin = std::min(begin, first_key(t)), end = std::max<int64_t>(end, positions_[t] + 1);
    }
    std::fill(acc_, acc_ + n * a_.v_dim, 0.0f);
    const int64_t slot = slots_[t0];
    for (int64_t chunk = begin / kChunk * kChunk; chunk < end; chunk += kChunk) {
      const int64_t lo = std::max(chunk, begin), hi = std::min(chunk + kChunk, end);
      for (int64_t i = 0; i < n; ++i) score[i] = scores_ + i * kChunk + (lo - chunk);
      c_.kernels.dot_f32[keys_.format()]({keys_.row(slot, h, lo), keys_.row_bytes, a_.head_dim, hi - lo, q, n, score});
      for (int64_t i = 0; i < n; ++i) {
        const int64_t t = t0 + i / n_heads;
        const int64_t from = std::max(lo, first_key(t)), to = std::min<int64_t>(hi, positions_[t] + 1);
        if (from < to) take(i, scores_ + i * kChunk + (from - chunk), to - from, values_.row(slot, h, from), top[i], sum[i]);
      }
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t t = t0 + i / n_heads, head = h * group_ + g0 + i % n_heads;
      finish(i, head, top[i], sum[i], c_.out().f32() + (t * a_.n_head + head) * a_.v_dim);
    }
  }

  // Folds n scores and their value rows into query i's running result.
  void take(int64_t i, float* score, int64_t n, const std::byte* value_rows, float& top, float& sum) const {
    c_.kernels.scale(score, a_.scale, score, n);
    if (a_.softcap > 0) c_.kernels.softcap(score, a_.softcap, n);
    const float chunk_top = c_.kernels.max(score, n);
    float* acc = acc_ + i * a_.v_dim;
    if (chunk_top > top) {
      const float shrink = top == kNoScore ? 0.0f : std::exp(top - chunk_top);
      sum *= shrink;
      c_.kernels.scale(acc, shrink, acc, a_.v_dim);
      top = chunk_top;
    }
    sum += c_.kernels.exp_minus_max(score, top, n);
    c_.kernels.accumulate[values_.format()]({value_rows, values_.row_bytes, a_.v_dim, n, score, acc});
  }

  // A sink is one more score without a value: it only takes part of the sum (gpt-oss model card, §2.1).
  void finish(int64_t i, int64_t head, float top, float sum, float* out) const {
    const float* acc = acc_ + i * a_.v_dim;
    float shrink = 1;
    if (sinks_) {
      const float all_top = std::max(top, sinks_[head]);
      shrink = std::exp(top - all_top);
      sum = sum * shrink + std::exp(sinks_[head] - all_top);
    }
    c_.kernels.scale(acc, sum > 0 ? shrink / sum : 0.0f, out, a_.v_dim);
  }

  const OpContext& c_;
  const AttentionAttrs& a_;
  Tensor q_, k_, v_;
  Cache keys_, values_;
  const int32_t* positions_;
  const int32_t* slots_;
  const float* sinks_;
  int64_t n_tokens_, group_;
  float* scores_ = nullptr;  // (kQueries, kChunk)
  float* acc_ = nullptr;     // (kQueries, v_dim)
};

}  // namespace

size_t scratch_attention(const Graph&, const Node& node, int64_t) {
  const auto& a = std::get<AttentionAttrs>(node.attrs);
  return align_up(kQueries * kChunk * sizeof(float)) + align_up(kQueries * static_cast<size_t>(a.v_dim) * sizeof(float));
}

void run_attention(const OpContext& c) { AttentionRun(c).run(); }

}  // namespace moe::cpu
