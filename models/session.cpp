#include "models/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "models/cache_cells.h"
#include "models/routing_tables.h"

namespace moe {
namespace {

constexpr int kDefaultContext = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 31;  // n_seqs · n_ctx
constexpr int kMostSequences = 1 << 16;
constexpr int kMostBatch = 1 << 16;

Status check_cache_type(const char* which, DType t) {
  if (t == DType::kF32 || t == DType::kF16 || t == DType::kQ8_0) return Status::Ok();
  return Status::InvalidArgument(std::string("cache type of ") + which + ": wanted f32, f16 or q8_0, found " + traits(t).name);
}

}  // namespace

// Rounding keys and values to float16 would be the one rounding in a run that is float32 otherwise.
DType natural_cache_type(const Model& model) {
  const TensorInfo* w = model.file().find("blk.0.attn_output.weight");
  return model.backend().info().exact || (w && w->dtype == DType::kF32) ? DType::kF32 : DType::kF16;
}

Session::Session(const Model& model, const SessionOptions& options) : model_(model), options_(options) {}
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::create(const Model& model, const SessionOptions& wanted) {
  SessionOptions o = wanted;
  if (o.n_ctx == 0) o.n_ctx = std::min(kDefaultContext, model.config().n_ctx_train);
  if (o.max_outputs == 0) o.max_outputs = o.n_seqs;
  const auto check = [](const char* what, int value, int most) {
    return value >= 1 && value <= most ? Status::Ok()
                                       : Status::InvalidArgument(std::string(what) + ": wanted 1 to " + std::to_string(most) +
                                                                 ", found " + std::to_string(value));
  };
  constexpr int kAny = std::numeric_limits<int>::max();
  MOE_TRY(check("n_ctx", o.n_ctx, kAny));
  MOE_TRY(check("n_seqs", o.n_seqs, kMostSequences));
  MOE_TRY(check("max_batch", o.max_batch, kAny));
  MOE_TRY(check("max_outputs", o.max_outputs, kAny));
  if (int64_t{o.n_ctx} * o.n_seqs > kMaxPositions)
    return Status::InvalidArgument("n_ctx · n_seqs: wanted at most 2^31 positions, found " + std::to_string(o.n_ctx) + " · " +
                                   std::to_string(o.n_seqs));
  if (!o.cache_k) o.cache_k = natural_cache_type(model);
  if (!o.cache_v) o.cache_v = natural_cache_type(model);
  MOE_TRY(check_cache_type("keys", *o.cache_k));
  MOE_TRY(check_cache_type("values", *o.cache_v));
  o.max_batch = static_cast<int>(std::min<int64_t>(o.max_batch, int64_t{o.n_ctx} * o.n_seqs));
  o.max_outputs = std::min(o.max_outputs, o.max_batch);
  MOE_TRY(check("max_batch", o.max_batch, kMostBatch));

  std::unique_ptr<Session> s(new Session(model, o));
  try {
    s->allocate_tables();
  } catch (const std::bad_alloc&) {
    return Status::OutOfMemory("no memory for the token ids of " + std::to_string(o.n_seqs) + " sequences of " +
                               std::to_string(o.n_ctx));
  }
  std::vector<int> capacity;
  for (const auto& layer : model.routing_shape().layers) capacity.push_back(layer.k);
  MOE_TRY(s->compile(std::move(capacity)));
  MOE_TRY(s->set_topology(s->topology_));
  return s;
}

void Session::allocate_tables() {
  sequences_.resize(static_cast<size_t>(options_.n_seqs));
  for (auto& tokens : sequences_) tokens.reserve(static_cast<size_t>(options_.n_ctx));
  const auto n = static_cast<size_t>(options_.max_batch);
  token_ids_.resize(n), positions_.resize(n), slots_.resize(n), classes_.resize(n);
  rows_.resize(static_cast<size_t>(options_.max_outputs));
  growth_.resize(static_cast<size_t>(options_.n_seqs));
  topology_ = model_.topology();
  const auto& layers = model_.routing_shape().layers;
  tables_.resize(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) tables_[i].resize(layers[i].n_experts, kMaxTokenClasses, layers[i].place);
}

Status Session::compile(std::vector<int> k_capacity) {
  GraphOptions g;
  g.n_slots = options_.n_seqs, g.n_ctx = options_.n_ctx, g.cache_k = *options_.cache_k, g.cache_v = *options_.cache_v;
  g.n_classes = kMaxTokenClasses, g.k_capacity = std::move(k_capacity), g.observe_router = options_.observe_router;
  MOE_ASSIGN(ModelGraph graph, model_.graph(g));
  MOE_ASSIGN(std::unique_ptr<Executable> executable,
             model_.backend().compile(graph.graph, {options_.max_batch, options_.max_outputs, options_.profile}));
  // On an error above the session stays as it was. Logits of the last eval() lie in the executable that made them.
  if (!retired_) retired_ = std::move(executable_);
  graph_ = std::move(graph), executable_ = std::move(executable);
  reserve_observed();
  if (cache_k_.empty()) MOE_TRY(allocate_caches());
  MOE_TRY(bind_caches());
  const auto bind = [&](ValueId id, auto& values, DType type, Shape shape) {
    return executable_->bind(id, {values.data(), type, shape});
  };
  const Shape tokens{options_.max_batch}, rows{options_.max_outputs};
  MOE_TRY(bind(graph_.tokens, token_ids_, DType::kI32, tokens));
  MOE_TRY(bind(graph_.positions, positions_, DType::kI32, tokens));
  MOE_TRY(bind(graph_.slots, slots_, DType::kI32, tokens));
  MOE_TRY(bind(graph_.token_class, classes_, DType::kI32, tokens));
  MOE_TRY(bind(graph_.rows, rows_, DType::kI32, rows));
  for (size_t i = 0; i < tables_.size(); ++i) {
    const RouterValues& r = graph_.routers[i];
    if (r.n_experts > 0) MOE_TRY(tables_[i].bind(*executable_, r));
  }
  return Status::Ok();
}

// eval() does not allocate.
void Session::reserve_observed() {
  for (const RouterValues& r : graph_.routers) {
    if (r.places.empty()) continue;
    observed_rows_.reserve(r.places.size());
    observed_ids_.reserve(static_cast<size_t>(options_.max_batch) *
                          static_cast<size_t>(graph_.graph.value(r.ids).shape.last()));
  }
}

Status Session::allocate_caches() {
  for (const CacheValues& c : graph_.caches)
    for (const bool keys : {true, false}) {
      const ValueId id = keys ? c.k : c.v;
      Buffer buffer;
      if (id != kNone) {
        const Value& v = graph_.graph.value(id);
        MOE_ASSIGN(buffer, model_.backend().allocate(cell_bytes(v) * static_cast<size_t>(v.shape.elements() / v.shape.last())));
      }
      (keys ? cache_k_ : cache_v_).push_back(std::move(buffer));
    }
  return Status::Ok();
}

Status Session::bind_caches() {
  for (size_t i = 0; i < graph_.caches.size(); ++i)
    for (const bool keys : {true, false}) {
      const ValueId id = keys ? graph_.caches[i].k : graph_.caches[i].v;
      if (id == kNone) continue;
      const Value& v = graph_.graph.value(id);
      MOE_TRY(executable_->bind(id, {(keys ? cache_k_ : cache_v_)[i].data(), v.dtype, v.shape}));
    }
  return Status::Ok();
}

Status Session::set_topology(const RoutingTopology& topology) {
  MOE_TRY(validate(topology, model_.routing_shape()));
  std::vector<int> capacity;
  bool grows = false;
  for (size_t i = 0; i < topology.layers.size(); ++i) {
    const RouterValues& r = graph_.routers[i];
    const int now = r.n_experts > 0 ? static_cast<int>(graph_.graph.value(r.ids).shape.last()) : 0;
    capacity.push_back(std::max(now, topology.layers[i].k_max));
    grows = grows || capacity.back() > now;
  }
  if (grows) MOE_TRY(compile(std::move(capacity)));
  for (size_t i = 0; i < topology.layers.size(); ++i)
    if (graph_.routers[i].n_experts > 0) tables_[i].fill(topology.layers[i], topology.n_classes, graph_.routers[i].d_ff);
  if (&topology != &topology_) topology_ = topology;
  return Status::Ok();
}

Status Session::check_batch(std::span<const BatchToken> batch) const {
  if (batch.empty()) return Status::InvalidArgument("eval: the batch is empty");
  if (batch.size() > static_cast<size_t>(options_.max_batch))
    return Status::OutOfRange("eval: wanted at most " + std::to_string(options_.max_batch) + " tokens, found " +
                              std::to_string(batch.size()));
  std::fill(growth_.begin(), growth_.end(), 0);
  int outputs = 0;
  for (const BatchToken& t : batch) {
    if (t.id < 0 || t.id >= model_.config().n_vocab)
      return Status::InvalidArgument("eval: wanted token ids below " + std::to_string(model_.config().n_vocab) + ", found " +
                                     std::to_string(t.id));
    if (t.seq < 0 || t.seq >= options_.n_seqs)
      return Status::InvalidArgument("eval: wanted sequences below " + std::to_string(options_.n_seqs) + ", found " +
                                     std::to_string(t.seq));
    ++growth_[static_cast<size_t>(t.seq)];
    outputs += t.logits;
  }
  if (outputs > options_.max_outputs)
    return Status::OutOfRange("eval: wanted at most " + std::to_string(options_.max_outputs) + " rows of logits, found " +
                              std::to_string(outputs));
  for (int s = 0; s < options_.n_seqs; ++s)
    if (length(s) + growth_[static_cast<size_t>(s)] > options_.n_ctx)
      return Status::OutOfRange("context full: sequence " + std::to_string(s) + " would hold " +
                                std::to_string(length(s) + growth_[static_cast<size_t>(s)]) + " tokens, the context is " +
                                std::to_string(options_.n_ctx));
  return Status::Ok();
}

Status Session::eval(std::span<const BatchToken> batch) {
  n_logits_ = 0;
  retired_.reset();
  MOE_TRY(check_batch(batch));
  int n_outputs = 0;
  std::fill(growth_.begin(), growth_.end(), 0);
  for (size_t i = 0; i < batch.size(); ++i) {
    const BatchToken& t = batch[i];
    token_ids_[i] = t.id, slots_[i] = t.seq;
    positions_[i] = length(t.seq) + growth_[static_cast<size_t>(t.seq)]++;
    classes_[i] = topology_.token_class.empty() ? 0 : topology_.token_class[static_cast<size_t>(t.id)];
    if (t.logits) rows_[static_cast<size_t>(n_outputs++)] = static_cast<int32_t>(i);
  }
  RunShape shape;
  shape.n_tokens = static_cast<int64_t>(batch.size()), shape.n_outputs = n_outputs;
  MOE_TRY(executable_->run(shape));
  if (n_outputs > 0) {
    MOE_ASSIGN(logits_, executable_->read(graph_.logits));
    const float* x = logits_.f32();
    const int64_t n = int64_t{n_outputs} * model_.config().n_vocab;
    if (!std::all_of(x, x + n, [](float v) { return std::isfinite(v); })) {
      MOE_TRY(model_.check_weights());
      return Status::Corrupt("eval: the logits are not finite although all weights are: the activations overflowed");
    }
  }
  for (const BatchToken& t : batch) sequences_[static_cast<size_t>(t.seq)].push_back(t.id);
  n_logits_ = n_outputs;
  if (observer_) notify(static_cast<int>(batch.size()));
  return Status::Ok();
}

Status Session::eval_prompt(std::span<const Token> tokens, int seq, const LogitsFunction& on_logits,
                            const ProgressFunction& on_progress) {
  if (seq < 0 || seq >= options_.n_seqs) return Status::InvalidArgument("eval_prompt: no sequence " + std::to_string(seq));
  const int before = length(seq);
  if (before + static_cast<int64_t>(tokens.size()) > options_.n_ctx)
    return Status::OutOfRange("prompt too long: " + std::to_string(tokens.size()) + " tokens after " + std::to_string(before) +
                              ", the context is " + std::to_string(options_.n_ctx) + "; raise --ctx or shorten the prompt");
  const size_t step = static_cast<size_t>(on_logits ? options_.max_outputs : options_.max_batch);
  std::vector<BatchToken> batch;
  for (size_t done = 0; done < tokens.size();) {
    const size_t n = std::min(step, tokens.size() - done);
    batch.clear();
    for (size_t i = 0; i < n; ++i) batch.push_back({tokens[done + i], seq, on_logits || done + i + 1 == tokens.size()});
    if (Status s = eval(batch); !s.ok()) {
      MOE_TRY(truncate(seq, before));
      return s;
    }
    if (on_logits)
      on_logits(before + static_cast<int>(done), {logits_.f32(), n * static_cast<size_t>(model_.config().n_vocab)});
    done += n;
    if (on_progress && !on_progress(static_cast<int>(done)) && done < tokens.size())
      return Status::Cancelled("stopped after " + std::to_string(done) + " tokens of the prompt");
  }
  return Status::Ok();
}

void Session::notify(int n_tokens) {
  for (size_t i = 0; i < graph_.routers.size(); ++i) {
    const RouterValues& r = graph_.routers[i];
    if (r.n_experts == 0) continue;
    const Result<Tensor> ids = executable_->read(r.ids), weights = executable_->read(r.weights);
    const int n_slots = static_cast<int>(ids->shape.last());
    RouterView view{static_cast<int>(i), n_tokens, r.n_experts, n_slots, ids->i32(), weights->f32(), nullptr};
    if (!r.places.empty()) view.ids = rows_of_places(r, view);
    if (options_.observe_router) view.logits = executable_->read(r.logits)->f32();
    observer_(view);
  }
}

// The graph's ids are places in the stacks: observers know experts by their rows of the router, as topologies do.
const int32_t* Session::rows_of_places(const RouterValues& r, const RouterView& view) {
  observed_rows_.clear();
  for (size_t e = 0; e < r.places.size(); ++e)
    if (r.places[e] >= 0) observed_rows_.push_back(static_cast<int32_t>(e));
  const auto n = static_cast<size_t>(view.n_tokens) * static_cast<size_t>(view.n_slots);
  observed_ids_.resize(n);
  std::transform(view.ids, view.ids + n, observed_ids_.begin(),
                 [this](int32_t p) { return p < 0 ? p : observed_rows_[static_cast<size_t>(p)]; });
  return observed_ids_.data();
}

std::span<const float> Session::logits(int i) const {
  MOE_CHECK(i >= 0 && i < n_logits_);
  const auto n = static_cast<size_t>(model_.config().n_vocab);
  return {logits_.f32() + static_cast<size_t>(i) * n, n};
}

int Session::length(int seq) const { return static_cast<int>(tokens(seq).size()); }

std::span<const Token> Session::tokens(int seq) const {
  MOE_CHECK(seq >= 0 && seq < options_.n_seqs);
  return sequences_[static_cast<size_t>(seq)];
}

Status Session::truncate(int seq, int n) {
  if (seq < 0 || seq >= options_.n_seqs) return Status::InvalidArgument("truncate: no sequence " + std::to_string(seq));
  if (n < 0 || n > length(seq))
    return Status::OutOfRange("truncate: wanted 0 to " + std::to_string(length(seq)) + ", found " + std::to_string(n));
  sequences_[static_cast<size_t>(seq)].resize(static_cast<size_t>(n));
  return Status::Ok();
}

Status Session::copy_sequence(int from, int to) {
  for (const int s : {from, to})
    if (s < 0 || s >= options_.n_seqs) return Status::InvalidArgument("copy_sequence: no sequence " + std::to_string(s));
  if (from == to) return Status::Ok();
  std::vector<std::byte> bytes;
  const size_t n = tokens(from).size();
  const auto copy = [&](const Buffer& b, size_t offset, size_t count) -> Status {
    bytes.resize(count);
    MOE_TRY(model_.backend().read(b, offset, bytes.data(), count));
    // The same head of another sequence lies a whole sequence of cells away.
    const size_t per_sequence = b.bytes() / static_cast<size_t>(options_.n_seqs);
    const size_t target = offset + static_cast<size_t>(to) * per_sequence - static_cast<size_t>(from) * per_sequence;
    return model_.backend().write(const_cast<Buffer&>(b), target, bytes.data(), count);
  };
  MOE_TRY(for_cells(graph_, cache_k_, cache_v_, from, static_cast<int>(n), copy));
  sequences_[static_cast<size_t>(to)] = sequences_[static_cast<size_t>(from)];
  sequences_[static_cast<size_t>(to)].reserve(static_cast<size_t>(options_.n_ctx));
  return Status::Ok();
}

ExecutableStats Session::stats() const { return executable_->stats(); }

size_t Session::cache_bytes() const {
  size_t bytes = 0;
  for (const Buffer& b : cache_k_) bytes += b.bytes();
  for (const Buffer& b : cache_v_) bytes += b.bytes();
  return bytes;
}

}  // namespace moe
