// One layer uses fewer experts a token or narrower ones; what that frees goes, piece by piece, to layers at random, itself
// included, in either coin. The channels that a token runs never grow, so a limit on work that a mother keeps her child keeps.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

constexpr int kMostGains = 3;

struct Move {
  int layer;
  bool width;  // or a number of experts
};

// Channels that a token runs, if its experts are as wide as those kept are in the mean.
double work_of(const LayerGene& g, const RoutingShape::Layer& shape) {
  const std::vector<uint64_t> kept = g.kept();
  int64_t sum = 0;
  for (int e = 0; e < g.n_experts; ++e)
    if (has_bit(kept, e)) sum += channels_of(g.quarters(e), shape);
  return static_cast<double>(g.k_max * sum) / count_bits(kept);
}

// All kept experts that can run the next setting do; false: none can.
bool step_widths(LayerGene& g, const SearchSpace& space, int layer, bool up) {
  bool stepped = false;
  const std::vector<uint64_t> kept = g.kept();
  for (int e = 0; e < g.n_experts; ++e) {
    if (!has_bit(kept, e)) continue;
    const int next = up ? wider(g.quarters(e), space, layer) : narrower(g.quarters(e), space, layer);
    if (next > 0) g.set_quarters(e, next), stepped = true;
  }
  return stepped;
}

bool make(LayerGene& g, const Move& move, const SearchSpace& space, bool up) {
  if (move.width) return step_widths(g, space, move.layer, up);
  if (up ? g.k_max >= std::min(space.k_high(move.layer), guaranteed_of_all(g, space.shape(move.layer)))
         : g.k_max <= space.k_low(move.layer))
    return false;
  const bool fixed = g.k_min == g.k_max;
  g.k_max += up ? 1 : -1;
  g.k_min = fixed ? g.k_max : std::min(g.k_min, g.k_max);
  return true;
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const auto open = [&](bool up, double room) {
    std::vector<Move> moves;
    for (const int l : space.routed()) {
      const LayerGene& now = gene_at(draft, l);
      if (now.skipped()) continue;
      for (const bool width : {false, true}) {
        LayerGene next = now;
        if (!make(next, {l, width}, space, up)) continue;
        if (!up || work_of(next, space.shape(l)) - work_of(now, space.shape(l)) <= room) moves.push_back({l, width});
      }
    }
    return moves;
  };
  const auto take = [&](const Move& m, bool up) {
    const double before = work_of(gene_at(draft, m.layer), space.shape(m.layer));
    make(draft.edit(m.layer), m, space, up);
    return before - work_of(gene_at(draft, m.layer), space.shape(m.layer));
  };
  const std::vector<Move> losses = open(false, 0);
  if (losses.empty()) return false;
  const Move loss = losses[rng.below(losses.size())];
  double room = take(loss, false);
  for (int i = 0; i < kMostGains; ++i) {
    std::vector<Move> gains = open(true, room);
    // Not straight back.
    std::erase_if(gains, [&](const Move& m) { return m.layer == loss.layer && m.width == loss.width; });
    if (gains.empty()) break;
    room += take(gains[rng.below(gains.size())], true);
  }
  return true;
}

}  // namespace

MutationOp work_switch() {
  return {.name = "work_switch",
          .help = "a layer uses fewer or narrower experts, layers use what that frees",
          .changes = kFieldK | kFieldWidth,
          .layers = 1 + kMostGains,
          .usable = any_width_to_choose,
          .apply = apply,
          .needs_repair = true};
}

}  // namespace moe
