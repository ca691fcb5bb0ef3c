#include "tools/evolve_devices.h"

#include <algorithm>
#include <numeric>

#include "evolution/costs.h"
#include "evolution/pareto.h"
#include "tools/device_file.h"
#include "tools/evolve_front.h"

namespace moe::tools {
namespace {

Status add_limit(ObjectiveSet& set, const char* name, double limit) {
  MOE_ASSIGN(const ObjectiveDef* def, find_objective(name));
  const bool said = std::any_of(set.limits.begin(), set.limits.end(), [&](const auto& l) { return l.objective == def; });
  if (limit > 0 && !said) set.limits.push_back({def, limit});
  return Status::Ok();
}

// --- The least that a routing can cost ---

struct Least {
  Evaluation outside, fast, small;  // without routed experts; the fewest experts; and as many kept as the settings want
  double experts = 0;               // of `small`
};

class LeastCosts {
 public:
  LeastCosts(const Model& model, const EvolveConfig& config, const ModelCosts& costs)
      : shape_(model.routing_shape()), config_(config), costs_(costs) {}

  Result<Least> find(const DeviceProfile* device) {
    Least least;
    std::vector<int> kept(shape_.layers.size(), 0);
    MOE_ASSIGN(least.outside, cost(kept, device));
    int64_t total = 0;
    for (size_t l = 0; l < kept.size(); ++l) {
      total += shape_.layers[l].n_experts;
      if (shape_.layers[l].n_experts > 0 && !config_.skip)
        kept[l] = std::min(shape_.layers[l].n_experts, std::max({config_.kept_low, config_.k_low, 1}));
    }
    MOE_ASSIGN(least.fast, cost(kept, device));
    if (!config_.kept.empty()) {
      MOE_ASSIGN(const IntRange range, budget_range("constraints.kept", config_.kept, total));
      MOE_TRY(fill_up(kept, range.low));
    }
    MOE_ASSIGN(least.small, cost(kept, device));
    least.experts = std::accumulate(kept.begin(), kept.end(), 0.0);
    return least;
  }

 private:
  // Of a topology that keeps the first so many experts of each layer, a token using one of them.
  Result<Evaluation> cost(const std::vector<int>& kept, const DeviceProfile* device) {
    RoutingTopology t = full_topology(shape_);
    std::vector<LayerUse> uses(kept.size());
    for (size_t l = 0; l < kept.size(); ++l) {
      const RoutingShape::Layer& s = shape_.layers[l];
      LayerRouting& r = t.layers[l];
      if (s.n_experts == 0) continue;
      r.k_min = r.k_max = kept[l] > 0;
      if (kept[l] == 0) continue;
      int left = kept[l];
      for (size_t e = 0; e < r.allow.size(); ++e) r.allow[e] = r.allow[e] && left-- > 0;
      const int quarter = (s.d_ff / 4 + s.width_step - 1) / s.width_step * s.width_step;
      const int width = config_.widths ? std::clamp(quarter, std::min(s.width_step, s.d_ff), s.d_ff) : s.d_ff;
      if (width < s.d_ff) r.width.assign(static_cast<size_t>(s.n_experts), width);
      uses[l] = {1, static_cast<double>(width) / s.d_ff, {}};
    }
    MOE_ASSIGN(const Genome genome, genome_of(t, shape_, pool_));
    Evaluation e;
    costs_.fill(genome, uses, e);
    if (device) e.latency_ms = latency_on(*device, shape_, e.bytes_per_token, e.active_flops, e.k_mean);
    return e;
  }

