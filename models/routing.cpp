#include "models/routing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/half.h"

namespace moe {
namespace {

using Shape = RoutingShape::Layer;

// "wanted W, found F" after the place; every refusal of validate() reads alike.
Status bad(const std::string& where, const std::string& wanted, const std::string& found) {
  return Status::InvalidArgument("topology: " + where + ": wanted " + wanted + ", found " + found);
}

std::string str(int64_t v) { return std::to_string(v); }

std::string at(const char* field, size_t i) { return std::string(field) + "[" + std::to_string(i) + "]"; }

// One layer under test. Every check below is a statement about one field and leaves at its first violation.
struct LayerCheck {
  const LayerRouting& r;
  const Shape& shape;
  int n_classes;
  std::string where;  // "layer 3: "

  size_t experts() const { return static_cast<size_t>(r.n_experts); }
  bool allowed(int c, int e) const { return r.allow[static_cast<size_t>(c) * experts() + static_cast<size_t>(e)] != 0; }
  int target(int e) const { return r.redirect.empty() ? -1 : r.redirect[static_cast<size_t>(e)]; }
  bool usable(int c, int e) const { return allowed(c, e) || target(e) >= 0; }
  Status refuse(const std::string& field, const std::string& wanted, const std::string& found) const {
    return bad(where + field, wanted, found);
  }

  Status dense() const {
    if (r.n_experts != 0) return refuse("n_experts", "0, the layer is dense", str(r.n_experts));
    if (!(r == LayerRouting{})) return refuse("n_experts", "a dense layer without any other field", "routing settings");
    return Status::Ok();
  }

  Status sizes() const {
    if (r.n_experts != shape.n_experts) return refuse("n_experts", str(shape.n_experts), str(r.n_experts));
    const size_t n = experts(), n_allow = n * static_cast<size_t>(n_classes);
    if (r.allow.size() != n_allow) {
      return refuse("allow", str(n_classes) + " x " + std::to_string(n) + " entries", std::to_string(r.allow.size()));
    }
    const std::array<std::pair<const char*, size_t>, 3> optional = {
        {{"bias", r.bias.size()}, {"width", r.width.size()}, {"redirect", r.redirect.size()}}};
    for (const auto& [field, size] : optional) {
      if (size != 0 && size != n) return refuse(field, "none or " + std::to_string(n) + " entries", std::to_string(size));
    }
    return Status::Ok();
  }

  Status numbers() const {
    const bool skipped = r.k_min == 0 && r.k_max == 0;
    if (r.k_max < 1 && !skipped) return refuse("k_max", "at least 1, or k_min = k_max = 0 to skip the layer", str(r.k_max));
    if (r.k_min < 1 && !skipped) return refuse("k_min", "at least 1", str(r.k_min));
    if (r.k_min > r.k_max) return refuse("k_min", "at most k_max = " + str(r.k_max), str(r.k_min));
    if (!(r.threshold >= 0 && r.threshold <= 1)) return refuse("threshold", "0 to 1", std::to_string(r.threshold));
    if (!(r.temperature > 0 && std::isfinite(r.temperature))) {
      return refuse("temperature", "finite and above 0", std::to_string(r.temperature));
    }
    for (size_t e = 0; e < r.bias.size(); ++e) {
      if (!std::isfinite(r.bias[e])) return refuse(at("bias", e), "a finite number", std::to_string(r.bias[e]));
    }
    for (size_t i = 0; i < r.allow.size(); ++i) {
      if (r.allow[i] > 1) return refuse(at("allow", i), "0 or 1", str(r.allow[i]));
      if (r.allow[i] == 1 && !shape.has_weights(i % experts()))
        return refuse(at("allow", i), "0, since the file has no weights of expert " + std::to_string(i % experts()), "1");
    }
    return Status::Ok();
  }

  Status widths() const {
    for (size_t e = 0; e < r.width.size(); ++e) {
      const int w = r.width[e];
      if (w < 1 || w > shape.d_ff) return refuse(at("width", e), "1 to d_ff = " + str(shape.d_ff), str(w));
      if (w != shape.d_ff && w % shape.width_step != 0) {
        return refuse(at("width", e), "a multiple of " + str(shape.width_step) + " (block of the weights' format)", str(w));
      }
    }
    return Status::Ok();
  }

