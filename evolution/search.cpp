#include "evolution/search.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <unordered_set>

#include "core/mathx.h"
#include "evolution/indicators.h"
#include "evolution/pareto.h"
#include "evolution/statistics.h"

namespace moe {
namespace {

constexpr int kWander = 6;           // children of children that a random first candidate is away from its seed
constexpr double kSpread = 0.1;      // the reference point lies this share of generation 0's extent behind its worst
constexpr size_t kMostPairs = 2000;  // that diversity is the mean of
constexpr size_t kEnough = 16;       // scores that a surrogate learns from before it is asked
constexpr double kRecent = 0.3;      // weight of the latest generation in what is said of ranks

Status refuse(const std::string& what, const std::string& wanted) {
  return Status::InvalidArgument("search: " + what + ": wanted " + wanted);
}

// Each job once, by whichever thread comes first; the first failure in order wins.
template <class Job>
void for_each_index(ThreadPool& threads, size_t n, const Job& job) {
  std::atomic<size_t> next{0};
  auto work = [&](int) {
    for (size_t i = next++; i < n; i = next++) job(i);
  };
  threads.run(work);
}

// Before a forward pass all that it would tell is taken to follow one guess: for ranking only.
Evaluation predicted(Evaluation e, double guess) {
  e.kl = e.nll = e.worst_domain_kl = guess;
  e.accuracy = -guess;
  return e;
}

// Where a value lies between the best and the worst of a front: 0 to 1 for those of the front itself.
struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double v) { low = std::min(low, v), high = std::max(high, v); }
  double share(double v) const { return (v - low) / (high > low ? high - low : std::max(std::abs(high), 1e-12)); }
};

// A direction drawn evenly from the simplex: gaps of exponential length.
std::vector<double> direction(Rng& rng, size_t n) {
  std::vector<double> w;
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    w.push_back(-mathx::log(1 - rng.uniform_double()) + 1e-9);
    sum += w.back();
  }
  for (double& x : w) x /= sum;
  return w;
}

uint64_t hash_of(std::span<const Genome> genomes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const Genome& g : genomes) h = (h ^ hash(g)) * 0x100000001b3u;
  return h;
}

std::vector<Score> scores_in(std::span<const Candidate> candidates) {
  std::vector<Score> scores;
  for (const Candidate& c : candidates) scores.push_back(c.score);
  return scores;
}

std::vector<Genome> genomes_in(std::span<const Candidate> candidates) {
  std::vector<Genome> genomes;
  for (const Candidate& c : candidates) genomes.push_back(c.genome);
  return genomes;
}

// Under several objectives whoever scores as somebody else does adds nothing to a front, and copies of its ends would fill a
// population. Under one a plateau is walked across, so they stay.
void drop_copies(std::span<const Candidate> population, std::span<Score> children) {
  std::vector<Objectives> seen;
  for (const Candidate& c : population)
    if (!c.score.dropped()) seen.push_back(c.score.values);
  for (Score& s : children) {
    if (s.dropped()) continue;
    if (std::find(seen.begin(), seen.end(), s.values) != seen.end())
      s.violation = kDropped;
    else
      seen.push_back(s.values);
  }
}

int64_t connections(const SearchSpace& space) {
  int64_t n = 0;
  for (const int i : space.routed()) n += space.shape(i).n_experts;
  return n;
}

Status wrong_record(uint32_t generation, const std::string& what) {
  return Status::Corrupt("generation " + std::to_string(generation) + ": " + what +
                         "; it belongs to another search, or another version made it");
}

}  // namespace

Search::Search(SearchSpace space, Variation variation, ObjectiveSet objectives, SearchOptions options,
               std::shared_ptr<GenePool> pool, Evaluator& evaluator, ThreadPool& threads)
    : space_(std::move(space)),
      variation_(std::move(variation)),
      objectives_(std::move(objectives)),
      options_(std::move(options)),
      pool_(std::move(pool)),
      evaluator_(evaluator),
      threads_(threads) {}

