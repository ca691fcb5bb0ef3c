#include "evolution/constraints.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "evolution/masks.h"

namespace moe {
namespace {

Status refuse(const std::string& what, const std::string& wanted, const std::string& found) {
  return Status::InvalidArgument("constraints: " + what + ": wanted " + wanted + ", found " + found);
}

std::string str(int64_t v) { return std::to_string(v); }
std::string in_layer(int layer, const char* what) { return "layer " + std::to_string(layer) + ": " + what; }

// "14 x 8 + 2 x 10 = 132": one term for each run of equal numbers.
std::string sum_text(const std::vector<int64_t>& terms) {
  std::string s;
  for (size_t i = 0; i < terms.size();) {
    size_t end = i;
    while (end < terms.size() && terms[end] == terms[i]) ++end;
    s += (s.empty() ? "" : " + ") + str(static_cast<int64_t>(end - i)) + " x " + str(terms[i]);
    i = end;
  }
  return s + " = " + str(std::accumulate(terms.begin(), terms.end(), int64_t{0}));
}

int64_t sum(const std::vector<int64_t>& terms) { return std::accumulate(terms.begin(), terms.end(), int64_t{0}); }

// Fewest experts of a layer with which every token finds k, the protected ones among them.
int64_t fewest_kept(int k, int kept_low, Bits protect, const RoutingShape::Layer& layer) {
  std::vector<uint64_t> mask(protect.begin(), protect.end());
  while (guaranteed(mask, layer) < k || count_bits(mask) < kept_low) {
    const std::vector<uint64_t> more = next_to_add(mask, layer);
    if (count_bits(more) == 0) break;
    set_bit(mask, nth_bit(more, 0), true);
  }
  return count_bits(mask);
}

Status check_range(const char* name, const std::optional<IntRange>& range) {
  if (range && !(0 <= range->low && range->low <= range->high))
    return refuse(name, "0 <= low <= high", str(range->low) + " to " + str(range->high));
  return Status::Ok();
}

}  // namespace

Result<SearchSpace> SearchSpace::create(RoutingShape shape, Constraints constraints, Guides guides) {
  SearchSpace s;
  s.shape_ = std::move(shape), s.constraints_ = std::move(constraints), s.guides_ = std::move(guides);
  for (size_t i = 0; i < s.shape_.layers.size(); ++i)
    if (s.shape_.layers[i].n_experts > 0) s.routed_.push_back(static_cast<int>(i));
  if (s.routed_.empty()) return refuse("model", "a layer with experts", "none");
  MOE_TRY(s.bound_layers());
  MOE_TRY(s.check_guides());
  MOE_TRY(s.check_budgets());
  return s;
}

bool SearchSpace::may_skip(int layer) const { return constraints_.skip && count_bits(protect(layer)) == 0; }

std::span<const float> SearchSpace::saliency(int layer) const {
  if (guides_.saliency.empty()) return {};
  return guides_.saliency[static_cast<size_t>(layer)];
}

Status SearchSpace::bound_layers() {
  const Constraints& c = constraints_;
  if (c.k_low < 1) return refuse("k_low", "at least 1", str(c.k_low));
  if (c.k_high < 0) return refuse("k_high", "at least 1, or 0 for the model's own", str(c.k_high));
  if (c.kept_low < 1) return refuse("kept_low", "at least 1", str(c.kept_low));
  if (c.classes < 1 || c.classes > kMaxTokenClasses) return refuse("classes", "1 to " + str(kMaxTokenClasses), str(c.classes));
  if (c.narrowest < 1 || c.narrowest > kQuarters) return refuse("narrowest", "1 to " + str(kQuarters), str(c.narrowest));
  if (!(c.temperature_low > 0 && c.temperature_low <= c.temperature_high && std::isfinite(c.temperature_high)))
    return refuse("temperature", "0 < low <= high",
                  std::to_string(c.temperature_low) + " to " + std::to_string(c.temperature_high));
  if (!(c.bias_high >= 0 && std::isfinite(c.bias_high))) return refuse("bias_high", "0 or more", std::to_string(c.bias_high));
  const size_t n_layers = shape_.layers.size();
  if (!c.protect.empty() && c.protect.size() != n_layers)
    return refuse("protect", "none or " + str(static_cast<int64_t>(n_layers)) + " layers", std::to_string(c.protect.size()));
  bounds_.resize(n_layers);
  for (const int i : routed_) {
    const RoutingShape::Layer& layer = shape(i);
    Bounds& b = bounds_[static_cast<size_t>(i)];
    const int most = guaranteed(everyone(layer.n_experts), layer);
    b.k_low = c.k_low, b.k_high = std::min(c.k_high > 0 ? c.k_high : layer.k, most);
    if (b.k_low > b.k_high) {
      const std::string wanted = "k from k_low = " + str(b.k_low) + " on";
      return refuse(in_layer(i, "k"), wanted, "at most " + str(b.k_high) + " of " + str(layer.n_experts) + " experts");
    }
    if (c.kept_low > layer.n_experts)
      return refuse(in_layer(i, "kept_low"), "at most the layer's " + str(layer.n_experts) + " experts", str(c.kept_low));
    for (int q = 0; q <= kQuarters; ++q)
      b.width_setting[static_cast<size_t>(q)] = widest_alike(std::max(q, c.narrowest), layer);
    b.protect.assign((static_cast<size_t>(layer.n_experts) + 63) / 64, 0);
    if (c.protect.empty()) continue;
    for (const int32_t e : c.protect[static_cast<size_t>(i)]) {
      if (e < 0 || e >= layer.n_experts) return refuse(in_layer(i, "protect"), "0 to " + str(layer.n_experts - 1), str(e));
      set_bit(b.protect, e, true);
    }
  }
  return Status::Ok();
}

Status SearchSpace::check_guides() const {
  const size_t n_layers = shape_.layers.size();
  const auto layers = [&](const char* what, size_t found) {
    return refuse(what, "none or " + std::to_string(n_layers) + " layers", std::to_string(found));
  };
  if (!guides_.saliency.empty() && guides_.saliency.size() != n_layers) return layers("saliency", guides_.saliency.size());
  if (!guides_.groups.empty() && guides_.groups.size() != n_layers) return layers("groups", guides_.groups.size());
  if (!guides_.token_group.empty() && guides_.token_group.size() != static_cast<size_t>(shape_.n_vocab))
    return refuse("token_group", "none or " + str(shape_.n_vocab) + " tokens", std::to_string(guides_.token_group.size()));
  if (!(guides_.bias_step > 0 && std::isfinite(guides_.bias_step)))
    return refuse("bias_step", "a number above 0", std::to_string(guides_.bias_step));
  for (const int i : routed_) {
    const int n = shape(i).n_experts;
    const std::span<const float> s = saliency(i);
    if (!s.empty() && s.size() != static_cast<size_t>(n))
      return refuse(in_layer(i, "saliency"), str(n) + " numbers", std::to_string(s.size()));
    for (const float v : s)
      if (!std::isfinite(v)) return refuse(in_layer(i, "saliency"), "finite numbers", std::to_string(v));
    if (guides_.groups.empty()) continue;
    for (const std::vector<int32_t>& group : guides_.groups[static_cast<size_t>(i)])
      for (const int32_t e : group)
        if (e < 0 || e >= n) return refuse(in_layer(i, "groups"), "experts from 0 to " + str(n - 1), str(e));
  }
  return Status::Ok();
}

// Every sum that has to be reached is compared with the least and the most that the layers can give together.
Status SearchSpace::check_budgets() const {
  const auto& [kept, active] = std::tie(constraints_.kept, constraints_.active);
  MOE_TRY(check_range("kept", kept));
  MOE_TRY(check_range("active", active));
  std::vector<int64_t> k, most_k, experts, needed;
  for (const int i : routed_) k.push_back(k_low(i)), most_k.push_back(k_high(i)), experts.push_back(shape(i).n_experts);
  if (active && active->high < sum(k))
    return refuse("active", "at least the sum of every layer's k_low, " + sum_text(k), "at most " + str(active->high));
  if (active && active->low > sum(most_k))
    return refuse("active", "at most the sum of every layer's k_high, " + sum_text(most_k), "at least " + str(active->low));
  if (kept && kept->low > sum(experts))
    return refuse("kept", "at most the experts that there are, " + sum_text(experts), "at least " + str(kept->low));
  if (!kept) return Status::Ok();

  const auto need = [&](size_t at, int64_t wanted_k) {
    return fewest_kept(static_cast<int>(wanted_k), constraints_.kept_low, protect(routed_[at]), shape(routed_[at]));
  };
  for (size_t i = 0; i < routed_.size(); ++i) needed.push_back(need(i, k[i]));
  while (active && sum(k) < active->low) {  // one more where that costs the fewest experts
    size_t best = routed_.size();
    int64_t least = 0;
    for (size_t i = 0; i < routed_.size(); ++i) {
      if (k[i] == most_k[i]) continue;
      const int64_t more = need(i, k[i] + 1) - needed[i];
      if (best == routed_.size() || more < least) best = i, least = more;
    }
    ++k[best], needed[best] += least;
  }
  if (kept->high < sum(needed)) {
    const std::string why =
        active ? " (protected ones, and k that add up to " + str(sum(k)) + ")" : " (k_low, kept_low and protected ones)";
    return refuse("kept", "at least what every layer needs" + why + ", " + sum_text(needed), "at most " + str(kept->high));
  }
  return Status::Ok();
}

}  // namespace moe
