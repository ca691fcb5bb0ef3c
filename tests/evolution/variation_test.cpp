// Every operator, 10^5 draws: it changes what its row says and no more, what it makes is valid and within the constraints, and
// no state is one that it cannot leave or come back to.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "evolution/masks.h"
#include "evolution/variation/operators.h"
#include "tests/evolution/evolution_fixture.h"
#include "tests/sanitized.h"

namespace moe {
namespace {

using namespace test;

constexpr int kDraws = kSanitized ? 10'000 : 100'000;  // of an operator, over three spaces
constexpr int kWhole = 16;  // every 16th draw is checked as the topology that it makes, by validate()

struct Difference {
  uint32_t fields = 0;
  int layers = 0;
};

Difference difference(const Genome& mother, const GenomeDraft& child) {
  Difference d;
  if (!(child.classes() == mother.classes->value)) d.fields |= kFieldClasses;
  for (int i = 0; i < child.n_layers(); ++i) {
    const uint32_t fields = changed_fields(mother.layers[static_cast<size_t>(i)]->value, child.layer(i));
    d.fields |= fields, d.layers += fields != 0;
  }
  return d;
}

// What satisfies() asks of k, masks and budgets, without making a topology.
bool keeps_budgets(const GenomeDraft& child, const SearchSpace& space) {
  const Constraints& c = space.constraints();
  GenomeTotals t;
  for (const int i : space.routed()) {
    const LayerGene& g = child.layer(i);
    t.kept += g.n_kept(), t.active += g.k_max;
    if (g.skipped()) {
      if (!space.may_skip(i)) return false;
      continue;
    }
    if (g.k_max < space.k_low(i) || g.k_max > space.k_high(i) || g.k_min < 1 || g.k_min > g.k_max) return false;
    if (guaranteed_of_all(g, space.shape(i)) < g.k_max) return false;
    for (int k = 0; k < g.n_classes; ++k)
      if (!covers(g.row(k), space.protect(i))) return false;
  }
  return (!c.kept || (t.kept >= c.kept->low && t.kept <= c.kept->high)) &&
         (!c.active || (t.active >= c.active->low && t.active <= c.active->high));
}

// A space and genomes that draws start from, far from each other.
struct Ground {
  explicit Ground(const std::string& space_name) : name(space_name), space(space_named(space_name)) {
    for (uint64_t seed = 0; seed < 256; ++seed) from.push_back(random_genome(space, pool, seed));
  }
  std::string name;
  SearchSpace space;
  GenePool pool;
  std::vector<Genome> from;
};

struct Tally {
  int draws = 0, done = 0, repaired = 0;
  Tally& operator+=(const Tally& t) {
    draws += t.draws, done += t.done, repaired += t.repaired;
    return *this;
  }
};

template <class Draw>
Tally draw_many(Ground& ground, uint32_t changes, int layers, bool needs_repair, uint64_t seed, Draw&& draw) {
  const SearchSpace& space = ground.space;
  const std::vector<Genome>& from = ground.from;
  Tally tally;
  int extra_fields = 0, extra_layers = 0, broken = 0, invalid = 0, changed_nothing = 0;
  for (int i = 0; i < kDraws / 3 + 1; ++i, ++tally.draws) {
    const Genome& mother = from[static_cast<size_t>(i) % from.size()];
    const Genome& father = from[static_cast<size_t>(i / 3 + 1) % from.size()];
    Rng rng(seed, static_cast<uint64_t>(i));
    GenomeDraft child(mother);
    const bool done = draw(child, father, rng);
    const Difference d = difference(mother, child);
    if (!done) {
      changed_nothing += d.fields != 0;
      continue;
    }
    ++tally.done;
    extra_fields += (d.fields & ~changes) != 0, extra_layers += d.layers > layers, changed_nothing += d.fields == 0;
    broken += !needs_repair && !keeps_budgets(child, space);
    if (!repair(child, space, rng)) continue;
    ++tally.repaired;
    broken += !keeps_budgets(child, space);
    if (i % kWhole == 0) invalid += !satisfies(child.finish(ground.pool, {}), space).ok();
  }
  CHECK(extra_fields == 0);
  CHECK(extra_layers == 0);
  CHECK(changed_nothing == 0);
  CHECK(broken == 0);
  CHECK(invalid == 0);
  return tally;
}

TEST_CASE("a hundred thousand draws of every mutation change what its row says, stay valid and keep all budgets") {
  std::map<std::string, Tally> tallies;
  for (const std::string& name : space_names()) {
    Ground ground(name);
    CAPTURE(name);
    for (const MutationOp& op : default_mutations()) {
      CAPTURE(op.name);
      CHECK_FALSE(op.help.empty());
      if (!op.usable(ground.space)) continue;
      tallies[op.name] +=
          draw_many(ground, op.changes, op.layers, op.needs_repair, 11,
                    [&](GenomeDraft& child, const Genome&, Rng& rng) { return op.apply(child, ground.space, rng); });
    }
  }
  CHECK(tallies.size() == default_mutations().size());
  for (const auto& tally : tallies) {
    CAPTURE(tally.first);
    const Tally& all = tally.second;
    CHECK(all.done > all.draws / 50);
    CHECK(all.repaired > all.done / 2);
  }
}

TEST_CASE("a hundred thousand draws of every crossover do so as well, between parents of different classes too") {
  std::map<std::string, Tally> tallies;
  for (const std::string& name : space_names()) {
    Ground ground(name);
    CAPTURE(name);
    for (const CrossoverOp& op : default_crossovers()) {
      CAPTURE(op.name);
      tallies[op.name] += draw_many(
          ground, op.changes, kEveryLayer, true, 12,
          [&](GenomeDraft& child, const Genome& father, Rng& rng) { return op.apply(child, father, ground.space, rng); });
    }
  }
  for (const auto& tally : tallies) {
    CAPTURE(tally.first);
    const Tally& all = tally.second;
    CHECK(all.done > all.draws / 2);
    CHECK(all.repaired > all.done * 9 / 10);
  }
}

// One class, two layers of 5 experts, k up to 2: small enough that chance finds the way back.
SearchSpace tiny_space(bool budgets) {
  RoutingShape shape;
  shape.n_vocab = 4;
  shape.layers.assign(2, {5, 2, 64, 16});
  Constraints c;
  Guides g;
  c.skip = !budgets, c.classes = 2;
  if (budgets) c.kept = IntRange{6, 6}, c.active = IntRange{3, 3};
  g.groups = {{{0, 1}}, {{3, 4}}};
  return *SearchSpace::create(shape, c, g);
}

// Genomes of one class, reached from the full one by mutations that stay within it.
Genome wander(const SearchSpace& space, GenePool& pool, uint64_t seed) {
  const std::vector<MutationOp> all = default_mutations();
  Genome g = full_genome(space, pool);
  GenomeDraft first(g);
  Rng rng(seed);
  REQUIRE(repair(first, space, rng));
  g = first.finish(pool, {});
  for (int i = 0; i < 12; ++i) {
    const MutationOp& op = all[rng.below(all.size())];
    GenomeDraft draft(g);
    if (op.changes & (kFieldClasses | kFieldBias | kFieldTemperature | kFieldThreshold)) continue;
    if (op.usable(space) && op.apply(draft, space, rng) && repair(draft, space, rng)) g = draft.finish(pool, {});
  }
  return g;
}

TEST_CASE("what a mutation of structure does, it or its neighbours undo in a few steps") {
  struct Way {
    std::string op;
    std::vector<std::string> back;
    bool budgets;
  };
  const Way ways[] = {{"add_connection", {"remove_connection"}, false},
                      {"remove_connection", {"add_connection"}, false},
                      {"rewire_expert", {"rewire_expert"}, true},
                      {"level_switch_kept", {"level_switch_kept"}, true},
                      {"level_switch_k", {"level_switch_k", "k_range"}, true},
                      {"k_range", {"k_range"}, false},
                      {"width_step", {"width_step"}, false},
                      {"width_shift", {"width_shift"}, true},
                      {"redirect_edge", {"redirect_edge"}, false},
                      {"group_toggle", {"group_toggle", "add_connection", "remove_connection"}, false},
                      {"class_split", {"class_merge"}, false},
                      {"layer_skip", {"layer_skip", "k_range"}, false}};
  const std::vector<MutationOp> table = default_mutations();
  for (const Way& way : ways) {
    CAPTURE(way.op);
    const SearchSpace space = tiny_space(way.budgets);
    const auto ops = *mutations_by_name(table, {&way.op, 1}), back = *mutations_by_name(table, way.back);
    GenePool pool;
    int there = 0, returned = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
      Rng rng(seed, 5);
      const Genome from = wander(space, pool, seed);
      GenomeDraft draft(from);
      if (!ops[0].apply(draft, space, rng) || !repair(draft, space, rng)) continue;
      // A redirect that masks no longer allow is gone for good: no mutation of masks draws it anew.
      if (way.op != "redirect_edge" && (difference(from, draft).fields & kFieldRedirect)) continue;
      const Genome to = draft.finish(pool, {});
      bool found = false;
      for (int i = 0; i < 20000 && !found; ++i) {
        GenomeDraft again(to);
        for (int step = 0; step < 4 && !found; ++step) {
          if (back[rng.below(back.size())].apply(again, space, rng) && !repair(again, space, rng)) break;
          found = same(again.finish(pool, {}), from);
        }
      }
      ++there, returned += found;
    }
    CHECK(there > 3);
    CHECK(returned == there);
  }
}

TEST_CASE("mutations of numbers go up and down, and find back to none where there is one") {
  const SearchSpace space = tiny_space(false);
  GenePool pool;
  Genome g = full_genome(space, pool);
  GenomeDraft first(g);
  first.edit(0).k_min = 1;
  g = first.finish(pool, {});
  const auto value = [](const GenomeDraft& d, const std::string& name) {
    const LayerGene& l = d.layer(0);
    return name == "threshold_step" ? l.threshold : name == "temperature_step" ? l.temperature : l.bias_of(0);
  };
  const std::string names[] = {"threshold_step", "temperature_step", "bias_step"};
  const std::vector<MutationOp> ops = *mutations_by_name(default_mutations(), names);
  for (const MutationOp& op : ops) {
    CAPTURE(op.name);
    int up = 0, down = 0, none = 0;
    Genome now = g;
    Rng rng(9);
    for (int i = 0; i < 2000; ++i) {
      GenomeDraft draft(now);
      const float before = value(draft, op.name);
      if (!op.apply(draft, space, rng) || !repair(draft, space, rng)) continue;
      const float after = value(draft, op.name);
      up += after > before, down += after < before, none += after == 0 && before != 0;
      now = draft.finish(pool, {});
      REQUIRE(std::isfinite(after));
    }
    CHECK(up > 50);
    CHECK(down > 50);
    if (op.name != "temperature_step") CHECK(none > 10);
  }
}

TEST_CASE("no walk of mutations ends: from everywhere some operator leads on, and all of them stay in use") {
  for (const std::string& name : space_names()) {
    CAPTURE(name);
    const SearchSpace space = space_named(name);
    std::vector<MutationOp> ops = default_mutations();
    std::erase_if(ops, [&](const MutationOp& op) { return !op.usable(space); });
    std::vector<int> done_late(ops.size(), 0);
    GenePool pool;
    Genome g = random_genome(space, pool, 3);
    Rng rng(4);
    constexpr int kSteps = 6000;
    for (int i = 0; i < kSteps; ++i) {
      const size_t op = rng.below(ops.size());
      GenomeDraft draft(g);
      if (!ops[op].apply(draft, space, rng) || !repair(draft, space, rng)) continue;
      g = draft.finish(pool, {});
      done_late[op] += i > kSteps / 2;
      if (i % 500 == 0) pool.collect();
    }
    for (size_t op = 0; op < ops.size(); ++op) {
      CAPTURE(ops[op].name);
      CHECK(done_late[op] > 0);
    }
    CHECK(satisfies(g, space).ok());
  }
}

TEST_CASE("a class that is split does what it did, and level switches keep both sums") {
  const SearchSpace space = space_named("guided");
  GenePool pool;
  const std::vector<std::string> names = {"class_split", "level_switch_kept", "level_switch_k", "rewire_expert"};
  const auto ops = *mutations_by_name(default_mutations(), names);
  int splits = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Genome g = random_genome(space, pool, seed);
    Rng rng(seed, 1);
    const GenomeTotals before = totals_of(GenomeDraft(g), space);
    for (const MutationOp& op : ops) {
      GenomeDraft draft(g);
      if (!op.apply(draft, space, rng)) continue;
      const GenomeTotals after = totals_of(draft, space);
      CHECK(after.kept == before.kept);
      CHECK(after.active == before.active);
      if (op.name != "class_split") continue;
      ++splits;
      const RoutingTopology a = topology_of(g, space.shape()), b = topology_of(draft.finish(pool, {}), space.shape());
      const auto class_of = [](const RoutingTopology& t, size_t token) {
        return t.token_class.empty() ? size_t{0} : size_t{t.token_class[token]};
      };
      std::vector<int> members(static_cast<size_t>(b.n_classes), 0);
      for (size_t token = 0; token < 12; ++token) {
        ++members[class_of(b, token)];
        const size_t neighbour = token / 3 * 3;  // of the same group: together before, together afterwards
        if (class_of(a, token) == class_of(a, neighbour)) CHECK(class_of(b, token) == class_of(b, neighbour));
        for (size_t l = 0; l < a.layers.size(); ++l) {
          const auto E = static_cast<size_t>(a.layers[l].n_experts);
          for (size_t e = 0; e < E; ++e)
            CHECK(a.layers[l].allow[class_of(a, token) * E + e] == b.layers[l].allow[class_of(b, token) * E + e]);
        }
      }
      CHECK(members.back() > 0);
    }
  }
  CHECK(splits > 30);
}

TEST_CASE("an unknown operator is refused with the list of those that are") {
  const std::string names[] = {"rewire_expert", "swap"};
  const auto found = mutations_by_name(default_mutations(), names);
  CHECK(found.status().code() == StatusCode::kNotFound);
  CHECK(found.status().message().starts_with("mutations: wanted one of add_connection, remove_connection, "));
  CHECK(found.status().message().ends_with("; found 'swap'"));
  const std::string crossing[] = {"mask_uniform"};
  CHECK(crossovers_by_name(default_crossovers(), crossing)->at(0).name == "mask_uniform");
}

}  // namespace
}  // namespace moe