Result<std::unique_ptr<Search>> Search::create(SearchSpace space, Variation variation, ObjectiveSet objectives,
                                               SearchOptions options, std::vector<Genome> seeds, std::shared_ptr<GenePool> pool,
                                               Evaluator& evaluator, ThreadPool& threads) {
  if (objectives.objectives.empty() || objectives.objectives.size() > kMostObjectives)
    return refuse("objectives", "1 to " + std::to_string(kMostObjectives));
  if (options.oversample < 1 || options.oversample > 1000) return refuse("oversample", "1 to 1000");
  if (!(options.keep > 0 && options.keep <= 1)) return refuse("keep", "above 0, at most 1");
  if (options.archive < 1) return refuse("archive", "at least 1");
  if (options.confirm < 1) return refuse("confirm", "at least 1");
  options.settings.seed = options.seed;
  options.settings.n_objectives = objectives.n_values();
  MOE_ASSIGN(auto algorithm, make_algorithm(options.algorithm, options.settings));
  MOE_ASSIGN(Termination termination, Termination::make(options.limits));
  const auto children = uint64_t{algorithm->options().children} * static_cast<uint64_t>(options.oversample);
  if (children >= 1u << 24) return refuse("children · oversample", "fewer than 2^24");
  std::unique_ptr<Search> search(new Search(std::move(space), std::move(variation), std::move(objectives), std::move(options),
                                            std::move(pool), evaluator, threads));
  search->algorithm_ = std::move(algorithm);
  search->termination_ = std::make_unique<Termination>(std::move(termination));
  MOE_TRY(search->first_candidates(std::move(seeds)));
  return search;
}

Status Search::first_candidates(std::vector<Genome> seeds) {
  if (seeds.empty()) {
    MOE_ASSIGN(Genome full, genome_of(full_topology(space_.shape()), space_.shape(), *pool_));
    seeds.push_back(std::move(full));
  }
  std::unordered_set<uint64_t> known;
  for (size_t i = 0; i < seeds.size(); ++i) {
    GenomeDraft draft(seeds[i]);
    Rng rng = stream_of(options_.seed, Purpose::kFirstPopulation, 0, static_cast<uint32_t>(i));
    if (!repair(draft, space_, rng)) return refuse("seed " + std::to_string(i), "one that the constraints allow after repair");
    Genome g = draft.finish(*pool_, {genome_id(0, static_cast<uint32_t>(first_.size())), 0, 0, 0, {}});
    if (known.insert(hash(g)).second) first_.push_back(std::move(g));
  }
  const size_t n_seeds = first_.size(), wanted = algorithm_->options().population;
  uint32_t child = 0;
  for (int tries = 0; first_.size() < wanted; ++tries) {
    Genome g = first_[first_.size() % n_seeds];
    const Lineage origin = g.lineage;
    for (int step = 0; step < kWander; ++step) g = breed(g, g, variation_, space_, options_.seed, 0, child++, *pool_);
    // A space may have fewer genomes than the population has slots.
    if (!known.insert(hash(g)).second && tries < static_cast<int>(4 * wanted)) continue;
    g.lineage = {genome_id(0, static_cast<uint32_t>(first_.size())), origin.id, 0, 0, {}};
    first_.push_back(std::move(g));
  }
  return {};
}

std::vector<Genome> Search::breed_all(std::span<const Mating> matings, std::span<const uint32_t> picked) const {
  const auto per_mating = picked.empty() ? static_cast<uint32_t>(options_.oversample) : 1u;
  std::vector<Genome> bred(matings.size() * per_mating);
  for_each_index(threads_, bred.size(), [&](size_t i) {
    const size_t m = i / per_mating;
    const auto which = picked.empty() ? static_cast<uint32_t>(i % per_mating) : picked[m];
    const auto child = static_cast<uint32_t>(m) * static_cast<uint32_t>(options_.oversample) + which;
    bred[i] = breed(population_[matings[m].mother].genome, population_[matings[m].father].genome, variation_, space_,
                    options_.seed, generation(), child, *pool_);
  });
  return bred;
}

