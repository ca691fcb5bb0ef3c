// Two classes of tokens become one, with the masks of one of them. Experts that only the other one kept are free.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

bool apply(GenomeDraft& draft, const SearchSpace&, Rng& rng) {
  const int n = draft.classes().n_classes;
  if (n < 2) return false;
  const auto stays = static_cast<int>(rng.below(static_cast<uint64_t>(n)));  // whose masks the merged class has
  const int goes = (stays + 1 + static_cast<int>(rng.below(static_cast<uint64_t>(n) - 1))) % n;
  // The classes behind the one that goes move down by one.
  const auto renamed = [&](int c) { return c == goes ? stays - (stays > goes) : c - (c > goes); };
  ClassMap& classes = draft.edit_classes();
  classes.n_classes = n - 1;
  for (uint8_t& c : classes.token_class) c = static_cast<uint8_t>(renamed(c));
  for (int i = 0; i < draft.n_layers(); ++i) {
    LayerGene& g = draft.edit(i);
    const auto first = g.keep.begin() + static_cast<std::ptrdiff_t>(g.words()) * goes;
    g.keep.erase(first, first + static_cast<std::ptrdiff_t>(g.words()));
    --g.n_classes;
  }
  return true;
}

}  // namespace

MutationOp class_merge() {
  return {.name = "class_merge",
          .help = "two classes of tokens become one",
          .changes = kFieldClasses | kFieldMasks | kFieldRedirect,
          .layers = kEveryLayer,
          .usable = [](const SearchSpace& s) { return s.constraints().classes > 1; },
          .apply = apply,
          .needs_repair = true};
}

}  // namespace moe