  Status redirects() const {
    for (int e = 0; e < static_cast<int>(r.redirect.size()); ++e) MOE_TRY(redirect(e));
    return Status::Ok();
  }

  Status redirect(int e) const {
    const int to = target(e);
    if (to == -1) return Status::Ok();
    const std::string field = at("redirect", static_cast<size_t>(e));
    if (to < -1 || to >= r.n_experts) return refuse(field, "-1 to " + str(r.n_experts - 1), str(to));
    if (to == e) return refuse(field, "another expert", "the expert itself");
    bool masked = false;
    for (int c = 0; c < n_classes; ++c) {
      if (allowed(c, e)) continue;
      masked = true;
      if (!allowed(c, to)) {
        return refuse(field, "an expert that class " + str(c) + " may use", str(to) + ", which is masked there");
      }
    }
    if (!masked) return refuse(field, "-1, since every class may use expert " + str(e), str(to));
    return Status::Ok();
  }

  // Usable experts that class c is sure to have left. Groups without usable experts rank last, so the worst case is that the
  // topk_group smallest of the others win.
  int guaranteed(int c) const {
    const int groups = std::max(1, shape.n_group), length = std::max(1, r.n_experts / groups);
    std::vector<int> counts(static_cast<size_t>(groups), 0);
    for (int e = 0; e < r.n_experts; ++e) counts[static_cast<size_t>(std::min(e / length, groups - 1))] += usable(c, e);
    std::erase(counts, 0);
    std::sort(counts.begin(), counts.end());
    const size_t winners = groups == 1 ? 1 : static_cast<size_t>(std::max(1, shape.topk_group));
    counts.resize(std::min(winners, counts.size()));
    return std::accumulate(counts.begin(), counts.end(), 0);
  }

  Status enough() const {
    for (int c = 0; c < n_classes; ++c) {
      const int left = guaranteed(c);
      if (left >= r.k_max) continue;
      std::string found = str(left);
      if (shape.n_group > 1) {
        found += " in the " + str(shape.topk_group) + " of " + str(shape.n_group) + " groups that hold the fewest";
      }
      return refuse("class " + str(c), "at least k_max = " + str(r.k_max) + " usable experts", found);
    }
    return Status::Ok();
  }

  Status all() const {
    if (shape.n_experts == 0) return dense();
    MOE_TRY(sizes());
    MOE_TRY(numbers());
    MOE_TRY(widths());
    MOE_TRY(redirects());
    return enough();
  }
};

Status check_classes(const RoutingTopology& t, const RoutingShape& shape) {
  if (t.n_classes < 1 || t.n_classes > kMaxTokenClasses)
    return bad("n_classes", "1 to " + str(kMaxTokenClasses), str(t.n_classes));
  if (!t.token_class.empty() && t.token_class.size() != static_cast<size_t>(shape.n_vocab)) {
    return bad("token_class", "none or " + str(shape.n_vocab) + " entries (the vocabulary)",
               std::to_string(t.token_class.size()));
  }
  for (size_t i = 0; i < t.token_class.size(); ++i) {
    if (t.token_class[i] >= t.n_classes)
      return bad(at("token_class", i), "0 to " + str(t.n_classes - 1), str(t.token_class[i]));
  }
  return Status::Ok();
}

// FNV-1a over 64-bit words, then the finaliser of MurmurHash3 so that near topologies differ in every bit.
class Hasher {
 public:
  void add(uint64_t v) { h_ = (h_ ^ v) * 0x100000001b3u, h_ ^= h_ >> 29; }
  void add(float v) { add(uint64_t{float_bits(v + 0.0f)}); }  // −0 hashes as 0
  void add(int32_t v) { add(static_cast<uint64_t>(static_cast<int64_t>(v))); }
  void add(uint8_t v) { add(uint64_t{v}); }

  template <class T>
  void add(const std::vector<T>& values, T neutral) {
    const bool none = std::all_of(values.begin(), values.end(), [&](T v) { return v == neutral; });
    add(none ? uint64_t{0} : uint64_t{values.size()});
    if (none) return;
    for (T v : values) add(v);
  }

  uint64_t finish() const {
    uint64_t h = h_;
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 33);
  }

