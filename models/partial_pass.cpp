#include "models/partial_pass.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace moe {
namespace {

using Kind = PassPoint::Kind;

constexpr int kMostTokens = 1 << 16;
constexpr std::array kKindNames = {"tokens", "residual", "router_input", "experts", "mixture", "hidden", "logits"};

bool has_layer(Kind k) { return k == Kind::kResidual || k == Kind::kRouterInput || k == Kind::kExperts || k == Kind::kMixture; }
bool is_inside(Kind k) { return k == Kind::kRouterInput || k == Kind::kExperts; }
bool is_head(Kind k) { return k == Kind::kHidden || k == Kind::kLogits; }

size_t bytes_of(const Value& v) {
  return dtype_bytes(v.dtype, v.shape.last()) * static_cast<size_t>(v.shape.elements() / v.shape.last());
}

Status check_range(const std::string& what, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return Status::Ok();
  return Status::InvalidArgument("partial pass: " + what + ": wanted " + std::to_string(least) + " to " + std::to_string(most) +
                                 ", found " + std::to_string(value));
}

Status check_size(const char* what, size_t found, size_t wanted) {
  if (found == wanted) return Status::Ok();
  return Status::InvalidArgument(std::string("partial pass: ") + what + ": wanted " + std::to_string(wanted) +
                                 " numbers, found " + std::to_string(found));
}

}  // namespace

std::string to_string(const PassPoint& point) {
  const std::string name = kKindNames[static_cast<size_t>(point.kind)];
  return has_layer(point.kind) ? name + " " + std::to_string(point.layer) : name;
}

PartialPass::PartialPass(const Model& model, PassPoint from, PassPoint to, const PartialPassOptions& options)
    : model_(model), from_(from), to_(to), options_(options) {}

Result<std::unique_ptr<PartialPass>> PartialPass::create(const Model& model, PassPoint from, PassPoint to,
                                                         const PartialPassOptions& options) {
  for (const RoutingShape::Layer& layer : model.routing_shape().layers)
    if (!layer.place.empty())
      return Status::Unsupported(model.file().name() +
                                 ": partial pass: wanted a model with the weights of all experts that its "
                                 "routers know; search in the one it was made from");
  std::unique_ptr<PartialPass> pass(new PartialPass(model, from, to, options));
  MOE_TRY(pass->check_points());
  MOE_TRY(pass->check_options());
  MOE_TRY(pass->compile());
  MOE_TRY(pass->bind_all());
  const RoutingTopology& own = model.topology();
  pass->n_classes_ = own.n_classes, pass->token_class_ = own.token_class;
  for (size_t i = 0; i < own.layers.size(); ++i)
    if (pass->runs_experts(i)) pass->tables_[i].fill(own.layers[i], own.n_classes, pass->graph_.routers[i].d_ff);
  return pass;
}

Status PartialPass::check_points() const {
  const auto& layers = model_.routing_shape().layers;
  const auto exists = [&](const PassPoint& p) {
    if (!has_layer(p.kind)) return true;
    if (p.layer < 0 || p.layer >= static_cast<int>(layers.size())) return false;
    return p.kind == Kind::kResidual || layers[static_cast<size_t>(p.layer)].n_experts > 0;
  };
  bool ok = exists(from_) && exists(to_);
  if (is_inside(from_.kind))
    ok = ok && to_.kind == Kind::kMixture && to_.layer == from_.layer;
  else
    ok = ok && (from_.kind == Kind::kTokenIds || from_.kind == Kind::kResidual) &&
         (is_head(to_.kind) || (to_.kind == Kind::kResidual && to_.layer > from_.layer) ||
          (to_.kind == Kind::kResidual && from_.kind == Kind::kTokenIds) ||
          (to_.kind == Kind::kMixture && to_.layer >= from_.layer));
  if (ok) return Status::Ok();
  return Status::InvalidArgument("partial pass: no way from " + to_string(from_) + " to " + to_string(to_) + " in a model of " +
                                 std::to_string(layers.size()) + " layers");
}

