#include "evolution/gram_cache.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/mathx.h"

namespace moe {
namespace {

constexpr size_t kBlockFloats = size_t{1} << 24;  // outputs of experts held at once: 64 MiB

// In double: what a routing changes is often a small difference of products of nearly equal outputs.
double dot(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = 8;
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) sums[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (const double s : sums) sum += s;
  return sum;
}

// What the full model's router orders experts by. Softmax keeps the order of the logits; a selection bias is added to scores.
void selection_values(const RouterModel& r, const float* logits, std::vector<double>& v) {
  const auto E = static_cast<size_t>(r.shape.n_experts);
  v.assign(logits, logits + E);
  if (r.selection_bias.empty()) return;
  const double top = *std::max_element(v.begin(), v.end());
  double sum = 0;
  for (double& x : v)
    if (r.attrs.gating == Gating::kSigmoid)
      x = 1 / (1 + mathx::exp(-x));
    else if (r.attrs.gating == Gating::kSoftmax)
      sum += x = mathx::exp(x - top);
  for (size_t e = 0; e < E; ++e) v[e] = (sum > 0 ? v[e] / sum : v[e]) + static_cast<double>(r.selection_bias[e]);
}

LayerRouting full_routing(const RoutingShape::Layer& layer) {
  RoutingShape shape;
  shape.layers = {layer};
  return full_topology(shape).layers[0];
}

template <class T>
size_t bytes_of(const std::vector<T>& v) {
  return v.capacity() * sizeof(T);
}

}  // namespace

class GramCache::Builder {
 public:
  Builder(const GramSource& source, const GramOptions& options, Backend& backend, ThreadPool& pool)
      : source_(source), options_(options), backend_(backend), pool_(pool), S_(static_cast<int64_t>(source.tokens.size())) {}

  Status add_layer(int index, GramLayer& l);
  double token_layers() const { return token_layers_; }

 private:
  Status check(const GramSource::Layer& from, int index) const;
  Status route(GramLayer& l);
  void choose_candidates(GramLayer& l) const;
  Status add_outputs(int index, GramLayer& l);
  Status ask(int index, const GramLayer& l, int64_t first, int64_t n);
  void multiply(GramLayer& l, int64_t first, int64_t n);
  void finish(GramLayer& l) const;
  int n_widths() const { return options_.widths ? kQuarters : 1; }