Result<std::vector<Score>> Search::scores_of(std::span<const Evaluation> evaluations) const {
  std::vector<Score> scores;
  for (const Evaluation& e : evaluations) {
    MOE_ASSIGN(const Score score, objectives_.score(e));
    scores.push_back(score);
  }
  return scores;
}

// Of each mating the candidate that is the least bad in its worst objective, each as a share of the front's extent and weighted
// by a direction of the mating's own: every part of the front is somebody's. Candidates that the search has already stand
// behind those that are new.
Status Search::pick(std::span<const Genome> bred, uint32_t per_mating, std::vector<uint32_t>& picked,
                    uint64_t& duplicates) const {
  std::vector<Evaluation> evaluations(bred.size());
  MOE_TRY(evaluator_.screen(bred, evaluations));
  const bool ask = learnt();
  for_each_index(threads_, bred.size(), [&](size_t i) {
    const double guess = ask ? surrogate_.guess(bred[i], evaluations[i].layer_error) : evaluations[i].layer_error;
    evaluations[i] = predicted(std::move(evaluations[i]), guess);
  });
  MOE_ASSIGN(const std::vector<Score> scores, scores_of(evaluations));

  const std::vector<Score> measured = scores_in(population_);
  const Fronts fronts = sort_fronts(measured, n_objectives());
  std::vector<Extent> extents(static_cast<size_t>(n_objectives()));
  for (const uint32_t slot : fronts[0]) {
    if (population_[slot].evaluation.dropped) continue;
    const Evaluation& e = population_[slot].evaluation;
    MOE_ASSIGN(const Score score, objectives_.score(predicted(e, ask ? e.kl : e.layer_error)));
    for (size_t m = 0; m < extents.size(); ++m) extents[m].add(score.values[m]);
  }
  std::unordered_set<uint64_t> known;  // asked for members only, never walked
  for (const Candidate& c : population_) known.insert(hash(c.genome));
  for (size_t mating = 0; mating * per_mating < bred.size(); ++mating) {
    Rng rng = stream_of(options_.seed, Purpose::kPick, generation(), static_cast<uint32_t>(mating));
    const std::vector<double> w = direction(rng, extents.size());
    struct Merit {
      bool old;
      double violation, worst;
      uint32_t index;
      auto operator<=>(const Merit&) const = default;
    };
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    Merit best{true, kInfinity, kInfinity, UINT32_MAX};
    for (uint32_t i = 0; i < per_mating; ++i) {
      const size_t c = mating * per_mating + i;
      Merit merit{known.count(hash(bred[c])) != 0, scores[c].violation, -kInfinity, i};
      for (size_t m = 0; m < extents.size(); ++m)
        merit.worst = std::max(merit.worst, w[m] * extents[m].share(scores[c].values[m]));
      duplicates += merit.old;
      if (merit < best) best = merit;
    }
    picked.push_back(best.index);
    known.insert(hash(bred[mating * per_mating + best.index]));
  }
  return {};
}

bool Search::learnt() const { return options_.learn && surrogate_.size() >= kEnough && !(rank_learnt_ < rank_screen_); }

// Judges the guesses by what was measured then, and learns from that.
void Search::learn(std::span<const Genome> genomes, std::span<const Evaluation> evaluations) {
  if (!options_.learn) return;
  std::vector<double> screened, guessed, measured;
  for (size_t i = 0; i < genomes.size(); ++i) {
    const Evaluation& e = evaluations[i];
    if (e.dropped || !std::isfinite(e.kl) || surrogate_.size() < kEnough) continue;
    screened.push_back(e.layer_error);
    guessed.push_back(surrogate_.guess(genomes[i], e.layer_error));
    measured.push_back(e.kl);
  }
  const auto judge = [&](std::span<const double> guesses, double& rank) {
    const double tau = kendall_tau(guesses, measured);
    if (std::isfinite(tau)) rank = std::isfinite(rank) ? rank + kRecent * (tau - rank) : tau;
  };
  judge(screened, rank_screen_);
  judge(guessed, rank_learnt_);
  for (size_t i = 0; i < genomes.size(); ++i)
    surrogate_.add(genomes[i], evaluations[i].layer_error, evaluations[i].kl, evaluations[i].dropped);
  surrogate_.fit();
}

