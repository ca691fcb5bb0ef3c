#include "models/config.h"

#include <cmath>
#include <type_traits>

namespace moe {
namespace {

constexpr int kMostLayers = 10000;
constexpr int kMostWidth = 1 << 24;  // of any extent: products of three stay below 2^63 after the tensor checks

Status read_number(const Metadata& m, const std::string& key, int& out) {
  // Head counts may be arrays, one a layer.
  if (const MetadataEntry* e = m.find(key); e && e->type == GgufType::kArray) {
    MOE_ASSIGN(const std::vector<int32_t> all, m.get_array<int32_t>(key));
    for (const int32_t x : all)
      if (x != all[0]) return Status::Unsupported(m.source() + ": key '" + key + "': values that differ between layers");
    if (all.empty()) return Status::Corrupt(m.source() + ": key '" + key + "': wanted at least one element, found none");
    out = all[0];
  } else {
    MOE_ASSIGN(out, m.get<int32_t>(key));
  }
  if (out < 0 || out > kMostWidth)
    return Status::Corrupt(m.source() + ": key '" + key + "': wanted 0 to " + std::to_string(kMostWidth) + ", found " +
                           std::to_string(out));
  return Status::Ok();
}

Status read_number(const Metadata& m, const std::string& key, float& out) {
  MOE_ASSIGN(out, m.get<float>(key));
  if (!std::isfinite(out))
    return Status::Corrupt(m.source() + ": key '" + key + "': wanted a finite number, found " + std::to_string(out));
  return Status::Ok();
}

Status read_number(const Metadata& m, const std::string& key, bool& out) {
  MOE_ASSIGN(out, m.get<bool>(key));
  return Status::Ok();
}

Status read_number(const Metadata& m, const std::string& key, std::string& out) {
  MOE_ASSIGN(out, m.get<std::string>(key));
  return Status::Ok();
}

std::string number_text(double v) {
  const auto whole = static_cast<int64_t>(v);  // ranges end far below 2^63
  return static_cast<double>(whole) == v ? std::to_string(whole) : std::to_string(v);
}

Status check_range(const Metadata& m, const ModelConfig& c, const char* suffix, double value, double low, double high) {
  if (value >= low && value <= high) return Status::Ok();
  return Status::Corrupt(m.source() + ": key '" + c.arch + "." + suffix + "': wanted " + number_text(low) + " to " +
                         number_text(high) + ", found " + number_text(value));
}

Status fill_defaults_and_check(const Metadata& m, ModelConfig& c) {
  MOE_TRY(check_range(m, c, "block_count", c.n_layer, 1, kMostLayers));
  MOE_TRY(check_range(m, c, "embedding_length", c.d_model, 1, kMostWidth));
  MOE_TRY(check_range(m, c, "context_length", c.n_ctx_train, 1, kMostWidth));
  MOE_TRY(check_range(m, c, "attention.head_count", c.n_head, 1, 65536));
  if (c.n_kv_head == 0) c.n_kv_head = c.n_head;
  if (c.n_head % c.n_kv_head != 0)
    return Status::Corrupt(m.source() + ": key '" + c.arch + ".attention.head_count_kv': wanted a divisor of head_count " +
                           std::to_string(c.n_head) + ", found " + std::to_string(c.n_kv_head));
  if (c.head_dim == 0) c.head_dim = c.d_model / c.n_head;
  if (c.v_dim == 0) c.v_dim = c.d_model / c.n_head;
  MOE_TRY(check_range(m, c, "attention.key_length", c.head_dim, 1, 65536));
  MOE_TRY(check_range(m, c, "attention.value_length", c.v_dim, 1, 65536));
  if (c.rope_dims == 0) c.rope_dims = c.head_dim;
  MOE_TRY(check_range(m, c, "rope.dimension_count", c.rope_dims, 2, c.head_dim));
  if (c.rope_dims % 2 != 0)
    return Status::Corrupt(m.source() + ": key '" + c.arch + ".rope.dimension_count': wanted an even number, found " +
                           std::to_string(c.rope_dims));
  MOE_TRY(check_range(m, c, "rope.freq_base", c.rope_base, 1, 1e12));
  MOE_TRY(check_range(m, c, "rope.scaling.factor", c.rope_factor, 0, 1e6));
  MOE_TRY(check_range(m, c, "attention.layer_norm_rms_epsilon", c.norm_eps, 0, 1));
  if (!c.rope_scaling.empty() && c.rope_scaling != "none" && c.rope_scaling != "linear" && c.rope_scaling != "yarn")
    return Status::Unsupported(m.source() + ": key '" + c.arch + ".rope.scaling.type': wanted none, linear or yarn, found '" +
                               c.rope_scaling + "'");
  if (c.rope_original_ctx == 0) c.rope_original_ctx = c.n_ctx_train;
  if (c.n_expert > 0) {
    MOE_TRY(check_range(m, c, "expert_count", c.n_expert, 1, 65536));
    MOE_TRY(check_range(m, c, "expert_used_count", c.n_expert_used, 1, c.n_expert));
  }
  MOE_TRY(check_range(m, c, "expert_gating_func", c.gating, 0, 3));
  return Status::Ok();
}

// Groups of group-limited routing are runs of equal length of the router's rows.
Status check_groups(const Metadata& m, const ModelConfig& c) {
  if (c.n_expert == 0 || c.n_group <= 1) return Status::Ok();
  MOE_TRY(check_range(m, c, "expert_group_used_count", c.topk_group, 1, c.n_group));
  const auto divides = [&](int rows) {
    if (rows % c.n_group == 0) return Status::Ok();
    return Status::Corrupt(m.source() + ": key '" + c.arch + ".expert_group_count': wanted a divisor of expert_count " +
                           std::to_string(rows) + ", found " + std::to_string(c.n_group));
  };
  for (const LayerExperts& layer : c.layer_experts) MOE_TRY(divides(layer.rows));
  if (!c.layer_experts.empty()) return Status::Ok();  // its topology is checked against every layer when it is loaded
  MOE_TRY(divides(c.n_expert));
  const int reachable = c.n_expert / c.n_group * c.topk_group;
  if (reachable >= c.n_expert_used) return Status::Ok();
  return Status::Corrupt(m.source() + ": key '" + c.arch +
                         ".expert_group_used_count': wanted groups that hold expert_used_count " +
                         std::to_string(c.n_expert_used) + " experts, found " + std::to_string(c.topk_group) + " groups with " +
                         std::to_string(reachable));
}

}  // namespace

Result<ModelConfig> read_config(const Metadata& m) {
  ModelConfig c;
  MOE_ASSIGN(c.arch, m.get<std::string>("general.architecture"));
  MOE_ASSIGN(c.name, m.get_or<std::string>("general.name", ""));
  Status first;
  visit_config(c, [&](const char* suffix, auto& member, bool required) {
    const std::string key = c.arch + "." + suffix;
    if (!first.ok()) return;
    if (m.has(key))
      first = read_number(m, key, member);
    else if (required)
      first = Status::NotFound(m.source() + ": key '" + key + "' is missing");
  });
  MOE_TRY(first);
  MOE_TRY(fill_defaults_and_check(m, c));
  MOE_ASSIGN(c.layer_experts, read_expert_layout(m, c.n_layer, c.n_expert));
  MOE_TRY(check_groups(m, c));
  return c;
}

LayerExperts ModelConfig::experts_of(int layer) const {
  if (layer_experts.empty()) return {n_expert, n_expert, d_ff_expert, {}};
  LayerExperts e = layer_experts[static_cast<size_t>(layer)];
  if (e.d_ff == 0) e.d_ff = d_ff_expert;
  return e;
}

void write_config(const ModelConfig& c, Metadata& m) {
  m.set("general.architecture", c.arch);
  if (!c.name.empty()) m.set("general.name", c.name);
  const ModelConfig defaults;
  const auto key = [&](const char* suffix) { return c.arch + "." + suffix; };
  visit_config(c, [&](const char* suffix, const auto& member, bool required) {
    using T = std::decay_t<decltype(member)>;
    bool differs = required;
    visit_config(defaults, [&](const char* other, const auto& value, bool) {
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, T>)
        if (std::string_view(other) == suffix && value != member) differs = true;
    });
    if (!differs) return;
    if constexpr (std::is_same_v<T, int>)
      m.set(key(suffix), static_cast<uint32_t>(member));
    else
      m.set(key(suffix), member);
  });
  write_expert_layout(c.layer_experts, c.n_dense_lead, c.n_expert, c.d_ff_expert, m);
}

}  // namespace moe
