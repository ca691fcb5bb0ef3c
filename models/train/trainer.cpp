#include "models/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "backends/backend_registry.h"
#include "core/rng.h"
#include "models/quant_mix.h"

namespace moe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWidthSteps = 32;  // widths are multiples of it where the experts allow: the block of q8_0

// One generator for each random choice of a batch.
enum class Draw : uint64_t { kExperts, kNarrowExperts, kWidth, kExpertDropout, kRouterDropout, kOverflow, kCount };
Rng draw_of(uint64_t seed, int64_t batch, Draw what) {
  return Rng(seed ^ 0x74726169'6e657221u,
             static_cast<uint64_t>(batch) * static_cast<uint64_t>(Draw::kCount) + static_cast<uint64_t>(what));
}

// float32 holds integers up to 2^24 exactly.
float small_seed(Rng rng) { return static_cast<float>(rng.next_u32() >> 8); }

Status wanted(bool fits, const char* name, const char* range, double found) {
  if (fits) return Status::Ok();
  std::string text = std::to_string(found);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return Status::InvalidArgument(std::string(name) + ": wanted " + range + ", found " + text);
}

Status set_zero(Backend& backend, Buffer& b) {
  static constexpr std::array<std::byte, 1 << 16> kZeros{};
  for (size_t at = 0; at < b.bytes(); at += kZeros.size())
    MOE_TRY(backend.write(b, at, kZeros.data(), std::min(kZeros.size(), b.bytes() - at)));
  return Status::Ok();
}

std::vector<double> bytes_of_tokens(const Metadata& metadata, int n_vocab) {
  std::vector<double> bytes(static_cast<size_t>(n_vocab), 0.0);
  auto data = TokenizerData::from_metadata(metadata);
  if (!data.ok()) return bytes;
  const auto tokenizer = Tokenizer::create(std::move(data).value());
  if (!tokenizer.ok()) return bytes;
  for (int i = 0; i < n_vocab; ++i) bytes[static_cast<size_t>(i)] = static_cast<double>(tokenizer->piece(i).size());
  return bytes;
}

int width_of(int d_ff, double share) {
  const int step = d_ff % kWidthSteps == 0 ? kWidthSteps : 1;
  return std::clamp(static_cast<int>(std::ceil(share * d_ff / step - 1e-9)) * step, step, d_ff);
}

}  // namespace

Status validate(const TrainerOptions& o, const ModelConfig& c) {
  const int experts = c.n_expert;
  MOE_TRY(wanted(o.rows > 0 && o.rows <= 1 << 16, "rows", "1 to 65536", o.rows));
  MOE_TRY(wanted(o.accumulate > 0, "accumulate", "1 or more", o.accumulate));
  MOE_TRY(wanted(o.clip >= 0 && std::isfinite(o.clip), "clip", "0 or more", o.clip));
  MOE_TRY(wanted(o.rates.expert_rate >= 0, "expert_rate", "0 or more", o.rates.expert_rate));
  MOE_TRY(wanted(o.rates.router_rate >= 0, "router_rate", "0 or more", o.rates.router_rate));
  const std::pair<const char*, float> factors[] = {{"switch_loss", o.switch_loss},         {"z_loss", o.z_loss},
                                                   {"diversity_loss", o.diversity_loss},   {"bias_speed", o.bias_speed},
                                                   {"capacity_factor", o.capacity_factor}, {"narrow_weight", o.narrow_weight}};
  for (const auto& [name, value] : factors) MOE_TRY(wanted(value >= 0 && std::isfinite(value), name, "0 or more", value));
  const std::pair<const char*, float> chances[] = {{"expert_dropout", o.expert_dropout}, {"router_dropout", o.router_dropout}};
  for (const auto& [name, value] : chances) MOE_TRY(wanted(value >= 0 && value < 1, name, "0 <= p < 1", value));
  const std::pair<const char*, double> shares[] = {
      {"narrow_share", o.narrow_share}, {"narrow_mix", o.narrow_mix}, {"teacher_mix", o.teacher_mix}};
  for (const auto& [name, value] : shares) MOE_TRY(wanted(value >= 0 && value <= 1, name, "0 to 1", value));
  MOE_TRY(wanted(o.teacher_temperature > 0, "teacher_temperature", "a number above 0", o.teacher_temperature));
  for (const double w : o.widths) MOE_TRY(wanted(w > 0 && w < 1, "widths", "shares between 0 and 1", w));
  if (o.k_max > 0 || o.k_min > 0) {
    const std::string range = "1 to " + std::to_string(experts) + ", the experts of a layer";
    MOE_TRY(wanted(o.k_min >= 1 && o.k_min <= experts, "k_min", range.c_str(), o.k_min));
    MOE_TRY(
        wanted(o.k_max >= o.k_min && o.k_max <= experts, "k_max", ("k_min to " + std::to_string(experts)).c_str(), o.k_max));
  }
  if (experts == 0 && !o.widths.empty()) return Status::InvalidArgument("widths: wanted none for a model without experts");
  MOE_TRY(validate(o.adamw));
  MOE_TRY(validate(o.usage));
  return validate(o.schedule);
}

