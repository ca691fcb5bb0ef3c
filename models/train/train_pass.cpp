#include "models/train/train_pass.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moe {
namespace {

Value input_value(const char* name, DType dtype, Shape shape) {
  Value v;
  v.name = name, v.kind = ValueKind::kInput, v.dtype = dtype, v.shape = shape;
  return v;
}

size_t bytes_of(const Value& v) {
  return dtype_bytes(v.dtype, v.shape.last()) * static_cast<size_t>(v.shape.elements() / v.shape.last());
}

double sum(const Tensor& t, int64_t n) { return std::accumulate(t.f32(), t.f32() + n, 0.0); }

}  // namespace

GraphOptions train_graph_options(int64_t max_tokens, int context, std::vector<int> k_capacity) {
  GraphOptions g;
  g.n_slots = max_tokens, g.n_ctx = context, g.cache_k = g.cache_v = DType::kF32;
  g.k_capacity = std::move(k_capacity);
  return g;
}

Result<std::unique_ptr<TrainPass>> TrainPass::create(Backend& backend, ModelGraph model, const TrainPassOptions& o) {
  std::unique_ptr<TrainPass> pass(new TrainPass());
  pass->model_ = std::move(model);
  pass->cut_logits();
  Graph& g = pass->model_.graph;
  g.value(pass->model_.hidden).output = true;
  MOE_TRY(pass->add_loss(o));
  for (const Node& n : g.nodes)
    if (n.op == Op::kRouteGrad) {
      pass->router_losses_.push_back(n.out[1]);
      g.value(n.out[1]).output = true;
    }
  CompileOptions c;
  c.max_tokens = c.max_outputs = o.max_tokens, c.throughput = true;
  MOE_ASSIGN(pass->executable_, backend.compile(g, c));
  MOE_TRY(pass->bind_inputs(backend, o));
  return pass;
}

// The loss makes logits a few at a time; what would make all of them goes.
void TrainPass::cut_logits() {
  std::vector<Node>& nodes = model_.graph.nodes;
  const auto makes = [&](const Node& n) { return std::find(n.out.begin(), n.out.end(), model_.hidden) != n.out.end(); };
  const auto hidden = std::find_if(nodes.begin(), nodes.end(), makes);
  MOE_CHECK(hidden != nodes.end());
  nodes.erase(hidden + 1, nodes.end());
  model_.graph.value(model_.logits).output = false;
}

Status TrainPass::add_loss(const TrainPassOptions& o) {
  if (o.kind == TrainPassKind::kHidden) return Status::Ok();
  Graph& g = model_.graph;
  CrossEntropyAttrs a;
  a.logit_scale = o.logit_scale, a.teacher_logit_scale = o.teacher_logit_scale;
  targets_ = g.add_value(input_value("targets", DType::kI32, {kOutputs}));
  if (o.kind == TrainPassKind::kForward) {
    loss_ = g.add_node(Op::kCrossEntropy, {model_.hidden, model_.head, targets_}, a);
    g.value(loss_).output = true;
    return Status::Ok();
  }
  row_weight_ = g.add_value(input_value("row_weight", DType::kF32, {kOutputs}));
  ValueId teacher_head = kNone;
  if (o.teacher_head) {
    const Tensor& t = *o.teacher_head;
    teacher_x_ = g.add_value(input_value("teacher_x", DType::kF32, {kOutputs, t.shape.last()}));
    mix_ = g.add_value(input_value("mix", DType::kF32, {4}));
    teacher_head = g.add_value({"teacher.output", ValueKind::kWeight, t.dtype, t.shape, t.data, false});
  }
  const ValueId grad = o.trains(g.value(model_.head)) ? gradient_state(g, model_.head) : kNone;
  loss_ = g.add_node(Op::kCrossEntropyGrad,
                     {model_.hidden, model_.head, targets_, row_weight_, teacher_x_, teacher_head, mix_, grad}, a);
  const std::vector<ValueId> made = g.nodes.back().out;
  kl_ = made[1];
  g.value(loss_).output = g.value(kl_).output = true;
  const GradientSeed seed{model_.hidden, made[2]};
  MOE_ASSIGN(gradients_, differentiate(g, {&seed, 1}, o.trains));
  const bool known =
      std::any_of(gradients_.begin(), gradients_.end(), [&](const WeightGradient& w) { return w.weight == model_.head; });
  if (grad != kNone && !known) gradients_.push_back({model_.head, grad});
  return Status::Ok();
}

