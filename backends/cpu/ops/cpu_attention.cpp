// Attention over the cache: stores the new keys and values, then folds the visible keys, chunk by chunk, into each query's
// result (AttentionKernels, kernels.h). The queries of one key head, of all heads that share it and of many tokens, go through
// a chunk together, so that its rows become panels once.
//
// A query's arithmetic is fixed by positions alone: the chunks of kSegment keys have an online softmax of their own, and the
// segments merge in ascending order. So its bits depend on neither the batch nor the threads, and threads can share one token's
// keys, a segment each, when there are too few key heads to go round.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/op_context.h"
#include "backends/cpu/schedule.h"

namespace moe::cpu {
namespace {

constexpr int64_t kSegment = 512;  // a multiple of kAttendKeys
constexpr float kNoScore = -std::numeric_limits<float>::infinity();

int64_t segments(int64_t n_keys) { return (n_keys + kSegment - 1) / kSegment; }

// Elements of the rows that kernels see: whole registers.
int64_t padded(int64_t n) { return (n + kAttendAlign - 1) / kAttendAlign * kAttendAlign; }

// Most queries that meet a chunk together: making its panels costs as much as eight queries do, and what belongs to them (a
// few KB each) should stay in the second-level cache.
int64_t most_queries(const AttentionAttrs& a) { return a.head_dim + a.v_dim > 512 ? 64 : 128; }

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

// Where the results of some queries are, those over some of their keys or over all.
struct Results {
  float* top;  // (n)
  float* sum;  // (n)
  float* acc;  // (n, padded v_dim)

  static size_t floats(int64_t n, int64_t v_dim) { return static_cast<size_t>(n * (padded(v_dim) + 2)); }
  static Results in(float* memory, int64_t n, int64_t v_dim) {
    return {memory + n * padded(v_dim), memory + n * (padded(v_dim) + 1), memory};
  }
};

// A thread's memory for one tile of queries. A step has four bytes whether it is a float or a pair.
struct Scratch {
  float *keys, *values, *q, *weights, *part, *whole;
  int32_t *from, *to;

  // take(n) is called once for each piece with its number of floats.
  template <class Take>
  static Scratch lay_out(const AttentionAttrs& a, Take&& take) {
    const int64_t n = most_queries(a);
    const auto floats = [&](int64_t count) { return take(static_cast<size_t>(count)); };
    Scratch s;
    s.keys = floats(kAttendKeys * a.head_dim);
    s.values = floats(kAttendKeys * padded(a.v_dim));
    s.q = floats(n * padded(a.head_dim));
    s.weights = floats(n * kAttendKeys);
    s.part = take(Results::floats(n, a.v_dim));
    s.whole = take(Results::floats(n, a.v_dim));
    s.from = reinterpret_cast<int32_t*>(floats(n));
    s.to = reinterpret_cast<int32_t*>(floats(n));
    return s;
  }
};

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
        kernels_(q_.dtype == DType::kBF16 ? c.kernels.attention_bf16 : c.kernels.attention),
        n_tokens_(q_.shape[0]),
        group_(a_.n_head / a_.n_kv_head) {}

  void run() {
    Arena::Frame frame(c_.scratch);
    s_ = Scratch::lay_out(a_, [&](size_t n) { return c_.scratch.take<float>(n); });
    const bool few = n_tokens_ <= kFewTokens;
    if (few && a_.n_kv_head % c_.parts == 0) return run_heads();
    if (few && spans_segments()) return run_segments();
    run_tiles(few ? 4 : 16);
  }

 private:
  // Some queries of key head h, numbered (token, head of the group); all of one sequence.
  struct Tile {
    int64_t h, begin, end;
    int64_t size() const { return end - begin; }
  };

  // With whole key heads a part, nobody needs another part's keys: no barrier.
  void run_heads() {
    const Range heads = c_.my_range(a_.n_kv_head);
    store(heads.begin, heads.end, 0, n_tokens_);
    for (int64_t h = heads.begin; h < heads.end; ++h) attend_all(h, 0, n_tokens_ * group_);
  }

  bool spans_segments() const {
    for (int64_t t = 0; t < n_tokens_; ++t)
      if (first_segment(t) != last_segment(t)) return true;
    return false;
  }

  // Tiles are tasks, of fewer queries where they would not go round, but at least `least`.
  void run_tiles(int64_t least) {
    store_shared();
    const int64_t n = n_tokens_ * group_;
    int64_t size = most_queries(a_);
    while (size > least && a_.n_kv_head * ((n + size - 1) / size) < 4 * c_.parts) size /= 2;
    const int64_t blocks = (n + size - 1) / size;
    for (int64_t task = c_.take_task(); task < a_.n_kv_head * blocks; task = c_.take_task()) {
      const int64_t block = blocks - 1 - task / a_.n_kv_head;  // the latest tokens see most keys: first
      attend_all(task % a_.n_kv_head, block * size, std::min(n, (block + 1) * size));
    }
  }

