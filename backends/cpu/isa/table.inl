// Puts the kernels compiled so far in this file into a KernelTable; the last include of every isa/<isa>.cpp.
//
// Those files are compiled with flags that most processors lack, so nothing of them may be shared with the rest of the program:
// all of it lies in unnamed namespaces, and one table is exported. A weak symbol (a template or inline function of std::, a
// function-local static) could replace the copy that other files use; tests/lint checks with nm that there is none.
#pragma once

#include "backends/cpu/dot/unpack.inl"
//
#include "backends/cpu/dot/a8.inl"
#include "backends/cpu/dot/accumulate.inl"
#include "backends/cpu/dot/dense.inl"
#include "backends/cpu/gemm/gemm_tiles.inl"
#include "backends/cpu/rows/math.inl"
//
#include "backends/cpu/rows/elementwise.inl"
//
#include "backends/cpu/rows/activation_gradients.inl"
//
#include "backends/cpu/rows/encode.inl"
#include "backends/cpu/rows/reduce.inl"
//
#include "backends/cpu/rows/adamw.inl"
//
#include "backends/cpu/attn/attend.inl"

namespace moe::cpu {
namespace {

template <class F>
constexpr void add_format(KernelTable& table, DType t) {
  const int i = static_cast<int>(t);
  table.dot_f32[i] = dot_decoded<F>;
  table.dot_a8[i] = dot_a8<F>;
  table.accumulate[i] = accumulate_decoded<F>;
  table.decode[i] = decode_row<F>;
}

template <class Plain>
constexpr void add_plain(KernelTable& table, DType t) {
  const int i = static_cast<int>(t);
  table.dot_f32[i] = dot_plain<Plain>;
  table.accumulate[i] = accumulate_plain<Plain>;
  table.decode[i] = decode_plain<Plain>;
}

constexpr KernelTable make_table(const char* isa) {
  KernelTable t{};
  t.isa = isa;
  add_plain<PlainF32>(t, DType::kF32);
  add_plain<PlainF16>(t, DType::kF16);
  add_plain<PlainBF16>(t, DType::kBF16);
  add_format<Q8_0>(t, DType::kQ8_0);
  add_format<Q4_0>(t, DType::kQ4_0);
  add_format<Q4_1>(t, DType::kQ4_1);
  add_format<Q5_0>(t, DType::kQ5_0);
  add_format<Q5_1>(t, DType::kQ5_1);
  add_format<Q2_K>(t, DType::kQ2_K);
  add_format<Q3_K>(t, DType::kQ3_K);
  add_format<Q4_K>(t, DType::kQ4_K);
  add_format<Q5_K>(t, DType::kQ5_K);
  add_format<Q6_K>(t, DType::kQ6_K);
  add_format<IQ4_NL>(t, DType::kIQ4_NL);
  add_format<MXFP4>(t, DType::kMXFP4);
  t.accumulate[static_cast<int>(DType::kQ8_0)] = accumulate_q8_0;

  add_cache<FloatSteps, CachePlain<PlainF32>>(t.attention, DType::kF32);
  add_cache<FloatSteps, CachePlain<PlainF16>>(t.attention, DType::kF16);
  add_cache<FloatSteps, CacheQ8_0>(t.attention, DType::kQ8_0);
  t.attention.attend = attend_chunk<FloatSteps>;

  t.gemm_f32 = matrix_product<GemmF32>;
  t.gemm_bf16 = matrix_product<GemmWideBF16>;
  static_assert(kGemmScratch <= kMostGemmScratch);
  t.gemm_scratch = kGemmScratch;
  t.gemm_rows = kGemmRows;
  t.gemm_cols = kGemmCols;

  t.quantize_a8 = row_quantize_a8;
  t.encode_bf16 = row_encode_bf16;
  t.encode_f16 = row_encode_f16;
  t.encode_q8_0 = row_encode_q8_0;
  t.rms_norm = row_rms_norm;
  t.layer_norm = row_layer_norm;
  t.softmax = row_softmax;
  t.exp_minus_max = row_exp_minus_max;
  t.max = row_max;
  t.softcap = row_softcap;
  t.silu = row_silu;
  t.gelu = row_gelu;
  t.sigmoid = row_sigmoid;
  t.glu = row_glu;
  t.add = row_add;
  t.mul = row_mul;
  t.scale = row_scale;
  t.axpy = row_axpy;
  t.sum_squares = row_sum_squares;
  t.adamw = row_adamw;
  t.silu_grad = row_silu_grad;
  t.gelu_grad = row_gelu_grad;
  t.sigmoid_grad = row_sigmoid_grad;
  t.glu_grad = row_glu_grad;
  t.rms_norm_grad = row_rms_norm_grad;
  t.rope_interleaved = row_rope_interleaved;
  t.rope_half_split = row_rope_half_split;
  return t;
}

}  // namespace
}  // namespace moe::cpu