// Front after front, the last of them by crowding.
void Search::keep_better(std::span<const Evaluation> evaluations, std::span<uint8_t> keep) const {
  const Result<std::vector<Score>> scores = scores_of(evaluations);
  if (!scores.ok()) return;  // score() will say it once more
  const Fronts fronts = sort_fronts(*scores, n_objectives());
  auto left = static_cast<size_t>(std::ceil(options_.keep * static_cast<double>(evaluations.size())));
  std::fill(keep.begin(), keep.end(), uint8_t{0});
  for (size_t f = 0; f < fronts.size() && left > 0; ++f) {
    std::vector<uint32_t> front(fronts[f].begin(), fronts[f].end());
    if (front.size() > left) {
      const std::vector<double> room = crowding_distances(*scores, front, n_objectives());
      std::vector<size_t> order(front.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return room[a] > room[b]; });
      std::vector<uint32_t> roomy;
      for (size_t i = 0; i < left; ++i) roomy.push_back(front[order[i]]);
      front = std::move(roomy);
    }
    for (const uint32_t i : front) keep[i] = 1;
    left -= front.size();
  }
}

// One objective: by which share the child is better than its better parent. Several: 1 where it beats its mother in every
// objective, half of that where neither beats the other and it survives.
void Search::reward(std::span<const Mating> matings, std::span<const Candidate> children) {
  std::vector<uint8_t> survives(children.size());
  for (const uint32_t s : algorithm_->survivors())
    if (s >= population_.size()) survives[s - population_.size()] = 1;
  for (size_t i = 0; i < children.size(); ++i) {
    const Score& child = children[i].score;
    const Score &mother = population_[matings[i].mother].score, &father = population_[matings[i].father].score;
    double gain = 0;
    if (child.dropped()) {
      gain = 0;
    } else if (n_objectives() > 1) {
      gain = dominates(child, mother, n_objectives()) ? 1 : survives[i] && !dominates(mother, child, n_objectives()) ? 0.5 : 0;
    } else if (child.violation != mother.violation || child.violation != father.violation) {
      gain = child.violation < std::min(mother.violation, father.violation);
    } else {
      const double parent = std::min(mother.values[0], father.values[0]);
      gain = parent != 0 ? std::max(0.0, (parent - child.values[0]) / std::abs(parent)) : child.values[0] < 0;
    }
    variation_.reward(children[i].genome.lineage, gain);
  }
  variation_.end_generation();
}

// Of the population's first front those whom the archive does not have, the roomiest first.
std::vector<size_t> Search::newcomers() const {
  const std::vector<Score> scores = scores_in(population_);
  const Fronts fronts = sort_fronts(scores, n_objectives());
  const std::vector<double> room = crowding_distances(scores, fronts[0], n_objectives());
  std::vector<size_t> order(fronts[0].size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return room[a] > room[b]; });
  std::unordered_set<uint64_t> known;
  for (const Candidate& c : archive_) known.insert(hash(c.genome));
  std::vector<Objectives> seen;  // who scores the same differs in what does not matter
  for (const uint32_t slot : fronts[0])
    if (known.count(hash(population_[slot].genome))) seen.push_back(scores[slot].values);
  std::vector<size_t> found;
  for (const size_t o : order) {
    const size_t slot = fronts[0][o];
    if (!scores[slot].feasible() || std::find(seen.begin(), seen.end(), scores[slot].values) != seen.end()) continue;
    seen.push_back(scores[slot].values);
    found.push_back(slot);
  }
  return found;
}