// --- Assembly ---

Trainer::Trainer(Metadata metadata, ModelConfig config, Dataset data, const TrainerOptions& options, TrainWeights weights,
                 std::unique_ptr<Backend> backend, std::vector<int> n_experts)
    : metadata_(std::move(metadata)),
      config_(std::move(config)),
      data_(std::move(data)),
      options_(options),
      backend_(std::move(backend)),
      weights_(std::move(weights)),
      n_experts_(std::move(n_experts)),
      usage_(n_experts_, options.usage) {}
Trainer::~Trainer() = default;

Result<std::unique_ptr<Trainer>> Trainer::create(const Metadata& metadata, Dataset data, const TrainerOptions& options,
                                                 const BackendOptions& backend) {
  return assemble(metadata, nullptr, std::move(data), options, backend);
}

Result<std::unique_ptr<Trainer>> Trainer::create_from(const GgufFile& file, Dataset data, const TrainerOptions& options,
                                                      const BackendOptions& backend) {
  return assemble(file.metadata(), &file, std::move(data), options, backend);
}

Result<std::unique_ptr<Trainer>> Trainer::assemble(const Metadata& metadata, const GgufFile* file, Dataset data,
                                                   const TrainerOptions& options, const BackendOptions& backend_options) {
  MOE_ASSIGN(const std::string arch_name, metadata.get<std::string>("general.architecture"));
  MOE_ASSIGN(const ArchDef* arch, find_arch(arch_name));
  MOE_ASSIGN(ModelConfig config, read_config(metadata));
  MOE_TRY(arch->configure(config, metadata.source()));
  if (!config.layer_experts.empty() || metadata.has(kTopologyKey))
    return Status::Unsupported(metadata.source() +
                               ": wanted a model whose layers have the same experts, found one that was "
                               "made smaller by a topology; train the model it came from");
  if (file) {
    MOE_ASSIGN(const TensorInfo* embedding, file->require("token_embd.weight"));
    config.n_vocab = static_cast<int>(std::min<int64_t>(embedding->shape[0], 1 << 30));
  }
  if (data.n_vocab() != config.n_vocab)
    return Status::InvalidArgument("the token files have a vocabulary of " + std::to_string(data.n_vocab()) +
                                   " tokens, the model one of " + std::to_string(config.n_vocab));
  if (data.options().context > config.n_ctx_train)
    return Status::InvalidArgument("context: wanted at most the model's " + std::to_string(config.n_ctx_train) + ", found " +
                                   std::to_string(data.options().context));
  MOE_TRY(validate(options, config));
  MOE_ASSIGN(std::unique_ptr<Backend> backend, create_backend("cpu", backend_options));
  const auto make_weights = [&]() -> Result<TrainWeights> {
    if (file) return TrainWeights::load(*backend, *file, options.bf16);
    MOE_ASSIGN(const std::vector<DeclaredTensor> tensors, declare_tensors(config));
    return TrainWeights::random(*backend, tensors, config.n_layer, options.seed, options.bf16);
  };
  MOE_ASSIGN(TrainWeights weights, make_weights());
  MOE_ASSIGN(const ModelGraph shape, build_graph(config, {}, &weights));
  std::vector<int> n_experts;
  for (const RouterValues& r : shape.routers) n_experts.push_back(r.n_experts);
  std::unique_ptr<Trainer> t(new Trainer(metadata, std::move(config), std::move(data), options, std::move(weights),
                                         std::move(backend), std::move(n_experts)));
  t->token_bytes_ = bytes_of_tokens(metadata, t->config_.n_vocab);
  for (const int n : t->n_experts_) {
    t->bias_.emplace_back(static_cast<size_t>(n), 0.0f);
    t->uses_.emplace_back(static_cast<size_t>(n), 0u);
  }
  MOE_TRY(t->build_passes());
  MOE_TRY(t->build_update());
  return t;
}

