// Scores candidates on blocks of text by forward passes: divergence from the full model and the text's own likelihood.
//
//   block hash ──layer 0's key──► key of residual 1 ──layer 1's key──► key of residual 2 ── … ──► key of the block's scores
//
// Equal keys are equal numbers, so a pass begins behind the last layer whose key is held (of a parent, a sibling, the full
// model), and a candidate that was scored on a block is not scored there again. What the full model says of a block is computed
// once for all candidates that meet it there.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "evolution/byte_lru.h"
#include "evolution/divergence.h"
#include "evolution/genome.h"
#include "evolution/layer_steps.h"

namespace moe {

struct BlockScorerOptions {
  size_t residual_bytes = size_t{512} << 20;  // of candidates on kept blocks, an equal part each
  size_t teacher_bytes = size_t{384} << 20;   // of the full model: half its probabilities, half what enters its last layer
  size_t n_memo = 1 << 20;                    // scores of (candidate, block)
};

struct SequenceScore {  // sums over the rows of one sequence
  double kl = 0, nll = 0;
  int rows = 0;
};

// A genome as a scorer wants it.
struct Trial {
  RoutingTopology topology;
  std::vector<uint64_t> keys;  // (n layers) layer_key()
};
Trial trial_of(const Genome& genome, const RoutingShape& shape);

// Not thread-safe; model and pool must outlive it. Scores depend on candidate and block alone.
class BlockScorer {
 public:
  enum class Use {
    kSearch,  // counted, and remembered
    kRecall,  // counted and remembered as if it had been done, but nothing is: an earlier process did
    kAside,   // neither: nothing that a search does later depends on it
  };

  static Result<std::unique_ptr<BlockScorer>> create(const Model& model, ThreadPool& pool, const BlockLimits& limits,
                                                     const BlockScorerOptions& options);

  // Blocks that candidates will meet again: residuals are held of these. Those of others are dropped.
  void keep(std::span<const TextBlock* const> blocks);
  // Before the first of the trials that will meet a block, one after another: what they can begin from is dropped last.
  void begin(const TextBlock& block, std::span<const Trial> trials, Use use);

  // scores (sequences), none with kRecall; kl only with_teacher. True: remembered.
  Result<bool> score(const Trial& trial, const TextBlock& block, bool with_teacher, Use use,
                     std::vector<SequenceScore>& scores);

  // Token · layer forwards so far. A layer that does less work than the full model's counts as one.
  double token_layers() const { return token_layers_; }
  double resumed() const { return resumed_; }  // those that were not needed because a pass began further on

 private:
  using Residuals = ByteLru<std::vector<float>>;
  using Scores = std::unordered_map<uint64_t, std::vector<SequenceScore>>;
  BlockScorer(const Model& model, ThreadPool& pool, const BlockScorerOptions& options);
  using Floats = std::shared_ptr<const std::vector<float>>;
  // What is held, and how far a pass has to go, depends on the calls alone; work begins at what is there.
  struct Ledger {
    bool counts = false;   // token · layer forwards
    bool changes = false;  // what is held
    bool works = false;    // numbers are needed
  };
  void set_keys(const Trial& trial, const TextBlock& block);
  int known_layers(const Residuals& residuals) const;
  void count_teacher(const TextBlock& block);
  Status teach_block(const TextBlock& block, bool aside);
  Status run(const Trial& trial, const TextBlock& block, Ledger ledger, Residuals& residuals);
  std::vector<SequenceScore>* remembered(uint64_t key);
  size_t residual_bytes(const TextBlock& block) const;
  void remember(uint64_t key, const std::vector<SequenceScore>& scores);

  const Model& model_;
  const BlockScorerOptions options_;
  const int n_vocab_;
  ThreadPool& pool_;
  std::unique_ptr<LayerSteps> steps_;
  RoutingTopology full_;
  std::map<uint64_t, Residuals> kept_;  // by block
  Residuals aside_;
  ByteLru<TeacherRows> teacher_rows_;          // by block
  ByteLru<std::vector<float>> teacher_last_;   // what enters the last layer, by block
  std::shared_ptr<const TeacherRows> taught_;  // of the block at hand
  bool teacher_counted_ = false;               // of the block at hand
  Scores young_, old_;                         // as in LayerPrices
  int stride_ = 1;                             // residuals of every so many layers of the block at hand are held
  std::vector<uint64_t> keys_;                 // (n layers + 1) of the candidate and block at hand
  std::vector<RowScore> rows_;
  double token_layers_ = 0, resumed_ = 0;
};

}  // namespace moe
