// k, threshold, temperature and bias of every layer land between the parents' or a little beyond (BLX-α of Eshelman and
// Schaffer, 1993, α = 0.1); k is a whole number between them. Masks, widths and redirects are the mother's.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr float kAlpha = 0.1f;

float between(float a, float b, Rng& rng) {
  const float u = -kAlpha + (1 + 2 * kAlpha) * rng.uniform();
  return a == b ? a : a + u * (b - a);
}

int between(int a, int b, Rng& rng) {
  return std::min(a, b) + static_cast<int>(rng.below(static_cast<uint64_t>(a < b ? b - a : a - b) + 1));
}

void blend(LayerGene& g, const LayerGene& f, Rng& rng) {
  if (!g.skipped() && !f.skipped()) {
    g.k_max = between(g.k_max, f.k_max, rng);
    g.k_min = std::min(g.k_max, between(g.k_min, f.k_min, rng));
  }
  g.threshold = std::clamp(between(g.threshold, f.threshold, rng), 0.0f, 1.0f);
  g.temperature = std::max(between(g.temperature, f.temperature, rng), std::min(g.temperature, f.temperature) / 2);
  std::vector<int> biased;
  for (const LayerGene::Bias& b : g.bias) biased.push_back(b.expert);
  for (const LayerGene::Bias& b : f.bias) biased.push_back(b.expert);
  std::sort(biased.begin(), biased.end());
  biased.erase(std::unique(biased.begin(), biased.end()), biased.end());
  for (const int e : biased) g.set_bias(e, between(g.bias_of(e), f.bias_of(e), rng));
}

bool apply(GenomeDraft& child, const Genome& father, const SearchSpace& space, Rng& rng) {
  bool differs = false;
  for (const int i : space.routed()) {
    LayerGene g = gene_at(child, i);
    blend(g, father.layers[static_cast<size_t>(i)]->value, rng);
    if (g == gene_at(child, i)) continue;
    child.edit(i) = std::move(g);
    differs = true;
  }
  return differs;
}

}  // namespace

CrossoverOp blend_parameters() {
  return {.name = "blend_parameters",
          .help = "k, thresholds, temperatures and biases land between the parents'",
          .changes = kFieldK | kFieldThreshold | kFieldTemperature | kFieldBias,
          .apply = apply};
}

}  // namespace moe
