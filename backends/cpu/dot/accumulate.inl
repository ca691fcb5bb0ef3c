// The transposed product y += Σ a[r] · w[r], rows in ascending order, and rows decoded to floats. Attention weighs cached
// values with it, so f32, f16 and q8_0 keep a strip of y in registers while the rows stream by; the other formats decode to a
// buffer.
#pragma once

namespace moe::cpu {
namespace {

constexpr int kStrip = 8;  // registers of y

inline const uint8_t* row_at(const AccumulateArgs& args, int64_t r) {
  return static_cast<const uint8_t*>(args.w) + static_cast<size_t>(r) * args.w_stride;
}

// kRegisters registers of y from element i on.
template <class Plain, int kRegisters>
inline void accumulate_strip(const AccumulateArgs& args, int64_t i) {
  F32 y[kRegisters];
  MOE_UNROLL for (int k = 0; k < kRegisters; ++k) y[k] = load(args.y + i + k * kLanes);
  for (int64_t r = 0; r < args.n_rows; ++r) {
    const auto* w = reinterpret_cast<const typename Plain::Block*>(row_at(args, r)) + i;
    const F32 a = splat(args.a[r]);
    MOE_UNROLL for (int k = 0; k < kRegisters; ++k) y[k] = fma(a, Plain::at(w + k * kLanes), y[k]);
  }
  MOE_UNROLL for (int k = 0; k < kRegisters; ++k) store(args.y + i + k * kLanes, y[k]);
}

template <class Plain>
void accumulate_plain(const AccumulateArgs& args) {
  int64_t i = 0;
  for (; i + kStrip * kLanes <= args.n_in; i += kStrip * kLanes) accumulate_strip<Plain, kStrip>(args, i);
  for (; i + kLanes <= args.n_in; i += kLanes) accumulate_strip<Plain, 1>(args, i);
  if (i == args.n_in) return;
  F32 y = load_n(args.y + i, args.n_in - i);
  for (int64_t r = 0; r < args.n_rows; ++r) {
    const auto* w = reinterpret_cast<const typename Plain::Block*>(row_at(args, r)) + i;
    y = fma(splat(args.a[r]), Plain::at_n(w, args.n_in - i), y);
  }
  store_n(args.y + i, y, args.n_in - i);
}

// kBlocks blocks of 32 elements from block b on: w = d · q, so a row costs one multiplication a block and one fma a register.
template <int kBlocks>
inline void accumulate_q8_0_strip(const AccumulateArgs& args, int64_t b) {
  constexpr int kRegisters = 32 / kLanes;
  F32 y[kBlocks * kRegisters];
  float* out = args.y + 32 * b;
  MOE_UNROLL for (int k = 0; k < kBlocks * kRegisters; ++k) y[k] = load(out + k * kLanes);
  for (int64_t r = 0; r < args.n_rows; ++r) {
    const auto* w = reinterpret_cast<const BlockQ8_0*>(row_at(args, r)) + b;
    MOE_UNROLL for (int j = 0; j < kBlocks; ++j) {
      const F32 a = splat(args.a[r] * half_to_float(w[j].d));
      MOE_UNROLL for (int k = 0; k < kRegisters; ++k) {
        y[j * kRegisters + k] = fma(a, load_s8(w[j].qs + k * kLanes), y[j * kRegisters + k]);
      }
    }
  }
  MOE_UNROLL for (int k = 0; k < kBlocks * kRegisters; ++k) store(out + k * kLanes, y[k]);
}

inline void accumulate_q8_0(const AccumulateArgs& args) {
  constexpr int kBlocks = kLanes >= 16 ? 4 : kLanes >= 8 ? 2 : 1;
  int64_t b = 0;
  for (; b + kBlocks <= args.n_in / 32; b += kBlocks) accumulate_q8_0_strip<kBlocks>(args, b);
  for (; b < args.n_in / 32; ++b) accumulate_q8_0_strip<1>(args, b);
}

template <class F>
void accumulate_decoded(const AccumulateArgs& args) {
  alignas(64) float decoded[kChunk];
  for (int64_t chunk = 0; chunk < chunks_of(args.n_in); ++chunk) {
    const int n_blocks = blocks_of_chunk<F>(args.n_in, chunk);
    float* y = args.y + chunk * kChunk;
    for (int64_t r = 0; r < args.n_rows; ++r) {
      decode_chunk<F>(block_at<F>(row_at(args, r), chunk), n_blocks, decoded);
      const F32 a = splat(args.a[r]);
      for (int i = 0; i < n_blocks * F::kBlock; i += kLanes) store(y + i, fma(a, load(decoded + i), load(y + i)));
    }
  }
}

template <class F>
void decode_row(const void* row, float* out, int64_t n) {
  for (int64_t chunk = 0; chunk < chunks_of(n); ++chunk) {
    decode_chunk<F>(block_at<F>(row, chunk), blocks_of_chunk<F>(n, chunk), out + chunk * kChunk);
  }
}

template <class Plain>
void decode_plain(const void* row, float* out, int64_t n) {
  const auto* w = static_cast<const typename Plain::Block*>(row);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, Plain::at(w + i));
  if (i < n) store_n(out + i, Plain::at_n(w + i, n - i), n - i);
}

}  // namespace
}  // namespace moe::cpu