Status PartialPass::check_options() {
  PartialPassOptions& o = options_;
  MOE_TRY(check_range("max_tokens", o.max_tokens, 1, kMostTokens));
  if (o.max_outputs == 0) o.max_outputs = o.max_tokens;
  if (o.n_ctx == 0) o.n_ctx = o.max_tokens;
  MOE_TRY(check_range("max_outputs", o.max_outputs, 1, o.max_tokens));
  MOE_TRY(check_range("n_ctx", o.n_ctx, 1, o.max_tokens));
  MOE_TRY(check_range("max_sequences", o.max_sequences, 1, o.max_tokens));
  const auto& layers = model_.routing_shape().layers;
  if (o.k_capacity.empty())
    for (const auto& layer : layers) o.k_capacity.push_back(layer.k);
  MOE_TRY(check_size("k_capacity", o.k_capacity.size(), layers.size()));
  for (size_t i = 0; i < layers.size(); ++i)
    if (layers[i].n_experts > 0)
      MOE_TRY(check_range("k_capacity of layer " + std::to_string(i), o.k_capacity[i], 1, layers[i].n_experts));
  if (!o.cache_k) o.cache_k = natural_cache_type(model_);
  if (!o.cache_v) o.cache_v = natural_cache_type(model_);
  return Status::Ok();
}

Status PartialPass::compile() {
  GraphOptions g;
  g.n_slots = options_.max_sequences, g.n_ctx = options_.n_ctx, g.cache_k = *options_.cache_k, g.cache_v = *options_.cache_v;
  g.n_classes = kMaxTokenClasses, g.k_capacity = options_.k_capacity;
  MOE_ASSIGN(graph_, model_.simple_graph(g));
  const std::vector<ValueId> to = wanted();
  graph_.graph = model_.fused(cut(graph_.graph, given(), to));
  MOE_ASSIGN(executable_, model_.backend().compile(graph_.graph, {options_.max_tokens, options_.max_outputs}));
  return Status::Ok();
}

// norms2 = out · out of each slot, in the place behind what reads the slots otherwise: they need not live longer.
void PartialPass::add_norms(RouterValues& router, ValueId& norms2) {
  Graph& g = graph_.graph;
  const auto reads_slots = [&](const Node& n) { return n.op == Op::kWeightedSum && n.in[1] == router.ids; };
  const auto sum = std::find_if(g.nodes.begin(), g.nodes.end(), reads_slots) - g.nodes.begin();
  MOE_CHECK(sum < static_cast<std::ptrdiff_t>(g.nodes.size()));
  const Node at = g.nodes[static_cast<size_t>(sum)];
  norms2 = g.add_node(Op::kRowDot, {at.in[0], at.in[0]}, NoAttrs{}, at.layer);
  std::rotate(g.nodes.begin() + sum + 1, g.nodes.end() - 1, g.nodes.end());
}

std::vector<ValueId> PartialPass::given() const {
  if (from_.kind == Kind::kTokenIds) return {};
  const auto layer = static_cast<size_t>(from_.layer);
  if (from_.kind == Kind::kResidual) return {graph_.residual[layer]};
  const RouterValues& r = graph_.routers[layer];
  if (from_.kind == Kind::kRouterInput) return {r.x};
  return {r.x, r.ids, r.weights};
}

// What is read after a run: the output first, then what is watched and not given.
std::vector<ValueId> PartialPass::wanted() {
  const auto n = graph_.routers.size();
  norms2_.assign(n, kNone);
  const auto layer = static_cast<size_t>(std::max(0, to_.layer));
  switch (to_.kind) {
    case Kind::kResidual:
      out_ = graph_.residual[layer];
      break;
    case Kind::kMixture:
      out_ = graph_.routers[layer].mixture;
      break;
    default:
      out_ = to_.kind == Kind::kHidden ? graph_.hidden : graph_.logits;
  }
  const size_t first = from_.kind == Kind::kTokenIds ? 0 : static_cast<size_t>(from_.layer);
  const size_t end = is_head(to_.kind) ? n : layer + (to_.kind == Kind::kMixture);
  const std::vector<ValueId> from = given();
  std::vector<ValueId> to = {out_};
  const auto watch = [&](bool on, std::initializer_list<ValueId> ids) {
    for (const ValueId id : ids)
      if (on && std::find(from.begin(), from.end(), id) == from.end()) to.push_back(id);
  };
  for (size_t i = first; i < end; ++i) {
    watch(options_.watch_residuals && !is_inside(from_.kind), {graph_.residual[i]});
    RouterValues& r = graph_.routers[i];
    if (r.n_experts == 0) continue;
    watch(options_.watch_routers && from_.kind != Kind::kExperts, {r.x, r.logits, r.ids, r.weights});
    watch(options_.watch_mixtures, {r.mixture});
    if (options_.watch_norms) add_norms(r, norms2_[i]);
    watch(options_.watch_norms, {norms2_[i]});
  }
  return to;
}

bool PartialPass::runs_experts(size_t layer) const {
  const RouterValues& r = graph_.routers[layer];
  return r.n_experts > 0 && graph_.graph.value(r.width).kind == ValueKind::kInput;
}

