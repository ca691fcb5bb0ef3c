#include "evolution/costs.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/mathx.h"
#include "models/expert_cut.h"

namespace moe {
namespace {

double elements(const TensorInfo& t) {
  double n = 1;
  for (const int64_t d : t.shape) n *= static_cast<double>(d);
  return n;
}

double bytes(const TensorInfo& t) { return static_cast<double>(t.data.size()); }

// What a token is multiplied with, by an op's inputs: 2 FLOPs for each weight.
double product_flops(const Graph& g, const Node& n) {
  if (n.op != Op::kLinear && n.op != Op::kHeadLinear) return 0;
  const double weights = static_cast<double>(g.value(n.in[1]).shape.elements());
  if (n.op == Op::kLinear) return 2 * weights;
  const auto& a = std::get<HeadLinearAttrs>(n.attrs);  // the rows of each head's block that it is for
  return 2 * weights * static_cast<double>(a.rows) / static_cast<double>(a.block);
}

// The tensor a weight is, or is rows of.
std::string tensor_name(const std::string& value_name) { return value_name.substr(0, value_name.find('[')); }

std::string layer_prefix(size_t layer) { return "blk." + std::to_string(layer) + "."; }

bool is_expert_tensor_of(const TensorInfo& t, const std::string& prefix) {
  return t.name.starts_with(prefix) && is_expert_tensor(std::string_view(t.name).substr(prefix.size()));
}

int count_range(Bits bits, int first, int length) {
  int n = 0;
  for (int e = first; e < first + length; ++e) n += has_bit(bits, e);
  return n;
}

// Experts that a token may choose: those that run, and those that lead to one that does.
std::vector<uint64_t> may_be_chosen(const LayerGene& gene) {
  std::vector<uint64_t> chosen = gene.kept();
  for (const LayerGene::Redirect& r : gene.redirect) set_bit(chosen, r.from, true);
  return chosen;
}

int widest(const LayerGene& gene, const RoutingShape::Layer& shape) {
  if (gene.narrow.empty()) return shape.d_ff;
  const std::vector<uint64_t> kept = gene.kept();
  int most = 0;
  for (int e = 0; e < gene.n_experts; ++e)
    if (has_bit(kept, e)) most = std::max(most, channels_of(gene.quarters(e), shape));
  return most;
}

struct Spread {
  double cv = 0, diversity = 0;
};

// Of the loads of kept experts. One that has all the load is no diversity, even where it is the only one.
Spread spread_of(const LayerGene& gene, std::span<const uint32_t> load) {
  const std::vector<uint64_t> kept = gene.kept();
  double n = 0, sum = 0, squares = 0;
  for (size_t e = 0; e < load.size(); ++e) {
    if (!has_bit(kept, static_cast<int>(e))) continue;
    const double x = load[e];
    n += 1, sum += x, squares += x * x;
  }
  Spread s;
  if (n < 2 || sum == 0) return s;
  const double mean = sum / n;
  s.cv = std::sqrt(std::max(0.0, squares / n - mean * mean)) / mean;
  double entropy = 0;
  for (size_t e = 0; e < load.size(); ++e) {
    const double share = has_bit(kept, static_cast<int>(e)) ? load[e] / sum : 0;
    if (share > 0) entropy -= share * mathx::log(share);
  }
  s.diversity = entropy / mathx::log(n);
  return s;
}

}  // namespace

ModelCosts::Layer ModelCosts::layer_of(const Model& model, size_t index) {
  Layer l;
  l.shape = model.routing_shape().layers[index];
  for (size_t e = 0; e < static_cast<size_t>(l.shape.n_experts); ++e) l.n_experts += l.shape.has_weights(e);
  const std::string prefix = layer_prefix(index);
  for (const TensorInfo& t : model.file().tensors()) {
    if (l.n_experts == 0 || !is_expert_tensor_of(t, prefix)) continue;
    const bool stacked = t.name.find("_exps.") != std::string::npos;
    const double per = stacked ? l.n_experts : l.shape.n_experts;  // the router has a row for experts without weights too
    if (!stacked) {
      l.router_bytes += bytes(t) / per;
      if (t.shape.size() == 2) l.router_flops += 2 * elements(t) / per;
    } else if (t.name.ends_with("ffn_down_exps.bias")) {
      l.fixed_bytes += bytes(t) / per;
    } else {
      l.expert_bytes += bytes(t) / per;
      if (t.shape.size() == 3) l.expert_flops += 2 * elements(t) / per;
    }
  }
  return l;
}

Result<ModelCosts> ModelCosts::of(const Model& model) {
  ModelCosts c;
  for (size_t i = 0; i < model.routing_shape().layers.size(); ++i) c.layers_.push_back(layer_of(model, i));
  MOE_ASSIGN(const ModelGraph graph, model.simple_graph({}));
  const Graph& g = graph.graph;
  std::set<std::string> looked_up, read;  // tensors, by what ops do with them
  const auto is_router = [&](const Node& n) {
    return n.op == Op::kLinear && n.layer >= 0 &&
           g.value(n.in[1]).name.starts_with(layer_prefix(static_cast<size_t>(n.layer)) + "ffn_gate_inp.");
  };
  for (const Node& n : g.nodes) {
    if (!is_router(n)) c.dense_flops_ += product_flops(g, n);
    for (const ValueId id : n.in)
      if (id != kNone && g.value(id).kind == ValueKind::kWeight)
        (n.op == Op::kEmbed ? looked_up : read).insert(tensor_name(g.value(id).name));
  }
  for (const TensorInfo& t : model.file().tensors()) {
    if (t.name.starts_with(kTrainingTensors)) continue;
    bool routed = false;
    for (size_t i = 0; i < c.layers_.size() && !routed; ++i)
      routed = c.layers_[i].n_experts > 0 && is_expert_tensor_of(t, layer_prefix(i));
    if (routed) continue;
    double read_bytes = read.count(t.name) > 0 ? bytes(t) : 0;
    if (read_bytes == 0 && looked_up.count(t.name) > 0) read_bytes = bytes(t) / static_cast<double>(t.shape[0]);
    c.dense_bytes_ += read_bytes, c.other_bytes_ += bytes(t) - read_bytes;
  }
  return c;
}

// carving.cpp decides which rows of a router stay; this counts them. Where routing is limited to groups, groups stay equally
// long, and empty ones go only if every layer loses as many: how many each keeps then, or 0 where they all stay.
int ModelCosts::common_groups(const Genome& genome) const {
  int most = 0, least = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const LayerGene& gene = genome.layers[i]->value;
    if (gene.n_experts == 0 || gene.skipped()) continue;
    const std::vector<uint64_t> chosen = may_be_chosen(gene);
    const int n = layers_[i].shape.n_group, length = gene.n_experts / n;
    int left = 0;
    for (int group = 0; group < n; ++group) left += count_range(chosen, group * length, length) > 0;
    most = std::max(most, left), least = least == 0 ? left : std::min(least, left);
  }
  return most == least ? most : 0;
}