Result<std::unique_ptr<TrainPass>> Trainer::build_pass(TrainPassKind kind, int rows, std::optional<Tensor> teacher_head,
                                                       float teacher_logit_scale) {
  std::vector<int> capacity;
  for (const int n : n_experts_) capacity.push_back(n == 0 ? 0 : std::max(config_.n_expert_used, options_.k_max));
  const int context = data_.options().context;
  TrainPassOptions o;
  o.kind = kind, o.max_tokens = int64_t{rows} * context;
  o.logit_scale = config_.logit_scale == 0 ? 1 : 1 / config_.logit_scale;
  o.teacher_head = teacher_head, o.teacher_logit_scale = teacher_logit_scale;
  o.trains = [this](const Value& w) {
    return std::none_of(options_.frozen.begin(), options_.frozen.end(),
                        [&](const std::string& pattern) { return matches_pattern(pattern, w.name); });
  };
  GraphOptions g = train_graph_options(o.max_tokens, context, std::move(capacity));
  g.train = kind == TrainPassKind::kReverse;
  MOE_ASSIGN(ModelGraph model, build_graph(config_, g, &weights_));
  return TrainPass::create(*backend_, std::move(model), o);
}

int Trainer::narrow_rows() const {
  if (options_.widths.empty() || options_.narrow_weight == 0) return 0;
  return std::clamp(static_cast<int>(std::lround(options_.narrow_share * options_.rows)), 1, options_.rows);
}

Status Trainer::build_passes() {
  MOE_ASSIGN(full_, build_pass(TrainPassKind::kReverse, options_.rows, std::nullopt, 1));
  if (full_->gradients().empty()) return Status::InvalidArgument("frozen: no weight is left that learns");
  parameters_ = parameters_of(full_->graph(), full_->gradients(), options_.rates);
  for (const Parameter& p : parameters_) {
    const auto bytes = static_cast<size_t>(p.shape.elements()) * sizeof(float);
    Moments m;
    MOE_ASSIGN(m.grad, backend_->allocate(bytes));
    MOE_ASSIGN(m.m, backend_->allocate(bytes));
    MOE_ASSIGN(m.v, backend_->allocate(bytes));
    moments_.push_back(std::move(m));
  }
  MOE_TRY(bind_gradients(*full_));
  if (narrow_rows() == 0) return Status::Ok();
  const Value& head = full_->graph().value(full_->head());
  MOE_ASSIGN(narrow_, build_pass(TrainPassKind::kReverse, narrow_rows(), Tensor{head.data, head.dtype, head.shape},
                                 config_.logit_scale == 0 ? 1 : 1 / config_.logit_scale));
  return bind_gradients(*narrow_);
}

Status Trainer::bind_gradients(TrainPass& pass) {
  for (const WeightGradient& w : pass.gradients()) {
    const Value& grad = pass.graph().value(w.grad);
    const std::string& name = pass.graph().value(w.weight).name;
    const auto p = std::find_if(parameters_.begin(), parameters_.end(), [&](const Parameter& q) { return q.name == name; });
    MOE_CHECK(p != parameters_.end());
    MOE_TRY(pass.bind(w.grad, {moments_[static_cast<size_t>(p - parameters_.begin())].grad.data(), DType::kF32, grad.shape}));
  }
  return Status::Ok();
}

