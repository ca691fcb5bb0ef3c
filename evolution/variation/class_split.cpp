// One class of tokens becomes two with the same masks: the model does what it did, and later mutations tell them apart.
#include "evolution/variation/variation_support.h"

namespace moe {
namespace {

// Which parts (groups of tokens, or single ones) go to the new class; empty: the class has fewer than two.
std::vector<uint8_t> draw_parts(std::span<const uint8_t> in_class, Rng& rng) {
  std::vector<size_t> parts;
  for (size_t p = 0; p < in_class.size(); ++p)
    if (in_class[p]) parts.push_back(p);
  if (parts.size() < 2) return {};
  std::vector<uint8_t> moves(in_class.size(), 0);
  // One stays and one goes; a coin for each of the others.
  const size_t stays = rng.below(parts.size());
  const size_t goes = (stays + 1 + rng.below(parts.size() - 1)) % parts.size();
  uint64_t coins = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i % 64 == 0) coins = rng.next_u64();
    moves[parts[i]] = i == goes || (i != stays && (coins >> (i % 64) & 1u));
  }
  return moves;
}

bool apply(GenomeDraft& draft, const SearchSpace& space, Rng& rng) {
  const int n_classes = draft.classes().n_classes;
  if (n_classes >= space.constraints().classes) return false;
  const auto n_vocab = static_cast<size_t>(space.shape().n_vocab);
  const auto c = static_cast<uint8_t>(rng.below(static_cast<uint64_t>(n_classes)));
  std::vector<uint8_t> token_class = draft.classes().token_class;
  token_class.resize(n_vocab, 0);
  const std::vector<uint16_t>& groups = space.guides().token_group;
  const auto part_of = [&](size_t t) { return groups.empty() ? t : size_t{groups[t]}; };
  std::vector<uint8_t> in_class(groups.empty() ? n_vocab : size_t{UINT16_MAX} + 1, 0);
  for (size_t t = 0; t < n_vocab; ++t)
    if (token_class[t] == c) in_class[part_of(t)] = 1;
  const std::vector<uint8_t> moves = draw_parts(in_class, rng);
  if (moves.empty()) return false;
  for (size_t t = 0; t < n_vocab; ++t)
    if (token_class[t] == c && moves[part_of(t)]) token_class[t] = static_cast<uint8_t>(n_classes);
  ClassMap& classes = draft.edit_classes();
  classes.n_classes = n_classes + 1;
  classes.token_class = std::move(token_class);
  for (int i = 0; i < draft.n_layers(); ++i) {
    LayerGene& g = draft.edit(i);
    const Bits row = std::as_const(g).row(c);
    const std::vector<uint64_t> copy(row.begin(), row.end());
    g.keep.insert(g.keep.end(), copy.begin(), copy.end());
    ++g.n_classes;
  }
  return true;
}

}  // namespace

MutationOp class_split() {
  return {.name = "class_split",
          .help = "a class of tokens becomes two, which start with the same masks",
          .changes = kFieldClasses | kFieldMasks,
          .layers = kEveryLayer,
          .usable = [](const SearchSpace& s) { return s.constraints().classes > 1 && s.shape().n_vocab > 1; },
          .apply = apply};
}

}  // namespace moe
