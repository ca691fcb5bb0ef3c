// What a topology saves, and how two topologies differ, in numbers and words for people and programs. All of it is static:
// which experts a text really uses is measured elsewhere, by running it.
#include <algorithm>
#include <charconv>

#include "models/routing.h"

namespace moe {
namespace {

using Layer = TopologySummary::Layer;

int channels(const LayerRouting& r, const RoutingShape::Layer& shape, size_t e) {
  return r.width.empty() ? shape.d_ff : r.width[e];
}

// (n_experts) experts that run for some class of token: allowed ones, and those that stand in for a masked one (which are
// allowed as well, or validate() had refused). None in a layer that is skipped.
std::vector<bool> reachable(const LayerRouting& r) {
  std::vector<bool> kept(static_cast<size_t>(r.n_experts));
  for (size_t i = 0; i < r.allow.size() && r.k_max > 0; ++i) {
    if (r.allow[i]) kept[i % kept.size()] = true;
  }
  return kept;
}

// Experts that the file holds.
double weights_of(const RoutingShape::Layer& shape) {
  double n = 0;
  for (size_t e = 0; e < static_cast<size_t>(shape.n_experts); ++e) n += shape.has_weights(e);
  return n;
}

Layer summarize_layer(const LayerRouting& r, const RoutingShape::Layer& shape, int index) {
  const std::vector<bool> kept = reachable(r);
  double kept_channels = 0;
  for (size_t e = 0; e < kept.size(); ++e) kept_channels += kept[e] ? channels(r, shape, e) : 0;
  Layer s;
  s.index = index;
  s.n_experts = r.n_experts;
  s.kept = static_cast<int>(std::count(kept.begin(), kept.end(), true));
  s.k_high = r.k_max;
  s.k_low = r.threshold > 0 ? r.k_min : r.k_max;  // p_i > 0 · p_0 always holds
  s.width = s.kept > 0 ? kept_channels / s.kept / shape.d_ff : 0;
  s.flops_low = s.k_low * s.width / shape.k;
  s.flops_high = s.k_high * s.width / shape.k;
  s.bytes = kept_channels / weights_of(shape) / shape.d_ff;
  return s;
}

// Every layer has the model's own d_model, so that k · d_ff stands for its FLOPs and n_experts · d_ff for its bytes.
Layer total_of(const std::vector<Layer>& layers, const RoutingShape& shape) {
  Layer total;
  total.index = -1;
  if (layers.empty()) return total;
  double full_flops = 0, full_bytes = 0;
  total.width = total.flops_low = total.flops_high = total.bytes = 0;
  for (const Layer& s : layers) {
    const RoutingShape::Layer& full = shape.layers[static_cast<size_t>(s.index)];
    const double flops = double(full.k) * full.d_ff, bytes = weights_of(full) * full.d_ff;
    full_flops += flops, full_bytes += bytes;
    total.n_experts += s.n_experts, total.kept += s.kept;
    total.k_low += s.k_low, total.k_high += s.k_high, total.width += s.width;
    total.flops_low += s.flops_low * flops, total.flops_high += s.flops_high * flops, total.bytes += s.bytes * bytes;
  }
  const double n = static_cast<double>(layers.size());
  total.k_low /= n, total.k_high /= n, total.width /= n;
  total.flops_low /= full_flops, total.flops_high /= full_flops, total.bytes /= full_bytes;
  return total;
}

// --- diff ---

std::string number(int v) { return std::to_string(v); }

std::string number(float v) {  // the shortest text that reads back as v
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, v).ptr};
}

// "1, 5-8": runs of three and more are drawn together.
std::string id_list(const std::vector<int>& ids) {
  std::string s;
  for (size_t i = 0; i < ids.size();) {
    size_t end = i + 1;
    while (end < ids.size() && ids[end] == ids[end - 1] + 1) ++end;
    if (end - i < 3) end = i + 1;
    s += (s.empty() ? "" : ", ") + number(ids[i]);
    if (end > i + 1) s += "-" + number(ids[end - 1]);
    i = end;
  }
  return s;
}