Status Trainer::build_update() {
  update_ = build_update_graph(parameters_);
  norm_ = build_norm_graph(parameters_);
  hyper_.resize(update_.groups.size());
  CompileOptions c;
  c.max_tokens = c.max_outputs = 1;
  MOE_ASSIGN(update_run_, backend_->compile(update_.graph, c));
  MOE_ASSIGN(norm_run_, backend_->compile(norm_.graph, c));
  diversity_ = build_diversity_graph(parameters_);
  const bool diverse = options_.diversity_loss > 0 && !diversity_.experts.empty();
  if (diverse) {
    MOE_ASSIGN(diversity_run_, backend_->compile(diversity_.graph, c));
    MOE_TRY(diversity_run_->bind(diversity_.strength, {&options_.diversity_loss, DType::kF32, {1}}));
  }
  for (size_t i = 0; i < update_.groups.size(); ++i)
    MOE_TRY(update_run_->bind(update_.groups[i].hyper, {hyper_[i].data(), DType::kF32, {8}}));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    const UpdateGraph::States& s = update_.states[i];
    const auto f32 = [&](void* data) { return Tensor{data, DType::kF32, p.shape}; };
    // Graphs know parts of fused matrices by names of their own; where the graph reads float32, it reads the weight itself.
    const ValueId value = full_->gradients()[i].weight;
    const TrainWeights::Weight* w = weights_.find(p.name);
    MOE_CHECK(w || !p.bf16_copy);
    void* master = p.bf16_copy ? w->values.data() : full_->graph().value(value).data;
    MOE_TRY(update_run_->bind(s.w, f32(master)));
    MOE_TRY(update_run_->bind(s.grad, f32(moments_[i].grad.data())));
    MOE_TRY(update_run_->bind(s.m, f32(moments_[i].m.data())));
    MOE_TRY(update_run_->bind(s.v, f32(moments_[i].v.data())));
    if (s.copy != kNone) MOE_TRY(update_run_->bind(s.copy, {w->copy.data(), DType::kBF16, p.shape}));
    MOE_TRY(norm_run_->bind(norm_.grads[i], f32(moments_[i].grad.data())));
    for (const DiversityGraph::Experts& e : diversity_.experts) {
      if (!diverse || e.parameter != i) continue;
      MOE_TRY(diversity_run_->bind(e.w, f32(master)));
      MOE_TRY(diversity_run_->bind(e.grad, f32(moments_[i].grad.data())));
    }
  }
  return Status::Ok();
}

Status Trainer::set_teacher(const Model& teacher) {
  if (teacher.config().n_vocab != config_.n_vocab)
    return Status::InvalidArgument(teacher.file().name() + ": wanted a teacher of the same vocabulary, " +
                                   std::to_string(config_.n_vocab) + " tokens, found " +
                                   std::to_string(teacher.config().n_vocab));
  const int context = data_.options().context;
  TrainPassOptions o;
  o.kind = TrainPassKind::kHidden, o.max_tokens = int64_t{options_.rows} * context;
  std::vector<int> capacity;
  for (const auto& layer : teacher.routing_shape().layers) capacity.push_back(layer.k);
  MOE_ASSIGN(ModelGraph model, teacher.graph(train_graph_options(o.max_tokens, context, std::move(capacity))));
  const Value& head = model.graph.value(model.head);
  const Tensor teacher_head{head.data, head.dtype, head.shape};
  MOE_ASSIGN(teacher_pass_, TrainPass::create(teacher.backend(), std::move(model), o));
  const RoutingTopology& topology = teacher.topology();
  if (topology.n_classes > 1)
    return Status::Unsupported(teacher.file().name() + ": wanted a teacher that routes all tokens alike, found " +
                               std::to_string(topology.n_classes) + " classes of tokens in its topology");
  for (size_t i = 0; i < topology.layers.size(); ++i)
    if (topology.layers[i].n_experts > 0)
      teacher_pass_->tables(i).fill(topology.layers[i], 1, teacher.routing_shape().layers[i].d_ff);
  teacher_hash_ = teacher.hash();
  const float scale = teacher.config().logit_scale;
  MOE_ASSIGN(full_, build_pass(TrainPassKind::kReverse, options_.rows, teacher_head, scale == 0 ? 1 : 1 / scale));
  MOE_TRY(bind_gradients(*full_));
  return build_update();
}