double ModelCosts::rows_left(const Genome& genome, size_t layer, int common_groups) const {
  const LayerGene& gene = genome.layers[layer]->value;
  const std::vector<uint64_t> chosen = may_be_chosen(gene);
  const int n = layers_[layer].shape.n_group;
  const int groups = common_groups > 0 ? common_groups : n;
  if (groups == 1) return count_bits(chosen);
  const int length = gene.n_experts / n;
  int longest = 0;
  for (int group = 0; group < n; ++group) longest = std::max(longest, count_range(chosen, group * length, length));
  return groups * longest;
}

void ModelCosts::fill(const Genome& genome, std::span<const LayerUse> uses, Evaluation& result) const {
  MOE_CHECK(genome.layers.size() == layers_.size() && uses.size() == layers_.size());
  const bool grouped = std::any_of(layers_.begin(), layers_.end(), [](const Layer& l) { return l.shape.n_group > 1; });
  const int groups = grouped ? common_groups(genome) : 1;
  double flops = dense_flops_, read = dense_bytes_, resident = dense_bytes_ + other_bytes_;
  double expert_flops = 0, kept = 0, experts = 0, k = 0, routed = 0, cv = 0, diversity = 0, spread = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& l = layers_[i];
    if (l.n_experts == 0) continue;
    routed += 1, experts += l.n_experts;
    const LayerGene& gene = genome.layers[i]->value;
    if (gene.skipped()) continue;
    const LayerUse& use = uses[i];
    const double rows = rows_left(genome, i, groups), n_kept = gene.n_kept();
    kept += n_kept, k += use.k_mean;
    flops += rows * l.router_flops, expert_flops += use.work_mean * l.expert_flops;
    read += rows * l.router_bytes + use.work_mean * l.expert_bytes + use.k_mean * l.fixed_bytes;
    resident += rows * l.router_bytes + n_kept * (l.expert_bytes * widest(gene, l.shape) / l.shape.d_ff + l.fixed_bytes);
    if (use.load.empty()) continue;
    const Spread s = spread_of(gene, use.load);
    spread += 1, cv += s.cv, diversity += s.diversity;
  }
  result.active_flops = flops + expert_flops, result.expert_flops = expert_flops;
  result.bytes_per_token = read, result.resident_bytes = resident;
  result.kept_share = experts > 0 ? kept / experts : 1;
  result.k_mean = routed > 0 ? k / routed : 0;
  result.load_cv = spread > 0 ? cv / spread : 0;
  result.diversity = spread > 0 ? diversity / spread : 0;
}

}  // namespace moe
