// Counting what routers did, and saying it in numbers, as JSON and as a picture. Sums run in the order of tokens and experts,
// in double, with core/mathx.h: the same run gives the same text on every machine.
#include "models/routing_stats.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/mathx.h"

namespace moe {
namespace {

using Json = nlohmann::ordered_json;

// Entropy in nats of softmax(logits), logits (n): ln Z + max − Σ p·logit.
double softmax_entropy(const float* logits, int n) {
  const double top = *std::max_element(logits, logits + n);
  double z = 0, weighted = 0;
  for (int i = 0; i < n; ++i) {
    const double e = mathx::exp(logits[i] - top);
    z += e;
    if (e > 0) weighted += e * (logits[i] - top);  // not 0 · −∞
  }
  return mathx::log(z) - weighted / z;
}

double k_mean(const RoutingStats::Layer& l) { return double(l.slots) / double(l.tokens); }

uint64_t busiest(const RoutingStats::Layer& l) { return *std::max_element(l.use.begin(), l.use.end()); }

double load_balance(const RoutingStats::Layer& l) {
  return l.slots == 0 ? 1 : double(busiest(l)) * l.n_experts / double(l.slots);
}

double use_entropy(const RoutingStats::Layer& l) {
  if (l.n_experts == 1 || l.slots == 0) return 1;
  double h = 0;
  for (const uint64_t n : l.use) {
    const double p = double(n) / double(l.slots);
    if (n > 0) h -= p * mathx::log(p);
  }
  return h / mathx::log(l.n_experts);
}

double router_entropy(const RoutingStats::Layer& l) {
  return l.entropy_tokens == 0 ? -1 : l.entropy / double(l.entropy_tokens);
}

uint64_t dead_experts(const RoutingStats::Layer& l) {
  return static_cast<uint64_t>(std::count(l.use.begin(), l.use.end(), uint64_t{0}));
}

// Hidden channels that ran, over all tokens.
double channels(const RoutingStats::Layer& l, const LayerRouting& routing, int d_ff) {
  double sum = 0;
  for (size_t e = 0; e < l.use.size(); ++e) sum += double(l.use[e]) * (routing.width.empty() ? d_ff : routing.width[e]);
  return sum;
}

Json or_null(double entropy) { return entropy < 0 ? Json() : Json(entropy); }

Json layer_json(size_t index, const RoutingStats::Layer& l) {
  Json j{{"layer", index}, {"n_experts", l.n_experts}, {"tokens", l.tokens}};
  if (l.tokens == 0) return j;
  j["k_mean"] = k_mean(l), j["load_balance"] = load_balance(l), j["use_entropy"] = use_entropy(l);
  j["router_entropy"] = or_null(router_entropy(l));
  j["dead_experts"] = dead_experts(l);
  j["use"] = l.use, j["weight"] = l.weight;
  return j;
}

}  // namespace

RoutingStats::RoutingStats(const RoutingShape& shape) : shape_(shape), layers_(shape.layers.size()) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto n = static_cast<size_t>(shape.layers[i].n_experts);
    layers_[i].n_experts = shape.layers[i].n_experts;
    layers_[i].use.resize(n), layers_[i].weight.resize(n);
  }
}

void RoutingStats::reset() {
  for (Layer& l : layers_) {
    l.tokens = l.slots = l.entropy_tokens = 0, l.entropy = 0;
    std::fill(l.use.begin(), l.use.end(), 0), std::fill(l.weight.begin(), l.weight.end(), 0.0);
  }
}

void RoutingStats::add(const RouterView& view) {
  MOE_CHECK(view.layer >= 0 && static_cast<size_t>(view.layer) < layers_.size());
  Layer& l = layers_[static_cast<size_t>(view.layer)];
  MOE_CHECK(view.n_experts == l.n_experts);
  l.tokens += static_cast<uint64_t>(view.n_tokens);
  for (int64_t i = 0; i < int64_t{view.n_tokens} * view.n_slots; ++i) {
    if (view.ids[i] < 0) continue;
    const auto e = static_cast<size_t>(view.ids[i]);
    ++l.use[e], ++l.slots, l.weight[e] += view.weights[i];
  }
  if (!view.logits) return;
  for (int64_t t = 0; t < view.n_tokens; ++t) l.entropy += softmax_entropy(view.logits + t * view.n_experts, view.n_experts);
  l.entropy_tokens += static_cast<uint64_t>(view.n_tokens);
}

