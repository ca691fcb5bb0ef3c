#include "tensor/optim.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/mathx.h"

namespace moe {
namespace {

// --- what a graph uses its weights for ---

bool is_bias(const Node& n, size_t input) {
  return std::string_view(op_def(n.op).inputs[input]).find("bias") != std::string_view::npos;
}

// The node that makes a value; null for what no node makes.
const Node* maker(const Graph& g, ValueId value) {
  for (const Node& n : g.nodes)
    if (std::find(n.out.begin(), n.out.end(), value) != n.out.end()) return &n;
  return nullptr;
}

bool reads_weight(const Graph& g, const Node& n) {
  return std::any_of(n.in.begin(), n.in.end(),
                     [&](ValueId id) { return id != kNone && g.value(id).kind == ValueKind::kWeight; });
}

// What the weights of a graph are for, found in one pass over its nodes.
class WeightUses {
 public:
  explicit WeightUses(const Graph& g) : uses_(g.values.size()) {
    for (const Node& n : g.nodes) {
      for (size_t i = 0; i < n.in.size(); ++i) note(n, i);
      if (n.op == Op::kRoute) note_router(g, n);
    }
  }
  struct Use {
    bool bias = false, table = false, expert = false, router = false;
  };
  const Use& of(ValueId id) const { return uses_[static_cast<size_t>(id)]; }

 private:
  Use& at(ValueId id) { return uses_[static_cast<size_t>(id)]; }

  void note(const Node& n, size_t input) {
    const ValueId id = n.in[input];
    if (id == kNone) return;
    if (is_bias(n, input)) at(id).bias = true;
    if (n.op == Op::kEmbed && input == 0) at(id).table = true;
    if (n.op == Op::kMoeLinear) at(id).expert = true;
  }

  // Between a router and `route` there may be ops without weights: a scale, a sum.
  void note_router(const Graph& g, const Node& route) {
    const Node* n = maker(g, route.in[0]);
    while (n && !reads_weight(g, *n)) n = maker(g, n->in[0]);
    if (!n) return;
    for (const ValueId id : n->in)
      if (id != kNone) at(id).router = true;
  }

  std::vector<Use> uses_;
};

// --- graphs ---

ValueId add_state(Graph& g, const std::string& name, const Shape& shape, DType dtype = DType::kF32) {
  Value v;
  v.name = name, v.kind = ValueKind::kState, v.dtype = dtype, v.shape = shape;
  return g.add_value(std::move(v));
}

ValueId hyper_of(UpdateGraph& u, const Parameter& p) {
  for (const UpdateGroup& group : u.groups)
    if (group.rate == p.rate && group.decay == p.decay) return group.hyper;
  Value v;
  v.name = "hyper." + std::to_string(u.groups.size()), v.kind = ValueKind::kInput, v.shape = {8};
  u.groups.push_back({p.rate, p.decay, u.graph.add_value(std::move(v))});
  return u.groups.back().hyper;
}

double power(double base, int64_t n) {  // the same bits on every machine, unlike std::pow
  double result = 1;
  for (; n > 0; n /= 2, base *= base)
    if (n % 2) result *= base;
  return result;
}

// --- checks ---

Status wanted(bool fits, const char* name, const char* range, double found) {
  if (fits) return Status::Ok();
  char text[40];
  std::snprintf(text, sizeof text, "%g", found);
  return Status::InvalidArgument(std::string(name) + ": wanted " + range + ", found " + text);
}

constexpr std::array<const char*, 4> kDeclineNames = {"constant", "linear", "cosine", "cosine-restarts"};

// Their product is the longest period that is ever computed.
constexpr int64_t kMostSteps = 1'000'000'000'000, kMostFactor = 1000;

// Progress through the period of restarts that a step lies in, both counted from the end of the warm-up.
double period_progress(int64_t step, int64_t length, int64_t factor) {
  if (factor == 1) step %= length;
  for (; step >= length; length *= factor) step -= length;
  return length == 1 ? 0 : static_cast<double>(step) / static_cast<double>(length - 1);
}

double cosine(double progress) { return (1 + mathx::cos_2pi(progress / 2)) / 2; }

}  // namespace

std::vector<Parameter> parameters_of(const Graph& g, std::span<const WeightGradient> weights, const ParameterRules& rules) {
  const WeightUses uses(g);
  std::vector<Parameter> parameters;
  for (const WeightGradient& w : weights) {
    const Value& v = g.value(w.weight);
    const WeightUses::Use& use = uses.of(w.weight);
    Parameter p;
    p.name = v.name, p.shape = v.shape;
    p.rate = use.expert ? rules.expert_rate : use.router ? rules.router_rate : 1;
    p.decay = v.shape.rank > 1 && !use.bias && (!use.table || rules.decay_embeddings);
    p.bf16_copy = v.dtype == DType::kBF16;
    parameters.push_back(std::move(p));
  }
  return parameters;
}

Status validate(const AdamW& a) {
  MOE_TRY(wanted(a.beta1 >= 0 && a.beta1 < 1, "beta1", "0 <= beta1 < 1", a.beta1));
  MOE_TRY(wanted(a.beta2 >= 0 && a.beta2 < 1, "beta2", "0 <= beta2 < 1", a.beta2));
  MOE_TRY(wanted(a.eps > 0 && std::isfinite(a.eps), "eps", "a number above 0", a.eps));
  return wanted(a.weight_decay >= 0 && std::isfinite(a.weight_decay), "weight_decay", "0 or more", a.weight_decay);
}

UpdateGraph build_update_graph(std::span<const Parameter> parameters) {
  UpdateGraph u;
  u.graph.name = "update";
  for (const Parameter& p : parameters) {
    Graph& g = u.graph;
    UpdateGraph::States s;
    s.w = add_state(g, p.name, p.shape), s.grad = add_state(g, "grad." + p.name, p.shape);
    s.m = add_state(g, "m." + p.name, p.shape), s.v = add_state(g, "v." + p.name, p.shape);
    if (p.bf16_copy) s.copy = add_state(g, "bf16." + p.name, p.shape, DType::kBF16);
    g.add_node(Op::kAdamW, {s.w, s.grad, s.m, s.v, s.copy, hyper_of(u, p)});
    u.states.push_back(s);
  }
  return u;
}

// The betas that count are the floats that the op sees: in 1 − β^t too, or the moments would be corrected for others.
std::array<float, 8> hyper_numbers(const AdamW& a, const UpdateGroup& group, double rate, double grad_scale, int64_t t) {
  MOE_CHECK(t >= 1);
  return {static_cast<float>(rate * double{group.rate}),
          a.beta1,
          a.beta2,
          a.eps,
          group.decay ? a.weight_decay : 0.0f,
          static_cast<float>(grad_scale),
          static_cast<float>(1 - power(a.beta1, t)),
          static_cast<float>(1 - power(a.beta2, t))};
}

NormGraph build_norm_graph(std::span<const Parameter> parameters) {
  NormGraph n;
  n.graph.name = "norm";
  for (const Parameter& p : parameters) {
    n.grads.push_back(add_state(n.graph, "grad." + p.name, p.shape));
    n.sums.push_back(n.graph.add_node(Op::kSumSquares, {n.grads.back()}));
    n.graph.value(n.sums.back()).name = "squares." + p.name;
    n.graph.value(n.sums.back()).output = true;
  }
  return n;
}

DiversityGraph build_diversity_graph(std::span<const Parameter> parameters) {
  DiversityGraph d;
  d.graph.name = "diversity";
  Value strength;
  strength.name = "strength", strength.kind = ValueKind::kInput, strength.shape = {1};
  d.strength = d.graph.add_value(std::move(strength));
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = parameters[i];
    if (p.shape.rank != 3) continue;
    DiversityGraph::Experts e;
    e.parameter = i, e.w = add_state(d.graph, p.name, p.shape), e.grad = add_state(d.graph, "grad." + p.name, p.shape);
    e.loss = d.graph.add_node(Op::kDiversityGrad, {e.w, e.grad, d.strength});
    d.graph.value(e.loss).name = "diversity." + p.name, d.graph.value(e.loss).output = true;
    d.experts.push_back(e);
  }
  return d;
}