size_t Trainer::memory_bytes() const {
  size_t bytes = 0;
  for (const TrainWeights::Weight& w : weights_.all()) bytes += w.values.bytes() + w.copy.bytes();
  for (const Moments& m : moments_) bytes += m.grad.bytes() + m.m.bytes() + m.v.bytes();
  for (const TrainPass* p : {full_.get(), narrow_.get(), forward_.get(), teacher_pass_.get()})
    if (p) bytes += p->stats().arena_bytes;
  return bytes;
}

int64_t Trainer::trained() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.shape.elements();
  return n;
}

// --- A step ---

LayerRouting Trainer::routing_of(size_t layer, int k, double width) const {
  const auto E = static_cast<size_t>(n_experts_[layer]);
  LayerRouting r;
  r.n_experts = n_experts_[layer];
  r.allow.assign(E, 1);
  r.k_min = r.k_max = k;
  r.bias = bias_[layer];
  r.width.assign(E, width_of(config_.d_ff_expert, width));
  return r;
}

// Which experts, how many and how wide: in every second batch each layer draws its own k. A narrow pass draws one width for all
// layers or, in every second batch, one for each.
void Trainer::set_routing(TrainPass& pass, int64_t batch, bool narrow) {
  Rng k_rng = draw_of(options_.seed, batch, narrow ? Draw::kNarrowExperts : Draw::kExperts);
  Rng width_rng = draw_of(options_.seed, batch, Draw::kWidth);
  Rng drop_rng = draw_of(options_.seed, batch / options_.accumulate, Draw::kExpertDropout);
  const bool any_k = options_.k_max > 0 && batch % 2 == 1, any_width = batch / 2 % 2 == 1;
  const auto k_choices = static_cast<uint64_t>(options_.k_max) - static_cast<uint64_t>(options_.k_min) + 1;
  double width = 1;
  bool drawn = false;
  for (size_t i = 0; i < n_experts_.size(); ++i) {
    if (n_experts_[i] == 0) continue;
    int k = std::min(config_.n_expert_used, n_experts_[i]);
    if (any_k) k = options_.k_min + static_cast<int>(k_rng.below(k_choices));
    if (narrow && (any_width || !drawn)) width = options_.widths[width_rng.below(options_.widths.size())], drawn = true;
    LayerRouting r = routing_of(i, k, width);
    drop_experts(drop_rng, k, r);
    pass.tables(i).fill(r, 1, config_.d_ff_expert);
  }
  TrainPassNumbers& n = pass.numbers();
  const auto batches = static_cast<float>(options_.accumulate);
  n.balance[0] = narrow ? 0 : options_.switch_loss / batches, n.balance[1] = narrow ? 0 : options_.z_loss / batches;
  n.drop[0] = options_.router_dropout, n.drop[1] = small_seed(draw_of(options_.seed, batch, Draw::kRouterDropout));
  n.capacity[0] = options_.capacity_factor, n.capacity[1] = static_cast<float>(options_.overflow);
  n.capacity[2] = small_seed(draw_of(options_.seed, batch, Draw::kOverflow));
}

// Masks experts at random, k at least stay.
void Trainer::drop_experts(Rng& rng, int k, LayerRouting& r) const {
  if (options_.expert_dropout == 0) return;
  std::vector<std::pair<float, int>> draws;
  draws.reserve(static_cast<size_t>(r.n_experts));
  for (int e = 0; e < r.n_experts; ++e) draws.emplace_back(rng.uniform(), e);
  std::sort(draws.begin(), draws.end(), std::greater<>());
  for (size_t i = static_cast<size_t>(k); i < draws.size(); ++i)
    if (draws[i].first < options_.expert_dropout) r.allow[static_cast<size_t>(draws[i].second)] = 0;
}