 private:
  uint64_t h_ = 0xcbf29ce484222325u;
};

// fraction · d_ff rounded up to a multiple of step; NaN and anything not above 0 give 0, which validate() refuses.
int32_t scaled_width(const Shape& layer, double fraction) {
  if (!(fraction > 0)) return 0;
  const double channels = std::ceil(fraction * layer.d_ff - 1e-6);  // 0.1 · 30 is 3.0000000000000004
  const double steps = std::max(1.0, std::ceil(channels / std::max(1, layer.width_step)));
  return static_cast<int32_t>(std::min<double>(steps * std::max(1, layer.width_step), layer.d_ff));
}

}  // namespace

RoutingTopology full_topology(const RoutingShape& shape) {
  RoutingTopology t;
  t.model_hash = shape.model_hash;
  t.layers.resize(shape.layers.size());
  for (size_t i = 0; i < t.layers.size(); ++i) {
    const Shape& s = shape.layers[i];
    if (s.n_experts == 0) continue;
    LayerRouting& r = t.layers[i];
    r.n_experts = s.n_experts;
    r.allow.assign(static_cast<size_t>(s.n_experts), 1);
    for (size_t e = 0; e < r.allow.size(); ++e) r.allow[e] = s.has_weights(e);
    r.k_min = r.k_max = s.k;
  }
  return t;
}

Status validate(const RoutingTopology& t, const RoutingShape& shape) {
  if (t.model_hash != shape.model_hash) {
    return bad("model_hash", hash_to_hex(shape.model_hash) + " (this model)", hash_to_hex(t.model_hash) + " (another model)");
  }
  if (t.layers.size() != shape.layers.size()) {
    return bad("layers", std::to_string(shape.layers.size()), std::to_string(t.layers.size()));
  }
  MOE_TRY(check_classes(t, shape));
  for (size_t i = 0; i < t.layers.size(); ++i) {
    MOE_TRY((LayerCheck{t.layers[i], shape.layers[i], t.n_classes, "layer " + std::to_string(i) + ": "}.all()));
  }
  return Status::Ok();
}

uint64_t hash(const RoutingTopology& t) {
  Hasher h;
  h.add(t.model_hash);
  h.add(int32_t{t.n_classes});
  h.add(t.token_class, uint8_t{0});
  h.add(uint64_t{t.layers.size()});
  for (const LayerRouting& r : t.layers) {
    for (int v : {r.n_experts, r.k_min, r.k_max}) h.add(int32_t{v});
    h.add(r.threshold);
    h.add(r.temperature);
    h.add(r.allow, uint8_t{1});
    h.add(r.bias, 0.0f);
    h.add(r.width, int32_t{0});  // no value is neutral: 0 is invalid, and "all" depends on the model
    h.add(r.redirect, int32_t{-1});
  }
  return h.finish();
}

std::string hash_to_hex(uint64_t hash) {
  std::string s(16, '0');
  for (size_t i = 0; i < 16; ++i) s[i] = "0123456789abcdef"[(hash >> (60 - 4 * i)) & 15u];
  return s;
}

RoutingTopology with_k(const RoutingTopology& topology, const RoutingShape& shape, int k) {
  int most = 0;
  for (const Shape& s : shape.layers) most = std::max(most, s.n_experts);
  RoutingTopology t = topology;
  for (LayerRouting& r : t.layers) {
    if (r.k_max == 0) continue;
    const bool fixed = r.k_min == r.k_max;
    r.k_max = k > most ? k : std::min(k, r.n_experts);
    r.k_min = std::max(1, fixed ? r.k_max : std::min(r.k_min, r.k_max));  // k = 0 is no way to skip all layers
  }
  return t;
}

RoutingTopology with_threshold(const RoutingTopology& topology, float threshold) {
  RoutingTopology t = topology;
  for (LayerRouting& r : t.layers) {
    if (r.n_experts == 0) continue;
    r.threshold = threshold;
    r.k_min = std::min(1, r.k_max);
  }
  return t;
}

RoutingTopology with_width(const RoutingTopology& topology, const RoutingShape& shape, double fraction) {
  RoutingTopology t = topology;
  for (size_t i = 0; i < std::min(t.layers.size(), shape.layers.size()); ++i) {
    LayerRouting& r = t.layers[i];
    if (r.n_experts == 0) continue;
    r.width.clear();
    if (fraction >= 1) continue;
    r.width.assign(static_cast<size_t>(r.n_experts), scaled_width(shape.layers[i], fraction));
  }
  return t;
}

}  // namespace moe