Result<double> global_norm(std::span<const Parameter> parameters, std::span<const float> sums) {
  MOE_CHECK(parameters.size() == sums.size());
  double total = 0;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (!std::isfinite(sums[i]))
      return Status::OutOfRange("gradient of '" + parameters[i].name + "': wanted finite numbers, their squares add up to " +
                                std::to_string(sums[i]));
    total += double{sums[i]};
  }
  return std::sqrt(total);
}

double clipped_scale(double norm, double scale, double limit) {
  return limit > 0 && scale * norm > limit ? limit / norm : scale;
}

const char* decline_name(Decline d) { return kDeclineNames[static_cast<size_t>(d)]; }

Result<Decline> decline_from_name(std::string_view name) {
  std::string known;
  for (size_t i = 0; i < kDeclineNames.size(); ++i) {
    if (name == kDeclineNames[i]) return static_cast<Decline>(i);
    known += (i ? ", " : "") + std::string(kDeclineNames[i]);
  }
  return Status::InvalidArgument("decline: wanted one of " + known + ", found '" + std::string(name) + "'");
}

double RateSchedule::rate_at(int64_t step) const {
  MOE_CHECK(step >= 0);
  const double top = peak, bottom = top * double{final_share};
  if (step < warmup_steps) return top * static_cast<double>(step + 1) / static_cast<double>(warmup_steps + 1);
  if (decline == Decline::kConstant) return top;
  const int64_t last = total_steps - 1 - warmup_steps;
  const int64_t at = std::min(step - warmup_steps, last);
  const double progress = last == 0 ? 0 : static_cast<double>(at) / static_cast<double>(last);
  const double share = decline == Decline::kLinear   ? 1 - progress
                       : decline == Decline::kCosine ? cosine(progress)
                                                     : cosine(period_progress(at, first_period, period_factor));
  return bottom + (top - bottom) * share;
}

Status validate(const RateSchedule& s) {
  MOE_TRY(wanted(s.peak >= 0 && std::isfinite(s.peak), "peak", "0 or more", s.peak));
  MOE_TRY(wanted(s.final_share >= 0 && s.final_share <= 1, "final_share", "0 to 1", s.final_share));
  MOE_TRY(wanted(s.warmup_steps >= 0, "warmup_steps", "0 or more", static_cast<double>(s.warmup_steps)));
  if (s.decline != Decline::kConstant)
    MOE_TRY(wanted(s.total_steps > s.warmup_steps && s.total_steps <= kMostSteps, "total_steps",
                   "more than warmup_steps, at most 1e12", static_cast<double>(s.total_steps)));
  if (s.decline != Decline::kCosineRestarts) return Status::Ok();
  MOE_TRY(wanted(s.first_period >= 1, "first_period", "1 or more", static_cast<double>(s.first_period)));
  return wanted(s.period_factor >= 1 && s.period_factor <= kMostFactor, "period_factor", "1 to 1000",
                static_cast<double>(s.period_factor));
}

}  // namespace moe
