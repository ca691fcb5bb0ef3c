#include "tests/evolution/evolution_fixture.h"

#include <doctest/doctest.h>

#include "evolution/masks.h"

namespace moe::test {

RoutingShape four_layers() {
  RoutingShape s;
  s.model_hash = 0x00c0ffee12345678, s.n_vocab = 12;
  s.layers = {{}, {6, 2, 128, 32}, {8, 3, 96, 1, 4, 2}, {5, 2, 128, 64}};
  return s;
}

std::vector<std::string> space_names() { return {"free", "exact", "guided"}; }

SearchSpace space_named(const std::string& name) {
  Constraints c;
  Guides g;
  c.classes = 3;
  if (name == "free") {
    c.skip = true, c.classes = 2;
  } else if (name == "exact") {
    c.kept = IntRange{12, 12}, c.active = IntRange{5, 5}, c.protect = {{}, {0}, {0}, {0}};
  } else {
    c.kept = IntRange{10, 14}, c.active = IntRange{4, 6}, c.kept_low = 2, c.narrowest = 2, c.skip = true;
    g.saliency = {{}, {5, 1, 4, 2, 3, 0}, {1, 2, 3, 4, 5, 6, 7, 8}, {}};
    g.groups = {{}, {{0, 1}, {2, 3, 4}}, {}, {{1, 2}}};
    for (int t = 0; t < 12; ++t) g.token_group.push_back(static_cast<uint16_t>(t / 3));
  }
  Result<SearchSpace> space = SearchSpace::create(four_layers(), c, g);
  REQUIRE_MESSAGE(space.ok(), space.status().message());
  return *std::move(space);
}

Genome full_genome(const SearchSpace& space, GenePool& pool) {
  Result<Genome> g = genome_of(full_topology(space.shape()), space.shape(), pool);
  REQUIRE_MESSAGE(g.ok(), g.status().message());
  return *std::move(g);
}

Genome random_genome(const SearchSpace& space, GenePool& pool, uint64_t seed) {
  Rng rng(seed, 77);
  GenomeDraft draft(full_genome(space, pool));
  const auto n_classes = static_cast<int>(1 + rng.below(static_cast<uint64_t>(space.constraints().classes)));
  ClassMap& classes = draft.edit_classes();
  classes.n_classes = n_classes;
  for (int t = 0; t < space.shape().n_vocab; ++t)
    classes.token_class.push_back(static_cast<uint8_t>(rng.below(static_cast<uint64_t>(n_classes))));
  int skipped = 0;
  for (int i = 0; i < draft.n_layers(); ++i) {
    LayerGene& g = draft.edit(i);
    g.n_classes = n_classes;
    g.keep.assign(g.words() * static_cast<size_t>(n_classes), 0);
    if (g.n_experts == 0) continue;
    for (uint64_t& w : g.keep) w = rng.next_u64() & everyone(g.n_experts)[0];
    g.k_max = static_cast<int>(rng.below(4)), g.k_min = static_cast<int>(rng.below(3));
    if (g.k_max == 0 && skipped++ > 0) g.k_max = 1;  // budgets can do without one layer
    g.threshold = rng.uniform(), g.temperature = 0.5f + rng.uniform();
    for (int e = 0; e < g.n_experts; ++e) {
      g.set_quarters(e, static_cast<int>(1 + rng.below(4)));
      if (rng.below(3) == 0) g.set_bias(e, rng.normal());
      if (rng.below(3) == 0) g.set_redirect(e, static_cast<int>(rng.below(static_cast<uint64_t>(g.n_experts))));
    }
  }
  REQUIRE(repair(draft, space, rng));
  return draft.finish(pool, {});
}

RoutingTopology random_topology(const RoutingShape& shape, uint64_t seed) {
  Rng rng(seed, 78);
  RoutingTopology t = full_topology(shape);
  t.n_classes = static_cast<int>(1 + rng.below(4));
  if (t.n_classes > 1) {
    t.token_class.resize(static_cast<size_t>(shape.n_vocab));
    for (uint8_t& c : t.token_class) c = static_cast<uint8_t>(rng.below(static_cast<uint64_t>(t.n_classes)));
    t.token_class[0] = 1;  // not all 0
  }
  for (size_t i = 0; i < t.layers.size(); ++i) {
    LayerRouting& r = t.layers[i];
    if (r.n_experts == 0) continue;
    const auto E = static_cast<size_t>(r.n_experts);
    r.allow.resize(E * static_cast<size_t>(t.n_classes));
    for (uint8_t& a : r.allow) a = rng.below(3) > 0;
    r.k_max = static_cast<int>(rng.below(3));
    r.k_min = r.k_max == 0 ? 0 : static_cast<int>(1 + rng.below(static_cast<uint64_t>(r.k_max)));
    r.threshold = rng.uniform(), r.temperature = 0.25f + rng.uniform();
    if (rng.below(2)) r.bias.assign(E, 0), r.bias[rng.below(E)] = rng.normal();
    if (rng.below(2)) r.width.assign(E, channels_of(static_cast<int>(1 + rng.below(3)), shape.layers[i]));
    if (rng.below(2)) {
      const size_t from = rng.below(E), to = rng.below(E);
      r.redirect.assign(E, -1), r.redirect[from] = static_cast<int32_t>(to);
    }
  }
  return t;
}

uint32_t changed_fields(const LayerGene& a, const LayerGene& b) {
  const auto bit = [](bool differs, GeneField field) { return differs ? uint32_t{field} : 0u; };
  return bit(a.keep != b.keep, kFieldMasks) | bit(a.k_min != b.k_min || a.k_max != b.k_max, kFieldK) |
         bit(a.threshold != b.threshold, kFieldThreshold) | bit(a.temperature != b.temperature, kFieldTemperature) |
         bit(a.bias != b.bias, kFieldBias) | bit(a.narrow != b.narrow, kFieldWidth) |
         bit(a.redirect != b.redirect, kFieldRedirect) | bit(a.n_classes != b.n_classes, kFieldClasses);
}

}  // namespace moe::test
