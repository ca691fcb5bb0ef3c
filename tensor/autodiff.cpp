#include "tensor/autodiff.h"

#include <algorithm>

namespace moe {
namespace {

bool trainable(const Value& v) { return v.dtype == DType::kF32 || v.dtype == DType::kBF16; }

std::string label(const Value& v, ValueId id) { return v.name.empty() ? "%" + std::to_string(id) : "'" + v.name + "'"; }

Status check_seeds(const Graph& g, std::span<const GradientSeed> seeds) {
  for (const GradientSeed& s : seeds) {
    const Value &y = g.value(s.y), &dy = g.value(s.dy);
    if (dy.dtype == DType::kF32 && dy.shape == y.shape) continue;
    return Status::InvalidArgument("gradient of " + label(y, s.y) + ": wanted f32" + to_string(y.shape) + ", found " +
                                   traits(dy.dtype).name + to_string(dy.shape));
  }
  return Status::Ok();
}

}  // namespace

ValueId gradient_state(Graph& g, ValueId weight) {
  const std::string name = "grad." + g.value(weight).name;
  if (const ValueId known = g.find(name); known != kNone) return known;
  Value state;
  state.name = name, state.kind = ValueKind::kState, state.shape = g.value(weight).shape;
  return g.add_value(std::move(state));
}

GradientBuilder::GradientBuilder(Graph& g, const std::function<bool(const Value&)>& trains) : g_(g), trains_(trains) {}

// Trained weights, and what is made of them. Ids of experts are no function that could be differentiated.
void GradientBuilder::mark_needed(size_t n_nodes) {
  needed_.assign(g_.values.size(), false);
  for (size_t i = 0; i < needed_.size(); ++i) needed_[i] = g_.values[i].kind == ValueKind::kWeight && trains_(g_.values[i]);
  for (size_t i = 0; i < n_nodes; ++i) {
    const Node& n = g_.nodes[i];
    const bool any =
        std::any_of(n.in.begin(), n.in.end(), [&](ValueId id) { return id != kNone && needed_[static_cast<size_t>(id)]; });
    for (const ValueId id : n.out) needed_[static_cast<size_t>(id)] = any && g_.value(id).dtype == DType::kF32;
  }
}

void GradientBuilder::give(size_t i, ValueId gradient) {
  if (!wants(i)) return;
  const Value &x = g_.value(node_->in[i]), &dx = g_.value(gradient);
  MOE_CHECK(x.kind == ValueKind::kTemp && dx.dtype == DType::kF32 && dx.shape == x.shape);
  summands_[node_->in[i]].push_back(gradient);
}

ValueId GradientBuilder::weight_state(size_t i) {
  if (!wants(i)) return kNone;
  const ValueId weight = node_->in[i];
  const Value& w = g_.value(weight);
  MOE_CHECK(w.kind == ValueKind::kWeight);
  const auto known =
      std::find_if(weights_.begin(), weights_.end(), [&](const WeightGradient& g) { return g.weight == weight; });
  if (known != weights_.end()) return known->grad;
  weights_.push_back({weight, gradient_state(g_, weight)});
  return weights_.back().grad;
}

ValueId GradientBuilder::sum_of(ValueId value) {
  const auto it = summands_.find(value);
  if (it == summands_.end()) return kNone;
  ValueId sum = it->second.front();
  for (size_t i = 1; i < it->second.size(); ++i) sum = op(Op::kAdd, {sum, it->second[i]});
  return sum;
}

Status GradientBuilder::reverse(const Node& node) {
  node_ = &node;
  dy_.clear();
  for (const ValueId id : node.out) dy_.push_back(sum_of(id));
  const auto given = [](ValueId id) { return id != kNone; };
  if (std::none_of(dy_.begin(), dy_.end(), given)) return Status::Ok();
  bool wanted = false;
  for (size_t i = 0; i < node.in.size(); ++i) wanted |= wants(i);
  if (!wanted) return Status::Ok();
  const OpDef& def = op_def(node.op);
  const std::string where =
      std::string("gradient of op ") + def.name + " that makes " + label(g_.value(node.out[0]), node.out[0]);
  if (!def.gradient) return Status::Unsupported(where + ": there is none");
  return def.gradient(*this, node).Annotate(where);
}

Result<std::vector<WeightGradient>> differentiate(Graph& g, std::span<const GradientSeed> seeds,
                                                  const std::function<bool(const Value&)>& trains) {
  MOE_TRY(check_seeds(g, seeds));
  const std::vector<Node> forward = g.nodes;  // g.nodes grows
  GradientBuilder b(g, trains);
  b.mark_needed(forward.size());
  for (size_t i = 0; i < b.needed_.size(); ++i) {
    const Value& v = g.values[i];
    if (b.needed_[i] && v.kind == ValueKind::kWeight && !trainable(v))
      return Status::InvalidArgument("gradient of weight '" + v.name + "': wanted f32 or bf16, found " + traits(v.dtype).name);
  }
  for (const GradientSeed& s : seeds)
    if (b.needed_[static_cast<size_t>(s.y)]) b.summands_[s.y].push_back(s.dy);
  for (size_t i = forward.size(); i-- > 0;) MOE_TRY(b.reverse(forward[i]));
  return std::move(b.weights_);
}

}  // namespace moe
