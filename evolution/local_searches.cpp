#include "evolution/local_searches.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "evolution/streams.h"

namespace moe {
namespace {

constexpr int kMostIdle = 100;  // where all there is was scored, evaluations cost nothing and a budget never ends

struct Scored {
  Genome genome;
  Evaluation evaluation;
  Score score;
};

bool better(const Score& a, const Score& b) {
  return a.violation != b.violation ? a.violation < b.violation : a.values[0] < b.values[0];
}

// The common part: screening, scoring, the best so far, the budget.
class Ladder {
 public:
  explicit Ladder(const LocalSearch& search) : search_(search), begun_(spent()) {}

  bool over() const { return spent() - begun_ >= search_.token_layers || idle_ >= kMostIdle; }
  uint32_t next_generation() {
    idle_ = spent() > seen_ ? 0 : idle_ + 1;
    seen_ = spent();
    return ++generation_;
  }

  // The predicted best of each `oversample` candidates.
  Result<std::vector<Genome>> screened(std::vector<Genome> drawn) const {
    std::vector<Evaluation> evaluations(drawn.size());
    MOE_TRY(search_.evaluator->screen(drawn, evaluations));
    std::vector<Genome> picked;
    const auto n = static_cast<size_t>(search_.oversample);
    for (size_t first = 0; first + n <= drawn.size(); first += n) {
      size_t best = first;
      Score best_score;
      for (size_t i = first; i < first + n; ++i) {
        evaluations[i].kl = evaluations[i].nll = evaluations[i].worst_domain_kl = evaluations[i].layer_error;
        MOE_ASSIGN(const Score score, search_.objectives->score(evaluations[i]));
        if (i == first || better(score, best_score)) best = i, best_score = score;
      }
      picked.push_back(std::move(drawn[best]));
    }
    return picked;
  }

  // In the order of genomes; what was dropped is worse than all else.
  Result<std::vector<Scored>> scored(std::vector<Genome> genomes) {
    std::vector<Evaluation> evaluations(genomes.size());
    const KeepBetter keep = [&](std::span<const Evaluation> rung, std::span<uint8_t> kept) { keep_better(rung, kept); };
    MOE_TRY(search_.evaluator->score(generation_, genomes, keep, evaluations));
    std::vector<Scored> result;
    for (size_t i = 0; i < genomes.size(); ++i) {
      MOE_ASSIGN(const Score score, search_.objectives->score(evaluations[i]));
      result.push_back({std::move(genomes[i]), std::move(evaluations[i]), score});
    }
    n_scored_ += result.size();
    for (const Scored& s : result) remember(s);
    return result;
  }

  // The best on the whole selection text of those that were best on the way there.
  Result<LocalResult> finish() {
    if (best_.empty()) return Status::InvalidArgument("local search: nothing could be scored");
    std::vector<Genome> genomes;
    for (const Scored& s : best_) genomes.push_back(s.genome);
    std::vector<Evaluation> evaluations(genomes.size());
    MOE_TRY(search_.evaluator->confirm(genomes, evaluations));
    size_t best = 0;
    Score best_score;
    for (size_t i = 0; i < genomes.size(); ++i) {
      MOE_ASSIGN(const Score score, search_.objectives->score(evaluations[i]));
      if (i == 0 || better(score, best_score)) best = i, best_score = score;
    }
    return LocalResult{genomes[best], evaluations[best], n_scored_, generation_};
  }

 private:
  double spent() const { return search_.spent ? search_.spent() : search_.evaluator->token_layers(); }

  void keep_better(std::span<const Evaluation> rung, std::span<uint8_t> kept) const {
    std::vector<size_t> order(rung.size());
    std::vector<Score> scores(rung.size());
    for (size_t i = 0; i < rung.size(); ++i) {
      const Result<Score> score = search_.objectives->score(rung[i]);
      if (!score.ok()) return;  // what comes behind score() says why
      scores[i] = *score;
    }
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return better(scores[a], scores[b]); });
    const auto left = static_cast<size_t>(search_.keep * static_cast<double>(rung.size()) + 0.999);
    for (size_t i = std::max<size_t>(left, 1); i < order.size(); ++i) kept[order[i]] = 0;
  }

  void remember(const Scored& s) {
    if (s.score.dropped() || !known_.insert(hash(s.genome)).second) return;
    const auto at = std::upper_bound(best_.begin(), best_.end(), s,
                                     [](const Scored& a, const Scored& b) { return better(a.score, b.score); });
    best_.insert(at, s);
    if (best_.size() > static_cast<size_t>(search_.confirmed)) best_.pop_back();
  }

  const LocalSearch& search_;
  const double begun_;
  double seen_ = 0;
  int idle_ = 0;  // generations that cost nothing
  uint32_t generation_ = 0;
  uint64_t n_scored_ = 0;
  std::vector<Scored> best_;  // the best first
  std::unordered_set<uint64_t> known_;
};

