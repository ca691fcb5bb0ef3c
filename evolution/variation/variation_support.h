// What operators share.
#pragma once

#include <algorithm>
#include <vector>

#include "core/mathx.h"
#include "evolution/masks.h"
#include "evolution/repair.h"
#include "evolution/variation/operators.h"

namespace moe {

inline bool always(const SearchSpace&) { return true; }

inline const LayerGene& gene_at(const GenomeDraft& draft, int layer) { return draft.layer(layer); }

// One of the routed layers that fit, all with the same chance; −1: none does.
template <class F>
int draw_layer(const SearchSpace& space, Rng& rng, F&& fits) {
  std::vector<int> fitting;
  for (const int i : space.routed())
    if (fits(i)) fitting.push_back(i);
  return fitting.empty() ? -1 : fitting[rng.below(fitting.size())];
}

inline int draw_running_layer(const GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  return draw_layer(space, rng, [&](int i) { return !draft.layer(i).skipped(); });
}

// Room that the budgets leave: how many more experts may be kept, and how many fewer.
struct Slack {
  int64_t up = 0, down = 0;
};
inline Slack slack_of(const std::optional<IntRange>& range, int64_t now) {
  constexpr int64_t kAny = int64_t{1} << 40;
  return range ? Slack{range->high - now, now - range->low} : Slack{kAny, kAny};
}

inline bool is_empty(Bits bits) {
  return std::all_of(bits.begin(), bits.end(), [](uint64_t w) { return w == 0; });
}

// exp(sigma · normal), with the same bits everywhere.
inline float log_normal(float sigma, Rng& rng) { return static_cast<float>(mathx::exp(double{sigma} * double{rng.normal()})); }

// The next settings of a width that run other numbers of channels; 0: there is none (width_step.cpp).
int narrower(int quarters, const SearchSpace& space, int layer);
int wider(int quarters, const SearchSpace& space, int layer);
bool any_width_to_choose(const SearchSpace& space);

// Class of the father for each class of the mother: the one that shares the most tokens with it, of equals the first. Both
// without any token of their own: the same number, as far as there is one.
std::vector<int> classes_alike(const ClassMap& mother, const ClassMap& father);

// The father's layer in the mother's classes: the block itself where the classes are the same.
void take_layer(GenomeDraft& child, int layer, const Genome& father, const std::vector<int>& alike);
// His row for her class.
Bits row_alike(const Genome& father, int layer, int mothers_class, const std::vector<int>& alike);

}  // namespace moe
