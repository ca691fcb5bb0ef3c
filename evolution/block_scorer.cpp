#include "evolution/block_scorer.h"

#include <algorithm>

#include "core/check.h"
#include "evolution/hash_chain.h"
#include "evolution/layer_prices.h"

namespace moe {
namespace {

constexpr size_t kAsideBytes = size_t{128} << 20;
constexpr int kMostStride = 4;

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

void BlockScorer::set_keys(const Trial& trial, const TextBlock& block) {
  keys_.assign(1, block.hash);
  for (const uint64_t k : trial.keys) keys_.push_back(chained(keys_.back(), k));
}

// The last layer whose input is held.
int BlockScorer::known_layers(const Residuals& residuals) const {
  int l = steps_->n_layers() - 1;
  while (l > 0 && !residuals.has(keys_[static_cast<size_t>(l)])) --l;
  return l;
}

// What will be used becomes the newest, in the order of use, the starting points behind all else; what is made on the way comes
// behind that and pushes out what nobody asked for, then what was used. (By use alone a generation that does not fit would push
// out each parent just before its child comes.) Where not even one residual a layer of all trials fits, fewer layers' are held.
void BlockScorer::begin(const TextBlock& block, std::span<const Trial> trials, Use use) {
  aside_.clear(), taught_ = nullptr, teacher_counted_ = false, stride_ = 1;
  const auto kept = kept_.find(block.hash);
  if (use == Use::kAside || kept == kept_.end()) return;
  Residuals& residuals = kept->second;
  std::vector<uint64_t> starts;
  for (const Trial& t : trials) {
    set_keys(t, block);
    if (young_.count(keys_.back()) > 0 || old_.count(keys_.back()) > 0) continue;
    const int known = known_layers(residuals);
    for (int l = 1; l < known; ++l) residuals.touch(keys_[static_cast<size_t>(l)]);
    starts.push_back(keys_[static_cast<size_t>(known)]);
  }
  for (const uint64_t start : starts) residuals.touch(start);
  const size_t wanted = starts.size() * static_cast<size_t>(steps_->n_layers() - 1) * residual_bytes(block);
  stride_ = static_cast<int>(std::clamp<size_t>((wanted + residuals.budget() - 1) / std::max<size_t>(1, residuals.budget()), 1,
                                                static_cast<size_t>(kMostStride)));
}

std::vector<SequenceScore>* BlockScorer::remembered(uint64_t key) {
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

size_t BlockScorer::residual_bytes(const TextBlock& block) const {
  return block.tokens.size() * static_cast<size_t>(model_.config().d_model) * sizeof(float);
}

// What enters the full model's last layer is held for as many blocks as there is room for, first come, first served: a text
// that is larger than the room would drop everything before it is needed.
void BlockScorer::count_teacher(const TextBlock& block) {
  if (teacher_counted_) return;
  teacher_counted_ = true;
  if (teacher_rows_.has(block.hash)) return teacher_rows_.touch(block.hash);
  const bool known = teacher_last_.has(block.hash);
  token_layers_ += static_cast<double>(block.tokens.size()) * (known ? 1 : steps_->n_layers());
  if (!known && teacher_last_.bytes() + residual_bytes(block) <= options_.teacher_bytes / 2)
    teacher_last_.add(block.hash, residual_bytes(block));
  teacher_rows_.add(block.hash, teacher_row_bytes(n_vocab_) * block.rows.size());
}

// The full model's rows of the block at hand.
Status BlockScorer::teach_block(const TextBlock& block, bool aside) {
  if (taught_ || (!aside && (taught_ = teacher_rows_.find(block.hash)))) return Status::Ok();
  const int L = steps_->n_layers();
  const Floats last = teacher_last_.find(block.hash);
  const auto on_residual = [&](int layer, std::span<const float> x) {
    if (layer == L - 1 && !aside && teacher_last_.has(block.hash))
      teacher_last_.fill(block.hash, std::make_shared<const std::vector<float>>(x.begin(), x.end()));
  };
  MOE_TRY(steps_->run(full_, block, last ? L - 1 : 0, last ? std::span<const float>(*last) : std::span<const float>(),
                      on_residual));
  auto rows = std::make_shared<TeacherRows>();
  MOE_TRY(teach(steps_->logits(), n_vocab_, pool_, *rows));
  taught_ = std::move(rows);
  if (!aside) teacher_rows_.fill(block.hash, taught_);
  return Status::Ok();
}

// From the last layer whose input is held.
Status BlockScorer::run(const Trial& trial, const TextBlock& block, Ledger ledger, Residuals& residuals) {
  const int L = steps_->n_layers();
  const auto key = [&](int l) { return keys_[static_cast<size_t>(l)]; };
  const int known = known_layers(residuals);
  int first = known;
  Floats x;
  while (first > 0 && !(x = residuals.find(key(first)))) --first;

  const auto T = static_cast<double>(block.tokens.size());
  if (ledger.counts) token_layers_ += T * (L - known), resumed_ += T * known;
  for (int l = known + 1; ledger.changes && l < L; ++l)
    if (l % stride_ == 0) residuals.add(key(l), residual_bytes(block));
  if (!ledger.works) return Status::Ok();
  const auto on_residual = [&](int l, std::span<const float> made) {
    if (residuals.has(key(l))) residuals.fill(key(l), std::make_shared<const std::vector<float>>(made.begin(), made.end()));
  };
  return steps_->run(trial.topology, block, first, x ? std::span<const float>(*x) : std::span<const float>(), on_residual);
}

Result<bool> BlockScorer::score(const Trial& trial, const TextBlock& block, bool with_teacher, Use use,
                                std::vector<SequenceScore>& scores) {
  MOE_CHECK(trial.keys.size() == static_cast<size_t>(steps_->n_layers()));
  const bool aside = use == Use::kAside;
  set_keys(trial, block);
  std::vector<SequenceScore>* known = aside ? nullptr : remembered(keys_.back());
  scores.clear();
  if (known && (use == Use::kRecall || !known->empty())) {
    scores = *known;
    return true;
  }
  // What an earlier process found is found again, and the ledger never hears of it.
  const Ledger ledger = {.counts = !aside && !known, .changes = !known, .works = use != Use::kRecall};
  if (with_teacher && ledger.counts) count_teacher(block);
  if (with_teacher && ledger.works) MOE_TRY(teach_block(block, aside));
  const auto kept = aside ? kept_.end() : kept_.find(block.hash);
  MOE_TRY(run(trial, block, ledger, kept == kept_.end() ? aside_ : kept->second));
  if (ledger.works) {
    rows_.resize(block.rows.size());
    MOE_TRY(score_rows(steps_->logits(), n_vocab_, with_teacher ? taught_.get() : nullptr, block.targets, pool_, rows_));
    scores.assign(block.lengths.size(), {});
    size_t row = 0;
    for (size_t s = 0; s < scores.size(); ++s)
      for (; row < static_cast<size_t>(block.rows_until[s]); ++row)
        scores[s].kl += rows_[row].kl, scores[s].nll += rows_[row].nll, ++scores[s].rows;
  }
  if (known)
    *known = scores;
  else if (!aside)
    remember(keys_.back(), scores);
  return known != nullptr;
}

}  // namespace moe
