// AVX-512 with VNNI and BF16: Intel Cooper Lake and since Sapphire Rapids, AMD since Zen 4. The kernels of avx512, products
// of bfloat16 weights with bfloat16 activations, and attention with products of bfloat16.
#include "backends/cpu/dot/rows_avx512.h"
#include "backends/cpu/dot/tile_rows.inl"
//
#include "backends/cpu/dot/quad_shared.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"
//
#include "backends/cpu/attn/attend_bf16.h"
#include "backends/cpu/dot/bf16_avx512.h"
#include "backends/cpu/gemm/gemm_bf16_avx512.h"

namespace moe::cpu {
namespace {

constexpr KernelTable with_bf16_products(KernelTable table) {
  table.dot_bf16[static_cast<int>(DType::kBF16)] = dot_bf16_bf16;
  table.attention_bf16 = attention_of_pairs();
  table.gemm_bf16 = matrix_product<GemmPairBF16>;
  return table;
}

}  // namespace

constinit const KernelTable kKernelsAvx512Bf16 = with_bf16_products(make_table("avx512_bf16"));

}  // namespace moe::cpu
