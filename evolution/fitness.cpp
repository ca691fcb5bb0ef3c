#include "evolution/fitness.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "evolution/gram_collect.h"

namespace moe {
namespace {

constexpr size_t kGroup = 64;           // candidates that meet a block together: their topologies are in memory at once
constexpr int kLongestQuestion = 1024;  // tokens of a prompt and a choice

// The blocks that hold about so many tokens: a multiple of the domains, as far as there are blocks.
size_t blocks_for(const TextSplit& split, int64_t tokens) {
  const size_t all = split.blocks.size(), domains = split.of_domain.size();
  const auto wanted =
      static_cast<size_t>(static_cast<double>(tokens) * static_cast<double>(all) / static_cast<double>(split.n_tokens));
  return std::min(all, std::max<size_t>(1, (wanted + domains / 2) / domains) * domains);
}

std::vector<const TextBlock*> first_blocks(const std::vector<TextBlock>& blocks, size_t n) {
  std::vector<const TextBlock*> all;
  for (size_t i = 0; i < n; ++i) all.push_back(&blocks[i]);
  return all;
}

}  // namespace

// Of one genome: a sum for each sequence, in the order of the text.
struct Fitness::Tally {
  struct Sequence {
    int domain;
    SequenceScore score;
  };
  std::vector<Sequence> sequences;
};

Fitness::Fitness(const Model& model, TextData text, const FitnessOptions& options)
    : model_(model), text_(std::move(text)), options_(options), pool_(model.backend().info().n_threads) {}

Result<std::unique_ptr<Fitness>> Fitness::create(const Model& model, TextData text, const FitnessOptions& options) {
  std::unique_ptr<Fitness> f(new Fitness(model, std::move(text), options));
  MOE_TRY(f->prepare());
  return f;
}

Status Fitness::check_tokens() const {
  const int V = model_.config().n_vocab;
  const auto check = [&](const std::vector<TextBlock>& blocks) {
    for (const TextBlock& b : blocks)
      for (const Token t : b.tokens)
        if (t < 0 || t >= V)
          return Status::InvalidArgument("fitness: wanted token ids below " + std::to_string(V) + ", found " +
                                         std::to_string(t));
    return Status::Ok();
  };
  for (const TextSplit* s : {&text_.calibration(), &text_.select(), &text_.test()}) MOE_TRY(check(s->blocks));
  MOE_TRY(check(choice_blocks_));
  return check(test_choice_blocks_);
}

Status Fitness::prepare() {
  if (options_.rungs < 1 || options_.rungs > 8 || options_.score_tokens < 1)
    return Status::InvalidArgument("fitness: wanted 1 to 8 rungs and a token or more to score, found " +
                                   std::to_string(options_.rungs) + " and " + std::to_string(options_.score_tokens));
  const TextDataOptions& t = text_.options();
  const int longest = std::min(kLongestQuestion, std::max(t.n_ctx, model_.config().n_ctx_train));
  MOE_ASSIGN(choice_blocks_, choice_blocks(options_.choices, longest, t.block_tokens, t.bos));
  MOE_ASSIGN(test_choice_blocks_, choice_blocks(options_.test_choices, longest, t.block_tokens, t.bos));
  MOE_TRY(check_tokens());
  MOE_ASSIGN(ModelCosts costs, ModelCosts::of(model_));
  costs_ = std::make_unique<ModelCosts>(std::move(costs));
  MOE_TRY(calibrate_model());
  MOE_TRY(create_scorer());
  return probe();
}

Status Fitness::calibrate_model() {
  const TextSplit& split = text_.calibration();
  std::vector<Token> tokens;
  std::vector<int> lengths, domains;
  for (const TextBlock& b : split.blocks) {
    tokens.insert(tokens.end(), b.tokens.begin(), b.tokens.end());
    lengths.insert(lengths.end(), b.lengths.begin(), b.lengths.end());
    domains.insert(domains.end(), b.lengths.size(), b.domain);
  }
  CalibrationOptions c;
  c.seed = options_.seed, c.n_sampled = options_.n_sampled;
  if (options_.on_progress)
    c.on_progress = [&](int64_t done) { return options_.on_progress("calibrating", done, split.n_tokens); };
  MOE_ASSIGN(calibration_, calibrate(model_, {.tokens = tokens, .lengths = lengths, .domains = domains}, c));

  std::function<bool(int)> on_layer;
  if (options_.on_progress)
    on_layer = [&](int done) { return options_.on_progress("gram cache", done, model_.config().n_layer); };
  MOE_ASSIGN(GramCache cache, collect_gram(model_, calibration_, {options_.n_candidates, options_.widths}, on_layer));
  gram_ = std::make_unique<GramCache>(std::move(cache));
  MOE_ASSIGN(gram_pool_, GramPool::create(*gram_, pool_, model_.backend().info().isa));
  prices_ = std::make_unique<LayerPrices>(*gram_, *gram_pool_, options_.memo_bytes);
  prepared_ = calibration_.token_layers + gram_->token_layers();
  return Status::Ok();
}

Status Fitness::create_scorer() {
  BlockLimits limits;
  for (const TextSplit* s : {&text_.calibration(), &text_.select(), &text_.test()})
    for (const TextBlock& b : s->blocks) limits.include(b);
  for (const auto* blocks : {&choice_blocks_, &test_choice_blocks_})
    for (const TextBlock& b : *blocks) limits.include(b);
  MOE_ASSIGN(scorer_, BlockScorer::create(model_, pool_, limits, options_.memory));
  return Status::Ok();
}

Status Fitness::stopped() const { return cancelled && cancelled() ? Status::Cancelled("fitness: stopped") : Status::Ok(); }

// --- Without forward passes ---

Status Fitness::price(std::span<const Genome> genomes, std::span<Evaluation> results, Count& count) {
  MOE_CHECK(genomes.size() == results.size());
  std::vector<LayerPrices::Price> prices;
  MOE_TRY(prices_->price(genomes, prices, count.remembered));
  count.evaluations += genomes.size();
  const size_t L = weights_.size();
  std::vector<LayerUse> uses(L);
  for (size_t i = 0; i < genomes.size(); ++i) {
    Evaluation& r = results[i];
    r = {};
    r.layer_errors.assign(L, 0), r.layer_error = 0;
    double experts = 0;
    for (size_t l = 0; l < L; ++l) {
      uses[l] = {};
      const LayerPrice* p = prices[i * L + l].get();
      if (!p) continue;
      uses[l] = {p->k_mean, p->work_mean, p->load};
      experts += p->k_mean;
      r.layer_errors[l] = p->length, r.layer_error += weights_[l] * p->length;
    }
    costs_->fill(genomes[i], uses, r);
    r.latency_ms = latency_ms(options_.device, r.bytes_per_token, r.active_flops, experts);
  }
  return Status::Ok();
}

Status Fitness::screen(std::span<const Genome> genomes, std::span<Evaluation> results) {
  MOE_TRY(stopped());
  return price(genomes, results, screened_);
}

// --- With them ---

uint32_t Fitness::text_of(uint32_t generation) const {
  const bool whole = blocks_for(text_.select(), options_.score_tokens) == text_.select().blocks.size();
  return whole || options_.fresh_every == 0 ? 0 : generation / options_.fresh_every;
}

std::vector<const TextBlock*> Fitness::minibatch(uint32_t text) const {
  const TextSplit& s = text_.select();
  std::vector<const TextBlock*> blocks;
  for (const int i : text_.minibatch(options_.seed, text, static_cast<int>(blocks_for(s, options_.score_tokens))))
    blocks.push_back(&s.blocks[static_cast<size_t>(i)]);
  return blocks;
}

// Block by block, so that what the full model says of one is needed once.
Status Fitness::run(std::span<const TextBlock* const> blocks, std::span<const Genome> genomes, std::span<const uint8_t> alive,
                    BlockScorer::Use use, std::span<Tally> tallies, Count& count) {
  std::vector<size_t> todo;
  for (size_t i = 0; i < genomes.size(); ++i)
    if (alive[i]) todo.push_back(i);
  std::vector<SequenceScore> scores;
  for (size_t begin = 0; begin < todo.size(); begin += kGroup) {
    const auto group = std::span(todo).subspan(begin, std::min(kGroup, todo.size() - begin));
    std::vector<Trial> trials;
    for (const size_t i : group) trials.push_back(trial_of(genomes[i], model_.routing_shape()));
    std::vector<uint8_t> all_known(group.size(), 1);
    for (const TextBlock* b : blocks) {
      MOE_TRY(stopped());
      scorer_->begin(*b, trials, use);
      for (size_t j = 0; j < group.size(); ++j) {
        MOE_ASSIGN(const bool known, scorer_->score(trials[j], *b, true, use, scores));
        all_known[j] &= known;
        for (const SequenceScore& s : scores) tallies[group[j]].sequences.push_back({b->domain, s});
      }
    }
    count.evaluations += group.size();
    count.remembered += static_cast<uint64_t>(std::count(all_known.begin(), all_known.end(), 1));
  }
  return Status::Ok();
}

// Means over all rows, of domains too; the standard error is that of a ratio estimate whose samples are sequences.
void Fitness::report(const Tally& tally, Evaluation& r) const {
  const auto D = static_cast<size_t>(text_.n_domains());
  std::vector<SequenceScore> domain(D);
  SequenceScore sum;
  for (const auto& [d, s] : tally.sequences) {
    SequenceScore& of = domain[static_cast<size_t>(d)];
    of.kl += s.kl, of.rows += s.rows;
    sum.kl += s.kl, sum.nll += s.nll, sum.rows += s.rows;
  }
  r.tokens = sum.rows;
  r.kl = sum.kl / sum.rows, r.nll = sum.nll / sum.rows;
  r.domain_kl.assign(D, kNotMeasured), r.worst_domain_kl = kNotMeasured;
  for (size_t d = 0; d < D; ++d) {
    if (domain[d].rows == 0) continue;
    r.domain_kl[d] = domain[d].kl / domain[d].rows;
    if (!(r.worst_domain_kl >= r.domain_kl[d])) r.worst_domain_kl = r.domain_kl[d];
  }
  double squares = 0;
  for (const auto& [d, s] : tally.sequences) squares += (s.kl - r.kl * s.rows) * (s.kl - r.kl * s.rows);
  const auto n = static_cast<double>(tally.sequences.size());
  r.kl_error = n < 2 ? 0 : std::sqrt(squares * n / (n - 1)) / sum.rows;
}

Status Fitness::climb(uint32_t generation, std::span<const Genome> genomes, BlockScorer::Use use,
                      std::span<const uint8_t> alive, std::span<Tally> tallies,
                      const std::function<void(int64_t rows)>& pause) {
  const uint32_t text = text_of(generation);
  const std::vector<const TextBlock*> blocks = minibatch(text);
  if (kept_text_ != text) scorer_->keep(blocks), kept_text_ = text;
  const auto D = static_cast<size_t>(text_.n_domains());
  size_t done = 0;
  int64_t rows = 0;
  for (int rung = 0; done < blocks.size(); ++rung) {
    const int behind = options_.rungs - 1 - rung;
    const size_t share = ((blocks.size() >> (2 * behind)) + D - 1) / D * D;
    const size_t until = behind == 0 ? blocks.size() : std::min(blocks.size(), std::max(D, share));
    if (until <= done) continue;
    MOE_TRY(run(std::span(blocks).subspan(done, until - done), genomes, alive, use, tallies,
                done == 0 ? first_rung_ : later_rungs_));
    for (; done < until; ++done) rows += static_cast<int64_t>(blocks[done]->rows.size());
    if (done < blocks.size()) pause(rows);
  }
  return Status::Ok();
}

Status Fitness::score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
                      std::span<Evaluation> results) {
  MOE_CHECK(genomes.size() == results.size());
  Count priced;
  MOE_TRY(price(genomes, results, priced));
  std::vector<uint8_t> alive(genomes.size(), 1);
  std::vector<Tally> tallies(genomes.size());
  const auto report_alive = [&] {
    for (size_t i = 0; i < genomes.size(); ++i)
      if (alive[i]) report(tallies[i], results[i]);
  };
  const auto pause = [&](int64_t) {
    if (!keep) return;
    report_alive();
    std::vector<uint8_t> kept = alive;
    keep(results, kept);
    for (size_t i = 0; i < kept.size(); ++i) kept[i] = kept[i] && alive[i];
    if (std::find(kept.begin(), kept.end(), 1) == kept.end()) return;  // who keeps nobody keeps all
    for (size_t i = 0; i < kept.size(); ++i) results[i].dropped = !kept[i];
    std::copy(kept.begin(), kept.end(), alive.begin());
  };
  MOE_TRY(climb(generation, genomes, BlockScorer::Use::kSearch, alive, tallies, pause));
  report_alive();
  return choose(choice_blocks_, options_.choices, genomes, alive, BlockScorer::Use::kSearch, results);
}