class Differ {
 public:
  std::string text;

  void line(const std::string& s) { text += where_ + s + "\n"; }
  void in_layer(size_t i) { where_ = "layer " + std::to_string(i) + ": "; }

  template <class T>
  void field(const char* name, T a, T b) {
    if (a != b) line(std::string(name) + " " + number(a) + " -> " + number(b));
  }

  // Experts whose value changed; an absent vector reads as `neutral` everywhere.
  template <class T>
  void per_expert(const char* name, const std::vector<T>& a, const std::vector<T>& b, T neutral, const char* neutral_name) {
    const auto value = [&](const std::vector<T>& v, size_t e) { return e < v.size() ? v[e] : neutral; };
    const auto word = [&](T v) { return v == neutral ? std::string(neutral_name) : number(v); };
    for (size_t e = 0; e < std::max(a.size(), b.size()); ++e) {
      const T x = value(a, e), y = value(b, e);
      if (x != y) line(std::string(name) + " of expert " + std::to_string(e) + " " + word(x) + " -> " + word(y));
    }
  }

  void mask(const LayerRouting& a, const LayerRouting& b, int n_classes) {
    for (int c = 0; c < n_classes; ++c) {
      std::vector<int> masked, allowed;
      for (int e = 0; e < a.n_experts; ++e) {
        const size_t i = static_cast<size_t>(c) * static_cast<size_t>(a.n_experts) + static_cast<size_t>(e);
        if (i >= a.allow.size() || i >= b.allow.size() || a.allow[i] == b.allow[i]) continue;
        (b.allow[i] ? allowed : masked).push_back(e);
      }
      const std::string head = "class " + number(c) + ": ";
      if (!masked.empty()) line(head + "masked " + id_list(masked));
      if (!allowed.empty()) line(head + "allowed " + id_list(allowed));
    }
  }

  void layer(const LayerRouting& a, const LayerRouting& b, int n_classes) {
    field("n_experts", a.n_experts, b.n_experts);
    if (a.n_experts != b.n_experts) return;
    field("k_min", a.k_min, b.k_min);
    field("k_max", a.k_max, b.k_max);
    field("threshold", a.threshold, b.threshold);
    field("temperature", a.temperature, b.temperature);
    mask(a, b, n_classes);
    per_expert("bias", a.bias, b.bias, 0.0f, "0");
    per_expert("width", a.width, b.width, int32_t{0}, "all");
    per_expert("redirect", a.redirect, b.redirect, int32_t{-1}, "none");
  }

 private:
  std::string where_;
};

size_t changed_tokens(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  size_t n = 0;
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) n += (i < a.size() ? a[i] : 0) != (i < b.size() ? b[i] : 0);
  return n;
}

}  // namespace

TopologySummary summarize(const RoutingTopology& topology, const RoutingShape& shape) {
  TopologySummary s;
  for (size_t i = 0; i < topology.layers.size(); ++i) {
    if (topology.layers[i].n_experts == 0) continue;
    s.layers.push_back(summarize_layer(topology.layers[i], shape.layers[i], static_cast<int>(i)));
  }
  s.total = total_of(s.layers, shape);
  return s;
}

std::string diff(const RoutingTopology& from, const RoutingTopology& to) {
  Differ d;
  if (from.model_hash != to.model_hash)
    d.line("model_hash " + hash_to_hex(from.model_hash) + " -> " + hash_to_hex(to.model_hash));
  d.field("n_classes", from.n_classes, to.n_classes);
  if (const size_t n = changed_tokens(from.token_class, to.token_class)) {
    d.line("token_class of " + std::to_string(n) + (n == 1 ? " token" : " tokens"));
  }
  d.field("layers", static_cast<int>(from.layers.size()), static_cast<int>(to.layers.size()));
  for (size_t i = 0; i < std::min(from.layers.size(), to.layers.size()); ++i) {
    d.in_layer(i);
    d.layer(from.layers[i], to.layers[i], std::min(from.n_classes, to.n_classes));
  }
  return d.text;
}

}  // namespace moe
