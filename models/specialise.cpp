#include "models/specialise.h"

#include <algorithm>
#include <map>

#include "models/carving.h"
#include "models/io/content_hash.h"
#include "models/specialise_keys.h"

namespace moe {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{4} << 20;

// "blk.12.ffn_up.weight" → 12 and "ffn_up.weight"; −1 outside of layers.
struct LayerName {
  int layer = -1;
  std::string_view suffix;
};
LayerName layer_name(std::string_view name) {
  constexpr std::string_view kHead = "blk.";
  if (!name.starts_with(kHead)) return {};
  size_t at = kHead.size();
  int layer = 0;
  for (; at < name.size() && name[at] >= '0' && name[at] <= '9' && layer < 1000000; ++at) layer = 10 * layer + (name[at] - '0');
  if (at == kHead.size() || at >= name.size() || name[at] != '.') return {};
  return {layer, name.substr(at + 1)};
}

Status refuse_unreadable(const GgufFile& file) {
  return file.unsupported().empty() ? Status::Ok() : file.require(file.unsupported().front().name).status();
}

// What layers keep, before bytes are counted.
std::vector<SpecialisePlan::Layer> describe_layers(const Carving& carving, const RoutingTopology& topology,
                                                   const RoutingShape& shape) {
  std::vector<SpecialisePlan::Layer> layers;
  for (const TopologySummary::Layer& s : summarize(topology, shape).layers) {
    const auto i = static_cast<size_t>(s.index);
    const RoutingShape::Layer& before = shape.layers[i];
    const LayerExperts& after = carving.layers[i].layout;
    SpecialisePlan::Layer l;
    l.index = s.index;
    for (size_t e = 0; e < static_cast<size_t>(before.n_experts); ++e) l.experts_before += before.has_weights(e);
    l.experts = after.n, l.rows = after.rows, l.width_before = before.d_ff, l.width = after.d_ff,
    l.k = topology.layers[i].k_max;
    l.wanted = s.bytes;
    l.kept = double(after.n) * after.d_ff / (double(l.experts_before) * before.d_ff);
    layers.push_back(l);
  }
  return layers;
}

Status add_steps(const GgufFile& file, const Carving& carving, const RoutingShape& shape, SpecialisePlan& plan) {
  std::map<int, SpecialisePlan::Layer*> routed;
  for (SpecialisePlan::Layer& l : plan.layers) routed[l.index] = &l;
  for (const TensorInfo& t : file.tensors()) {
    if (t.name.starts_with(kTrainingTensors)) continue;
    plan.bytes_before += t.data.size();
    SpecialisePlan::Step step{&t, t.shape, t.data.size(), {}};
    const LayerName name = layer_name(t.name);
    const auto it = routed.find(name.layer);
    if (it != routed.end() && is_expert_tensor(name.suffix)) {
      const auto i = static_cast<size_t>(name.layer);
      MOE_ASSIGN(CutTensor c, cut_tensor(t, name.suffix, carving.layers[i], shape.layers[i].d_ff));
      step.shape = std::move(c.shape), step.bytes = c.cut.bytes(), step.cut = std::move(c.cut);
      it->second->bytes_before += t.data.size(), it->second->bytes += step.bytes;
      if (step.shape.empty()) continue;
    }
    plan.bytes_after += step.bytes;
    plan.steps.push_back(std::move(step));
  }
  return Status::Ok();
}

// [offset, offset + n) of the new tensor
std::vector<std::byte> bytes_of(const SpecialisePlan::Step& s, uint64_t offset, uint64_t n) {
  std::vector<std::byte> bytes(n);
  if (s.cut)
    s.cut->gather(offset, bytes);
  else
    std::copy_n(s.tensor->data.begin() + static_cast<std::ptrdiff_t>(offset), n, bytes.begin());
  return bytes;
}

// What GgufFile::content_hash() will say of the new file.
uint64_t hash_of(const std::vector<SpecialisePlan::Step>& steps) {
  std::vector<const SpecialisePlan::Step*> by_name;
  by_name.reserve(steps.size());
  for (const SpecialisePlan::Step& s : steps) by_name.push_back(&s);
  std::sort(by_name.begin(), by_name.end(), [](auto* a, auto* b) { return a->tensor->name < b->tensor->name; });
  ContentHash h;
  for (const SpecialisePlan::Step* s : by_name) {
    const uint64_t head = std::min<uint64_t>(s->bytes, ContentHash::kEnd);
    const uint64_t tail = std::min<uint64_t>(s->bytes - head, ContentHash::kEnd);
    h.add(s->tensor->name, traits(s->tensor->dtype).gguf_id, s->shape, s->bytes, bytes_of(*s, 0, head),
          bytes_of(*s, s->bytes - tail, tail));
  }
  return h.value();
}

void note_widths(SpecialisePlan& plan) {
  std::string layers;
  for (const SpecialisePlan::Layer& l : plan.layers)
    if (l.kept > l.wanted * (1 + 1e-9)) layers += (layers.empty() ? "" : ", ") + std::to_string(l.index);
  if (layers.empty()) return;
  plan.notes.push_back((layers.find(',') == std::string::npos ? "layer " : "layers ") + layers +
                       ": widths differ between experts; all are stored as wide as the widest that is left");
}

}  // namespace

Result<SpecialisePlan> plan_specialise(const Model& model, const RoutingTopology& topology) {
  const GgufFile& file = model.file();
  const RoutingShape& shape = model.routing_shape();
  MOE_TRY(refuse_unreadable(file));
  MOE_TRY(validate(topology, shape));
  const Carving carving = carve(topology, shape);
  SpecialisePlan plan;
  plan.layers = describe_layers(carving, topology, shape);
  if (plan.layers.empty()) return Status::InvalidArgument(file.name() + ": wanted a model with experts, found a dense one");
  if (std::all_of(plan.layers.begin(), plan.layers.end(), [](const SpecialisePlan::Layer& l) { return l.experts == 0; }))
    return Status::InvalidArgument("topology: wanted a layer with experts, found all " + std::to_string(plan.layers.size()) +
                                   " skipped: no architecture of experts has none");
  if (Status s = add_steps(file, carving, shape, plan); !s.ok()) return s.Annotate(file.name());
  plan.hash = hash_of(plan.steps);
  plan.topology = carving.topology;
  plan.topology.model_hash = plan.hash;
  RoutingShape smaller = carving.shape;
  smaller.model_hash = plan.hash;
  MOE_CHECK(validate(plan.topology, smaller).ok());
  MOE_TRY(set_specialised_keys(model, topology, carving, plan));
  note_widths(plan);
  return plan;
}

Status write_specialised(const SpecialisePlan& plan, ThreadPool& pool, const std::string& path,
                         const WeightStream::OnWritten& on_written) {
  std::vector<GgufWriter::TensorSpec> specs;
  for (const SpecialisePlan::Step& s : plan.steps) specs.push_back({s.tensor->name, s.tensor->dtype, s.shape});
  MOE_ASSIGN(GgufWriter writer, GgufWriter::create(path, plan.metadata, std::move(specs)));
  WeightStream stream(pool, writer, on_written);
  for (const SpecialisePlan::Step& s : plan.steps) {
    if (!s.cut) {
      MOE_TRY(stream.copy(s.tensor->name, s.tensor->data));
      continue;
    }
    for (uint64_t at = 0; at < s.bytes; at += kPieceBytes)
      MOE_TRY(stream.copy(s.tensor->name, bytes_of(s, at, std::min(kPieceBytes, s.bytes - at))));
  }
  return writer.commit();
}

}  // namespace moe