Status TrainPass::bind_inputs(Backend& backend, const TrainPassOptions& o) {
  const auto n = static_cast<size_t>(o.max_tokens);
  tokens_.resize(n), positions_.resize(n), slots_.resize(n), classes_.resize(n), target_ids_.resize(n);
  row_weights_.resize(n), rows_.resize(n);
  std::iota(rows_.begin(), rows_.end(), 0);
  const auto ints = [&](ValueId id, std::vector<int32_t>& values) {
    return executable_->bind(id, {values.data(), DType::kI32, {o.max_tokens}});
  };
  MOE_TRY(ints(model_.tokens, tokens_));
  MOE_TRY(ints(model_.positions, positions_));
  MOE_TRY(ints(model_.slots, slots_));
  MOE_TRY(ints(model_.rows, rows_));
  MOE_TRY(ints(model_.token_class, classes_));
  if (targets_ != kNone) MOE_TRY(ints(targets_, target_ids_));
  if (row_weight_ != kNone) MOE_TRY(executable_->bind(row_weight_, {row_weights_.data(), DType::kF32, {o.max_tokens}}));
  const auto four = [&](ValueId id, float* values) {
    return id == kNone ? Status::Ok() : executable_->bind(id, {values, DType::kF32, {4}});
  };
  MOE_TRY(four(mix_, numbers_.mix));
  MOE_TRY(four(model_.balance, numbers_.balance));
  MOE_TRY(four(model_.drop, numbers_.drop));
  MOE_TRY(four(model_.capacity, numbers_.capacity));
  tables_.resize(model_.routers.size());
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (model_.routers[i].n_experts == 0) continue;
    tables_[i].resize(model_.routers[i].n_experts, 1, model_.routers[i].places);
    MOE_TRY(tables_[i].bind(*executable_, model_.routers[i]));
  }
  for (const bool keys : {true, false})
    for (const CacheValues& c : model_.caches) {
      const ValueId id = keys ? c.k : c.v;
      if (id == kNone) continue;
      const Value& v = model_.graph.value(id);
      Buffer& shared = keys ? keys_ : values_;
      if (shared.bytes() == 0) {
        MOE_ASSIGN(shared, backend.allocate(bytes_of(v)));
      }
      MOE_TRY(executable_->bind(id, {shared.data(), v.dtype, v.shape}));
    }
  return Status::Ok();
}

Status TrainPass::run(const DatasetBatch& batch, int begin, int rows, float weight, const float* teacher_x) {
  const size_t context = batch.tokens.size() / static_cast<size_t>(batch.rows);
  const size_t first = static_cast<size_t>(begin) * context, n = static_cast<size_t>(rows) * context;
  MOE_CHECK(rows > 0 && begin + rows <= batch.rows && n <= tokens_.size() && (teacher_x_ == kNone) == !teacher_x);
  const auto copy = [&](const std::vector<int32_t>& from, std::vector<int32_t>& to) {
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(first), n, to.begin());
  };
  copy(batch.tokens, tokens_), copy(batch.positions, positions_), copy(batch.slots, slots_), copy(batch.targets, target_ids_);
  for (size_t i = 0; i < n; ++i) slots_[i] -= batch.slots[first];
  n_targets_ =
      static_cast<int64_t>(n) - std::count(target_ids_.begin(), target_ids_.begin() + static_cast<std::ptrdiff_t>(n), -1);
  std::fill_n(row_weights_.begin(), n, weight);
  n_tokens_ = static_cast<int64_t>(n);
  if (teacher_x)
    MOE_TRY(executable_->bind(
        teacher_x_, {const_cast<float*>(teacher_x), DType::kF32, {n_tokens_, model_.graph.value(teacher_x_).shape.last()}}));
  RunShape shape;
  shape.n_tokens = shape.n_outputs = n_tokens_;
  return executable_->run(shape);
}

Result<TrainPass::Losses> TrainPass::losses() const {
  Losses l;
  l.n_targets = n_targets_;
  MOE_CHECK(loss_ != kNone);
  MOE_ASSIGN(const Tensor loss, executable_->read(loss_));
  l.loss = sum(loss, n_tokens_);
  if (kl_ != kNone) {
    MOE_ASSIGN(const Tensor kl, executable_->read(kl_));
    l.kl = sum(kl, n_tokens_);
  }
  const double layers = std::max<double>(1, static_cast<double>(router_losses_.size()));
  for (const ValueId id : router_losses_) {
    MOE_ASSIGN(const Tensor t, executable_->read(id));
    l.switch_loss += static_cast<double>(t.f32()[0]) / layers, l.z += static_cast<double>(t.f32()[1]) / layers;
  }
  return l;
}

}  // namespace moe
