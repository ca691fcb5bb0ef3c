#include "models/graph_builder.h"

namespace moe {

GraphBuilder::GraphBuilder(const ModelConfig& config, const GraphOptions& options, WeightSource* source)
    : config_(config), options_(options), source_(source) {
  graph().name = config.arch;
  model_.tokens = input("tokens", DType::kI32, {kTokens});
  model_.positions = input("positions", DType::kI32, {kTokens});
  model_.slots = input("slots", DType::kI32, {kTokens});
  model_.rows = input("rows", DType::kI32, {kOutputs});
  model_.token_class = input("token_class", DType::kI32, {kTokens});
  if (options.train) {
    model_.balance = input("balance", DType::kF32, {4});
    model_.drop = input("drop", DType::kF32, {4});
    model_.capacity = input("capacity", DType::kF32, {4});
  }
  model_.routers.resize(static_cast<size_t>(config.n_layer));
  model_.caches.resize(static_cast<size_t>(config.n_layer));
}

std::string GraphBuilder::name(const std::string& suffix) const {
  return layer_ < 0 ? suffix : "blk." + std::to_string(layer_) + "." + suffix;
}

bool GraphBuilder::has(const std::string& suffix) const { return source_ && source_->has(name(suffix)); }

ValueId GraphBuilder::add_weight(const std::string& full, Shape shape, DType dtype, void* data) {
  const auto [it, fresh] = weights_.try_emplace(full, kNone);
  if (fresh) it->second = graph().add_value({full, ValueKind::kWeight, dtype, shape, data, false});
  return it->second;
}

ValueId GraphBuilder::find_weight(const std::string& full, Shape shape, Presence presence, Role role, bool plain) {
  if (const auto it = weights_.find(full); it != weights_.end()) return it->second;
  if (!source_) {
    if (presence == Presence::kOptional) return kNone;
    declared_.push_back({full, shape, role, layer_});
    return add_weight(full, shape, DType::kF32, nullptr);
  }
  if (!source_->has(full)) {
    if (presence != Presence::kRequired) return kNone;
    fail(Status::NotFound("tensor '" + full + "' is missing: wanted " + to_string(shape)));
    return add_weight(full, shape, DType::kF32, nullptr);
  }
  Result<Tensor> t = source_->weight(full, plain);
  if (!t.ok()) {
    fail(t.status());
    return add_weight(full, shape, DType::kF32, nullptr);
  }
  if (!(t->shape == shape)) {
    fail(Status::Corrupt("tensor '" + full + "': wanted " + to_string(shape) + ", found " + to_string(t->shape)));
    return add_weight(full, shape, DType::kF32, nullptr);
  }
  return add_weight(full, shape, t->dtype, t->data);
}

ValueId GraphBuilder::matrix(const std::string& suffix, Shape shape, Presence presence, Role role) {
  return find_weight(name(suffix), shape, presence, role, false);
}

ValueId GraphBuilder::plain_matrix(const std::string& suffix, Shape shape, Role role, Presence presence) {
  return find_weight(name(suffix), shape, presence, role, true);
}

ValueId GraphBuilder::vector(const std::string& suffix, int64_t n, Role role, Presence presence) {
  return find_weight(name(suffix), {n}, presence, role, true);
}

ValueId GraphBuilder::head_matrices(const std::string& suffix, int64_t heads, int64_t rows, int64_t cols) {
  const ValueId w = find_weight(name(suffix), {heads, rows, cols}, Presence::kRequired, Role::kMatrix, false);
  graph().value(w).shape = {heads * rows, cols};
  return w;
}

ValueId GraphBuilder::row_vector(const std::string& suffix, int64_t n, Role role) {
  const ValueId w = vector(suffix, n, role);
  graph().value(w).shape = {1, n};
  return w;
}

ValueId GraphBuilder::rows_of(const std::string& suffix, int64_t begin, int64_t n, Shape whole, bool plain) {
  const ValueId all = find_weight(name(suffix), whole, Presence::kRequired, Role::kMatrix, plain);
  const Value& w = graph().value(all);
  Shape part = whole;
  part.dim[0] = n;
  std::byte* data = static_cast<std::byte*>(w.data);
  if (data) data += static_cast<size_t>(begin) * (whole.rank == 1 ? sizeof(float) : dtype_bytes(w.dtype, whole.last()));
  const DType dtype = w.dtype;
  return add_weight(name(suffix) + "[" + std::to_string(begin) + ":" + std::to_string(begin + n) + "]", part, dtype, data);
}

ValueId GraphBuilder::matrix_rows(const std::string& suffix, int64_t begin, int64_t n, int64_t total, int64_t n_in) {
  return rows_of(suffix, begin, n, {total, n_in}, false);
}

ValueId GraphBuilder::vector_rows(const std::string& suffix, int64_t begin, int64_t n, int64_t total) {
  return rows_of(suffix, begin, n, {total}, true);
}

ValueId GraphBuilder::rms_norm(ValueId x, ValueId weight, int64_t group) {
  return op(Op::kRmsNorm, {x, weight}, NormAttrs{config_.norm_eps, group});
}

ValueId GraphBuilder::scale(ValueId x, float factor) { return factor == 1 ? x : op(Op::kScale, {x}, ScaleAttrs{factor}); }

ValueId GraphBuilder::input(const std::string& label, DType dtype, Shape shape) {
  return graph().add_value({label, ValueKind::kInput, dtype, shape, nullptr, false});
}

ValueId GraphBuilder::state(const std::string& label, DType dtype, Shape shape) {
  return graph().add_value({label, ValueKind::kState, dtype, shape, nullptr, false});
}

void GraphBuilder::mark_output(ValueId v, std::string label) {
  graph().value(v).output = true;
  graph().value(v).name = std::move(label);
}

}  // namespace moe