Status Fitness::recall_score(uint32_t generation, std::span<const Genome> genomes, std::span<const Evaluation> results) {
  MOE_CHECK(genomes.size() == results.size());
  std::vector<uint8_t> alive(genomes.size(), 1);
  std::vector<Tally> tallies(genomes.size());
  const auto pause = [&](int64_t rows) {
    for (size_t i = 0; i < alive.size(); ++i) alive[i] = alive[i] && results[i].tokens > rows;
  };
  MOE_TRY(climb(generation, genomes, BlockScorer::Use::kRecall, alive, tallies, pause));
  return choose(choice_blocks_, options_.choices, genomes, alive, BlockScorer::Use::kRecall, {});
}

// Accuracy of multiple choice.
Status Fitness::choose(const std::vector<TextBlock>& blocks, std::span<const ChoiceTask> tasks, std::span<const Genome> genomes,
                       std::span<const uint8_t> alive, BlockScorer::Use use, std::span<Evaluation> results) {
  if (tasks.empty()) return Status::Ok();
  std::vector<SequenceScore> scores;
  for (size_t i = 0; i < genomes.size(); ++i) {
    if (!alive[i]) continue;
    const Trial trial = trial_of(genomes[i], model_.routing_shape());
    std::vector<double> nll;
    for (const TextBlock& b : blocks) {
      MOE_TRY(stopped());
      scorer_->begin(b, {&trial, 1}, use);
      MOE_TRY(scorer_->score(trial, b, false, use, scores).status());
      for (const SequenceScore& s : scores) nll.push_back(s.nll);
    }
    if (use == BlockScorer::Use::kRecall) continue;
    const std::vector<int> answers = chosen(tasks, nll);
    int right = 0;
    for (size_t t = 0; t < tasks.size(); ++t) right += answers[t] == tasks[t].answer;
    results[i].accuracy = static_cast<double>(right) / static_cast<double>(tasks.size());
  }
  return Status::Ok();
}