void Search::archive_best(std::vector<Candidate>& archive, int n_objectives, size_t most) {
  std::erase_if(archive, [](const Candidate& c) { return !c.score.feasible(); });
  const std::vector<Score> scores = scores_in(archive);
  const Fronts fronts = sort_fronts(scores, n_objectives);
  std::vector<uint32_t> front;
  if (fronts.size() > 0) front.assign(fronts[0].begin(), fronts[0].end());
  while (front.size() > most) {
    const std::vector<double> room = crowding_distances(scores, front, n_objectives);
    front.erase(front.begin() + (std::min_element(room.begin(), room.end()) - room.begin()));
  }
  std::vector<Candidate> kept;
  kept.reserve(front.size());
  for (const uint32_t i : front) kept.push_back(std::move(archive[i]));
  std::stable_sort(kept.begin(), kept.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score.values[0] < b.score.values[0]; });
  // Of those who score the same the oldest.
  const auto alike = [](const Candidate& a, const Candidate& b) { return a.score.values == b.score.values; };
  std::vector<Candidate> single;
  for (Candidate& c : kept)
    if (std::none_of(single.begin(), single.end(), [&](const Candidate& other) { return alike(c, other); }))
      single.push_back(std::move(c));
  archive = std::move(single);
}

void Search::set_reference(std::span<const Score> scores) {
  for (size_t m = 0; m < static_cast<size_t>(n_objectives()); ++m) {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (const Score& s : scores) {
      if (s.dropped()) continue;
      low = std::min(low, s.values[m]), high = std::max(high, s.values[m]);
    }
    if (!(low <= high)) low = high = 0;
    const double extent = high > low ? high - low : std::max(std::abs(high), 1e-9);
    ideal_[m] = low, reference_[m] = high + kSpread * extent;
  }
}

SearchStatistics Search::statistics(uint64_t duplicates) const {
  SearchStatistics s;
  const int n = n_objectives();
  std::vector<Objectives> points;
  for (const Candidate& c : archive_) points.push_back(c.score.values);
  for (size_t m = 0; m < static_cast<size_t>(n); ++m) {
    double best = std::numeric_limits<double>::quiet_NaN();
    for (const Objectives& p : points) best = std::isnan(best) ? p[m] : std::min(best, p[m]);
    if (!objectives_.sum) s.best.push_back(objectives_.objectives[m]->maximise ? -best : best);
  }
  if (objectives_.sum)
    for (const ObjectiveDef* o : objectives_.objectives)
      s.best.push_back(archive_.empty() ? std::numeric_limits<double>::quiet_NaN() : o->value(archive_[0].evaluation));
  double box = 1;
  for (size_t m = 0; m < static_cast<size_t>(n); ++m) box *= reference_[m] - ideal_[m];
  s.hypervolume = points.empty() ? 0 : hypervolume(points, reference_, n) / box;

  int64_t different = 0;
  size_t pairs = 0;
  for (size_t gap = 1; gap < population_.size() && pairs < kMostPairs; ++gap)
    for (size_t i = 0; i + gap < population_.size() && pairs < kMostPairs; ++i, ++pairs)
      different += mask_distance(population_[i].genome, population_[i + gap].genome);
  if (pairs > 0)
    s.diversity = static_cast<double>(different) / static_cast<double>(pairs) / static_cast<double>(connections(space_));
  std::unordered_set<const void*> layers;
  for (const Candidate& c : population_)
    for (const LayerRef& layer : c.genome.layers) layers.insert(layer.get());
  s.unique_layers = layers.size();
  s.duplicates = duplicates;
  s.rank_screen = rank_screen_, s.rank_learnt = rank_learnt_;
  const auto copy = [](std::span<const double> p) { return std::vector<double>(p.begin(), p.end()); };
  s.mutation_share = copy(variation_.mutation_credit().probabilities());
  s.crossover_share = copy(variation_.crossover_credit().probabilities());
  return s;
}

Result<GenerationRecord> Search::step(double seconds) { return advance(nullptr, seconds); }

Status Search::replay(const GenerationRecord& record) {
  const uint32_t g = generation();
  if (record.generation != g) return wrong_record(record.generation, "wanted generation " + std::to_string(g));
  MOE_TRY(advance(&record, record.seconds).status());
  earlier_ = record.token_layers - evaluator_.token_layers();
  return {};
}