  // Few tokens, and key heads that do not go round: tasks are segments of a tile's keys. Their results meet in shared memory,
  // which nobody uses before the first barrier.
  void run_segments() {
    store_shared();
    const int64_t size = std::min(group_, std::max<int64_t>(kAttendAlign, most_queries(a_) / c_.parts));
    int64_t first_task = 0, task = c_.take_task();
    for (int64_t h = 0; h < a_.n_kv_head; ++h) {
      each_tile(h, 0, n_tokens_ * group_, size, [&](const Tile& tile) {
        const Range keys = visible(tile);
        const int64_t first = keys.begin / kSegment, count = segments(keys.end) - first;
        for (; task < first_task + count; task = c_.take_task()) {
          begin_tile(tile);
          attend_segment(tile, keys, first + task - first_task);
          keep_part(tile, first + task - first_task);
        }
        first_task += count;
      });
    }
    c_.barrier();
    const Range queries = c_.my_range(n_tokens_ * a_.n_head);
    for (int64_t i = queries.begin; i < queries.end; ++i) merge_parts(i / a_.n_head, i % a_.n_head);
  }

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

  void store_shared() const {
    const Range tokens = c_.my_range(n_tokens_);
    store(0, a_.n_kv_head, tokens.begin, tokens.end);
    c_.barrier();
  }

  // Tiles of at most `size` queries from those begin .. end of key head h, split where the sequence changes.
  template <class F>
  void each_tile(int64_t h, int64_t begin, int64_t end, int64_t size, F&& f) const {
    for (int64_t i = begin; i < end;) {
      int64_t t = i / group_ + 1;
      while (t * group_ < end && slots_[t] == slots_[i / group_]) ++t;
      const int64_t next = std::min({end, t * group_, i + size});
      f(Tile{h, i, next});
      i = next;
    }
  }

  int64_t token(int64_t query) const { return query / group_; }
  int64_t head(const Tile& tile, int64_t query) const { return tile.h * group_ + query % group_; }

  int64_t first_key(int64_t t) const { return a_.window > 0 ? std::max<int64_t>(0, positions_[t] - a_.window + 1) : 0; }
  int64_t first_segment(int64_t t) const { return first_key(t) / kSegment; }
  int64_t last_segment(int64_t t) const { return positions_[t] / kSegment; }

  // The keys that queries of a tile see.
  Range visible(const Tile& tile) const {
    Range keys{std::numeric_limits<int64_t>::max(), 0};
    for (int64_t t = token(tile.begin); t <= token(tile.end - 1); ++t) {
      keys.begin = std::min(keys.begin, first_key(t));
      keys.end = std::max<int64_t>(keys.end, positions_[t] + 1);
    }
    return keys;
  }

  void attend_all(int64_t h, int64_t begin, int64_t end) const {
    each_tile(h, begin, end, most_queries(a_), [&](const Tile& tile) { attend(tile); });
  }

  void attend(const Tile& tile) const {
    const Results whole = Results::in(s_.whole, tile.size(), a_.v_dim), part = Results::in(s_.part, tile.size(), a_.v_dim);
    const Range keys = visible(tile);
    begin_tile(tile);
    for (int64_t segment = keys.begin / kSegment; segment < segments(keys.end); ++segment) {
      attend_segment(tile, keys, segment);
      for (int64_t i = 0; i < tile.size(); ++i) merge(token(tile.begin + i), segment, part, i, whole, i);
    }
    for (int64_t i = 0; i < tile.size(); ++i) {
      finish(whole, i, token(tile.begin + i), head(tile, tile.begin + i));
    }
  }

  // Copies the tile's queries side by side.
  void begin_tile(const Tile& tile) const {
    const size_t row = dtype_bytes(q_.dtype, a_.head_dim);
    for (int64_t i = 0; i < tile.size(); ++i) {
      const int64_t index = token(tile.begin + i) * a_.n_head + head(tile, tile.begin + i);
      float* q = s_.q + i * padded(a_.head_dim);
      if (a_.head_dim % 2) q[a_.head_dim / 2] = 0;  // the other half of the last pair
      std::memcpy(q, static_cast<const std::byte*>(q_.data) + static_cast<size_t>(index) * row, row);
    }
  }

  // The tile's results over one segment of its keys.
  void attend_segment(const Tile& tile, const Range& keys, int64_t segment) const {
    const Results part = Results::in(s_.part, tile.size(), a_.v_dim);
    std::fill_n(part.top, tile.size(), kNoScore);
    std::fill_n(part.sum, tile.size(), 0.0f);
    std::fill_n(part.acc, tile.size() * padded(a_.v_dim), 0.0f);
    const int64_t begin = std::max(keys.begin, segment * kSegment), end = std::min(keys.end, (segment + 1) * kSegment);
    for (int64_t chunk = begin / kAttendKeys * kAttendKeys; chunk < end; chunk += kAttendKeys) {
      const int64_t from = std::max(chunk, begin) - chunk, to = std::min(chunk + kAttendKeys, end) - chunk;
      attend_chunk(tile, part, chunk, from, to);
    }
  }

