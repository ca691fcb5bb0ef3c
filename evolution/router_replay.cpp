#include "evolution/router_replay.h"

namespace moe {

bool RouterModel::operator==(const RouterModel& o) const {
  const RouteAttrs &a = attrs, &b = o.attrs;
  return shape.n_experts == o.shape.n_experts && shape.k == o.shape.k && shape.d_ff == o.shape.d_ff && a.gating == b.gating &&
         a.normalize == b.normalize && a.scale == b.scale && a.n_group == b.n_group && a.topk_group == b.topk_group &&
         a.group_top == b.group_top && selection_bias == o.selection_bias;
}

void RouterReplay::add_inputs(const RouterModel& router) {
  const int64_t E = router.shape.n_experts;
  const auto input = [&](const char* name, DType type, Shape shape) {
    return graph_.add_value({name, ValueKind::kInput, type, shape, nullptr, false});
  };
  values_.n_experts = router.shape.n_experts;
  values_.logits = input("logits", DType::kF32, {kTokens, E});
  if (!router.selection_bias.empty()) selection_bias_ = input("selection_bias", DType::kF32, {E});
  values_.params = input("params", DType::kF32, {8});
  values_.allow = input("allow", DType::kI8, {kMaxTokenClasses, E});
  token_class_ = input("token_class", DType::kI32, {kTokens});
  values_.bias = input("bias", DType::kF32, {E});
  values_.redirect = input("redirect", DType::kI32, {E});
  values_.width = input("width", DType::kI32, {E});  // read by nobody here
}

Result<std::unique_ptr<RouterReplay>> RouterReplay::create(Backend& backend, const RouterModel& router, int k_capacity,
                                                           int64_t max_tokens) {
  std::unique_ptr<RouterReplay> r(new RouterReplay());
  r->add_inputs(router);
  RouteAttrs a = router.attrs;
  a.k_capacity = r->k_capacity_ = k_capacity;
  r->d_ff_ = router.shape.d_ff;
  RouterValues& v = r->values_;
  v.ids =
      r->graph_.add_node(Op::kRoute, {v.logits, r->selection_bias_, v.params, v.allow, r->token_class_, v.bias, v.redirect}, a);
  v.weights = r->graph_.nodes.back().out[1];
  r->graph_.value(v.ids).output = r->graph_.value(v.weights).output = true;
  MOE_ASSIGN(r->executable_, backend.compile(r->graph_, {max_tokens, max_tokens}));
  r->tables_.resize(router.shape.n_experts, kMaxTokenClasses, {});
  MOE_TRY(r->tables_.bind(*r->executable_, v));
  r->bias_ = router.selection_bias;
  if (!r->bias_.empty())
    MOE_TRY(r->executable_->bind(r->selection_bias_, {r->bias_.data(), DType::kF32, {router.shape.n_experts}}));
  return r;
}

Status RouterReplay::run(const LayerRouting& routing, int n_classes, std::span<const float> logits,
                         std::span<const int32_t> classes) {
  const int64_t T = static_cast<int64_t>(classes.size()), E = values_.n_experts;
  MOE_CHECK(static_cast<int64_t>(logits.size()) == T * E && routing.k_max <= k_capacity_);
  tables_.fill(routing, n_classes, d_ff_);
  MOE_TRY(executable_->bind(values_.logits, {const_cast<float*>(logits.data()), DType::kF32, {T, E}}));
  MOE_TRY(executable_->bind(token_class_, {const_cast<int32_t*>(classes.data()), DType::kI32, {T}}));
  RunShape shape;
  shape.n_tokens = T, shape.n_outputs = 0;
  MOE_TRY(executable_->run(shape));
  MOE_ASSIGN(const Tensor ids, executable_->read(values_.ids));
  MOE_ASSIGN(const Tensor weights, executable_->read(values_.weights));
  const auto n = static_cast<size_t>(T * k_capacity_);
  ids_ = {ids.i32(), n}, weights_ = {weights.f32(), n};
  return Status::Ok();
}

}  // namespace moe