Status Fitness::measure(std::span<const TextBlock* const> blocks, const std::vector<TextBlock>& choice_blocks,
                        std::span<const ChoiceTask> tasks, std::span<const Genome> genomes, BlockScorer::Use use,
                        std::span<Evaluation> results, Count& count) {
  MOE_CHECK(genomes.size() == results.size());
  Count priced;
  MOE_TRY(price(genomes, results, priced));
  const std::vector<uint8_t> alive(genomes.size(), 1);
  std::vector<Tally> tallies(genomes.size());
  MOE_TRY(run(blocks, genomes, alive, use, tallies, count));
  for (size_t i = 0; i < genomes.size(); ++i) report(tallies[i], results[i]);
  return choose(choice_blocks, tasks, genomes, alive, use, results);
}

Status Fitness::confirm(std::span<const Genome> genomes, std::span<Evaluation> results) {
  const auto& blocks = text_.select().blocks;
  return measure(first_blocks(blocks, blocks.size()), choice_blocks_, options_.choices, genomes, BlockScorer::Use::kSearch,
                 results, confirmed_);
}

Status Fitness::recall_confirm(std::span<const Genome> genomes) {
  const auto& blocks = text_.select().blocks;
  const std::vector<uint8_t> alive(genomes.size(), 1);
  std::vector<Tally> tallies(genomes.size());
  const auto use = BlockScorer::Use::kRecall;
  MOE_TRY(run(first_blocks(blocks, blocks.size()), genomes, alive, use, tallies, confirmed_));
  return choose(choice_blocks_, options_.choices, genomes, alive, use, {});
}

