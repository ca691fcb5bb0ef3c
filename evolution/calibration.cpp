#include "evolution/calibration.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/mathx.h"
#include "core/rng.h"
#include "evolution/streams.h"
#include "models/partial_pass.h"

namespace moe {
namespace {

constexpr int kMostDomains = 256;

// Entropy of softmax(logits): ln Σ e^z − Σ z e^z / Σ e^z with z = logit − max.
double router_entropy(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0, weighted = 0;
  for (const float l : logits) {
    const double z = static_cast<double>(l) - top, e = mathx::exp(z);
    sum += e, weighted += z * e;
  }
  return mathx::log(sum) - weighted / sum;
}

Status check(const Model& model, const CalibrationText& text) {
  if (hash(model.topology()) != hash(full_topology(model.routing_shape())))
    return Status::Unsupported(model.file().name() +
                               ": calibration: wanted a model that uses all of its experts, found one that brings a topology; "
                               "search in the one it was made from");
  int64_t sum = 0;
  for (const int n : text.lengths) {
    if (n < 1) return Status::InvalidArgument("calibration: wanted sequences of 1 token or more, found " + std::to_string(n));
    sum += n;
  }
  if (sum == 0 || sum != static_cast<int64_t>(text.tokens.size()))
    return Status::InvalidArgument("calibration: wanted sequences of " + std::to_string(text.tokens.size()) +
                                   " tokens together, at least one, found " + std::to_string(sum));
  if (!text.domains.empty() && text.domains.size() != text.lengths.size())
    return Status::InvalidArgument("calibration: wanted domains of " + std::to_string(text.lengths.size()) +
                                   " sequences, found " + std::to_string(text.domains.size()));
  for (const int d : text.domains)
    if (d < 0 || d >= kMostDomains)
      return Status::InvalidArgument("calibration: wanted domains below " + std::to_string(kMostDomains) + ", found " +
                                     std::to_string(d));
  const auto V = static_cast<size_t>(model.config().n_vocab);
  for (const Token t : text.tokens)
    if (t < 0 || static_cast<size_t>(t) >= V)
      return Status::InvalidArgument("calibration: wanted token ids below " + std::to_string(V) + ", found " +
                                     std::to_string(t));
  const auto is_class = [&](uint8_t c) { return c < text.n_classes; };
  if (text.n_classes < 1 || text.n_classes > kMaxTokenClasses || (!text.token_class.empty() && text.token_class.size() != V) ||
      !std::all_of(text.token_class.begin(), text.token_class.end(), is_class))
    return Status::InvalidArgument("calibration: wanted 1 to " + std::to_string(kMaxTokenClasses) +
                                   " classes and one of them for " + std::to_string(V) + " tokens, found " +
                                   std::to_string(text.n_classes) + " and " + std::to_string(text.token_class.size()));
  return Status::Ok();
}

class Calibrator {
 public:
  Calibrator(const Model& model, const CalibrationText& text, const CalibrationOptions& options)
      : model_(model), text_(text), options_(options) {}

  Result<Calibration> run();

 private:
  void prepare();
  Status create_pass(int longest);
  void add_layer(LayerCalibration& c, const WatchedLayer& w, int64_t first, int64_t n);
  void add_token(LayerCalibration& c, const WatchedLayer& w, size_t t, size_t position);
  void keep_sample(LayerCalibration& c, const WatchedLayer& w, int64_t first, int64_t n) const;
  size_t class_of(Token t) const { return text_.token_class.empty() ? 0 : text_.token_class[static_cast<size_t>(t)]; }