Status Trainer::step(StepReport& report) {
  const auto start = Clock::now();
  const DatasetPosition before = data_.position();
  report = {};
  const auto run = [&]() -> Status {
    batches_.resize(static_cast<size_t>(options_.accumulate));
    int64_t n_targets = 0;
    for (DatasetBatch& b : batches_) {
      MOE_TRY(data_.next(options_.rows, b));
      n_targets += b.n_targets;
    }
    if (n_targets == 0) return Status::Ok();
    report.step_tokens = n_targets;
    MOE_TRY(run_batches(report));
    return finish_step(report);
  };
  if (const Status s = run(); !s.ok()) {
    MOE_TRY(data_.seek(before));
    return s.Annotate("step " + std::to_string(step_ + 1));
  }
  report.step = step_, report.tokens = tokens_;
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return Status::Ok();
}

Status Trainer::check_losses(const TrainPass::Losses& l, const char* what) const {
  if (std::isfinite(l.loss) && std::isfinite(l.kl)) return Status::Ok();
  const std::string found = std::string("the loss of the ") + what + " is " + (std::isnan(l.loss) ? "NaN" : "not finite");
  std::vector<float> values;
  for (const TrainWeights::Weight& w : weights_.all()) {
    values.resize(static_cast<size_t>(w.shape.elements()));
    MOE_TRY(backend_->read(w.values, 0, values.data(), values.size() * sizeof(float)));
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      return Status::OutOfRange(found + ": tensor '" + w.name + "' has numbers that are not finite");
  }
  return Status::OutOfRange(found + " although all weights are finite: the activations overflowed");
}

Status Trainer::run_batches(StepReport& report) {
  for (Moments& m : moments_) MOE_TRY(set_zero(*backend_, m.grad));
  for (auto& uses : uses_) std::fill(uses.begin(), uses.end(), 0u);
  const int64_t n_targets = report.step_tokens;
  int64_t narrow_targets = 0;
  const auto share = 1 / static_cast<float>(n_targets);
  double loss = 0, narrow_loss = 0, kl = 0;
  for (size_t i = 0; i < batches_.size(); ++i) {
    const DatasetBatch& b = batches_[i];
    if (b.rows == 0) continue;
    const int64_t index = step_ * options_.accumulate + static_cast<int64_t>(i);
    set_routing(*full_, index, false);
    const float* teacher_x = nullptr;
    if (teacher_pass_) {
      MOE_TRY(teacher_pass_->run(b, 0, b.rows, 0));
      MOE_ASSIGN(const Tensor x, teacher_pass_->hidden());
      teacher_x = x.f32();
      full_->numbers().mix[0] = options_.teacher_mix, full_->numbers().mix[1] = options_.teacher_temperature;
    }
    MOE_TRY(full_->run(b, 0, b.rows, share, teacher_x));
    MOE_ASSIGN(const TrainPass::Losses full, full_->losses());
    MOE_TRY(check_losses(full, "full pass"));
    loss += full.loss;
    if (teacher_pass_) kl += full.kl;
    report.switch_loss += full.switch_loss / static_cast<double>(batches_.size());
    report.z += full.z / static_cast<double>(batches_.size());
    for (size_t l = 0; l < n_experts_.size(); ++l) {
      if (n_experts_[l] == 0) continue;
      MOE_ASSIGN(const Tensor ids, full_->ids(l));
      count_uses({ids.i32(), static_cast<size_t>(full_->n_tokens() * ids.shape.last())}, uses_[l]);
    }
    if (!narrow_) continue;
    MOE_ASSIGN(const TrainPass::Losses narrow, run_narrow(b, index, share));
    MOE_TRY(check_losses(narrow, "narrow pass"));
    narrow_loss += narrow.loss, narrow_targets += narrow.n_targets;
    if (!teacher_pass_) kl += narrow.kl;
  }
  report.loss = loss / static_cast<double>(n_targets);
  if (narrow_targets > 0) report.narrow_loss = narrow_loss / static_cast<double>(narrow_targets);
  const int64_t kl_targets = teacher_pass_ ? n_targets : narrow_targets;
  if (kl_targets > 0) report.kl = kl / static_cast<double>(kl_targets);
  return Status::Ok();
}

