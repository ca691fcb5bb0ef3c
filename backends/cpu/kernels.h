// The kernel table: everything of the CPU backend that is compiled once per instruction set. Each backends/cpu/isa/<isa>.cpp
// fills one table and exports nothing else; dispatch.cpp picks one at run time. The drivers in backends/cpu/ops/ split the work
// of an op over threads and call these on pieces, so a table entry never sees threads, graphs or routing.
//
// Bits: for one weight row and one activation row the result of a dot entry does not depend on how many rows or tokens are in
// the call nor on their addresses. That makes logits independent of thread count, batch size and expert grouping.
//
// Vectors are unaligned; no entry reads or writes beyond the extents it is given.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace moe::cpu {

// One row of int8 activations (dtype a8): n/32 blocks, x[i] ≈ scale · q[i], |q| ≤ 127. The blocks of a chunk of kA8Chunk
// elements share one scale, so that products meet it once a chunk. The sums let formats with a minimum or an offset subtract it
// once a block.
//
//   [ scale f32 | sum of q i32 | sum of q[0..15] i32 | sum of q[16..31] i32 | q[0..31] i8 ]
constexpr int kA8Chunk = 256;
struct BlockA8 {
  float scale;
  int32_t sum;
  int32_t half[2];
  int8_t q[32];
};
static_assert(sizeof(BlockA8) == 48);

// y[t][r] = Σ_i w[r][i] · x[t][i]   for r < n_rows, t < n_tokens
struct DotArgs {
  const void* w;    // first weight row
  size_t w_stride;  // bytes between weight rows
  int64_t n_in;     // a multiple of the format's block; for a8 activations a multiple of 32 too
  int64_t n_rows;
  const void* const* x;  // (n_tokens) activation rows: float[n_in], BlockA8[n_in / 32], or uint16_t[n_in] as bfloat16
  int64_t n_tokens;
  float* const* y;  // (n_tokens) where the n_rows results of each token go
};
using DotFn = void (*)(const DotArgs&);

// y[i] += Σ_r a[r] · w[r][i]   (transposed product: rows are decoded and accumulated in ascending r)
struct AccumulateArgs {
  const void* w;
  size_t w_stride;
  int64_t n_in;  // elements of a weight row and of y
  int64_t n_rows;
  const float* a;  // (n_rows)
  float* y;        // (n_in)
};
using AccumulateFn = void (*)(const AccumulateArgs&);

// C (+)= op(A) · op(B), row-major, op(X) = X or its transpose; see backends/cpu/gemm.h for the product over threads.
struct GemmArgs {
  int64_t m, n, k;        // any, 0 too
  const void* a;          // float or bfloat16 bits: op(A) is (m, k), so A is (k, m) when transposed
  const void* b;          // likewise: op(B) is (k, n), so B is (n, k) when transposed
  float* c;               // (m, n)
  int64_t lda, ldb, ldc;  // elements between rows as they are stored; at least a row's length
  bool transpose_a, transpose_b;
  bool accumulate;  // add to C instead of overwriting it
  void* scratch;    // KernelTable::gemm_scratch bytes, aligned to 64; what is in it does not matter
  // Where rows of A, B and C, as they are stored, do not follow one another: row i of A is row a_rows[i] of what lies at `a`.
  const int32_t* a_rows = nullptr;  // (m), or (k) when transposed
  const int32_t* b_rows = nullptr;  // (k), or (n) when transposed
  const int32_t* c_rows = nullptr;  // (m), all different
  // What this thread multiplies next, or null: its first rows are asked for ahead.
  const GemmArgs* next = nullptr;
};
inline constexpr size_t kMostGemmScratch = 1 << 20;  // of any instruction set: what is reserved before one is chosen
using GemmFn = void (*)(const GemmArgs&);

struct GluParams {
  bool gelu;  // GELU (tanh form) instead of SiLU
  float alpha;
  float limit;  // > 0: clamped variant, see GluAttrs
};