// The best of a generation and its mother.
void advance(Scored& mother, std::vector<Scored> children) {
  for (Scored& c : children)
    if (!c.score.dropped() && better(c.score, mother.score)) mother = std::move(c);
}

Status check(const LocalSearch& s) {
  MOE_CHECK(s.space && s.objectives && s.evaluator && s.pool);
  if (s.objectives->objectives.size() != 1) return Status::InvalidArgument("local search: wanted one objective");
  if (s.children < 1 || s.oversample < 1 || s.confirmed < 1 || s.patience < 1 || !(s.keep > 0 && s.keep <= 1))
    return Status::InvalidArgument("local search: an option is out of range");
  return {};
}

// --- level switch ---

// See random_candidate().
Result<Genome> random_work(const SearchSpace& space, double work, Rng& rng, GenePool& pool) {
  struct Level {
    int layer, k, quarters;
  };
  const auto channels = [&](const Level& l) { return int64_t{l.k} * channels_of(l.quarters, space.shape(l.layer)); };
  std::vector<Level> levels;
  double budget = 0;
  int64_t spent = 0;
  for (const int l : space.routed()) {
    levels.push_back({l, space.may_skip(l) ? 0 : space.k_low(l), space.width_setting(l, space.constraints().narrowest)});
    budget += work * space.shape(l).k * space.shape(l).d_ff;
    spent += channels(levels.back());
  }
  if (static_cast<double>(spent) > budget) return Status::InvalidArgument("local search: nothing is so cheap");
  for (;;) {
    std::vector<std::pair<size_t, Level>> open;
    for (size_t i = 0; i < levels.size(); ++i) {
      Level more = levels[i], wider = levels[i];
      more.k = std::max(more.k + 1, space.k_low(more.layer));
      if (more.k <= std::min(space.k_high(more.layer), int{space.shape(more.layer).k})) open.push_back({i, more});
      while (wider.quarters < kQuarters &&
             channels_of(wider.quarters, space.shape(wider.layer)) == channels_of(levels[i].quarters, space.shape(wider.layer)))
        ++wider.quarters;
      if (wider.k > 0 && channels(wider) > channels(levels[i])) open.push_back({i, wider});
    }
    std::erase_if(open, [&](const auto& o) {
      return static_cast<double>(spent + channels(o.second) - channels(levels[o.first])) > budget;
    });
    if (open.empty()) break;
    const auto& [i, level] = open[rng.below(open.size())];
    spent += channels(level) - channels(levels[i]);
    levels[i] = level;
  }
  MOE_ASSIGN(const Genome full, genome_of(full_topology(space.shape()), space.shape(), pool));
  GenomeDraft draft(full);
  for (const Level& l : levels) {
    LayerGene& gene = draft.edit(l.layer);
    gene.k_min = gene.k_max = l.k;
    for (int e = 0; e < gene.n_experts; ++e) gene.set_quarters(e, space.width_setting(l.layer, l.quarters));
  }
  return draft.finish(pool, {});
}

int level_of(const LayerGene& gene, bool kept) { return kept ? gene.n_kept() : gene.k_max; }

// Between one and three layers get one more, as many others one less; EvoPress draws the number as the lesser of two.
bool switch_levels(std::vector<int>& levels, std::span<const LevelRange> ranges, Rng& rng) {
  const auto n = std::min(1 + rng.below(3), 1 + rng.below(3));
  bool changed = false;
  for (uint64_t i = 0; i < n; ++i) {
    std::vector<size_t> up, down;
    for (size_t l = 0; l < levels.size(); ++l) {
      if (levels[l] < ranges[l].high) up.push_back(l);
      if (levels[l] > ranges[l].low) down.push_back(l);
    }
    if (up.empty() || down.empty()) break;
    const size_t more = up[rng.below(up.size())], less = down[rng.below(down.size())];
    if (more == less) continue;
    ++levels[more], --levels[less], changed = true;
  }
  return changed;
}

}  // namespace

Result<Genome> random_candidate(const SearchSpace& space, double work, Rng& rng, GenePool& pool) {
  if (work > 0) return random_work(space, work, rng, pool);
  const Constraints& c = space.constraints();
  double experts = 0;
  for (const int l : space.routed()) experts += space.shape(l).n_experts;
  const double share = c.kept ? static_cast<double>(c.kept->high) / experts : 1;
  MOE_ASSIGN(const Genome full, genome_of(full_topology(space.shape()), space.shape(), pool));
  GenomeDraft draft(full);
  for (const int l : space.routed()) {
    LayerGene& gene = draft.edit(l);
    for (int e = 0; e < gene.n_experts; ++e)
      if (rng.uniform_double() >= share) set_bit(gene.row(0), e, false);
    if (!c.active) continue;
    const int n = space.k_high(l) - space.k_low(l) + 1;
    gene.k_min = gene.k_max = space.k_low(l) + static_cast<int>(rng.below(static_cast<uint64_t>(n)));
  }
  if (!repair(draft, space, rng)) return Status::InvalidArgument("local search: a random candidate cannot meet the budgets");
  for (const int l : space.routed()) {  // repair moves k_max; what is drawn is a fixed number
    LayerGene& gene = draft.edit(l);
    gene.k_min = gene.k_max;
  }
  return draft.finish(pool, {});
}

