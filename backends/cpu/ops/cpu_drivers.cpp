// The table of drivers: which function runs an op, whether threads may repeat it instead of sharing it, what scratch it takes.
#include "backends/cpu/op_context.h"

namespace moe::cpu {

size_t scratch_none(const Graph&, const Node&, int64_t) { return 0; }

const Driver& driver(Op op, bool throughput) {
  static constexpr Driver kDrivers[] = {
      {run_embed, true, scratch_none},
      {run_linear, false, scratch_linear},
      {run_head_linear, false, scratch_none},
      {run_rms_norm, true, scratch_none},
      {run_layer_norm, true, scratch_none},
      {run_rope_table, true, scratch_none},
      {run_rope, true, scratch_rope},
      {run_attention, false, scratch_attention, shared_attention},
      {run_softmax, true, scratch_none},
      {run_silu, true, scratch_none},
      {run_gelu, true, scratch_none},
      {run_sigmoid, true, scratch_none},
      {run_glu, true, scratch_none},
      {run_add, true, scratch_none},
      {run_mul, true, scratch_none},
      {run_scale, true, scratch_none},
      {run_slice, true, scratch_none},
      {run_concat, true, scratch_none},
      {run_select_rows, true, scratch_none},
      {run_route, true, scratch_route},
      {run_drop_experts, true, scratch_drop_experts},
      {run_limit_experts, false, scratch_limit_experts},
      {run_moe_linear, false, scratch_moe},
      {run_weighted_sum, true, scratch_none},
      {run_linear_glu, false, scratch_linear},
      {run_moe_gate_up, false, scratch_moe},
      {run_moe_down, false, scratch_moe},
      {run_quantize_act, true, scratch_none},
      {run_embed_dw, false, scratch_none},
      {run_cross_entropy, false, scratch_cross_entropy, shared_cross_entropy},
      {run_cross_entropy_grad, false, scratch_cross_entropy, shared_cross_entropy},
      {run_rms_norm_grad, false, scratch_norm_grad, shared_norm_grad},
      {run_layer_norm_grad, false, scratch_norm_grad, shared_norm_grad},
      {run_softmax_grad, true, scratch_none},
      {run_attention_grad, false, scratch_attention_grad, shared_attention_grad},
      {run_route_grad, false, scratch_route_grad, shared_route_grad},
      {run_row_dot, true, scratch_none},
      {run_place, true, scratch_none},
      {run_sum_groups, true, scratch_none},
      {run_scatter_rows, false, scratch_none},
      {run_sum_squares, false, scratch_none, shared_sum_squares},
      {run_adamw, false, scratch_none},
      {run_diversity_grad, false, scratch_diversity_grad, shared_diversity_grad},
      {run_linear_dx, false, scratch_gemm},
      {run_linear_dw, false, scratch_gemm},
      {run_silu_grad, true, scratch_none},
      {run_gelu_grad, true, scratch_none},
      {run_sigmoid_grad, true, scratch_none},
      {run_glu_grad, true, scratch_none},
      {run_weighted_sum_grad, true, scratch_none},
      {run_moe_linear_dx, false, scratch_moe_gemm},
      {run_moe_linear_dw, false, scratch_moe_gemm},
  };
  static_assert(sizeof(kDrivers) / sizeof(kDrivers[0]) == kNumOps, "one row an op, in the order of ops.def");
  static constexpr Driver kLinearGemm{run_linear_gemm, false, scratch_gemm};
  static constexpr Driver kMoeLinearGemm{run_moe_linear_gemm, false, scratch_moe_gemm};
  if (throughput && op == Op::kLinear) return kLinearGemm;
  if (throughput && op == Op::kMoeLinear) return kMoeLinearGemm;
  return kDrivers[static_cast<size_t>(op)];
}

DotFn dot_for(const KernelTable& k, DType weight, DType activation) {
  const auto w = static_cast<size_t>(weight);
  DotFn fn = activation == DType::kA8 ? k.dot_a8[w] : activation == DType::kBF16 ? k.dot_bf16[w] : k.dot_f32[w];
  MOE_CHECK(fn != nullptr);
  return fn;
}

DType activation_for(const KernelTable& k, DType weight, int64_t n_in) {
  const auto w = static_cast<size_t>(weight);
  if (k.dot_a8[w] && n_in % traits(DType::kA8).block_elements == 0) return DType::kA8;
  return k.dot_bf16[w] ? DType::kBF16 : DType::kF32;
}

}  // namespace moe::cpu