// One step of AdamW (arXiv 1711.05101, algorithm 2) on n elements, each by itself:
//
//   g = grad_scale · grad       m ← β1 · m + (1 − β1) · g       v ← β2 · v + (1 − β2) · g²
//   w ← w − (rate · m / (√v · root_scale + eps) + decay · w)
struct AdamWArgs {
  const float* grad;  // (n)
  float* w;           // (n)
  float* m;           // (n)
  float* v;           // (n)
  uint16_t* copy;     // (n) the new w as bfloat16; or null
  int64_t n;
  float grad_scale, beta1, beta2, rest1, rest2;  // rest = 1 − β
  float rate;                                    // learning rate / (1 − β1^t)
  float root_scale;                              // 1 / √(1 − β2^t)
  float eps, decay;                              // decay = learning rate · weight decay
};

// Gradients of hidden = glu(gate, up), see GluAttrs. dgate and dup may take the place of the inputs, not of each other.
struct GluGradArgs {
  const float* gate;  // (n), as all of these
  const float* up;
  const float* dh;
  float* dgate;
  float* dup;
  int64_t n;
  GluParams p;
};

// The reverse of rms_norm on one row: with u = x / √(mean of x² + eps) and du = dy · weight,
//
//   dx = (du − u · mean of du · u) / √(…)       sums += dy · u
struct RmsNormGradArgs {
  const float* x;       // (n), as all of these
  const float* weight;  // or null: ones
  const float* dy;
  float* sums;  // or null
  float* dx;
  float eps;
  int64_t n;
};

// Attention takes a cache in chunks of kAttendKeys keys of one key head, at multiples of kAttendKeys in the context. Rows of
// the cache become panels, whose unit is a step: a float, or a pair of bfloat16.
//
//   keys    (steps of head_dim, kAttendKeys)    values  (steps of kAttendKeys, v_dim rounded up to kAttendAlign)
inline constexpr int64_t kAttendKeys = 128;
inline constexpr int64_t kAttendAlign = 16;

struct PackArgs {
  const void* rows;  // of the cache, from the chunk's first key on
  size_t stride;     // bytes between rows
  int64_t dim;
  int64_t begin, end;  // keys of the chunk to pack, begin < end ≤ kAttendKeys; some before `begin` may be packed too
  float* panel;
};

// Folds a chunk into each query's running result: score s = softcap(scale · q · k), then
//
//   top' = max(top, s_j)   sum' = sum · exp(top − top') + Σ_j exp(s_j − top')   acc' = acc · exp(top − top') + Σ_j exp(s_j −
//   top') v_j
//
// over the keys j that the query sees. A result begins as top −inf, sum and acc 0. A query's bits depend neither on the other
// queries nor on what invisible keys hold.
struct AttendArgs {
  int64_t head_dim, v_dim;
  float scale, softcap;  // softcap 0: none
  const float* keys;     // panels
  const float* values;
  int64_t n_queries;
  const float* q;  // (n_queries, q_stride) head_dim numbers as steps; a half-filled pair has 0 in its other half
  int64_t q_stride;
  const int32_t* from;  // (n_queries) sees keys from .. to of the chunk; from ≥ to: none
  const int32_t* to;
  float* weights;  // (n_queries, kAttendKeys) scratch
  float* top;      // (n_queries)
  float* sum;      // (n_queries)
  float* acc;      // (n_queries, v_dim rounded up to kAttendAlign)
};

struct AttentionKernels {
  void (*pack_keys[kNumDTypes])(const PackArgs&);  // per format of the cache
  void (*pack_values[kNumDTypes])(const PackArgs&);
  void (*attend)(const AttendArgs&);
};

struct KernelTable {
  const char* isa;

  // Per storage format of the weight, indexed by DType; null where there is none (i8, i32). dot_a8 (int8 activations) is null
  // for f32, f16 and bf16; dot_bf16 (bfloat16 activations) is null but for bf16 weights in an ISA that multiplies such pairs.
  // Where both are null, rounding the activations gains nothing and the driver uses dot_f32.
  DotFn dot_f32[kNumDTypes];
  DotFn dot_a8[kNumDTypes];
  DotFn dot_bf16[kNumDTypes];
  AccumulateFn accumulate[kNumDTypes];
  void (*decode[kNumDTypes])(const void* row, float* out, int64_t n);  // one row to floats: embedding lookups