Result<LocalResult> random_search(const LocalSearch& search) {
  MOE_TRY(check(search));
  Ladder ladder(search);
  while (!ladder.over()) {
    const uint32_t generation = ladder.next_generation();
    std::vector<Genome> drawn;
    for (int i = 0; i < search.children * search.oversample; ++i) {
      Rng rng = stream_of(search.seed, Purpose::kFirstPopulation, generation, static_cast<uint32_t>(i));
      MOE_ASSIGN(Genome g, random_candidate(*search.space, search.work, rng, *search.pool));
      drawn.push_back(std::move(g));
    }
    MOE_ASSIGN(drawn, ladder.screened(std::move(drawn)));
    MOE_TRY(ladder.scored(std::move(drawn)).status());
  }
  return ladder.finish();
}

Result<LocalResult> hill_climb(const LocalSearch& search, const Variation& variation) {
  MOE_TRY(check(search));
  Ladder ladder(search);
  while (!ladder.over()) {
    Rng rng = stream_of(search.seed, Purpose::kFirstPopulation, ladder.next_generation());
    MOE_ASSIGN(Genome first, random_candidate(*search.space, search.work, rng, *search.pool));
    MOE_ASSIGN(std::vector<Scored> begun, ladder.scored({first}));
    Scored mother = std::move(begun[0]);
    for (int idle = 0; idle < search.patience && !ladder.over();) {
      const uint32_t generation = ladder.next_generation();
      std::vector<Genome> bred;
      for (uint32_t i = 0; i < static_cast<uint32_t>(search.children * search.oversample); ++i)
        bred.push_back(breed(mother.genome, mother.genome, variation, *search.space, search.seed, generation, i, *search.pool));
      MOE_ASSIGN(bred, ladder.screened(std::move(bred)));
      const Score before = mother.score;
      MOE_ASSIGN(std::vector<Scored> children, ladder.scored(std::move(bred)));
      advance(mother, std::move(children));
      idle = better(mother.score, before) ? 0 : idle + 1;
    }
  }
  return ladder.finish();
}

Result<LocalResult> level_switch(const LocalSearch& search, const Genome& first, std::span<const LayerOrder> orders) {
  MOE_TRY(check(search));
  const SearchSpace& space = *search.space;
  const bool kept = !orders.empty();
  std::vector<LevelRange> ranges;
  std::vector<int> levels;
  for (const int l : space.routed()) {
    const auto i = static_cast<size_t>(l);
    ranges.push_back(kept ? LevelRange{orders[i].least, static_cast<int>(orders[i].ids.size())}
                          : LevelRange{space.k_low(l), space.k_high(l)});
    levels.push_back(level_of(first.layers[i]->value, kept));
  }
  const auto genome_at = [&](const std::vector<int>& at) {
    GenomeDraft draft(first);
    for (size_t i = 0; i < at.size(); ++i) {
      const int l = space.routed()[i];
      LayerGene& gene = draft.edit(l);
      if (kept) {
        gene.keep = prefix_gene(orders[static_cast<size_t>(l)], at[i], l, space).keep;
      } else {
        gene.k_min = gene.k_max = at[i];
      }
    }
    return draft.finish(*search.pool, {});
  };
  Ladder ladder(search);
  MOE_ASSIGN(std::vector<Scored> begun, ladder.scored({genome_at(levels)}));
  Scored mother = std::move(begun[0]);
  while (!ladder.over()) {
    const uint32_t generation = ladder.next_generation();
    for (size_t i = 0; i < levels.size(); ++i)
      levels[i] = level_of(mother.genome.layers[static_cast<size_t>(space.routed()[i])]->value, kept);
    std::vector<Genome> bred;
    for (uint32_t i = 0; i < static_cast<uint32_t>(search.children * search.oversample); ++i) {
      Rng rng = stream_of(search.seed, Purpose::kMutation, generation, i);
      std::vector<int> child = levels;
      switch_levels(child, ranges, rng);
      bred.push_back(genome_at(child));
    }
    MOE_ASSIGN(bred, ladder.screened(std::move(bred)));
    MOE_ASSIGN(std::vector<Scored> children, ladder.scored(std::move(bred)));
    advance(mother, std::move(children));
  }
  return ladder.finish();
}

}  // namespace moe
