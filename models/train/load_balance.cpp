#include "models/train/load_balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "core/mathx.h"

namespace moe {

void count_uses(std::span<const int32_t> ids, std::span<uint32_t> uses) {
  for (const int32_t id : ids) {
    if (id < 0) continue;
    MOE_CHECK(static_cast<size_t>(id) < uses.size());
    ++uses[static_cast<size_t>(id)];
  }
}

// Integers compare exactly: an expert at the mean stays where it is.
void update_selection_bias(std::span<const uint32_t> uses, float speed, std::span<float> bias) {
  MOE_CHECK(uses.size() == bias.size());
  const uint64_t total = std::accumulate(uses.begin(), uses.end(), uint64_t{0});
  for (size_t e = 0; e < uses.size(); ++e) {
    const uint64_t scaled = uint64_t{uses[e]} * uses.size();
    if (scaled < total) bias[e] += speed;
    if (scaled > total) bias[e] -= speed;
  }
}

Status validate(const UsageTargets& t) {
  if (t.window < 1) return Status::InvalidArgument("usage window: wanted 1 step or more, found " + std::to_string(t.window));
  if (!(t.target > 0 && t.target <= 1))
    return Status::InvalidArgument("target utilisation: wanted above 0 and at most 1, found " + std::to_string(t.target));
  if (!(t.threshold >= 0 && std::isfinite(t.threshold)))
    return Status::InvalidArgument("utilisation threshold: wanted 0 or more, found " + std::to_string(t.threshold));
  return Status::Ok();
}

UsageMonitor::UsageMonitor(const std::vector<int>& n_experts, const UsageTargets& targets) : targets_(targets) {
  MOE_CHECK(validate(targets).ok());
  for (const int n : n_experts) {
    Layer l;
    l.n_experts = static_cast<size_t>(n);
    l.sum.resize(l.n_experts);
    layers_.push_back(std::move(l));
  }
}

void UsageMonitor::add(size_t layer, std::span<const uint32_t> uses) {
  MOE_CHECK(layer < layers_.size() && uses.size() == layers_[layer].n_experts);
  Layer& l = layers_[layer];
  if (l.steps < static_cast<size_t>(targets_.window)) l.ring.resize(++l.steps * l.n_experts);
  for (size_t e = 0; e < uses.size(); ++e) {
    uint32_t& slot = l.ring[l.next * l.n_experts + e];
    l.sum[e] += uint64_t{uses[e]} - slot;
    slot = uses[e];
  }
  l.next = (l.next + 1) % static_cast<size_t>(targets_.window);
}

LayerUsage UsageMonitor::usage(size_t layer) const {
  MOE_CHECK(layer < layers_.size());
  const Layer& l = layers_[layer];
  LayerUsage u;
  u.steps = static_cast<int>(l.steps);
  u.uses = l.sum;
  u.share.resize(l.n_experts);
  const double total = static_cast<double>(std::accumulate(l.sum.begin(), l.sum.end(), uint64_t{0}));
  if (total == 0) return u;
  const double n = static_cast<double>(l.n_experts);
  double squares = 0, entropy = 0;
  for (size_t e = 0; e < l.n_experts; ++e) {
    const double share = static_cast<double>(l.sum[e]) / total, of_fair = share * n;
    u.share[e] = share;
    squares += (of_fair - 1) * (of_fair - 1);
    if (share > 0) entropy -= share * mathx::log(share);
    const double distance = targets_.target * (of_fair - 1);
    if (distance > targets_.threshold) u.over.push_back(static_cast<int>(e));
    if (-distance > targets_.threshold) u.under.push_back(static_cast<int>(e));
  }
  u.variation = std::sqrt(squares / n);
  if (l.n_experts > 1) u.entropy = entropy / mathx::log(n);
  return u;
}

std::vector<uint32_t> UsageMonitor::save() const {
  std::vector<uint32_t> saved;
  for (const Layer& l : layers_) {
    saved.push_back(static_cast<uint32_t>(l.steps));
    const size_t oldest = l.steps == static_cast<size_t>(targets_.window) ? l.next * l.n_experts : 0;
    const auto middle = l.ring.begin() + static_cast<std::ptrdiff_t>(oldest);
    saved.insert(saved.end(), middle, l.ring.end());
    saved.insert(saved.end(), l.ring.begin(), middle);
  }
  return saved;
}

Status UsageMonitor::restore(std::span<const uint32_t> saved) {
  std::vector<int> n_experts;
  for (const Layer& l : layers_) n_experts.push_back(static_cast<int>(l.n_experts));
  UsageMonitor restored(n_experts, targets_);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    const std::string where = "usage of layer " + std::to_string(layer);
    if (saved.empty()) return Status::Corrupt(where + ": wanted its number of steps, found the end");
    const size_t steps = saved[0], experts = layers_[layer].n_experts;
    saved = saved.subspan(1);
    if (steps > static_cast<size_t>(targets_.window))
      return Status::Corrupt(where + ": wanted at most " + std::to_string(targets_.window) + " steps, found " +
                             std::to_string(steps));
    if (saved.size() < steps * experts)
      return Status::Corrupt(where + ": wanted " + std::to_string(steps * experts) + " counts, found " +
                             std::to_string(saved.size()));
    for (size_t s = 0; s < steps; ++s) restored.add(layer, saved.subspan(s * experts, experts));
    saved = saved.subspan(steps * experts);
  }
  if (!saved.empty())
    return Status::Corrupt("usage: wanted " + std::to_string(layers_.size()) + " layers, found " +
                           std::to_string(saved.size()) + " numbers more");
  *this = std::move(restored);
  return Status::Ok();
}

}  // namespace moe