Status Fitness::held_out(std::span<const Genome> genomes, std::span<Evaluation> results) {
  const auto& blocks = text_.test().blocks;
  return measure(first_blocks(blocks, blocks.size()), test_choice_blocks_, options_.test_choices, genomes,
                 BlockScorer::Use::kAside, results, held_out_);
}

double Fitness::token_layers() const { return prepared_ + scorer_->token_layers(); }

std::vector<Evaluator::Tier> Fitness::tiers() const {
  return {{"screen", screened_.evaluations, screened_.remembered},
          {"first rung", first_rung_.evaluations, first_rung_.remembered},
          {"later rungs", later_rungs_.evaluations, later_rungs_.remembered},
          {"confirm", confirmed_.evaluations, confirmed_.remembered},
          {"held out", held_out_.evaluations, held_out_.remembered}};
}

// --- What a layer's error does to the end of the model ---

// The model with one layer disturbed: about a quarter, and half of its experts gone, those of the least Σ g ‖E(x)‖ of each
// group; one expert less a token where groups allow no less.
std::vector<Genome> Fitness::probes_of(int layer) {
  const auto l = static_cast<size_t>(layer);
  const RoutingShape& shape = model_.routing_shape();
  const RoutingShape::Layer& s = shape.layers[l];
  const RoutingTopology full = full_topology(shape);
  const int size = s.n_experts / s.n_group;
  std::vector<Genome> all;
  const auto add = [&](const RoutingTopology& t) {
    if (auto genome = genome_of(t, shape, genes_); genome.ok()) all.push_back(std::move(genome).value());
  };
  for (const int quarters : {3, 2}) {
    RoutingTopology t = full;
    for (int first = 0; first < s.n_experts; first += size) {
      std::vector<int> order;
      for (int e = first; e < first + size; ++e) order.push_back(e);
      const auto& norm = calibration_.layers[l].gate_norm;
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return norm[static_cast<size_t>(a)] > norm[static_cast<size_t>(b)]; });
      for (size_t i = static_cast<size_t>((size * quarters + kQuarters - 1) / kQuarters); i < order.size(); ++i)
        t.layers[l].allow[static_cast<size_t>(order[i])] = 0;
    }
    if (t.layers[l] != full.layers[l]) add(t);
  }
  if (!all.empty() || s.k < 2) return all;
  RoutingTopology t = full;
  t.layers[l].k_min = t.layers[l].k_max = s.k - 1;
  add(t);
  return all;
}

