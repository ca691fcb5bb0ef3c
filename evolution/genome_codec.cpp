// Topologies are what models run, files hold and people read; genomes are what a search holds in thousands. Both say the same.
#include <algorithm>

#include "evolution/genome.h"

namespace moe {
namespace {

template <class T>
bool all_are(const std::vector<T>& values, T neutral) {
  return std::all_of(values.begin(), values.end(), [&](T v) { return v == neutral; });
}

// The genome's setting for so many channels; 0: there is none.
int quarters_for(int channels, const RoutingShape::Layer& layer) {
  for (int q = kQuarters; q >= 1; --q)
    if (channels_of(q, layer) == channels) return q;
  return 0;
}

Status unsupported_width(size_t layer, size_t expert, int found, const RoutingShape::Layer& shape) {
  std::string wanted;
  for (int q = 1; q <= kQuarters; ++q)
    if (widest_alike(q, shape) == q) wanted += (wanted.empty() ? "" : ", ") + std::to_string(channels_of(q, shape));
  return Status::Unsupported("genome: layer " + std::to_string(layer) + ": width[" + std::to_string(expert) +
                             "]: wanted a quarter of the width (" + wanted + "), found " + std::to_string(found));
}

Result<LayerGene> gene_of(const LayerRouting& r, int n_classes, size_t index, const RoutingShape::Layer& shape) {
  LayerGene g;
  g.n_classes = n_classes;
  if (r.n_experts == 0) return g;
  g.n_experts = r.n_experts, g.k_min = r.k_min, g.k_max = r.k_max;
  g.threshold = r.threshold + 0.0f, g.temperature = r.temperature;  // −0 is 0
  g.keep.assign(g.words() * static_cast<size_t>(n_classes), 0);
  const auto E = static_cast<size_t>(r.n_experts);
  for (size_t i = 0; i < r.allow.size(); ++i)
    if (r.allow[i]) set_bit(g.row(static_cast<int>(i / E)), static_cast<int>(i % E), true);
  for (size_t e = 0; e < r.bias.size(); ++e)
    if (r.bias[e] != 0) g.bias.push_back({static_cast<uint16_t>(e), r.bias[e]});
  for (size_t e = 0; e < r.redirect.size(); ++e)
    if (r.redirect[e] >= 0) g.redirect.push_back({static_cast<uint16_t>(e), static_cast<uint16_t>(r.redirect[e])});
  for (size_t e = 0; e < r.width.size(); ++e) {
    const int q = quarters_for(r.width[e], shape);
    if (q == 0) return unsupported_width(index, e, r.width[e], shape);
    g.set_quarters(static_cast<int>(e), q);
  }
  return g;
}

}  // namespace

int channels_of(int quarters, const RoutingShape::Layer& layer) {
  const int step = std::max(1, layer.width_step);
  const int64_t wanted = (int64_t{layer.d_ff} * quarters + kQuarters - 1) / kQuarters;
  return static_cast<int>(std::min<int64_t>((wanted + step - 1) / step * step, layer.d_ff));
}

int widest_alike(int quarters, const RoutingShape::Layer& layer) {
  int q = quarters;
  while (q < kQuarters && channels_of(q + 1, layer) == channels_of(quarters, layer)) ++q;
  return q;
}

Result<Genome> genome_of(const RoutingTopology& topology, const RoutingShape& shape, GenePool& pool) {
  MOE_TRY(validate(topology, shape));
  Genome g;
  ClassMap classes{topology.n_classes, topology.token_class};
  if (all_are(classes.token_class, uint8_t{0})) classes.token_class.clear();
  g.classes = pool.intern(std::move(classes));
  g.layers.reserve(topology.layers.size());
  for (size_t i = 0; i < topology.layers.size(); ++i) {
    MOE_ASSIGN(LayerGene gene, gene_of(topology.layers[i], topology.n_classes, i, shape.layers[i]));
    g.layers.push_back(pool.intern(std::move(gene)));
  }
  return g;
}

LayerRouting routing_of(const LayerGene& g, const RoutingShape::Layer& layer) {
  LayerRouting r;
  if (g.n_experts == 0) return r;
  r.n_experts = g.n_experts, r.k_min = g.k_min, r.k_max = g.k_max;
  r.threshold = g.threshold, r.temperature = g.temperature;
  const auto E = static_cast<size_t>(g.n_experts);
  r.allow.resize(E * static_cast<size_t>(g.n_classes));
  for (size_t i = 0; i < r.allow.size(); ++i) r.allow[i] = has_bit(g.row(static_cast<int>(i / E)), static_cast<int>(i % E));
  if (!g.bias.empty()) r.bias.assign(E, 0);
  for (const LayerGene::Bias& b : g.bias) r.bias[b.expert] = b.value;
  if (!g.redirect.empty()) r.redirect.assign(E, -1);
  for (const LayerGene::Redirect& x : g.redirect) r.redirect[x.from] = x.to;
  if (!g.narrow.empty()) r.width.resize(E);
  for (size_t e = 0; e < r.width.size(); ++e) r.width[e] = channels_of(g.quarters(static_cast<int>(e)), layer);
  return r;
}

RoutingTopology topology_of(const Genome& genome, const RoutingShape& shape) {
  RoutingTopology t;
  t.model_hash = shape.model_hash;
  t.n_classes = genome.classes->value.n_classes;
  t.token_class = genome.classes->value.token_class;
  t.layers.reserve(genome.layers.size());
  for (size_t i = 0; i < genome.layers.size(); ++i) t.layers.push_back(routing_of(genome.layers[i]->value, shape.layers[i]));
  return t;
}

}  // namespace moe
