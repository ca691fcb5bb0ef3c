// Attention over one chunk of a cache: scores, a step of the online softmax (arXiv 1805.02867, FlashAttention arXiv
// 2205.14135), weighted values, for many queries of one key head. Both products are the same loop over panels:
//
//   keys    (steps of head_dim, kAttendKeys)    lanes are keys:      score[q][key] = Σ_s q[q][s] ⊗ keys[s][key]
//   values  (steps of kAttendKeys, width)       lanes are elements:  acc[q][i]    += Σ_s weight[q][s] ⊗ values[s][i]
//
// A step is four bytes: one float, or a pair of bfloat16 and ⊗ a product of pairs (attend_bf16.h). `P` says which. No sum runs
// across lanes but that of the weights, and each output is one accumulator filled in ascending order, so a query's bits depend
// on its own visible keys alone. Invisible keys are skipped, not multiplied by 0: what they hold, NaN included, never matters.
//
// Rows of the cache become panels once for all queries of a call.
#pragma once

namespace moe::cpu {
namespace {

constexpr int kAttendRegs = kAttendKeys / kLanes;      // registers of a query's scores
constexpr int kAttendTile = 6;                         // queries of a tile
constexpr int kAttendTileRegs = kLanes >= 16 ? 4 : 2;  // registers of the panel in a tile: 24 accumulators of 32, 12 of 16

// One row of a cache, a register at a time.
template <class Plain>
struct CachePlain {
  static F32 at(const void* row, int64_t i) { return Plain::at(static_cast<const typename Plain::Block*>(row) + i); }
  static F32 at_n(const void* row, int64_t i, int64_t n) {
    return Plain::at_n(static_cast<const typename Plain::Block*>(row) + i, n);
  }
};
struct CacheQ8_0 {
  static F32 at(const void* row, int64_t i) {
    const BlockQ8_0& b = static_cast<const BlockQ8_0*>(row)[i / 32];
    return mul(splat(half_to_float(b.d)), load_s8(b.qs + i % 32));
  }
  static F32 at_n(const void* row, int64_t i, int64_t n) { return n > 0 ? at(row, i) : splat(0.0f); }  // rows are whole blocks
};

// Elements i .. i + kLanes of a row of n, zeros behind its end; kWhole: the row does not end there.
template <class Cache, bool kWhole>
inline F32 cache_at(const void* row, int64_t i, int64_t n) {
  return kWhole || i + kLanes <= n ? Cache::at(row, i) : i < n ? Cache::at_n(row, i, n - i) : splat(0.0f);
}

// Products of floats.
struct FloatSteps {
  static constexpr int kWidth = 1;  // numbers of a step
  static F32 madd(F32 a, F32 b, F32 c) { return fma(a, b, c); }
  static F32 exp_minus(F32 x, F32 top) { return exp(sub(x, top)); }
  // Stores the weights of keys k .. k + 2·kLanes and adds them to the sum.
  static F32 put(F32 first, F32 second, float* weights, int64_t k, F32 sum) {
    store(weights + k, first);
    store(weights + k + kLanes, second);
    return add(add(sum, first), second);
  }
  // Steps i .. i + kLanes of a row.
  template <class Cache, bool kWhole>
  static F32 steps(const void* row, int64_t i, int64_t n) {
    return cache_at<Cache, kWhole>(row, i, n);
  }
  // Elements i .. i + kLanes of the rows of one step.
  template <class Cache, bool kWhole>
  static F32 rows(const void* const* row, int64_t i, int64_t n) {
    return cache_at<Cache, kWhole>(row[0], i, n);
  }
  static F32 half(F32 step, int) { return step; }
};

template <class P>
constexpr int64_t attend_steps(int64_t n) {
  return (n + P::kWidth - 1) / P::kWidth;
}
constexpr int64_t attend_width(int64_t v_dim) { return (v_dim + kAttendAlign - 1) / kAttendAlign * kAttendAlign; }

inline const uint8_t* pack_row(const PackArgs& args, int64_t r) {
  return static_cast<const uint8_t*>(args.rows) + static_cast<size_t>(r) * args.stride;
}

// Asks for the rows kPackAhead bytes behind r .. r + n. Squares of keys touch lines out of order, which no processor foresees.
constexpr size_t kPackAhead = 8192;
MOE_INLINE inline void pack_ahead(const PackArgs& args, int64_t r, int64_t n) {
  const auto* at = reinterpret_cast<const char*>(pack_row(args, r)) + kPackAhead;
  for (size_t i = 0; i < static_cast<size_t>(n) * args.stride; i += 64) __builtin_prefetch(at + i);
}

// Steps s .. s + kLanes of kLanes keys; kWhole: all of them exist.
template <class P, class Cache, bool kWhole>
inline void pack_key_square(const uint8_t* const* row, int64_t s, int64_t dim, float* out) {
  F32 r[kLanes];
  _Pragma("GCC unroll 16") for (int i = 0; i < kLanes; ++i) r[i] = P::template steps<Cache, kWhole>(row[i], s, dim);
  transpose(r);
  const int64_t n = kWhole ? kLanes : attend_steps<P>(dim) - s;
  _Pragma("GCC unroll 16") for (int i = 0; i < kLanes; ++i) {
    if (kWhole || i < n) store(out + i * kAttendKeys, r[i]);
  }
}

// Rows beyond the end repeat the last one: their scores are not looked at.
template <class P, class Cache>
void pack_keys(const PackArgs& args) {
  const int64_t whole = args.dim / (kLanes * P::kWidth) * kLanes;
  for (int64_t key = args.begin / kLanes * kLanes; key < args.end; key += kLanes) {
    pack_ahead(args, key, kLanes);
    const uint8_t* row[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) row[i] = pack_row(args, key + i < args.end ? key + i : args.end - 1);
    float* out = args.panel + key;
    int64_t s = 0;
    for (; s < whole; s += kLanes) pack_key_square<P, Cache, true>(row, s, args.dim, out + s * kAttendKeys);
    for (; s < attend_steps<P>(args.dim); s += kLanes) {
      pack_key_square<P, Cache, false>(row, s, args.dim, out + s * kAttendKeys);
    }
  }
}

template <class P, class Cache>
void pack_values(const PackArgs& args) {
  const int64_t width = attend_width(args.dim), whole = args.dim / kLanes * kLanes;
  for (int64_t s = args.begin / P::kWidth; s < attend_steps<P>(args.end); ++s) {
    pack_ahead(args, s * P::kWidth, P::kWidth);
    const void* row[P::kWidth];
    for (int i = 0; i < P::kWidth; ++i) {
      const int64_t key = s * P::kWidth + i;
      row[i] = pack_row(args, key < args.end ? key : args.end - 1);
    }
    float* out = args.panel + s * width;
    int64_t i = 0;
    for (; i < whole; i += kLanes) store(out + i, P::template rows<Cache, true>(row, i, args.dim));
    for (; i < width; i += kLanes) store(out + i, P::template rows<Cache, false>(row, i, args.dim));
  }
}

// c[q][i] = (kAdd ? c[q][i] : 0) + Σ_s a[q][s] ⊗ panel[s][i], s ascending
struct AttendProduct {
  const float* a;  // (queries, a_stride)
  int64_t a_stride;
  const float* panel;  // (steps, panel_stride)
  int64_t panel_stride;
  int64_t steps;
  float* c;  // (queries, c_stride)
  int64_t c_stride;
};

// Of kQ queries and kR registers from element i on.
template <class P, bool kAdd, int kQ, int kR>
inline void attend_tile(const AttendProduct& p, int64_t i) {
  const float* a[kQ];
  F32 acc[kQ][kR];
  MOE_UNROLL for (int q = 0; q < kQ; ++q) {
    a[q] = p.a + q * p.a_stride;
    MOE_UNROLL for (int r = 0; r < kR; ++r) acc[q][r] = kAdd ? load(p.c + q * p.c_stride + i + r * kLanes) : splat(0.0f);
  }
  const float* panel = p.panel + i;
  for (int64_t s = 0; s < p.steps; ++s, panel += p.panel_stride) {
    F32 b[kR];
    MOE_UNROLL for (int r = 0; r < kR; ++r) b[r] = load(panel + r * kLanes);
    MOE_UNROLL for (int q = 0; q < kQ; ++q) {
      const F32 x = splat(a[q][s]);
      MOE_UNROLL for (int r = 0; r < kR; ++r) acc[q][r] = P::madd(x, b[r], acc[q][r]);
    }
  }
  MOE_UNROLL for (int q = 0; q < kQ; ++q) {
    MOE_UNROLL for (int r = 0; r < kR; ++r) store(p.c + q * p.c_stride + i + r * kLanes, acc[q][r]);
  }
}

// All of n_regs registers. One query needs eight accumulators to keep the multipliers busy.
template <class P, bool kAdd, int kQ>
void attend_columns(const AttendProduct& p, int64_t n_regs) {
  constexpr int kWide = kQ <= 2 ? 8 : kAttendTileRegs;
  int64_t r = 0;
  for (; r + kWide <= n_regs; r += kWide) attend_tile<P, kAdd, kQ, kWide>(p, r * kLanes);
  if constexpr (kWide > 4) {
    for (; r + 4 <= n_regs; r += 4) attend_tile<P, kAdd, kQ, 4>(p, r * kLanes);
  }
  if constexpr (kWide > 2) {
    for (; r + 2 <= n_regs; r += 2) attend_tile<P, kAdd, kQ, 2>(p, r * kLanes);
  }
  for (; r < n_regs; ++r) attend_tile<P, kAdd, kQ, 1>(p, r * kLanes);
}

template <class P, bool kAdd>
inline void attend_product(const AttendProduct& p, int64_t n_queries, int64_t n_regs) {
  static constexpr void (*kColumns[kAttendTile])(const AttendProduct&, int64_t) = {
      attend_columns<P, kAdd, 1>, attend_columns<P, kAdd, 2>, attend_columns<P, kAdd, 3>,
      attend_columns<P, kAdd, 4>, attend_columns<P, kAdd, 5>, attend_columns<P, kAdd, 6>};
  kColumns[n_queries - 1](p, n_regs);
}

inline float first_lane(F32 x) {
  float lanes[kLanes];
  store(lanes, x);
  return lanes[0];
}

// Registers first .. last, an even number, of a query's scores to weights, for the keys from .. to.
template <class P, bool kWhole>
inline void attend_fold(const AttendArgs& args, int64_t q, float* x, int first, int last) {
  static constexpr float kNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const F32 lowest = splat(-__builtin_inff());
  const F32 from = splat(static_cast<float>(args.from[q])), to = splat(static_cast<float>(args.to[q]));
  F32 best = lowest;
  for (int r = first; r < last; ++r) {
    F32 s = mul(load(x + r * kLanes), splat(args.scale));
    if (args.softcap > 0) s = mul(splat(args.softcap), tanh(div(s, splat(args.softcap))));
    if (!kWhole) {
      const F32 key = add(load(kNumbers), splat(static_cast<float>(r * kLanes)));
      s = select_less(key, from, lowest, select_less(key, to, s, lowest));
    }
    store(x + r * kLanes, s);
    best = max(s, best);
  }
  const float top = largest(best);
  if (top > args.top[q]) {
    const F32 shrink = P::exp_minus(splat(args.top[q]), splat(top));
    args.top[q] = top;
    args.sum[q] *= first_lane(shrink);
    const int64_t width = attend_width(args.v_dim);
    float* acc = args.acc + q * width;
    for (int64_t i = 0; i < width; i += kLanes) store(acc + i, mul(load(acc + i), shrink));
  }
  const F32 shift = splat(args.top[q] == -__builtin_inff() ? 0.0f : args.top[q]);
  F32 total = splat(0.0f);
  for (int r = first; r < last; r += 2) {
    const F32 e0 = P::exp_minus(load(x + r * kLanes), shift), e1 = P::exp_minus(load(x + (r + 1) * kLanes), shift);
    total = P::put(e0, e1, args.weights + q * kAttendKeys, r * kLanes, total);
  }
  args.sum[q] += sum(total);
}

// Queries q .. q + n of a tile: scores and weights.
template <class P>
inline void attend_scores(const AttendArgs& args, int64_t q, int n) {
  alignas(64) float scores[kAttendTile][kAttendKeys];
  int64_t from = kAttendKeys, to = 0;
  for (int64_t i = q; i < q + n; ++i) {
    if (args.from[i] >= args.to[i]) continue;
    from = args.from[i] < from ? args.from[i] : from;
    to = args.to[i] > to ? args.to[i] : to;
  }
  if (from >= to) return;
  const int first = static_cast<int>(from / (2 * kLanes)) * 2;
  const int last = static_cast<int>((to + 2 * kLanes - 1) / (2 * kLanes)) * 2;
  const AttendProduct product = {
      args.q + q * args.q_stride, args.q_stride, args.keys + first * kLanes, kAttendKeys, attend_steps<P>(args.head_dim),
      scores[0] + first * kLanes, kAttendKeys};
  attend_product<P, false>(product, n, last - first);
  for (int i = 0; i < n; ++i) {
    if (args.from[q + i] >= args.to[q + i]) continue;
    if (args.from[q + i] <= 0 && args.to[q + i] >= kAttendKeys) {
      attend_fold<P, true>(args, q + i, scores[i], 0, kAttendRegs);
    } else {
      attend_fold<P, false>(args, q + i, scores[i], first, last);
    }
  }
}

template <class P>
inline AttendProduct values_product(const AttendArgs& args, int64_t q, int64_t first, int64_t last) {
  const int64_t width = attend_width(args.v_dim);
  return {args.weights + q * kAttendKeys + first,
          kAttendKeys,
          args.values + first * width,
          width,
          last - first,
          args.acc + q * width,
          width};
}

// A step of which one query sees one key only.
template <class P>
inline void attend_half_step(const AttendArgs& args, int64_t q, int64_t key) {
  const AttendProduct p = values_product<P>(args, q, key / P::kWidth, key / P::kWidth + 1);
  for (int64_t i = 0; i < p.panel_stride; i += kLanes) {
    const F32 value = P::half(load(p.panel + i), static_cast<int>(key % P::kWidth));
    store(p.c + i, P::madd(splat(*p.a), value, load(p.c + i)));
  }
}

// The values of keys from .. to for one query.
template <class P>
inline void attend_alone(const AttendArgs& args, int64_t q, int64_t from, int64_t to) {
  if (from < to && from % P::kWidth != 0) attend_half_step<P>(args, q, from++);
  const int64_t first = from / P::kWidth, last = to / P::kWidth;
  if (first < last) attend_product<P, true>(values_product<P>(args, q, first, last), 1, attend_width(args.v_dim) / kLanes);
  if (from < to && to % P::kWidth != 0) attend_half_step<P>(args, q, to - 1);
}

// Queries q .. q + n: weighted values. Where all see both keys of a step they go together, before and after that alone.
template <class P>
inline void attend_values(const AttendArgs& args, int64_t q, int n) {
  int64_t from = 0, to = kAttendKeys;
  for (int64_t i = q; i < q + n; ++i) {
    from = args.from[i] > from ? args.from[i] : from;
    to = args.to[i] < to ? args.to[i] : to;
  }
  const int64_t first = attend_steps<P>(from), last = to / P::kWidth;
  if (n == 1 || first >= last) {
    for (int64_t i = q; i < q + n; ++i) attend_alone<P>(args, i, args.from[i], args.to[i]);
    return;
  }
  for (int64_t i = q; i < q + n; ++i) attend_alone<P>(args, i, args.from[i], first * P::kWidth);
  attend_product<P, true>(values_product<P>(args, q, first, last), n, attend_width(args.v_dim) / kLanes);
  for (int64_t i = q; i < q + n; ++i) attend_alone<P>(args, i, last * P::kWidth, args.to[i]);
}

// fn(first query, queries) for tiles as equal as can be: 8 queries are 4 and 4.
template <class Fn>
inline void for_attend_tiles(int64_t n, Fn fn) {
  const int64_t tiles = (n + kAttendTile - 1) / kAttendTile;
  for (int64_t i = 0; i < tiles; ++i) fn(n * i / tiles, static_cast<int>(n * (i + 1) / tiles - n * i / tiles));
}

template <class P>
void attend_chunk(const AttendArgs& args) {
  for_attend_tiles(args.n_queries, [&](int64_t q, int n) { attend_scores<P>(args, q, n); });
  for_attend_tiles(args.n_queries, [&](int64_t q, int n) { attend_values<P>(args, q, n); });
}

template <class P, class Cache>
constexpr void add_cache(AttentionKernels& k, DType t) {
  k.pack_keys[static_cast<int>(t)] = pack_keys<P, Cache>;
  k.pack_values[static_cast<int>(t)] = pack_values<P, Cache>;
}

}  // namespace
}  // namespace moe::cpu