// The narrow model learns from the predictions that the full one has just made for the same rows.
Result<TrainPass::Losses> Trainer::run_narrow(const DatasetBatch& b, int64_t index, float share) {
  const int rows = std::min(narrow_rows(), b.rows);
  set_routing(*narrow_, index, true);
  narrow_->numbers().mix[0] = options_.narrow_mix, narrow_->numbers().mix[1] = 1;
  MOE_ASSIGN(const Tensor x, full_->hidden());
  const float weight = share * options_.narrow_weight * static_cast<float>(b.rows) / static_cast<float>(rows);
  MOE_TRY(narrow_->run(b, 0, rows, weight, x.f32()));
  return narrow_->losses();
}

Status Trainer::add_diversity(StepReport& report) {
  if (!diversity_run_) return Status::Ok();
  MOE_TRY(diversity_run_->run(RunShape{}));
  for (const DiversityGraph::Experts& e : diversity_.experts) {
    MOE_ASSIGN(const Tensor loss, diversity_run_->read(e.loss));
    report.diversity += static_cast<double>(loss.f32()[0]) / static_cast<double>(diversity_.experts.size());
  }
  return Status::Ok();
}

Status Trainer::finish_step(StepReport& report) {
  MOE_TRY(add_diversity(report));
  MOE_TRY(norm_run_->run(RunShape{}));
  std::vector<float> sums;
  for (const ValueId id : norm_.sums) {
    MOE_ASSIGN(const Tensor t, norm_run_->read(id));
    sums.push_back(t.f32()[0]);
  }
  MOE_ASSIGN(report.grad_norm, global_norm(parameters_, sums));
  report.rate = options_.schedule.rate_at(step_);
  const double scale = clipped_scale(report.grad_norm, 1, options_.clip);
  for (size_t i = 0; i < hyper_.size(); ++i)
    hyper_[i] = hyper_numbers(options_.adamw, update_.groups[i], report.rate, scale, step_ + 1);
  MOE_TRY(update_run_->run(RunShape{}));
  for (size_t i = 0; i < n_experts_.size(); ++i) {
    if (n_experts_[i] == 0) continue;
    if (options_.bias_speed > 0) update_selection_bias(uses_[i], options_.bias_speed, bias_[i]);
    usage_.add(i, uses_[i]);
  }
  ++step_;
  tokens_ += static_cast<uint64_t>(report.step_tokens);
  return Status::Ok();
}

// --- Held-out text ---

Result<HeldOutLoss> Trainer::evaluate(Dataset& data, const EvaluationOptions& o) {
  if (data.n_vocab() != config_.n_vocab || data.options().context > data_.options().context)
    return Status::InvalidArgument("evaluate: wanted the vocabulary and at most the context of the training data");
  if (!forward_) {
    MOE_ASSIGN(forward_, build_pass(TrainPassKind::kForward, options_.rows, std::nullopt, 1));
  }
  for (size_t i = 0; i < n_experts_.size(); ++i)
    if (n_experts_[i] > 0) {
      const int k = o.k > 0 ? o.k : config_.n_expert_used;
      forward_->tables(i).fill(routing_of(i, std::min(k, n_experts_[i]), o.width), 1, config_.d_ff_expert);
    }
  HeldOutLoss e;
  DatasetBatch batch;
  for (;;) {
    MOE_TRY(data.next(options_.rows, batch));
    if (batch.rows == 0) return e;
    MOE_TRY(forward_->run(batch, 0, batch.rows, 1));
    MOE_ASSIGN(const TrainPass::Losses l, forward_->losses());
    e.loss += l.loss, e.n_targets += l.n_targets;
    for (const int32_t t : batch.targets)
      if (t >= 0) e.bytes += token_bytes_[static_cast<size_t>(t)];
    if (o.max_targets > 0 && e.n_targets >= o.max_targets) return e;
  }
}

}  // namespace moe