RoutingStats::Summary RoutingStats::summarize(const RoutingTopology& topology) const {
  Summary s;
  double n = 0, n_observed = 0, ran = 0, full = 0, observed = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& l = layers_[i];
    if (l.n_experts == 0 || l.tokens == 0) continue;
    const RoutingShape::Layer& shape = shape_.layers[i];
    const double layer_ran = channels(l, topology.layers[i], shape.d_ff);
    n += 1, ran += layer_ran, full += double(l.tokens) * shape.k * shape.d_ff;
    s.tokens = std::max(s.tokens, l.tokens);
    s.k_mean += k_mean(l), s.work_mean += layer_ran / shape.d_ff / double(l.tokens);
    s.load_balance += load_balance(l), s.use_entropy += use_entropy(l);
    s.dead_experts += dead_experts(l);
    if (l.entropy_tokens > 0) n_observed += 1, observed += router_entropy(l);
  }
  s.router_entropy = n_observed > 0 ? observed / n_observed : -1;
  if (n == 0) return s;
  s.k_mean /= n, s.work_mean /= n, s.load_balance /= n, s.use_entropy /= n;
  s.expert_flops_saved = 1 - ran / full;
  return s;
}

std::string RoutingStats::to_json(const RoutingTopology& topology) const {
  const Summary s = summarize(topology);
  const Json head{{"format", "moe-routing-stats"},
                  {"version", 1},
                  {"model_hash", hash_to_hex(shape_.model_hash)},
                  {"topology_hash", hash_to_hex(moe::hash(topology))},
                  {"tokens", s.tokens},
                  {"k_mean", s.k_mean},
                  {"work_mean", s.work_mean},
                  {"load_balance", s.load_balance},
                  {"use_entropy", s.use_entropy},
                  {"router_entropy", or_null(s.router_entropy)},
                  {"expert_flops_saved", s.expert_flops_saved},
                  {"dead_experts", s.dead_experts}};
  std::string text = "{\n";
  for (const auto& [key, value] : head.items()) text += "  \"" + key + "\": " + value.dump() + ",\n";
  text += "  \"layers\": [";
  const char* separator = "\n    ";
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (layers_[i].n_experts == 0) continue;
    text += separator + layer_json(i, layers_[i]).dump();  // a line a layer: two runs compare well
    separator = ",\n    ";
  }
  return text + "\n  ]\n}\n";
}

// --- heat map ---

namespace {

// How busy a cell is, as a share of the busiest cell of its layer: level 0 is "never used", the others cut (0, 1] evenly.
constexpr std::array<const char*, 5> kShades = {"·", "░", "▒", "▓", "█"};
constexpr std::array<int, 8> kColors = {235, 17,  19,  55,
                                        91,  162, 203, 221};  // xterm's cube: near black, blue, purple, red, yellow

size_t level(double share, size_t n_levels) {
  if (share <= 0) return 0;
  return std::min(n_levels - 1, 1 + static_cast<size_t>(share * double(n_levels - 1)));
}

std::string cell(double share, bool color, int width) {
  if (!color) {
    std::string text;
    for (int i = 0; i < width; ++i) text += kShades[level(share, kShades.size())];
    return text;
  }
  const int background = kColors[level(share, kColors.size())];
  return "\x1b[48;5;" + std::to_string(background) + "m" + std::string(static_cast<size_t>(width), ' ');
}

// Mean use of each cell's experts. The last cell may stand for fewer of them.
std::vector<double> cells_of(const std::vector<uint64_t>& use, size_t experts_a_cell) {
  std::vector<double> cells;
  for (size_t begin = 0; begin < use.size(); begin += experts_a_cell) {
    const size_t end = std::min(use.size(), begin + experts_a_cell);
    double sum = 0;
    for (size_t e = begin; e < end; ++e) sum += double(use[e]);
    cells.push_back(sum / double(end - begin));
  }
  return cells;
}

std::string padded(std::string text, size_t width) { return std::string(width - std::min(width, text.size()), ' ') + text; }

std::string fixed2(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.2f", x);
  return text;
}

}  // namespace

std::string RoutingStats::heat_map(int columns, bool color) const {
  const auto limit = static_cast<size_t>(std::max(columns, 1));
  size_t most = 0;
  for (const Layer& l : layers_) most = std::max(most, l.use.size());
  if (most == 0) return "";
  const size_t experts_a_cell = (most + limit - 1) / limit;
  const int width = most * 2 <= limit ? 2 : 1;
  const char* end = color ? "\x1b[0m" : "";
  std::string text;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& l = layers_[i];
    if (l.n_experts == 0) continue;
    const std::vector<double> cells = cells_of(l.use, experts_a_cell);
    const double top = std::max(1e-300, *std::max_element(cells.begin(), cells.end()));
    text += "layer " + padded(std::to_string(i), 3) + "  ";
    for (const double c : cells) text += cell(c / top, color, width);
    text += std::string(end) + "  busiest " + fixed2(load_balance(l)) + " x mean";
    if (const uint64_t dead = dead_experts(l)) text += ", " + std::to_string(dead) + " unused";
    text += '\n';
  }
  text += "           ";
  const size_t n_levels = color ? kColors.size() : kShades.size();
  for (size_t i = 0; i < n_levels; ++i) text += cell((double(i) - 0.5) / double(n_levels - 1), color, 2);
  text += std::string(end) + "  unused to busiest of its layer, ";
  return text + (experts_a_cell == 1 ? "a cell an expert" : std::to_string(experts_a_cell) + " experts a cell") + "\n";
}

}  // namespace moe