// One road for a generation that is measured and one that is known. All that can fail comes before the first change.
Result<GenerationRecord> Search::advance(const GenerationRecord* known, double seconds) {
  GenerationRecord record;
  record.generation = generation();
  record.seconds = seconds;
  const std::span<const Mating> asked_for = algorithm_->ask();
  const std::vector<Mating> matings(asked_for.begin(), asked_for.end());
  uint64_t duplicates = known ? known->statistics.duplicates : 0;

  // The old population on the new text.
  std::vector<Candidate> old = population_;
  std::vector<Score> old_scores;
  std::vector<double> roots;  // of what it diverged on the text before
  const bool anew = record.generation > 0 && evaluator_.text_of(record.generation) != evaluator_.text_of(record.generation - 1);
  if (known ? !known->rescored.empty() : anew) {
    record.rescored.resize(old.size());
    if (known) {
      if (known->rescored.size() != old.size()) return wrong_record(record.generation, "another number of slots");
      record.rescored = known->rescored;
      MOE_TRY(evaluator_.recall_score(record.generation, genomes_in(old), record.rescored));
    } else {
      MOE_TRY(evaluator_.score(record.generation, genomes_in(old), {}, record.rescored));
    }
    MOE_ASSIGN(old_scores, scores_of(record.rescored));
    for (const Candidate& c : old) roots.push_back(std::sqrt(c.evaluation.kl));
    for (size_t i = 0; i < old.size(); ++i) old[i].evaluation = record.rescored[i], old[i].score = old_scores[i];
  }

  std::vector<Genome> genomes = first_;
  if (record.generation > 0) {
    if (known) {
      if (known->picked.size() != matings.size()) return wrong_record(record.generation, "another number of children");
      for (const uint32_t p : known->picked)
        if (p >= static_cast<uint32_t>(options_.oversample)) return wrong_record(record.generation, "another oversampling");
      record.picked = known->picked;
      genomes = breed_all(matings, known->picked);
    } else {
      const auto per_mating = static_cast<uint32_t>(options_.oversample);
      const std::vector<Genome> bred = breed_all(matings, {});
      MOE_TRY(pick(bred, per_mating, record.picked, duplicates));
      genomes.clear();
      for (size_t m = 0; m < matings.size(); ++m) genomes.push_back(bred[m * per_mating + record.picked[m]]);
    }
  }
  record.children_hash = hash_of(genomes);
  record.evaluations.resize(genomes.size());
  if (known) {
    if (known->children_hash != record.children_hash) return wrong_record(record.generation, "other children");
    if (known->evaluations.size() != genomes.size()) return wrong_record(record.generation, "another number of evaluations");
    record.evaluations = known->evaluations;
    MOE_TRY(evaluator_.recall_score(record.generation, genomes, record.evaluations));
  } else {
    KeepBetter keep;
    if (record.generation > 0) keep = [this](std::span<const Evaluation> e, std::span<uint8_t> k) { keep_better(e, k); };
    MOE_TRY(evaluator_.score(record.generation, genomes, keep, record.evaluations));
  }
  MOE_ASSIGN(std::vector<Score> scores, scores_of(record.evaluations));
  if (n_objectives() > 1) drop_copies(old, scores);

  // What the algorithm makes of it, tried on a copy of its state so that a failure further on leaves no trace.
  ByteWriter before;
  algorithm_->save(before);
  const auto undo = [&](const Status& failed) {
    ByteReader saved(before.bytes());
    const Status restored = algorithm_->restore(saved);
    return restored.ok() ? failed : restored;
  };
  if (!old_scores.empty()) {
    if (const Status s = algorithm_->rescore(old_scores); !s.ok()) return undo(s);
  }
  if (const Status s = algorithm_->tell(scores); !s.ok()) return undo(s);

  std::vector<Candidate> children;
  for (size_t i = 0; i < genomes.size(); ++i) children.push_back({genomes[i], record.evaluations[i], scores[i]});
  std::vector<Candidate> next;
  for (const uint32_t s : algorithm_->survivors()) next.push_back(s < old.size() ? old[s] : children[s - old.size()]);

  std::swap(population_, next);  // newcomers() looks at it
  std::vector<size_t> fresh = newcomers();
  if (fresh.size() > static_cast<size_t>(options_.confirm)) fresh.resize(static_cast<size_t>(options_.confirm));
  std::vector<Genome> asked;
  asked.reserve(fresh.size());
  for (const size_t slot : fresh) asked.push_back(population_[slot].genome);
  std::swap(population_, next);
  record.confirmed.resize(asked.size());
  if (known) {
    if (known->confirmed.size() != asked.size()) return undo(wrong_record(record.generation, "another number of newcomers"));
    record.confirmed = known->confirmed;
    if (const Status s = evaluator_.recall_confirm(asked); !s.ok()) return undo(s);
  } else if (!asked.empty()) {
    if (const Status s = evaluator_.confirm(asked, record.confirmed); !s.ok()) return undo(s);
  }
  const Result<std::vector<Score>> confirmed = scores_of(record.confirmed);
  if (!confirmed.ok()) return undo(confirmed.status());

  if (record.generation == 0) set_reference(scores);
  if (record.generation > 0) {
    population_ = std::move(old);  // parents as they were scored on this text
    reward(matings, children);
  }
  population_ = std::move(next);
  if (!old_scores.empty()) {  // another text
    double by = 0;
    for (size_t i = 0; i < record.rescored.size(); ++i) by += std::sqrt(record.rescored[i].kl) - roots[i];
    surrogate_.shift(by / static_cast<double>(roots.size()));
  }
  learn(genomes, record.evaluations);
  for (size_t i = 0; i < asked.size(); ++i) archive_.push_back({asked[i], record.confirmed[i], (*confirmed)[i]});
  archive_best(archive_, n_objectives(), static_cast<size_t>(options_.archive));
  record.token_layers = known ? known->token_layers : earlier_ + evaluator_.token_layers();
  record.statistics = statistics(duplicates);
  const double measure = n_objectives() > 1 ? -record.statistics.hypervolume
                         : archive_.empty() ? kNotMeasured
                                            : archive_[0].score.values[0];
  ended_ = termination_->after({static_cast<uint64_t>(record.token_layers), record.generation + 1, record.seconds, measure});
  pool_->collect();
  return record;
}