  const GramSource& source_;
  const GramOptions& options_;
  Backend& backend_;
  ThreadPool& pool_;
  const int64_t S_;
  std::vector<int32_t> full_ids_;  // (S, k) of the layer at hand
  std::vector<float> y_, y_one_;   // (n, columns, d), (n, m, d) of the block at hand
  double token_layers_ = 0;
};

Status GramCache::Builder::check(const GramSource::Layer& from, int index) const {
  const auto E = static_cast<size_t>(from.router.shape.n_experts);
  const bool ok = from.logits.size() == E * static_cast<size_t>(S_) &&
                  (from.router.selection_bias.empty() || from.router.selection_bias.size() == E) && from.router.shape.k >= 1 &&
                  from.router.shape.k <= from.router.shape.n_experts && E <= 65536;
  if (ok) return Status::Ok();
  return Status::InvalidArgument("gram cache: layer " + std::to_string(index) + ": wanted router logits of " +
                                 std::to_string(S_) + " tokens and " + std::to_string(E) + " experts, found " +
                                 std::to_string(from.logits.size()) + " numbers");
}

Status GramCache::Builder::add_layer(int index, GramLayer& l) {
  const GramSource::Layer& from = source_.layers[static_cast<size_t>(index)];
  l.router = from.router;
  const int E = from.router.shape.n_experts;
  if (E == 0) return Status::Ok();
  MOE_TRY(check(from, index));
  l.logits.assign(from.logits.begin(), from.logits.end());
  const int wanted = options_.n_candidates > 0 ? std::max(options_.n_candidates, from.router.shape.k) : E;
  l.m = std::min(wanted, E);
  l.n_columns = l.m * n_widths();
  MOE_TRY(route(l));
  choose_candidates(l);
  MOE_TRY(add_outputs(index, l));
  finish(l);
  const double widths = options_.widths ? 2.5 : 1;  // ¼ + ½ + ¾ + 1
  token_layers_ += static_cast<double>(S_) * l.m * widths / from.router.shape.k;
  return Status::Ok();
}

// What the full model does with the sample.
Status GramCache::Builder::route(GramLayer& l) {
  const int k = l.router.shape.k;
  MOE_ASSIGN(const std::unique_ptr<RouterReplay> replay, RouterReplay::create(backend_, l.router, k, S_));
  const std::vector<int32_t> classes(static_cast<size_t>(S_), 0);
  MOE_TRY(replay->run(full_routing(l.router.shape), 1, l.logits, classes));
  full_ids_.assign(replay->ids().begin(), replay->ids().end());
  l.full_weight.assign(replay->weights().begin(), replay->weights().end());
  return Status::Ok();
}

void GramCache::Builder::choose_candidates(GramLayer& l) const {
  const auto E = static_cast<size_t>(l.router.shape.n_experts), k = static_cast<size_t>(l.router.shape.k);
  const auto m = static_cast<size_t>(l.m);
  l.candidates.resize(static_cast<size_t>(S_) * m);
  std::vector<double> value;
  std::vector<uint16_t> order(E);
  for (size_t t = 0; t < static_cast<size_t>(S_); ++t) {
    selection_values(l.router, l.logits.data() + t * E, value);
    for (size_t i = t * k; i < (t + 1) * k; ++i)
      if (full_ids_[i] >= 0) value[static_cast<size_t>(full_ids_[i])] = std::numeric_limits<double>::infinity();
    std::iota(order.begin(), order.end(), uint16_t{0});
    const auto before = [&](uint16_t a, uint16_t b) { return value[a] != value[b] ? value[a] > value[b] : a < b; };
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(m);
    std::partial_sort(order.begin(), end, order.end(), before);
    std::sort(order.begin(), end);
    std::copy(order.begin(), end, l.candidates.begin() + static_cast<std::ptrdiff_t>(t * m));
  }
}

Status GramCache::Builder::add_outputs(int index, GramLayer& l) {
  const auto n = static_cast<size_t>(l.n_columns);
  l.gram.resize(static_cast<size_t>(S_) * (n * (n + 1) / 2));
  const auto per_token = n * static_cast<size_t>(source_.d);
  const auto block = static_cast<int64_t>(std::max<size_t>(1, kBlockFloats / per_token));
  for (int64_t first = 0; first < S_; first += block) {
    const int64_t tokens = std::min(block, S_ - first);
    y_.resize(static_cast<size_t>(tokens) * per_token);
    MOE_TRY(ask(index, l, first, tokens));
    multiply(l, first, tokens);
  }
  return Status::Ok();
}

// Fills y_, (n, columns, d).
Status GramCache::Builder::ask(int index, const GramLayer& l, int64_t first, int64_t n) {
  const auto m = static_cast<size_t>(l.m), d = static_cast<size_t>(source_.d), rows = static_cast<size_t>(n) * m;
  ExpertQuestion q;
  q.layer = index, q.first = first, q.n = n, q.m = l.m;
  q.ids = std::span(l.candidates).subspan(static_cast<size_t>(first) * m, rows);
  if (!options_.widths) return source_.outputs(q, y_);
  y_one_.resize(rows * d);
  for (q.quarters = 1; q.quarters <= kQuarters; ++q.quarters) {
    MOE_TRY(source_.outputs(q, y_one_));
    const auto column = static_cast<size_t>(q.quarters - 1);
    for (size_t i = 0; i < rows; ++i)
      std::copy_n(y_one_.begin() + static_cast<std::ptrdiff_t>(i * d), d,
                  y_.begin() + static_cast<std::ptrdiff_t>((i * kQuarters + column) * d));
  }
  return Status::Ok();
}

void GramCache::Builder::multiply(GramLayer& l, int64_t first, int64_t n) {
  const auto columns = static_cast<size_t>(l.n_columns), half = columns * (columns + 1) / 2;
  const auto d = static_cast<size_t>(source_.d);
  auto work = [&](int thread) {
    const Range r = split_range(n, thread, pool_.size());
    for (auto t = static_cast<size_t>(r.begin); t < static_cast<size_t>(r.end); ++t) {
      const float* y = y_.data() + t * columns * d;
      float* g = l.gram.data() + (static_cast<size_t>(first) + t) * half;
      for (size_t i = 0; i < columns; ++i)
        for (size_t j = 0; j <= i; ++j) *g++ = static_cast<float>(dot(y + i * d, y + j * d, source_.d));
    }
  };
  pool_.run(work);
}

// The full model's mixture in terms of candidates.
void GramCache::Builder::finish(GramLayer& l) const {
  const auto m = static_cast<size_t>(l.m), k = static_cast<size_t>(l.router.shape.k), n = static_cast<size_t>(l.n_columns);
  const size_t half = n * (n + 1) / 2;
  const int widths = n_widths();
  l.full_column.resize(static_cast<size_t>(S_) * k);
  l.power.resize(static_cast<size_t>(S_));
  double longest2 = 0;
  for (size_t t = 0; t < static_cast<size_t>(S_); ++t) {
    const auto ids = l.candidates.begin() + static_cast<std::ptrdiff_t>(t * m);
    const float* g = l.gram.data() + t * half;
    for (size_t i = t * k; i < (t + 1) * k; ++i) {
      const auto at = std::lower_bound(ids, ids + static_cast<std::ptrdiff_t>(m), full_ids_[i]) - ids;
      l.full_column[i] = full_ids_[i] < 0 ? -1 : static_cast<int32_t>(at) * widths + widths - 1;
    }
    double power = 0;
    for (size_t i = t * k; i < (t + 1) * k; ++i)
      for (size_t j = t * k; j < (t + 1) * k; ++j) {
        if (l.full_column[i] < 0 || l.full_column[j] < 0) continue;
        const size_t at = pair_index(static_cast<size_t>(l.full_column[i]), static_cast<size_t>(l.full_column[j]));
        power += static_cast<double>(l.full_weight[i]) * static_cast<double>(l.full_weight[j]) * static_cast<double>(g[at]);
      }
    l.power[t] = static_cast<float>(power);
    for (size_t i = 0; i < n; ++i) longest2 = std::max(longest2, static_cast<double>(g[pair_index(i, i)]));
  }
  l.longest = static_cast<float>(std::sqrt(longest2));
}

Result<GramCache> GramCache::build(const GramSource& source, const GramOptions& options, Backend& backend, ThreadPool& pool) {
  if (source.tokens.empty() || source.d < 1) return Status::InvalidArgument("gram cache: no sampled tokens");
  GramCache cache;
  cache.tokens_ = source.tokens, cache.domains_ = source.domains, cache.widths_ = options.widths;
  cache.domains_.resize(cache.tokens_.size(), 0);
  const auto [least, most] = std::minmax_element(cache.domains_.begin(), cache.domains_.end());
  if (*least < 0) return Status::InvalidArgument("gram cache: wanted domains from 0 on, found " + std::to_string(*least));
  cache.n_domains_ = *most + 1;
  cache.layers_.resize(source.layers.size());
  Builder builder(source, options, backend, pool);
  for (size_t i = 0; i < source.layers.size(); ++i) MOE_TRY(builder.add_layer(static_cast<int>(i), cache.layers_[i]));
  cache.token_layers_ = builder.token_layers();
  return cache;
}

SampleClasses GramCache::classes(int n_classes, std::span<const uint8_t> token_class) const {
  SampleClasses c;
  c.n_classes = n_classes;
  for (const int32_t t : tokens_) c.of.push_back(token_class.empty() ? 0 : token_class[static_cast<size_t>(t)]);
  return c;
}

size_t GramCache::bytes() const {
  size_t sum = sizeof *this + bytes_of(tokens_) + bytes_of(domains_) + bytes_of(layers_);
  for (const GramLayer& l : layers_)
    sum += bytes_of(l.router.selection_bias) + bytes_of(l.logits) + bytes_of(l.candidates) + bytes_of(l.gram) +
           bytes_of(l.full_column) + bytes_of(l.full_weight) + bytes_of(l.power);
  return sum;
}

}  // namespace moe