  // More experts, where one costs the least.
  Status fill_up(std::vector<int>& kept, int64_t wanted) {
    std::vector<std::pair<double, size_t>> prices;
    MOE_ASSIGN(const Evaluation base, cost(kept, nullptr));
    for (size_t l = 0; l < kept.size(); ++l) {
      if (kept[l] >= shape_.layers[l].n_experts) continue;
      ++kept[l];
      const Result<Evaluation> more = cost(kept, nullptr);
      --kept[l];
      if (!more.ok()) return more.status();
      prices.emplace_back(more->resident_bytes - base.resident_bytes, l);
    }
    std::sort(prices.begin(), prices.end());
    int64_t missing = wanted - std::accumulate(kept.begin(), kept.end(), int64_t{0});
    for (const auto& [price, l] : prices) {
      const int64_t more = std::clamp<int64_t>(missing, 0, shape_.layers[l].n_experts - kept[l]);
      kept[l] += static_cast<int>(more), missing -= more;
    }
    return Status::Ok();
  }

  const RoutingShape& shape_;
  const EvolveConfig& config_;
  const ModelCosts& costs_;
  GenePool pool_;
};

}  // namespace

Result<std::vector<DeviceProfile>> devices_of(const EvolveConfig& config) {
  std::vector<DeviceProfile> devices;
  for (size_t begin = 0; begin < config.device.size();) {
    const size_t end = std::min(config.device.find(',', begin), config.device.size());
    const std::string name = config.device.substr(begin, end - begin);
    begin = end + 1;
    const auto known =
        std::find_if(config.devices.begin(), config.devices.end(), [&](const DeviceProfile& d) { return d.name == name; });
    if (known != config.devices.end()) {
      devices.push_back(*known);
    } else {
      MOE_ASSIGN(DeviceProfile device, read_device(name));
      devices.push_back(std::move(device));
    }
    for (size_t i = 0; i + 1 < devices.size(); ++i)
      if (device_front_name(devices[i]) == device_front_name(devices.back()))
        return Status::InvalidArgument("device " + name + ": wanted different names, found " + devices[i].name + " and " +
                                       devices.back().name);
  }
  return devices;
}

Result<ObjectiveSet> objectives_for(const EvolveConfig& config, const DeviceProfile* device) {
  ObjectiveSet set;
  for (const EvolveObjective& o : config.objectives) {
    MOE_ASSIGN(const ObjectiveDef* def, find_objective(o.name));
    set.objectives.push_back(def);
  }
  set.limits = config.limits;
  if (!device) return set;
  MOE_TRY(add_limit(set, "resident-bytes", device->memory_bytes));
  MOE_TRY(add_limit(set, "latency", device->target_latency_ms));
  return set;
}

Result<ObjectiveSet> search_objectives(const EvolveConfig& config, std::span<const DeviceProfile> devices) {
  if (devices.size() <= 1) return objectives_for(config, devices.empty() ? nullptr : &devices[0]);
  MOE_ASSIGN(ObjectiveSet set, objectives_for(config, nullptr));
  MOE_ASSIGN(const ObjectiveDef* latency, find_objective("latency"));
  std::erase_if(set.limits, [&](const ObjectiveLimit& l) { return l.objective == latency; });
  double most = 0;
  bool all = true;
  for (const DeviceProfile& d : devices) all = all && d.memory_bytes > 0, most = std::max(most, d.memory_bytes);
  if (all) MOE_TRY(add_limit(set, "resident-bytes", most));
  return set;
}

Status check_limits(const Model& model, const EvolveConfig& config, const DeviceProfile* device) {
  MOE_ASSIGN(const ObjectiveSet set, objectives_for(config, device));
  const auto is_cost = [](const ObjectiveLimit& l) {
    const std::string_view name = l.objective->name;
    return name == "resident-bytes" || name == "latency" || name == "bytes-per-token" || name == "active-flops";
  };
  if (std::none_of(set.limits.begin(), set.limits.end(), is_cost)) return Status::Ok();
  MOE_ASSIGN(const ModelCosts costs, ModelCosts::of(model));
  const Result<Least> least = LeastCosts(model, config, costs).find(device);
  if (!least.ok()) return Status::Ok();  // limits of groups of experts: no bound is known
  for (const ObjectiveLimit& l : set.limits) {
    if (!is_cost(l)) continue;
    const bool memory = std::string_view(l.objective->name) == "resident-bytes";
    const double found = l.objective->value(memory ? least->small : least->fast), outside = l.objective->value(least->outside);
    if (!(found > l.limit)) continue;
    const std::string experts = memory ? format_fixed(least->experts, 0) + " experts kept" : "one expert a token in each layer";
    return Status::InvalidArgument((device ? "device " + device->name + ": " : "") + l.objective->name + ": wanted at most " +
                                   value_text(*l.objective, l.limit) + ", found " + value_text(*l.objective, found) +
                                   " at least: " + value_text(*l.objective, outside) + " without routed experts + " +
                                   value_text(*l.objective, found - outside) + " for " + experts +
                                   (config.widths ? ", a quarter wide" : ""));
  }
  return Status::Ok();
}

double latency_on(const DeviceProfile& device, const RoutingShape& shape, double bytes_per_token, double active_flops,
                  double k_mean) {
  double routed = 0;
  for (const RoutingShape::Layer& l : shape.layers) routed += l.n_experts > 0;
  return latency_ms(device, bytes_per_token, active_flops, k_mean * routed);
}

Result<std::vector<size_t>> device_front(std::span<const Candidate> candidates, const ObjectiveSet& objectives,
                                         const DeviceProfile& device, const RoutingShape& shape, size_t most) {
  std::vector<Score> scores;
  std::vector<size_t> index;
  for (size_t i = 0; i < candidates.size(); ++i) {
    Evaluation e = candidates[i].evaluation;
    e.latency_ms = latency_on(device, shape, e.bytes_per_token, e.active_flops, e.k_mean);
    MOE_ASSIGN(const Score score, objectives.score(e));
    const bool new_values =
        std::none_of(scores.begin(), scores.end(), [&](const Score& s) { return s.values == score.values; });
    if (score.feasible() && new_values) scores.push_back(score), index.push_back(i);
  }
  if (scores.empty()) return std::vector<size_t>{};
  const int n = static_cast<int>(objectives.objectives.size());
  const Fronts fronts = sort_fronts(scores, n);
  std::vector<uint32_t> front(fronts[0].begin(), fronts[0].end());
  while (front.size() > most) {
    const std::vector<double> room = crowding_distances(scores, front, n);
    front.erase(front.begin() + (std::min_element(room.begin(), room.end()) - room.begin()));
  }
  std::stable_sort(front.begin(), front.end(),
                   [&](uint32_t a, uint32_t b) { return scores[a].values[0] < scores[b].values[0]; });
  std::vector<size_t> points;
  points.reserve(front.size());
  for (const uint32_t i : front) points.push_back(index[i]);
  return points;
}

std::string device_front_name(const DeviceProfile& device) {
  std::string name = "front-";
  for (const char c : device.name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
    name += plain ? c : '_';
  }
  return name + ".json";
}

// --- Whom a search measured ---

void ConfirmedLog::add(std::span<const Genome> genomes, std::span<const Evaluation> results) {
  for (size_t i = 0; i < genomes.size(); ++i) {
    const uint64_t h = hash(genomes[i]);
    const auto at = std::lower_bound(known_.begin(), known_.end(), h);
    if (at != known_.end() && *at == h) continue;
    known_.insert(at, h);
    candidates_.push_back({genomes[i], results[i], {}});
  }
}

Status ConfirmedLog::confirm(std::span<const Genome> genomes, std::span<Evaluation> results) {
  MOE_TRY(inner_.confirm(genomes, results));
  add(genomes, results);
  return Status::Ok();
}

Status ConfirmedLog::recall_confirm(std::span<const Genome> genomes) {
  recalled_.assign(genomes.begin(), genomes.end());
  return inner_.recall_confirm(genomes);
}

void ConfirmedLog::replayed(const GenerationRecord& record) {
  if (recalled_.size() == record.confirmed.size()) add(recalled_, record.confirmed);
  recalled_.clear();
}

}  // namespace moe::tools
