// The Evaluator of a real model: from microseconds a genome to whole texts.
//
//   calibration text ──calibrate()──► sample ──collect_gram()──► screen(): Σ a_l · error of layer l, costs, modelled latency
//                         └────────── one layer disturbed at a time ──► a_l, the divergence that a layer's error makes
//   select text ──minibatch of a generation──► score(): first rung │ keep │ … │ all of it          (block_scorer.h)
//            └────────────── all of it ──────► confirm()
//   test text ───────────────────────────────► held_out()
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "evolution/block_scorer.h"
#include "evolution/calibration.h"
#include "evolution/costs.h"
#include "evolution/device.h"
#include "evolution/evaluation.h"
#include "evolution/layer_prices.h"
#include "evolution/text_data.h"

namespace moe {

struct FitnessOptions {
  uint64_t seed = 0;
  int n_sampled = 1024;      // tokens of the Gram cache
  int n_candidates = 0;      // experts of a token in it; 0: all
  bool widths = false;       // whether genomes may narrow experts: 16 times the Gram cache
  int score_tokens = 8192;   // of a generation's text, about
  int rungs = 2;             // each has four times the text of the one before, the last all of it; 1: nobody is dropped early
  uint32_t fresh_every = 0;  // generations that share a text; 0: all
  int probe_tokens = 2048;   // of calibration text, about, for a_l; 0: every a_l is 1
  DeviceProfile device = shipped_devices()[0];
  std::vector<ChoiceTask> choices = {}, test_choices = {};  // accuracy of score() and confirm(), of held_out()
  BlockScorerOptions memory = {};
  size_t memo_bytes = size_t{64} << 20;  // of layers' prices
  // What create() does: "calibrating", "gram cache", "probing", each from 0 to `total`. False: kCancelled.
  std::function<bool(const char* stage, int64_t done, int64_t total)> on_progress = {};
};

class Fitness final : public Evaluator {
 public:
  // The model must outlive it. kUnsupported as calibrate(), kInvalidArgument for tokens outside the vocabulary.
  static Result<std::unique_ptr<Fitness>> create(const Model& model, TextData text, const FitnessOptions& options);

  Status screen(std::span<const Genome> genomes, std::span<Evaluation> results) override;
  Status score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
               std::span<Evaluation> results) override;
  uint32_t text_of(uint32_t generation) const override;
  Status confirm(std::span<const Genome> genomes, std::span<Evaluation> results) override;
  Status held_out(std::span<const Genome> genomes, std::span<Evaluation> results) override;
  Status recall_score(uint32_t generation, std::span<const Genome> genomes, std::span<const Evaluation> results) override;
  Status recall_confirm(std::span<const Genome> genomes) override;
  double token_layers() const override;
  std::vector<Tier> tiers() const override;

  const Calibration& calibration() const { return calibration_; }
  const GramCache& gram() const { return *gram_; }
  const TextData& text() const { return text_; }
  const ModelCosts& costs() const { return *costs_; }
  std::span<const double> layer_weights() const { return weights_; }  // (n layers) a_l; 0 for dense ones
  double resumed() const { return scorer_->resumed(); }               // token · layer forwards saved by known prefixes

 private:
  struct Tally;
  struct Count {
    uint64_t evaluations = 0, remembered = 0;
  };
  Fitness(const Model& model, TextData text, const FitnessOptions& options);
  Status check_tokens() const;
  Status prepare();
  Status calibrate_model();
  Status create_scorer();
  Status probe();
  Status probe_layer(int layer, std::span<const TextBlock* const> blocks);
  std::vector<Genome> probes_of(int layer);
  Status stopped() const;
  Status price(std::span<const Genome> genomes, std::span<Evaluation> results, Count& count);
  // Rung by rung, `alive` only; between two rungs pause(rows scored so far) may clear some of it.
  Status climb(uint32_t generation, std::span<const Genome> genomes, BlockScorer::Use use, std::span<const uint8_t> alive,
               std::span<Tally> tallies, const std::function<void(int64_t rows)>& pause);
  Status run(std::span<const TextBlock* const> blocks, std::span<const Genome> genomes, std::span<const uint8_t> alive,
             BlockScorer::Use use, std::span<Tally> tallies, Count& count);
  Status measure(std::span<const TextBlock* const> blocks, const std::vector<TextBlock>& choice_blocks,
                 std::span<const ChoiceTask> tasks, std::span<const Genome> genomes, BlockScorer::Use use,
                 std::span<Evaluation> results, Count& count);
  Status choose(const std::vector<TextBlock>& blocks, std::span<const ChoiceTask> tasks, std::span<const Genome> genomes,
                std::span<const uint8_t> alive, BlockScorer::Use use, std::span<Evaluation> results);
  void report(const Tally& tally, Evaluation& result) const;
  std::vector<const TextBlock*> minibatch(uint32_t text) const;

  const Model& model_;
  const TextData text_;
  const FitnessOptions options_;
  ThreadPool pool_;
  Calibration calibration_;
  std::unique_ptr<GramCache> gram_;
  std::unique_ptr<GramPool> gram_pool_;
  std::unique_ptr<LayerPrices> prices_;
  std::unique_ptr<ModelCosts> costs_;
  std::unique_ptr<BlockScorer> scorer_;
  std::vector<double> weights_;
  GenePool genes_;  // of probes
  std::vector<TextBlock> choice_blocks_, test_choice_blocks_;
  int64_t kept_text_ = -1;  // whose residuals the scorer keeps
  double prepared_ = 0;     // token · layer forwards before the first question
  Count screened_, first_rung_, later_rungs_, confirmed_, held_out_;
};

}  // namespace moe