  AttentionKernels attention;       // products of floats: caches of f32, f16 and q8_0
  AttentionKernels attention_bf16;  // products of bfloat16 pairs: f16 and q8_0; nulls where an ISA does not multiply them

  // Products that training is made of. c[i][j] is one chain of fused multiply-adds in ascending k from 0, or from C, so that
  // its bits depend on nothing but its row and column, and a product cut in k is the same. gemm_bf16 of avx512_bf16 takes k in
  // pairs (dot/bf16_avx512.h) and keeps the bits when cut at an even k; the others widen, and have the bits of gemm_f32.
  GemmFn gemm_f32, gemm_bf16;
  size_t gemm_scratch;       // bytes
  int gemm_rows, gemm_cols;  // multiples at which to split C

  void (*quantize_a8)(const float* x, void* blocks, int64_t n);  // n a multiple of 32; NaN becomes 0, ±inf saturates its block
  void (*encode_bf16)(const float* x, void* out, int64_t n);     // any n; the bits of f32_to_bf16, core/half.h
  void (*encode_f16)(const float* x, void* out, int64_t n);      // cache rows: any n
  void (*encode_q8_0)(const float* x, void* out, int64_t n);     // n a multiple of 32

  // Row operations on float32; out may equal x.
  void (*rms_norm)(const float* x, const float* weight /* null or (n) */, float eps, float* out, int64_t n);
  void (*layer_norm)(const float* x, const float* weight, const float* bias /* null or (n) */, float eps, float* out,
                     int64_t n);
  void (*softmax)(const float* x, float* out, int64_t n);
  float (*exp_minus_max)(float* x, float max, int64_t n);  // x[i] = exp(x[i] − max); returns Σ in a fixed order; −inf gives 0
  float (*max)(const float* x, int64_t n);                 // n ≥ 1; NaN is ignored
  void (*softcap)(float* x, float cap, int64_t n);         // x = cap · tanh(x / cap)
  void (*silu)(const float* x, float* out, int64_t n);
  void (*gelu)(const float* x, float* out, int64_t n);
  void (*sigmoid)(const float* x, float* out, int64_t n);
  void (*glu)(const float* gate, const float* up, float* out, int64_t n, GluParams p);
  void (*add)(const float* a, const float* b, float* out, int64_t n);
  void (*mul)(const float* a, const float* b, float* out, int64_t n);
  void (*scale)(const float* x, float factor, float* out, int64_t n);
  void (*axpy)(float a, const float* x, float* y, int64_t n);  // y += a·x, fused multiply-add where the ISA has it

  double (*sum_squares)(const float* x, int64_t n);
  void (*adamw)(const AdamWArgs&);  // the same bits in every instruction set
  // dx = dy · f'(x); dx may equal x or dy. ±inf gives the limit of f'.
  void (*silu_grad)(const float* x, const float* dy, float* dx, int64_t n);
  void (*gelu_grad)(const float* x, const float* dy, float* dx, int64_t n);
  void (*sigmoid_grad)(const float* x, const float* dy, float* dx, int64_t n);
  void (*glu_grad)(const GluGradArgs&);
  void (*rms_norm_grad)(const RmsNormGradArgs&);

  // n_pairs rotations: (x0, x1) → (x0·cos − x1·sin, x0·sin + x1·cos)
  void (*rope_interleaved)(const float* x, const float* cos, const float* sin, float* out,
                           int64_t n_pairs);  // pairs (2i, 2i+1)
  void (*rope_half_split)(const float* x, const float* cos, const float* sin, float* out,
                          int64_t n_pairs);  // pairs (i, i + n_pairs)
};

// One a file in isa/; only those of the target architecture exist.
extern const KernelTable kKernelsScalar;
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvx512;
extern const KernelTable kKernelsAvx512Bf16;  // avx512 with BF16 dot products
extern const KernelTable kKernelsNeon;
extern const KernelTable kKernelsNeonDot;
extern const KernelTable kKernelsNeonI8mm;

}  // namespace moe::cpu