  void attend_chunk(const Tile& tile, const Results& part, int64_t chunk, int64_t from, int64_t to) const {
    const int64_t slot = slots_[token(tile.begin)];
    kernels_.pack_keys[keys_.format()]({keys_.row(slot, tile.h, chunk), keys_.row_bytes, a_.head_dim, from, to, s_.keys});
    kernels_.pack_values[values_.format()](
        {values_.row(slot, tile.h, chunk), values_.row_bytes, a_.v_dim, from, to, s_.values});
    for (int64_t i = 0; i < tile.size(); ++i) {
      const int64_t t = token(tile.begin + i);
      s_.from[i] = static_cast<int32_t>(std::clamp<int64_t>(first_key(t) - chunk, 0, kAttendKeys));
      s_.to[i] = static_cast<int32_t>(std::clamp<int64_t>(positions_[t] + 1 - chunk, 0, kAttendKeys));
    }
    kernels_.attend({a_.head_dim, a_.v_dim, a_.scale, a_.softcap, s_.keys, s_.values, tile.size(), s_.q, padded(a_.head_dim),
                     s_.from, s_.to, s_.weights, part.top, part.sum, part.acc});
  }

  // Adds a segment's result of a query of token t, at i of `part`, to what the segments before gave, at j of `whole`.
  void merge(int64_t t, int64_t segment, const Results& part, int64_t i, const Results& whole, int64_t j) const {
    if (segment < first_segment(t) || segment > last_segment(t)) return;
    const int64_t width = padded(a_.v_dim);
    const float* from = part.acc + i * width;
    float* to = whole.acc + j * width;
    if (segment == first_segment(t)) {
      std::copy(from, from + width, to);
      whole.top[j] = part.top[i], whole.sum[j] = part.sum[i];
      return;
    }
    const float top = std::max(whole.top[j], part.top[i]);
    if (top == kNoScore) return;  // no finite score so far: sums are 0
    const float before = std::exp(whole.top[j] - top), now = std::exp(part.top[i] - top);
    whole.top[j] = top;
    whole.sum[j] = whole.sum[j] * before + part.sum[i] * now;
    c_.kernels.scale(to, before, to, width);
    c_.kernels.axpy(now, from, to, width);
  }

  // A sink is one more score without a value: it only takes part of the sum (gpt-oss model card, §2.1).
  void finish(const Results& whole, int64_t i, int64_t t, int64_t head) const {
    float sum = whole.sum[i], shrink = 1;
    if (sinks_) {
      const float top = std::max(whole.top[i], sinks_[head]);
      shrink = std::exp(whole.top[i] - top);
      sum = sum * shrink + std::exp(sinks_[head] - top);
    }
    c_.kernels.scale(whole.acc + i * padded(a_.v_dim), sum > 0 ? shrink / sum : 0.0f,
                     c_.out().f32() + (t * a_.n_head + head) * a_.v_dim, a_.v_dim);
  }

  // Where the result of one query over one segment waits for the others.
  Results shared_part(int64_t t, int64_t head, int64_t segment) const {
    const int64_t index = (t * a_.n_head + head) * segments(keys_.tensor.shape[2]) + segment;
    return Results::in(reinterpret_cast<float*>(c_.shared) + static_cast<size_t>(index) * Results::floats(1, a_.v_dim), 1,
                       a_.v_dim);
  }

  void keep_part(const Tile& tile, int64_t segment) const {
    const Results part = Results::in(s_.part, tile.size(), a_.v_dim);
    const int64_t width = padded(a_.v_dim);
    for (int64_t i = 0; i < tile.size(); ++i) {
      const Results kept = shared_part(token(tile.begin + i), head(tile, tile.begin + i), segment);
      *kept.top = part.top[i], *kept.sum = part.sum[i];
      std::copy(part.acc + i * width, part.acc + (i + 1) * width, kept.acc);
    }
  }

  void merge_parts(int64_t t, int64_t head) const {
    const Results whole = Results::in(s_.whole, 1, a_.v_dim);
    for (int64_t segment = first_segment(t); segment <= last_segment(t); ++segment)
      merge(t, segment, shared_part(t, head, segment), 0, whole, 0);
    finish(whole, 0, t, head);
  }

  const OpContext& c_;
  const AttentionAttrs& a_;
  Tensor q_, k_, v_;
  Cache keys_, values_;
  const int32_t* positions_;
  const int32_t* slots_;
  const float* sinks_;
  const AttentionKernels& kernels_;
  int64_t n_tokens_, group_;
  Scratch s_{};
};

}  // namespace

size_t scratch_attention(const Graph&, const Node& node, int64_t) {
  size_t bytes = 0;
  Scratch::lay_out(std::get<AttentionAttrs>(node.attrs), [&](size_t n) {
    bytes += align_up(n * sizeof(float));
    return static_cast<float*>(nullptr);
  });
  return bytes;
}

size_t shared_attention(const Graph& g, const Node& node, int parts) {
  const auto& a = std::get<AttentionAttrs>(node.attrs);
  if (a.n_kv_head % parts == 0) return 0;
  const auto n = static_cast<size_t>(kFewTokens * a.n_head * segments(g.value(node.in[3]).shape[2]));
  return n * Results::floats(1, a.v_dim) * sizeof(float);
}

void run_attention(const OpContext& c) { AttentionRun(c).run(); }

}  // namespace moe::cpu
