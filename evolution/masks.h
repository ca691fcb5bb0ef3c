// Arithmetic of expert masks that the feasibility check, repair and operators share.
#pragma once

#include <vector>

#include "core/rng.h"
#include "evolution/genome.h"

namespace moe {

// Experts that a token is sure to find among `usable` (words): all of them, or with group-limited routing those of the
// topk_group smallest groups that hold any. The same rule as validate()'s.
int guaranteed(Bits usable, const RoutingShape::Layer& layer);
// Of class c, where redirects count as usable.
int guaranteed(const LayerGene& gene, int c, const RoutingShape::Layer& layer);
// The least of all classes; redirected experts count where they take tokens away from fuller groups, but nobody relies on them.
int guaranteed_of_all(const LayerGene& gene, const RoutingShape::Layer& layer);

// Experts not in `mask` that raise what is guaranteed soonest: of the smallest group that has any and has room, or of the whole
// layer where all such groups are full or nothing is limited. Empty mask: every expert.
std::vector<uint64_t> next_to_add(Bits mask, const RoutingShape::Layer& layer);

// a & b, a & ~b
std::vector<uint64_t> both(Bits a, Bits b);
std::vector<uint64_t> without(Bits a, Bits b);
std::vector<uint64_t> everyone(int n_experts);
bool covers(Bits all, Bits some);  // some & ~all is empty

int nth_bit(Bits bits, int n);  // the n-th of those set, from 0

// One expert of a set that is not empty. Of two drawn at random the one that is missed more (or less) comes back, which makes
// chances fall linearly with the rank of saliency and leaves none at zero. Without saliency: any.
enum class Prefer { kMissed, kUnmissed };
int pick(Bits from, std::span<const float> saliency, Prefer prefer, Rng& rng);

// Redirects that the masks allow no longer are dropped: of experts that no class masks, to experts that a class masking `from`
// masks as well, and those that leave too few usable experts where groups are limited. True when some were.
bool drop_stale_redirects(LayerGene& gene, const RoutingShape::Layer& layer);
// (words) where a class that masks e could send its tokens: empty set if no class masks e.
std::vector<uint64_t> redirect_targets(const LayerGene& gene, int e);

// An expert taken from all classes, and every class brought back to k_max from the experts that are left to the layer. False,
// and nothing changed, where that cannot be.
bool remove_expert(LayerGene& gene, int e, const RoutingShape::Layer& layer, std::span<const float> saliency, Rng& rng);
// An expert brought into all classes that still find k_max with it (where groups are limited, one expert alone in a group can
// be too few). False where it is none.
bool add_expert(LayerGene& gene, int e, const RoutingShape::Layer& layer);

// Experts are added to class c, those that the layer keeps anyway first, until k are guaranteed. False where the layer is too
// small.
bool fill_class(LayerGene& gene, int c, int k, const RoutingShape::Layer& layer, std::span<const float> saliency, Rng& rng);

}  // namespace moe
