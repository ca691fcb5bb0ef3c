#include "models/specialise_keys.h"

#include <algorithm>

namespace moe {
namespace {

// What holds for the model as a whole: the numbers for the architecture's own keys.
struct Common {
  int experts = 0, used = 0, width = 0;
  int n_group = 1, topk_group = 1;
};

Common common_of(const Carving& carving) {
  Common c;
  for (const RoutingShape::Layer& l : carving.shape.layers) {
    if (l.n_experts == 0) continue;
    c.n_group = l.n_group, c.topk_group = l.topk_group;
    c.used = std::max(c.used, l.k), c.width = std::max(c.width, l.d_ff);
  }
  for (const CarvedLayer& l : carving.layers) c.experts = std::max(c.experts, l.layout.n);
  return c;
}

std::vector<LayerExperts> layouts_of(const Carving& carving) {
  std::vector<LayerExperts> layouts;
  for (const CarvedLayer& l : carving.layers) layouts.push_back(l.layout);
  return layouts;
}

class KeyWriter {
 public:
  KeyWriter(const Model& model, const Carving& carving, SpecialisePlan& plan)
      : model_(model), config_(model.config()), carving_(carving), plan_(plan), common_(common_of(carving)) {}

  Status run(const RoutingTopology& from) {
    Metadata& m = plan_.metadata;
    m = model_.metadata();
    for (const MetadataEntry& e : model_.metadata().entries())
      if (e.key.starts_with(kTrainingKeys)) m.remove(e.key);
    set("expert_count", common_.experts);
    set("expert_used_count", std::min(common_.used, common_.experts));
    if (config_.n_group > 1) set("expert_group_count", common_.n_group), set("expert_group_used_count", common_.topk_group);
    MOE_TRY(set_width());
    if (write_expert_layout(layouts_of(carving_), config_.n_dense_lead, common_.experts, common_.width, m))
      refused("the layers have different numbers of experts or channels, or routers with rows for experts that are gone");
    set_topology();
    MOE_TRY(set_lineage(from));
    return check();
  }

 private:
  void set(const std::string& suffix, int value) {
    plan_.metadata.set(config_.arch + "." + suffix, static_cast<uint32_t>(value));
  }
  bool has(const std::string& suffix) const { return plan_.metadata.has(config_.arch + "." + suffix); }

  void refused(const std::string& why) {
    plan_.elsewhere = Elsewhere::kRefused;
    plan_.notes.push_back("other GGUF engines will refuse this file: " + why);
  }

  // The configuration that a file would have whose experts have this width.
  Result<ModelConfig> settled_with(int width) const {
    MOE_ASSIGN(const ArchDef* arch, find_arch(config_.arch));
    MOE_ASSIGN(ModelConfig c, read_config(model_.metadata()));
    c.d_ff_expert = width;
    MOE_TRY(arch->configure(c, model_.file().name()));
    return c;
  }

  Status set_width() {
    if (common_.width == config_.d_ff_expert) return Status::Ok();
    MOE_ASSIGN(const ModelConfig c, settled_with(common_.width));
    const bool one_width = config_.d_ff == config_.d_ff_expert && c.d_ff == common_.width;
    if (one_width) set("feed_forward_length", common_.width);
    if (!one_width || has("expert_feed_forward_length")) set("expert_feed_forward_length", common_.width);
    if (c.d_ff_shared == config_.d_ff_shared) return Status::Ok();
    // Here and elsewhere the width of shared experts follows that of routed ones, but for a key that others do not read.
    set("expert_shared_feed_forward_length", config_.d_ff_shared);
    refused("its shared experts keep their width while the others' is smaller");
    return Status::Ok();
  }

  // What a reader of the keys above takes for granted.
  RoutingTopology taken_for_granted() const {
    RoutingShape shape = carving_.shape;
    shape.model_hash = plan_.hash;
    for (size_t i = 0; i < shape.layers.size(); ++i)
      shape.layers[i].k = std::min({common_.used, common_.experts, carving_.layers[i].layout.n});
    RoutingTopology t = full_topology(shape);
    t.note = plan_.topology.note;
    return t;
  }

  void set_topology() {
    plan_.metadata.remove(kTopologyKey);
    const std::string left = diff(taken_for_granted(), plan_.topology);
    plan_.has_topology = !left.empty();
    if (left.empty()) return;
    plan_.metadata.set(kTopologyKey, to_json(plan_.topology));
    if (plan_.elsewhere == Elsewhere::kRefused) return;
    plan_.elsewhere = Elsewhere::kDifferently;
    plan_.notes.push_back("other GGUF engines will run this file with other results, without " + rest());
  }

  // The parts of the topology that no public key can say.
  std::string rest() const {
    std::string text;
    const auto add = [&](const char* part) { text += (text.empty() ? "" : ", ") + std::string(part); };
    const auto any = [&](auto&& differs) {
      return std::any_of(plan_.topology.layers.begin(), plan_.topology.layers.end(),
                         [&](const LayerRouting& r) { return r.n_experts > 0 && differs(r); });
    };
    if (any([&](const LayerRouting& r) { return r.k_max != common_.used; }))
      add("its numbers of experts a token in each layer");
    if (any([](const LayerRouting& r) { return r.k_min < r.k_max; })) add("its thresholds");
    if (any([](const LayerRouting& r) { return r.temperature != 1; })) add("its temperatures");
    if (any([](const LayerRouting& r) { return !r.bias.empty(); })) add("its biases");
    if (any([](const LayerRouting& r) { return !r.width.empty(); })) add("its narrower experts (which it computes whole)");
    if (plan_.topology.n_classes > 1) add("its classes of tokens");
    return text;
  }

  Status set_lineage(const RoutingTopology& from) {
    const auto append = [&](const char* key, uint64_t hash) -> Status {
      std::vector<std::string> all;
      if (plan_.metadata.has(key)) {
        MOE_ASSIGN(all, plan_.metadata.get_array<std::string>(key));
      }
      all.push_back(hash_to_hex(hash));
      plan_.metadata.set(key, all);
      return Status::Ok();
    };
    plan_.metadata.set(kSpecialisedHash, hash_to_hex(plan_.hash));
    MOE_TRY(append(kSpecialisedModels, model_.hash()));
    return append(kSpecialisedTopologies, hash(from));
  }

  // The new keys must read as the model that is written.
  Status check() const {
    MOE_ASSIGN(const ArchDef* arch, find_arch(config_.arch));
    MOE_ASSIGN(ModelConfig c, read_config(plan_.metadata));
    MOE_TRY(arch->configure(c, model_.file().name()));
    bool same = c.n_expert == common_.experts && c.d_ff_shared == config_.d_ff_shared && c.n_expert_used > 0;
    same = same && (c.d_ff == config_.d_ff || config_.d_ff == config_.d_ff_expert) && std::max(1, c.n_group) == common_.n_group;
    for (size_t i = 0; i < carving_.layers.size(); ++i)
      same = same && (carving_.layers[i].layout.n == 0 || c.experts_of(static_cast<int>(i)) == carving_.layers[i].layout);
    if (same) return Status::Ok();
    return Status::Unsupported(model_.file().name() + ": architecture " + config_.arch +
                               " has no keys that say what is left of this model");
  }

  const Model& model_;
  const ModelConfig& config_;
  const Carving& carving_;
  SpecialisePlan& plan_;
  Common common_;
};

}  // namespace

Status set_specialised_keys(const Model& model, const RoutingTopology& from, const Carving& carving, SpecialisePlan& plan) {
  return KeyWriter(model, carving, plan).run(from);
}

}  // namespace moe
