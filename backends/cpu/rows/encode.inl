// Floats to rounded activations and to cache rows. The formulas use only operations that IEEE 754 rounds in one way, so every
// instruction set gives the same bytes.
#pragma once

namespace moe::cpu {
namespace {

constexpr float kFloatMax = 0x1.fffffep127f;

// NaN as 0, infinities as the largest finite number.
inline F32 finite(F32 x) { return max(splat(-kFloatMax), min(splat(kFloatMax), nan_to_zero(x))); }

inline float largest_magnitude32(const float* x) {
  F32 best = splat(0.0f);
  MOE_UNROLL for (int i = 0; i < 32; i += kLanes) best = max(abs(finite(load(x + i))), best);
  return largest(best);
}

// q[i] = round to nearest even of x[i] · inverse. |x · (127 / amax)| exceeds 127 by two roundings at most, so |q| ≤ 127.
inline void quantize32(const float* x, float inverse, int8_t* q) {
  MOE_UNROLL for (int i = 0; i < 32; i += kLanes) store_s8(q + i, mul(finite(load(x + i)), splat(inverse)));
}

// Below this amax 127 / amax would overflow: the block counts as zero.
constexpr float kSmallestAmax = 0x1p-120f;

// scale = amax / 127, q = rint(x · (127 / amax)), with amax of a chunk
inline void row_quantize_a8(const float* x, void* blocks, int64_t n) {
  auto* b = static_cast<BlockA8*>(blocks);
  for (; n > 0; n -= kA8Chunk, x += kA8Chunk, b += kA8Chunk / 32) {
    const int64_t n_blocks = (n < kA8Chunk ? n : kA8Chunk) / 32;
    float amax = 0;
    for (int64_t i = 0; i < n_blocks; ++i) {
      const float of_block = largest_magnitude32(x + 32 * i);
      amax = of_block > amax ? of_block : amax;
    }
    const bool zero = amax < kSmallestAmax;
    for (int64_t i = 0; i < n_blocks; ++i) {
      b[i].scale = zero ? 0.0f : amax / 127.0f;
      quantize32(x + 32 * i, zero ? 0.0f : 127.0f / amax, b[i].q);
      b[i].half[0] = sum_s8x16(b[i].q);
      b[i].half[1] = sum_s8x16(b[i].q + 16);
      b[i].sum = b[i].half[0] + b[i].half[1];
    }
  }
}

inline void row_encode_bf16(const float* x, void* out, int64_t n) {
  auto* h = static_cast<uint16_t*>(out);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bf16(h + i, load(x + i));
  if (i < n) store_bf16_n(h + i, load_n(x + i, n - i), n - i);
}

inline void row_encode_f16(const float* x, void* out, int64_t n) {
  auto* h = static_cast<uint16_t*>(out);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_f16(h + i, load(x + i));
  if (i < n) store_f16_n(h + i, load_n(x + i, n - i), n - i);
}

// A cache row, the same bytes as encode_q8_0 of tensor/formats: d = float16(amax / 127), q = rint(x · (1 / d)).
inline void row_encode_q8_0(const float* x, void* out, int64_t n) {
  constexpr float kLargestScale = 65504.0f;
  auto* b = static_cast<BlockQ8_0*>(out);
  for (int64_t i = 0; i < n / 32; ++i, x += 32) {
    const float scale = largest_magnitude32(x) / 127.0f;
    b[i].d = f32_to_f16(scale < kLargestScale ? scale : kLargestScale);
    const float d = f16_to_f32(b[i].d);
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    MOE_UNROLL for (int j = 0; j < 32; j += kLanes) {
      const F32 q = mul(finite(load(x + j)), splat(inverse));
      store_s8(b[i].qs + j, max(splat(-127.0f), min(splat(127.0f), q)));
    }
  }
}

}  // namespace
}  // namespace moe::cpu