  const Model& model_;
  const CalibrationText& text_;
  const CalibrationOptions& options_;
  std::unique_ptr<PartialPass> pass_;
  int batch_ = 0;
  std::vector<int> domain_;  // of each token of the text
  Calibration result_;
};

void Calibrator::prepare() {
  const auto total = static_cast<int64_t>(text_.tokens.size());
  Calibration& r = result_;
  r.model_hash = model_.hash(), r.d_model = model_.config().d_model, r.n_classes = text_.n_classes;
  r.tokens.assign(static_cast<size_t>(text_.n_classes), 0);
  for (const Token t : text_.tokens) ++r.tokens[class_of(t)];
  r.sampled = sample_positions(options_.seed, total, options_.n_sampled);
  for (size_t i = 0; i < text_.lengths.size(); ++i)
    domain_.insert(domain_.end(), static_cast<size_t>(text_.lengths[i]), text_.domains.empty() ? 0 : text_.domains[i]);
  r.n_domains = *std::max_element(domain_.begin(), domain_.end()) + 1;
  for (const int64_t i : r.sampled) {
    r.sampled_tokens.push_back(text_.tokens[static_cast<size_t>(i)]);
    r.sampled_domains.push_back(domain_[static_cast<size_t>(i)]);
  }
  r.layers.resize(static_cast<size_t>(model_.config().n_layer));
  for (size_t l = 0; l < r.layers.size(); ++l) {
    LayerCalibration& c = r.layers[l];
    c.n_experts = model_.routing_shape().layers[l].n_experts;
    if (c.n_experts == 0) continue;
    const auto E = static_cast<size_t>(c.n_experts), C = static_cast<size_t>(text_.n_classes), S = r.sampled.size();
    c.use.assign(C * E, 0), c.gate.assign(C * E, 0), c.norm.assign(C * E, 0), c.gate_norm.assign(C * E, 0);
    c.entropy.assign(C, 0), c.domain_use.assign(static_cast<size_t>(r.n_domains) * E, 0);
    if (options_.co_activation) c.together.assign(E * (E + 1) / 2, 0);
    c.x.resize(S * static_cast<size_t>(r.d_model)), c.logits.resize(S * E);
  }
  r.token_layers = static_cast<double>(total) * model_.config().n_layer;
}

Status Calibrator::create_pass(int longest) {
  PartialPassOptions o;
  batch_ = o.max_tokens = std::max(longest, std::min<int>(options_.batch_tokens, static_cast<int>(text_.tokens.size())));
  o.n_ctx = longest;
  o.max_sequences = std::min<int>(o.max_tokens, static_cast<int>(text_.lengths.size()));
  o.max_outputs = 1, o.watch_routers = o.watch_norms = true;
  MOE_ASSIGN(pass_, PartialPass::create(model_, PassPoint::tokens(), PassPoint::hidden(), o));
  return Status::Ok();
}

Result<Calibration> Calibrator::run() {
  MOE_TRY(check(model_, text_));
  prepare();
  MOE_TRY(create_pass(*std::max_element(text_.lengths.begin(), text_.lengths.end())));
  const std::vector<int32_t> last_row = {0};  // the hidden row that a run must have
  int64_t done = 0;
  for (size_t begin = 0; begin < text_.lengths.size();) {
    size_t end = begin;
    int64_t n = 0;
    while (end < text_.lengths.size() && n + text_.lengths[end] <= batch_) n += text_.lengths[end++];
    PassInput in;
    in.tokens = text_.tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(n));
    in.lengths = text_.lengths.subspan(begin, end - begin);
    in.outputs = last_row;
    MOE_TRY(pass_->run(in));
    for (size_t l = 0; l < result_.layers.size(); ++l)
      if (result_.layers[l].n_experts > 0) add_layer(result_.layers[l], pass_->watched(static_cast<int>(l)), done, n);
    done += n, begin = end;
    if (options_.on_progress && !options_.on_progress(done))
      return Status::Cancelled("calibration stopped after " + std::to_string(done) + " tokens");
  }
  return std::move(result_);
}

void Calibrator::add_layer(LayerCalibration& c, const WatchedLayer& w, int64_t first, int64_t n) {
  for (int64_t t = 0; t < n; ++t) add_token(c, w, static_cast<size_t>(t), static_cast<size_t>(first + t));
  keep_sample(c, w, first, n);
}

// Row t of the run, which is `position` of the text.
void Calibrator::add_token(LayerCalibration& c, const WatchedLayer& w, size_t t, size_t position) {
  const size_t cls = class_of(text_.tokens[position]), domain = static_cast<size_t>(domain_[position]);
  const auto E = static_cast<size_t>(c.n_experts), K = w.ids.size() / (w.logits.size() / E);
  c.entropy[cls] += router_entropy(w.logits.subspan(t * E, E));
  for (size_t i = t * K; i < (t + 1) * K; ++i) {
    if (w.ids[i] < 0) continue;
    const auto e = static_cast<size_t>(w.ids[i]);
    const double g = w.weights[i], norm = std::sqrt(static_cast<double>(w.norms2[i]));
    ++c.use[cls * E + e], ++c.domain_use[domain * E + e];
    c.gate[cls * E + e] += g, c.norm[cls * E + e] += norm, c.gate_norm[cls * E + e] += g * norm;
    if (c.together.empty()) continue;
    for (size_t j = t * K; j <= i; ++j)
      if (w.ids[j] >= 0) ++c.together[pair_index(e, static_cast<size_t>(w.ids[j]))];
  }
}

void Calibrator::keep_sample(LayerCalibration& c, const WatchedLayer& w, int64_t first, int64_t n) const {
  const auto d = static_cast<std::ptrdiff_t>(result_.d_model), E = static_cast<std::ptrdiff_t>(c.n_experts);
  const auto& sampled = result_.sampled;
  for (auto i = std::lower_bound(sampled.begin(), sampled.end(), first); i != sampled.end() && *i < first + n; ++i) {
    const std::ptrdiff_t row = i - sampled.begin(), t = *i - first;
    std::copy_n(w.x.begin() + t * d, d, c.x.begin() + row * d);
    std::copy_n(w.logits.begin() + t * E, E, c.logits.begin() + row * E);
  }
}

template <class T>
size_t bytes_of(const std::vector<T>& v) {
  return v.capacity() * sizeof(T);
}

}  // namespace