Status PartialPass::bind_all() {
  const auto n = static_cast<size_t>(options_.max_tokens);
  token_ids_.resize(n), positions_.resize(n), slots_.resize(n), classes_.resize(n);
  rows_.resize(static_cast<size_t>(options_.max_outputs));
  const auto bind = [&](ValueId id, std::vector<int32_t>& values) {
    if (graph_.graph.value(id).kind != ValueKind::kInput) return Status::Ok();
    return executable_->bind(id, {values.data(), DType::kI32, {static_cast<int64_t>(values.size())}});
  };
  MOE_TRY(bind(graph_.tokens, token_ids_));
  MOE_TRY(bind(graph_.positions, positions_));
  MOE_TRY(bind(graph_.slots, slots_));
  MOE_TRY(bind(graph_.token_class, classes_));
  MOE_TRY(bind(graph_.rows, rows_));
  tables_.resize(graph_.routers.size());
  for (size_t i = 0; i < tables_.size(); ++i) {
    if (!runs_experts(i)) continue;
    tables_[i].resize(graph_.routers[i].n_experts, kMaxTokenClasses, {});
    if (from_.kind != Kind::kExperts) {
      MOE_TRY(tables_[i].bind(*executable_, graph_.routers[i]));
      continue;
    }
    const int64_t E = graph_.routers[i].n_experts;
    MOE_TRY(executable_->bind(graph_.routers[i].width, {tables_[i].width.data(), DType::kI32, {E}}));
  }
  return bind_caches();
}

// No layer reads what another one left, so all share the largest one's memory.
Status PartialPass::bind_caches() {
  const auto live = [&](ValueId id) { return id != kNone && graph_.graph.value(id).kind == ValueKind::kState; };
  for (const bool keys : {true, false}) {
    size_t bytes = 0;
    for (const CacheValues& c : graph_.caches)
      if (const ValueId id = keys ? c.k : c.v; live(id)) bytes = std::max(bytes, bytes_of(graph_.graph.value(id)));
    if (bytes == 0) continue;
    Buffer& shared = keys ? keys_ : values_;
    MOE_ASSIGN(shared, model_.backend().allocate(bytes));
    for (const CacheValues& c : graph_.caches)
      if (const ValueId id = keys ? c.k : c.v; live(id)) {
        const Value& v = graph_.graph.value(id);
        MOE_TRY(executable_->bind(id, {shared.data(), v.dtype, v.shape}));
      }
  }
  return Status::Ok();
}

Status PartialPass::set_topology(const RoutingTopology& topology) {
  MOE_TRY(validate(topology, model_.routing_shape()));
  for (size_t i = 0; i < topology.layers.size(); ++i) {
    const int k = topology.layers[i].k_max, most = options_.k_capacity[i];
    if (from_.kind != Kind::kExperts && runs_experts(i) && k > most)
      return Status::OutOfRange("partial pass: k_max of layer " + std::to_string(i) + ": wanted at most its k_capacity " +
                                std::to_string(most) + ", found " + std::to_string(k));
  }
  for (size_t i = 0; i < topology.layers.size(); ++i)
    if (runs_experts(i)) tables_[i].fill(topology.layers[i], topology.n_classes, graph_.routers[i].d_ff);
  n_classes_ = topology.n_classes;
  if (token_class_ != topology.token_class) token_class_ = topology.token_class;
  return Status::Ok();
}

Status PartialPass::check_input(const PassInput& in) const {
  const auto d = static_cast<size_t>(model_.config().d_model);
  const bool from_tokens = from_.kind == Kind::kTokenIds;
  const size_t T = from_tokens ? in.tokens.size() : in.x.size() / d;
  MOE_TRY(check_range("rows of a run", static_cast<int64_t>(T), 1, options_.max_tokens));
  if (!from_tokens) MOE_TRY(check_size("x", in.x.size(), T * d));
  const bool classes = n_classes_ > 1 && from_.kind != Kind::kExperts;
  if (from_tokens || classes) MOE_TRY(check_size("tokens", in.tokens.size(), T));
  for (const Token t : in.tokens) MOE_TRY(check_range("token ids", t, 0, model_.config().n_vocab - 1));
  if (from_.kind == Kind::kExperts) {
    const auto layer = static_cast<size_t>(from_.layer);
    const auto K = static_cast<size_t>(options_.k_capacity[layer]);
    MOE_TRY(check_size("ids", in.ids.size(), T * K));
    MOE_TRY(check_size("weights", in.weights.size(), T * K));
    for (const int32_t id : in.ids) MOE_TRY(check_range("expert ids", id, -1, graph_.routers[layer].n_experts - 1));
  }
  size_t sum = in.lengths.empty() ? T : 0;
  for (const int n : in.lengths) {
    MOE_TRY(check_range("length of a sequence", n, 1, options_.n_ctx));
    sum += static_cast<size_t>(n);
  }
  if (sum != T)
    return Status::InvalidArgument("partial pass: wanted sequences of " + std::to_string(T) + " tokens together, found " +
                                   std::to_string(sum));
  if (!is_inside(from_.kind)) {
    MOE_TRY(check_range("sequences", static_cast<int64_t>(std::max<size_t>(1, in.lengths.size())), 1, options_.max_sequences));
    if (in.lengths.empty()) MOE_TRY(check_range("length of a sequence", static_cast<int64_t>(T), 1, options_.n_ctx));
  }
  const size_t outputs = in.outputs.empty() ? T : in.outputs.size();
  if (is_head(to_.kind)) MOE_TRY(check_range("outputs", static_cast<int64_t>(outputs), 1, options_.max_outputs));
  for (const int32_t row : in.outputs) MOE_TRY(check_range("outputs", row, 0, static_cast<int64_t>(T) - 1));
  return Status::Ok();
}

