// What a driver sees when one thread runs its share of one op. Drivers (backends/cpu/ops/*.cpp) split the work of an op, call
// the kernel table on the pieces, and are compiled once for all instruction sets.
#pragma once

#include <atomic>

#include "backends/cpu/kernels.h"
#include "backends/cpu/stopwatch.h"
#include "core/arena.h"
#include "core/threads.h"
#include "tensor/graph.h"

namespace moe::cpu {

struct OpContext {
  const Graph& graph;
  const Node& node;
  const KernelTable& kernels;
  RunShape shape;
  int part, parts;    // this thread's share; (0, 1) when every thread runs the whole op into its own copy of the outputs
  Arena& scratch;     // of this thread; drivers open a Frame
  std::byte* shared;  // by the parts, Driver::shared_bytes; the op before may still use it until they have met at a barrier
  ThreadPool& pool;
  std::atomic<int64_t>& next_task;  // 0 at the start of the op; shared by the parts
  void* const* address;             // (n values) where each value is for this thread
  Stopwatch& watch;                 // of this thread
  size_t index;                     // of the node

  bool has(size_t input) const { return input < node.in.size() && node.in[input] != kNone; }

  // The tensor of an input, with the rows of this run; an empty one when the optional input is absent.
  Tensor in(size_t i) const { return has(i) ? tensor(node.in[i]) : Tensor{}; }
  Tensor out(size_t i = 0) const { return tensor(node.out[i]); }

  Range my_range(int64_t n, int64_t grain = 1) const { return split_range(n, part, parts, grain); }
  int64_t take_task() const { return next_task.fetch_add(1, std::memory_order_relaxed); }
  void barrier() const {
    if (parts == 1) return;
    watch.worked(index);
    pool.barrier();
    watch.waited(index);
  }

  template <class A>
  const A& attrs() const {
    return std::get<A>(node.attrs);
  }

 private:
  Tensor tensor(ValueId id) const {
    const Value& v = graph.value(id);
    Tensor t{address[id], v.dtype, v.shape};
    if (v.shape.per_token()) t.shape.dim[0] = shape.n_tokens;
    if (v.shape.per_output()) t.shape.dim[0] = shape.n_outputs;
    return t;
  }
};

// One row an op, in the order of ops.def (drivers.cpp).
struct Driver {
  void (*run)(const OpContext&);
  // May every thread do all of it for a few tokens instead of meeting at a barrier? True for cheap row-wise ops.
  bool replicable;
  // Scratch that one thread needs, at most, for max_tokens rows.
  size_t (*scratch_bytes)(const Graph&, const Node&, int64_t max_tokens);
  // Memory that the parts need together, at most; null: none.
  size_t (*shared_bytes)(const Graph&, const Node&, int parts) = nullptr;
};
// `throughput`: as CompileOptions asks.
const Driver& driver(Op op, bool throughput = false);

// The kernel that multiplies rows of activations (f32, bf16 or a8, whichever the tensor holds) by w's format.
DotFn dot_for(const KernelTable& k, DType weight, DType activation);

// What these kernels want activations rounded to for products with rows of n_in weights; kF32: nothing.
DType activation_for(const KernelTable& k, DType weight, int64_t n_in);

void run_embed(const OpContext&);
void run_linear(const OpContext&);
void run_head_linear(const OpContext&);
void run_rms_norm(const OpContext&);
void run_layer_norm(const OpContext&);
void run_rope_table(const OpContext&);
void run_rope(const OpContext&);
void run_attention(const OpContext&);
void run_softmax(const OpContext&);
void run_silu(const OpContext&);
void run_gelu(const OpContext&);
void run_sigmoid(const OpContext&);
void run_glu(const OpContext&);
void run_add(const OpContext&);
void run_mul(const OpContext&);
void run_scale(const OpContext&);
void run_slice(const OpContext&);
void run_concat(const OpContext&);
void run_select_rows(const OpContext&);
void run_route(const OpContext&);
void run_drop_experts(const OpContext&);
void run_limit_experts(const OpContext&);
void run_moe_linear(const OpContext&);
void run_weighted_sum(const OpContext&);
void run_linear_glu(const OpContext&);
void run_moe_gate_up(const OpContext&);
void run_moe_down(const OpContext&);
void run_quantize_act(const OpContext&);
void run_embed_dw(const OpContext&);
void run_cross_entropy(const OpContext&);
void run_cross_entropy_grad(const OpContext&);
void run_rms_norm_grad(const OpContext&);
void run_layer_norm_grad(const OpContext&);
void run_softmax_grad(const OpContext&);
void run_attention_grad(const OpContext&);
void run_route_grad(const OpContext&);
void run_row_dot(const OpContext&);
void run_place(const OpContext&);
void run_sum_groups(const OpContext&);
void run_scatter_rows(const OpContext&);
void run_sum_squares(const OpContext&);
void run_adamw(const OpContext&);
void run_diversity_grad(const OpContext&);
void run_linear_gemm(const OpContext&);
void run_moe_linear_gemm(const OpContext&);
void run_linear_dx(const OpContext&);
void run_linear_dw(const OpContext&);
void run_silu_grad(const OpContext&);
void run_gelu_grad(const OpContext&);
void run_sigmoid_grad(const OpContext&);
void run_glu_grad(const OpContext&);
void run_weighted_sum_grad(const OpContext&);
void run_moe_linear_dx(const OpContext&);
void run_moe_linear_dw(const OpContext&);

size_t scratch_none(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_linear(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_gemm(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_moe(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_attention(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_route(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_cross_entropy(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_rope(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_norm_grad(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_attention_grad(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_moe_gemm(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_route_grad(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_drop_experts(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_limit_experts(const Graph&, const Node&, int64_t max_tokens);
size_t scratch_diversity_grad(const Graph&, const Node&, int64_t max_tokens);
size_t shared_attention(const Graph&, const Node&, int parts);
size_t shared_cross_entropy(const Graph&, const Node&, int parts);
size_t shared_norm_grad(const Graph&, const Node&, int parts);
size_t shared_attention_grad(const Graph&, const Node&, int parts);
size_t shared_route_grad(const Graph&, const Node&, int parts);
size_t shared_sum_squares(const Graph&, const Node&, int parts);
size_t shared_diversity_grad(const Graph&, const Node&, int parts);

}  // namespace moe::cpu