size_t Calibration::bytes() const {
  size_t sum = sizeof *this + bytes_of(tokens) + bytes_of(sampled) + bytes_of(sampled_tokens) + bytes_of(sampled_domains) +
               bytes_of(layers);
  for (const LayerCalibration& c : layers)
    sum += bytes_of(c.use) + bytes_of(c.gate) + bytes_of(c.norm) + bytes_of(c.gate_norm) + bytes_of(c.entropy) +
           bytes_of(c.domain_use) + bytes_of(c.together) + bytes_of(c.x) + bytes_of(c.logits);
  return sum;
}

std::vector<int64_t> sample_positions(uint64_t seed, int64_t total, int n) {
  struct Draw {
    uint64_t number;
    int64_t position;
    bool operator<(const Draw& o) const { return number != o.number ? number < o.number : position < o.position; }
  };
  std::vector<Draw> draws(static_cast<size_t>(total));
  Rng rng = stream_of(seed, Purpose::kCalibration, 0);
  for (int64_t i = 0; i < total; ++i) draws[static_cast<size_t>(i)] = {rng.next_u64(), i};
  const auto kept = static_cast<std::ptrdiff_t>(std::clamp<int64_t>(n, 0, total));
  std::nth_element(draws.begin(), draws.begin() + kept, draws.end());
  std::vector<int64_t> positions;
  for (std::ptrdiff_t i = 0; i < kept; ++i) positions.push_back(draws[static_cast<size_t>(i)].position);
  std::sort(positions.begin(), positions.end());
  return positions;
}

Result<Calibration> calibrate(const Model& model, const CalibrationText& text, const CalibrationOptions& options) {
  return Calibrator(model, text, options).run();
}

}  // namespace moe