Result<std::vector<Candidate>> Search::final_front(std::span<const Genome> others) {
  std::vector<Candidate> front = archive_;
  std::unordered_set<uint64_t> known;
  size_t n_found = front.size();
  for (const Candidate& c : archive_) known.insert(hash(c.genome));
  std::vector<Genome> asked;
  for (const size_t slot : newcomers()) {
    known.insert(hash(population_[slot].genome));
    asked.push_back(population_[slot].genome);
    ++n_found;
  }
  for (const Genome& g : others)
    if (satisfies(g, space_).ok() && known.insert(hash(g)).second) asked.push_back(g);
  std::vector<Evaluation> evaluations(asked.size());
  if (!asked.empty()) MOE_TRY(evaluator_.confirm(asked, evaluations));
  MOE_ASSIGN(const std::vector<Score> scores, scores_of(evaluations));
  for (size_t i = 0; i < asked.size(); ++i) front.push_back({asked[i], evaluations[i], scores[i]});
  // Crowds thin out among what was found; none of the others is missed behind it.
  std::vector<Candidate> added(std::make_move_iterator(front.begin() + static_cast<std::ptrdiff_t>(n_found)),
                               std::make_move_iterator(front.end()));
  front.resize(n_found);
  archive_best(front, n_objectives(), static_cast<size_t>(options_.archive));
  for (Candidate& c : added) front.push_back(std::move(c));
  archive_best(front, n_objectives(), front.size());
  return front;
}

}  // namespace moe
