#include "evolution/block_scorer.h"

#include <algorithm>

#include "core/check.h"
#include "evolution/hash_chain.h"
#include "evolution/layer_prices.h"

namespace moe {
namespace {

constexpr size_t kAsideBytes = size_t{128} << 20;

}  // namespace

Trial trial_of(const Genome& genome, const RoutingShape& shape) {
  Trial c{topology_of(genome, shape), {}};
  for (const LayerRef& layer : genome.layers) c.keys.push_back(layer_key(*layer, *genome.classes));
  return c;
}

BlockScorer::BlockScorer(const Model& model, ThreadPool& pool, const BlockScorerOptions& options)
    : model_(model),
      options_(options),
      n_vocab_(model.config().n_vocab),
      pool_(pool),
      full_(full_topology(model.routing_shape())),
      aside_(kAsideBytes),
      teacher_rows_(options.teacher_bytes / 2),
      teacher_last_(options.teacher_bytes / 2) {}

Result<std::unique_ptr<BlockScorer>> BlockScorer::create(const Model& model, ThreadPool& pool, const BlockLimits& limits,
                                                         const BlockScorerOptions& options) {
  std::unique_ptr<BlockScorer> s(new BlockScorer(model, pool, options));
  MOE_ASSIGN(s->steps_, LayerSteps::create(model, limits));
  return s;
}

void BlockScorer::keep(std::span<const TextBlock* const> blocks) {
  std::map<uint64_t, Residuals> kept;
  for (const TextBlock* b : blocks) {
    Residuals& r = kept[b->hash];
    if (const auto old = kept_.find(b->hash); old != kept_.end()) r = std::move(old->second);
  }
  for (auto& [hash, residuals] : kept) residuals.set_budget(options_.residual_bytes / kept.size());
  kept_ = std::move(kept);
}

const std::vector<SequenceScore>* BlockScorer::remembered(uint64_t key) {
  if (const auto i = young_.find(key); i != young_.end()) return &i->second;
  const auto i = old_.find(key);
  if (i == old_.end()) return nullptr;
  remember(key, std::vector<SequenceScore>(i->second));
  return &young_.find(key)->second;
}

void BlockScorer::remember(uint64_t key, const std::vector<SequenceScore>& scores) {
  if (young_.size() >= options_.n_memo / 2) old_ = std::move(young_), young_.clear();
  young_[key] = scores;
}

// The full model's rows. What enters its last layer is held for as many blocks as there is room for, first come, first served:
// a text that is larger than the room would drop everything before it is needed.
Result<std::shared_ptr<const TeacherRows>> BlockScorer::teacher(const TextBlock& block, Use use) {
  if (use == Use::kSearch && teacher_rows_.has(block.hash)) {
    teacher_rows_.touch(block.hash);
    if (auto rows = teacher_rows_.find(block.hash)) return rows;
  }
  if (teacher_aside_ && teacher_aside_of_ == block.hash) return teacher_aside_;
  const auto T = static_cast<double>(block.tokens.size());
  const int L = steps_->n_layers();
  const bool known = teacher_last_.has(block.hash), rows_known = teacher_rows_.has(block.hash);
  const auto last = teacher_last_.find(block.hash);
  if (use == Use::kSearch && !rows_known) token_layers_ += T * (known ? 1 : L);
  if (use == Use::kSearch && !known) {
    const size_t bytes = block.tokens.size() * static_cast<size_t>(model_.config().d_model) * sizeof(float);
    if (teacher_last_.bytes() + bytes <= options_.teacher_bytes / 2) teacher_last_.add(block.hash, bytes);
  }
  const auto on_residual = [&](int layer, std::span<const float> x) {
    if (layer == L - 1 && use == Use::kSearch && teacher_last_.has(block.hash))
      teacher_last_.fill(block.hash, std::make_shared<const std::vector<float>>(x.begin(), x.end()));
  };
  MOE_TRY(steps_->run(full_, block, last ? L - 1 : 0, last ? std::span<const float>(*last) : std::span<const float>(),
                      on_residual));
  auto rows = std::make_shared<TeacherRows>();
  MOE_TRY(teach(steps_->logits(), n_vocab_, pool_, *rows));
  if (use == Use::kSearch) {
    teacher_rows_.add(block.hash, rows->bytes());
    teacher_rows_.fill(block.hash, rows);
  }
  teacher_aside_ = rows, teacher_aside_of_ = block.hash;
  return std::shared_ptr<const TeacherRows>(rows);
}

// From the last layer whose input is held. Costs are counted by what is said to be held, work begins at what is there.
Status BlockScorer::run(const Trial& trial, const TextBlock& block, Use use, Residuals& residuals) {
  const int L = steps_->n_layers();
  const auto key = [&](int l) { return keys_[static_cast<size_t>(l)]; };
  int known = L - 1;
  while (known > 0 && !residuals.has(key(known))) --known;
  int first = known;
  std::shared_ptr<const std::vector<float>> x;
  while (first > 0 && !(x = residuals.find(key(first)))) --first;

  for (int l = 1; l <= known; ++l) residuals.touch(key(l));
  const auto T = static_cast<double>(block.tokens.size());
  if (use == Use::kSearch) token_layers_ += T * (L - known), resumed_ += T * known;
  const size_t bytes = block.tokens.size() * static_cast<size_t>(model_.config().d_model) * sizeof(float);
  for (int l = known + 1; l < L; ++l) residuals.add(key(l), bytes);

  const auto on_residual = [&](int l, std::span<const float> made) {
    if (residuals.has(key(l))) residuals.fill(key(l), std::make_shared<const std::vector<float>>(made.begin(), made.end()));
  };
  return steps_->run(trial.topology, block, first, x ? std::span<const float>(*x) : std::span<const float>(), on_residual);
}

Result<bool> BlockScorer::score(const Trial& trial, const TextBlock& block, bool with_teacher, Use use,
                                std::vector<SequenceScore>& scores) {
  MOE_CHECK(trial.keys.size() == static_cast<size_t>(steps_->n_layers()));
  keys_.assign(1, block.hash);
  for (const uint64_t k : trial.keys) keys_.push_back(chained(keys_.back(), k));
  if (use == Use::kSearch)
    if (const auto* known = remembered(keys_.back())) {
      scores = *known;
      return true;
    }
  std::shared_ptr<const TeacherRows> rows;
  if (with_teacher) {
    MOE_ASSIGN(rows, teacher(block, use));
  }
  const auto kept = use == Use::kSearch ? kept_.find(block.hash) : kept_.end();
  MOE_TRY(run(trial, block, use, kept == kept_.end() ? aside_ : kept->second));
  rows_.resize(block.rows.size());
  MOE_TRY(score_rows(steps_->logits(), n_vocab_, rows.get(), block.targets, pool_, rows_));
  scores.assign(block.lengths.size(), {});
  size_t row = 0;
  for (size_t s = 0; s < scores.size(); ++s)
    for (; row < static_cast<size_t>(block.rows_until[s]); ++row)
      scores[s].kl += rows_[row].kl, scores[s].nll += rows_[row].nll, ++scores[s].rows;
  if (use == Use::kSearch) remember(keys_.back(), scores);
  return false;
}

}  // namespace moe
