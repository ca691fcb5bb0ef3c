// What turns gradients into an update: which parameter learns how fast, the graphs that measure and apply gradients, and the
// learning rate of a step.
//
//   parameters_of()         weights of a differentiated graph ──► Parameter: shape, rate, decay
//   build_norm_graph()      gradients ──► one sum of squares each ──global_norm()──► the norm, or which gradient is not finite
//   build_diversity_graph() expert matrices ──diversity_grad──► their gradients, with a share that drives experts apart
//   build_update_graph()    w, grad, m, v, hyper-parameters ──adamw──► w, m, v and copies in bfloat16
//
// Graphs hold states only: whoever runs them binds memory that lasts (and is zero at first, for the moments). They have no
// tokens: compile them for one and run them with RunShape{}.
//
//   norm = global_norm(parameters, sums read from the norm graph)
//   for each group g: its hyper input = hyper_numbers(adamw, g, rate_at(step), clipped_scale(norm, scale, limit), step + 1)
//   run the update graph; set the gradients to zero
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "tensor/autodiff.h"
#include "tensor/graph.h"

namespace moe {

// --- Parameters ---

struct Parameter {
  std::string name;
  Shape shape;
  float rate = 1;          // multiplies the learning rate
  bool decay = true;       // whether weight decay applies
  bool bf16_copy = false;  // the graph that makes gradients reads a bfloat16 copy of the float32 weight
};

// Which parameters learn how. Norms, biases and other vectors never decay.
struct ParameterRules {
  float expert_rate = 1;  // of what moe_linear reads: matrices and biases of experts
  float router_rate = 1;  // of what makes the logits of route
  bool decay_embeddings = true;
};

// The parameters of a graph in the order of `weights`, as the graph uses them: names are not looked at. Copies are wanted of
// weights that the graph has as bfloat16.
std::vector<Parameter> parameters_of(const Graph& g, std::span<const WeightGradient> weights, const ParameterRules& rules);

// --- AdamW ---

struct AdamW {
  float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f;
};
Status validate(const AdamW& a);  // kInvalidArgument naming the number, wanted and found

// Parameters that share hyper-parameters.
struct UpdateGroup {
  float rate = 1;
  bool decay = true;
  ValueId hyper = kNone;  // input f32 (8)
};

struct UpdateGraph {
  struct States {  // f32 in the parameter's shape; copy bf16, or kNone
    ValueId w = kNone, grad = kNone, m = kNone, v = kNone, copy = kNone;
  };
  Graph graph;
  std::vector<States> states;  // (n parameters)
  std::vector<UpdateGroup> groups;
};
UpdateGraph build_update_graph(std::span<const Parameter> parameters);

// What a group's hyper input holds for update number t = 1, 2, …: see the op adamw.
std::array<float, 8> hyper_numbers(const AdamW& a, const UpdateGroup& group, double rate, double grad_scale, int64_t t);

// --- Norm and clipping ---

struct NormGraph {
  Graph graph;
  std::vector<ValueId> grads;  // (n parameters) states, f32 in the parameter's shape
  std::vector<ValueId> sums;   // (n parameters) outputs, f32 (1)
};
NormGraph build_norm_graph(std::span<const Parameter> parameters);

// √Σ sums. kOutOfRange naming the first parameter whose gradient is not finite (or overflows float32 when squared and summed).
Result<double> global_norm(std::span<const Parameter> parameters, std::span<const float> sums /* (n parameters) */);

// What gradients are multiplied by so that scale · gradients, of norm scale · norm, have a norm of `limit` at most. 0: no
// limit.
double clipped_scale(double norm, double scale, double limit);

// --- Diversity of experts ---

// The loss and gradients of diversity_grad for every stack of expert matrices. To run behind the last reverse pass of a step,
// ahead of the norm; strength is in the units of the gradients there, before adamw scales them.
struct DiversityGraph {
  struct Experts {
    size_t parameter = 0;                           // position in what the graph was built from
    ValueId w = kNone, grad = kNone, loss = kNone;  // states f32 (E, o, i); output f32 (1)
  };
  Graph graph;
  ValueId strength = kNone;  // input f32 (1)
  std::vector<Experts> experts;
};
DiversityGraph build_diversity_graph(std::span<const Parameter> parameters);

// --- Learning rate ---

enum class Decline { kConstant, kLinear, kCosine, kCosineRestarts };
const char* decline_name(Decline d);  // "constant", "linear", "cosine", "cosine-restarts"
Result<Decline> decline_from_name(std::string_view name);

// Steps are 0, 1, … total_steps − 1.
//
//   peak ┤      ╭──╮                    0 .. warmup_steps − 1   peak · (step + 1) / (warmup_steps + 1)
//        │    ╱      ╲                  warmup_steps            peak
//        │  ╱          ╲____            total_steps − 1         peak · final_share, and beyond
//        └──┴────────────────► step
//
// With restarts (SGDR, arXiv 1608.03983 §3) each period runs from the peak to the final share, the first one first_period steps
// long, every other period_factor times as long as the one before; total_steps may cut the last one.
struct RateSchedule {
  float peak = 1e-3f, final_share = 0.1f;
  int64_t warmup_steps = 0, total_steps = 0;
  Decline decline = Decline::kCosine;
  int64_t first_period = 0, period_factor = 2;  // kCosineRestarts

  double rate_at(int64_t step) const;  // of a valid schedule; step ≥ 0
};
Status validate(const RateSchedule& s);  // kInvalidArgument naming the number, wanted and found

}  // namespace moe
