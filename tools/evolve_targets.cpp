#include "tools/evolve_targets.h"

#include <algorithm>
#include <cmath>

#include "tools/byte_size.h"

namespace moe::tools {
namespace {

constexpr int kMostItems = 1000;
constexpr const char* kMaxMemory = "constraints.max_memory";

struct GroupDef {
  const char* name;
  bool list;           // "texts.0.name"; else "limits.latency"
  const char* fields;  // of a list's items, for messages
  const char* example;
  const char* meaning;
};
constexpr GroupDef kGroups[] = {
    {"texts", true, "name, file", "[{name: …, file: a.txt}, …]", "kinds of text: plain, .jsonl, or .tok of moe-train tokens"},
    {"objectives", true, "name, weight, target", "[{name: kl}, {name: latency, weight: 0.2, target: 10}, …]",
     "a target is a limit; weights choose a point at the end, or are what genetic and level-switch minimise the sum of"},
    {"limits", false, "", "{resident-bytes: 2GB, latency: 12}", "of objectives: what misses them goes behind what keeps them"},
    {"hardware_targets", true, "name, memory, compute, target_latency", "[{name: edge, memory: 1GB, compute: int8}, …]",
     "edge, mobile, server with numbers of their own: a front for each, or for those of device"},
};

const GroupDef* group_of(std::string_view name) {
  const std::string_view first = name.substr(0, name.find('.'));
  for (const GroupDef& g : kGroups)
    if (first == g.name) return &g;
  return nullptr;
}

// Names that others use for objectives of ours.
struct Alias {
  const char *name, *ours;
  bool complement;  // 1 − value
};
constexpr Alias kAliases[] = {
    {"sparsity", "kept-share", true}, {"memory", "resident-bytes", false}, {"flops", "active-flops", false}};

struct NamedObjective {
  const ObjectiveDef* def = nullptr;
  bool complement = false;
};
Result<NamedObjective> objective_of(const std::string& name) {
  for (const Alias& a : kAliases)
    if (name == a.name) {
      MOE_ASSIGN(const ObjectiveDef* def, find_objective(a.ours));
      return NamedObjective{def, a.complement};
    }
  MOE_ASSIGN(const ObjectiveDef* def, find_objective(name));
  return NamedObjective{def, false};
}

Status refuse(const ConfigEntry& e, const std::string& wanted) {
  return Status::InvalidArgument(e.name + ": wanted " + wanted + ", found '" + e.value + "'").Annotate(e.where);
}

Result<ObjectiveLimit> limit_of(const NamedObjective& o, const ConfigEntry& e) {
  double limit = 0;
  if (!parse_value(e.value, limit) || !std::isfinite(limit)) {
    const auto bytes = std::string(o.def->unit) == "B" ? parse_bytes(e.value) : Status::InvalidArgument("");
    if (!bytes.ok()) return refuse(e, std::string(o.def->unit) == "B" ? "a size such as 2GB" : "a number");
    limit = *bytes;
  }
  return ObjectiveLimit{o.def, o.complement ? 1 - limit : limit};
}

// The later one counts.
void set_limit(EvolveConfig& c, const ObjectiveLimit& limit) {
  std::erase_if(c.limits, [&](const ObjectiveLimit& l) { return l.objective == limit.objective; });
  c.limits.push_back(limit);
}

Status check_fields(const GroupDef& group, const std::map<std::string, ConfigEntry>& fields) {
  const std::string known = std::string(", ") + group.fields + ",";
  for (const auto& [field, entry] : fields)
    if (known.find(", " + field + ",") == std::string::npos)
      return Status::InvalidArgument(entry.name + ": wanted one of " + group.fields).Annotate(entry.where);
  return Status::Ok();
}

}  // namespace

bool TargetEntries::takes(std::string_view name) const { return name == kMaxMemory || group_of(name) != nullptr; }

Status TargetEntries::add(const ConfigEntry& e) {
  if (e.name == kMaxMemory) {
    groups_["limits"].named["resident-bytes"] = e;
    return Status::Ok();
  }
  const GroupDef& def = *group_of(e.name);
  Group& group = groups_[def.name];
  if (e.name == def.name) {
    if (!e.value.empty()) return Status::InvalidArgument(e.name + ": wanted " + def.example + ", found '" + e.value + "'");
    group = {};
    return Status::Ok();
  }
  const std::string rest = e.name.substr(std::string(def.name).size() + 1);
  if (!def.list) return group.named[rest] = e, Status::Ok();
  const size_t dot = rest.find('.');
  int index = 0;
  if (dot == std::string::npos || !parse_value(rest.substr(0, dot), index) || index < 0 || index >= kMostItems)
    return Status::InvalidArgument(e.name + ": wanted " + def.name + " to be a list, " + def.example);
  group.items[index][rest.substr(dot + 1)] = e;
  return Status::Ok();
}

Status TargetEntries::objectives(EvolveConfig& c) const {
  const auto found = groups_.find("objectives");
  if (found == groups_.end() || found->second.items.empty()) {
    c.objectives = {{"kl", {}}, {"bytes-per-token", {}}};
    return Status::Ok();
  }
  for (const auto& [index, fields] : found->second.items) {
    MOE_TRY(check_fields(*group_of("objectives"), fields));
    const auto name = fields.find("name");
    if (name == fields.end()) return Status::InvalidArgument("objectives: wanted a name for each");
    Result<NamedObjective> o = objective_of(name->second.value);
    if (!o.ok()) return o.status().Annotate(name->second.where);
    for (const EvolveObjective& other : c.objectives)
      if (other.name == o->def->name) return refuse(name->second, "each objective once");
    EvolveObjective objective{o->def->name, {}};
    if (const auto weight = fields.find("weight"); weight != fields.end()) {
      double w = 0;
      if (!parse_value(weight->second.value, w) || !std::isfinite(w)) return refuse(weight->second, "a number");
      if (w < 0 && (o->def->maximise || o->complement)) return refuse(weight->second, "at least 0 for what should be large");
      objective.weight = std::fabs(w);  // of what should be small others write a minus
    }
    if (const auto target = fields.find("target"); target != fields.end()) {
      MOE_ASSIGN(const ObjectiveLimit limit, limit_of(*o, target->second));
      set_limit(c, limit);
    }
    c.objectives.push_back(objective);
  }
  const auto weighted =
      std::count_if(c.objectives.begin(), c.objectives.end(), [](const auto& o) { return o.weight.has_value(); });
  if (weighted != 0 && weighted != static_cast<std::ptrdiff_t>(c.objectives.size()))
    return Status::InvalidArgument("objectives: wanted weights for all or for none");
  if (c.objectives.size() > static_cast<size_t>(kMostObjectives))
    return Status::InvalidArgument("objectives: wanted at most " + std::to_string(kMostObjectives));
  return Status::Ok();
}

Status TargetEntries::limits(EvolveConfig& c) const {
  const auto found = groups_.find("limits");
  if (found == groups_.end()) return Status::Ok();
  for (const auto& [name, entry] : found->second.named) {
    Result<NamedObjective> o = objective_of(name);
    if (!o.ok()) return o.status().Annotate(entry.where);
    MOE_ASSIGN(const ObjectiveLimit limit, limit_of(*o, entry));
    set_limit(c, limit);
  }
  return Status::Ok();
}

Status TargetEntries::texts(EvolveConfig& c) const {
  const auto found = groups_.find("texts");
  if (found == groups_.end()) return Status::Ok();
  for (const auto& [index, fields] : found->second.items) {
    MOE_TRY(check_fields(*group_of("texts"), fields));
    const auto name = fields.find("name"), file = fields.find("file");
    if (file == fields.end()) return Status::InvalidArgument("texts: wanted a file for each");
    c.texts.push_back({name == fields.end() ? file->second.value : name->second.value, file->second.value});
  }
  return Status::Ok();
}

// A shipped profile with the numbers of the file; of its rates of arithmetic only the one named.
Status TargetEntries::devices(EvolveConfig& c) const {
  const auto found = groups_.find("hardware_targets");
  if (found == groups_.end()) return Status::Ok();
  for (const auto& [index, fields] : found->second.items) {
    MOE_TRY(check_fields(*group_of("hardware_targets"), fields));
    const auto name = fields.find("name");
    if (name == fields.end()) return Status::InvalidArgument("hardware_targets: wanted a name for each");
    std::vector<DeviceProfile> shipped = shipped_devices();
    const auto base =
        std::find_if(shipped.begin(), shipped.end(), [&](const DeviceProfile& d) { return d.name == name->second.value; });
    if (base == shipped.end())
      return refuse(name->second,
                    "edge, mobile or server, whose rates are known; others as files of moe-bench calibrate (--device-profile)");
    DeviceProfile d = *base;
    if (const auto memory = fields.find("memory"); memory != fields.end()) {
      const auto bytes = parse_bytes(memory->second.value);
      if (!bytes.ok()) return refuse(memory->second, "a size such as 2GB");
      d.memory_bytes = *bytes;
    }
    if (const auto latency = fields.find("target_latency"); latency != fields.end())
      if (!parse_value(latency->second.value, d.target_latency_ms) || !(d.target_latency_ms > 0))
        return refuse(latency->second, "milliseconds above 0");
    if (const auto compute = fields.find("compute"); compute != fields.end()) {
      const std::string& kind = compute->second.value;
      if (kind != "int8" && kind != "fp16" && kind != "fp32") return refuse(compute->second, "int8, fp16 or fp32");
      if (kind != "int8") d.int8_gops = 0;
      if (kind != "fp16") d.fp16_gflops = 0;
      if (kind != "fp32") d.fp32_gflops = 0;
    }
    MOE_ASSIGN(DeviceProfile device, device_from_json(to_json(d)));  // its latency after those numbers
    c.devices.push_back(std::move(device));
  }
  if (c.device.empty())
    for (const DeviceProfile& d : c.devices) c.device += (c.device.empty() ? "" : ",") + d.name;
  return Status::Ok();
}

Status TargetEntries::finish(EvolveConfig& c) const {
  MOE_TRY(objectives(c));
  MOE_TRY(limits(c));
  MOE_TRY(texts(c));
  return devices(c);
}

std::string describe_targets() {
  std::string text;
  for (const GroupDef& g : kGroups) text += setting_line(g.name, g.example, g.meaning);
  return text + setting_line(kMaxMemory, "4GB", "the same as limits.resident-bytes");
}

Result<IntRange> budget_range(const std::string& name, const std::string& text, int64_t total) {
  const auto refused = [&] {
    return Status::InvalidArgument(name + ": wanted a number, a share or a range such as 64, 50% or 25%-50%, found '" + text +
                                   "'");
  };
  const auto one = [&](const std::string& part) -> Result<int64_t> {
    const bool share = part.ends_with('%');
    double value = 0;
    if (!parse_value(share ? part.substr(0, part.size() - 1) : part, value) || !(value >= 0)) return refused();
    if (share && value > 100) return refused();
    if (!share && (value != std::floor(value) || value > 1e9)) return refused();
    return static_cast<int64_t>(std::llround(share ? value / 100 * static_cast<double>(total) : value));
  };
  const size_t dash = text.find('-');
  MOE_ASSIGN(const int64_t low, one(text.substr(0, dash)));
  int64_t high = low;
  if (dash != std::string::npos) {
    MOE_ASSIGN(high, one(text.substr(dash + 1)));
  }
  if (high < low) return refused();
  return IntRange{low, high};
}

std::vector<std::string> warnings_of(const EvolveConfig& c) {
  std::vector<std::string> warnings;
  std::vector<std::string> units;
  for (const EvolveObjective& o : c.objectives) {
    const auto def = find_objective(o.name);
    if (!o.weight || !def.ok()) continue;
    const std::string unit = (*def)->unit;
    if (std::find(units.begin(), units.end(), unit) == units.end()) units.push_back(unit);
  }
  if (units.size() > 1)
    warnings.push_back(
        std::string("weights of objectives with different units: each counts as a share of the full model's value, and which "
                    "share is worth which is your choice; ") +
        (weights_count(c) ? "nsga2 finds the whole front"
                          : "the search finds the whole front, weights only choose a point of it"));
  const bool sized = std::any_of(c.objectives.begin(), c.objectives.end(), [](const EvolveObjective& o) {
    const auto def = find_objective(o.name);
    return def.ok() && (*def)->tier == Tier::kScreen && o.name != "layer-error";
  });
  if (!sized && c.kept.empty() && c.active.empty() && c.limits.empty())
    warnings.push_back(
        "nothing asks for a smaller or faster model (an objective, a limit, --kept or --active): the full one wins");
  return warnings;
}

}  // namespace moe::tools