// The input's numbers to where the graph reads them.
Status PartialPass::place(const PassInput& in) {
  const auto T = static_cast<size_t>(n_tokens_);
  std::copy(in.tokens.begin(), in.tokens.end(), token_ids_.begin());
  for (size_t i = 0; i < T; ++i)
    classes_[i] = n_classes_ > 1 && !token_class_.empty() ? token_class_[static_cast<size_t>(token_ids_[i])] : 0;
  const std::array<int, 1> one = {n_tokens_};
  size_t row = 0;
  int32_t slot = 0;
  for (const int length : in.lengths.empty() ? std::span<const int>(one) : in.lengths) {
    for (int32_t p = 0; p < length; ++p, ++row) positions_[row] = p, slots_[row] = slot;
    ++slot;
  }
  if (in.outputs.empty())
    std::iota(rows_.begin(), rows_.begin() + n_outputs_, 0);
  else
    std::copy(in.outputs.begin(), in.outputs.end(), rows_.begin());
  const auto bind = [&](ValueId id, const auto* data, DType type, int64_t columns) {
    using Number = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    return executable_->bind(id, {const_cast<Number*>(data), type, {n_tokens_, columns}});
  };
  if (from_.kind == Kind::kTokenIds) return Status::Ok();
  const std::vector<ValueId> from = given();
  MOE_TRY(bind(from[0], in.x.data(), DType::kF32, model_.config().d_model));
  if (from_.kind != Kind::kExperts) return Status::Ok();
  const int64_t K = options_.k_capacity[static_cast<size_t>(from_.layer)];
  MOE_TRY(bind(from[1], in.ids.data(), DType::kI32, K));
  return bind(from[2], in.weights.data(), DType::kF32, K);
}

Status PartialPass::run(const PassInput& input) {
  MOE_TRY(check_input(input));
  const size_t d = static_cast<size_t>(model_.config().d_model);
  n_tokens_ = static_cast<int>(from_.kind == Kind::kTokenIds ? input.tokens.size() : input.x.size() / d);
  n_outputs_ = !is_head(to_.kind) ? 0 : input.outputs.empty() ? n_tokens_ : static_cast<int>(input.outputs.size());
  MOE_TRY(place(input));
  RunShape shape;
  shape.n_tokens = n_tokens_, shape.n_outputs = n_outputs_;
  return executable_->run(shape);
}

template <class T>
std::span<const T> PartialPass::view(ValueId id) const {
  if (id == kNone || n_tokens_ == 0 || !graph_.graph.value(id).output) return {};
  const Result<Tensor> t = executable_->read(id);
  MOE_CHECK(t.ok());
  return {static_cast<const T*>(t->data), static_cast<size_t>(t->shape.elements())};
}

std::span<const float> PartialPass::output() const { return view<float>(out_); }

int64_t PartialPass::output_columns() const { return graph_.graph.value(out_).shape.last(); }

WatchedLayer PartialPass::watched(int layer) const {
  MOE_CHECK(layer >= 0 && static_cast<size_t>(layer) < graph_.routers.size());
  const auto i = static_cast<size_t>(layer);
  const RouterValues& r = graph_.routers[i];
  WatchedLayer w;
  w.residual = view<float>(graph_.residual[i]);
  if (r.n_experts == 0) return w;
  w.x = view<float>(r.x), w.logits = view<float>(r.logits);
  w.ids = view<int32_t>(r.ids), w.weights = view<float>(r.weights);
  w.norms2 = view<float>(norms2_[i]), w.mixture = view<float>(r.mixture);
  return w;
}

}  // namespace moe