// a = Σ kl · error / Σ error².
Status Fitness::probe_layer(int layer, std::span<const TextBlock* const> blocks) {
  const std::vector<Genome> probes = probes_of(layer);
  std::vector<Evaluation> found(probes.size());
  std::vector<Tally> tallies(probes.size());
  Count count;
  MOE_TRY(price(probes, found, count));
  MOE_TRY(run(blocks, probes, std::vector<uint8_t>(probes.size(), 1), BlockScorer::Use::kSearch, tallies, count));
  double product = 0, square = 0;
  for (size_t i = 0; i < probes.size(); ++i) {
    report(tallies[i], found[i]);
    const double error = found[i].layer_errors[static_cast<size_t>(layer)];
    product += std::max(0.0, found[i].kl) * error, square += error * error;
  }
  weights_[static_cast<size_t>(layer)] = square > 0 ? product / square : 0;
  return Status::Ok();
}

Status Fitness::probe() {
  const auto& layers = model_.routing_shape().layers;
  weights_.assign(layers.size(), 0);
  const auto is_routed = [&](size_t l) { return layers[l].n_experts > 0; };
  const TextSplit& split = text_.calibration();
  if (options_.probe_tokens > 0) {
    const std::vector<const TextBlock*> blocks = first_blocks(split.blocks, blocks_for(split, options_.probe_tokens));
    scorer_->keep(blocks);
    MOE_ASSIGN(const Genome full, genome_of(full_topology(model_.routing_shape()), model_.routing_shape(), genes_));
    std::vector<Tally> tally(1);
    Count count;
    MOE_TRY(run(blocks, {&full, 1}, std::vector<uint8_t>{1}, BlockScorer::Use::kSearch, tally, count));
    for (size_t l = 0; l < layers.size(); ++l) {
      if (options_.on_progress &&
          !options_.on_progress("probing", static_cast<int64_t>(l), static_cast<int64_t>(layers.size())))
        return Status::Cancelled("fitness: stopped");
      if (is_routed(l)) MOE_TRY(probe_layer(static_cast<int>(l), blocks));
    }
    scorer_->keep({});
  }
  // Layers that showed nothing count as the mean of the others.
  double sum = 0, n = 0;
  for (const double w : weights_) sum += w, n += w > 0;
  for (size_t l = 0; l < layers.size(); ++l)
    if (is_routed(l) && !(weights_[l] > 0)) weights_[l] = n > 0 ? sum / n : 1;
  return Status::Ok();
}

}  // namespace moe
