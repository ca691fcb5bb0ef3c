// Training: rows of tokens in, better weights out, one step at a time.
//
//   step  ─► for each batch of rows:  full pass   at random k a layer: cross entropy, balance losses, a teacher
//         │                          narrow pass at a random width, its teacher the full pass (nested experts)
//         ├► expert-diversity loss, global norm, AdamW, selection biases
//         └► StepReport; save() keeps all that the next step depends on
//
// Goals: the same bits for any number of threads, and after save() and restore(), whatever was killed in between: every random
// choice is a function of seed and step. Weights, moments and gradients are float32; graphs may read bfloat16 copies. One
// checkpoint serves every k and width it was trained for. Non-goals: several machines.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/rng.h"
#include "models/model.h"
#include "models/train/dataset.h"
#include "models/train/load_balance.h"
#include "models/train/train_pass.h"
#include "models/train/train_weights.h"
#include "tensor/optim.h"

namespace moe {

struct TrainerOptions {
  // A step
  int rows = 16, accumulate = 1;  // of a batch; batches of a step
  uint64_t seed = 0;
  bool bf16 = false;  // big matrices are multiplied in bfloat16
  AdamW adamw;
  float clip = 1;  // of the gradients' global norm; 0: none
  ParameterRules rates;
  RateSchedule schedule;
  std::vector<std::string> frozen;  // patterns of tensor names, * and ?

  // Balance
  float switch_loss = 0.01f, z_loss = 0.001f, diversity_loss = 0;
  float bias_speed = 0;       // of selection biases; 0: none
  float capacity_factor = 0;  // 0: no limit
  Overflow overflow = Overflow::kDrop;
  float expert_dropout = 0, router_dropout = 0;  // an expert for a step and layer; an expert for a token
  UsageTargets usage;

  // Elastic training
  int k_min = 0, k_max = 0;    // k of a layer in every second batch is drawn from these; 0: always the model's own
  std::vector<double> widths;  // shares of the experts' hidden channels that narrow passes draw from; empty: no such pass
  double narrow_share = 0.5;   // of a batch's rows that the narrow pass sees
  float narrow_weight = 1;     // of its loss
  float narrow_mix = 0.5f;     // its teacher's share of that
  float teacher_mix = 0.5f, teacher_temperature = 1;  // of the full pass, where there is a teacher
};
// kInvalidArgument naming the option, wanted and found; k and widths are also checked against the model.
Status validate(const TrainerOptions& options, const ModelConfig& config);

struct StepReport {
  int64_t step = 0;                // steps done, this one included
  uint64_t tokens = 0;             // targets since the first step
  double loss = 0;                 // nats a target, of the full pass
  double narrow_loss = 0, kl = 0;  // of the narrow pass; kl: of the full pass where there is a teacher, else the narrow's
  double switch_loss = 0, z = 0, diversity = 0;  // means over layers and batches, without their factors
  double rate = 0, grad_norm = 0;                // before clipping
  double seconds = 0;
  int64_t step_tokens = 0;
};

struct EvaluationOptions {
  int k = 0;                // 0: the model's own
  double width = 1;         // share of the experts' hidden channels
  int64_t max_targets = 0;  // stops once it has seen so many; 0: all
};
struct HeldOutLoss {
  double loss = 0;  // sum, nats
  int64_t n_targets = 0;
  double bytes = 0;  // of the targets' text; 0 where the vocabulary is unknown
};

// Not thread-safe.
class Trainer {
 public:
  // A new model: `metadata` has the config's keys and a vocabulary (plan_synth makes both).
  static Result<std::unique_ptr<Trainer>> create(const Metadata& metadata, Dataset data, const TrainerOptions& options,
                                                 const BackendOptions& backend);
  // Goes on from the weights of a file, in any format: fine-tuning.
  static Result<std::unique_ptr<Trainer>> create_from(const GgufFile& file, Dataset data, const TrainerOptions& options,
                                                      const BackendOptions& backend);
  ~Trainer();

  const ModelConfig& config() const { return config_; }
  const Metadata& metadata() const { return metadata_; }
  const TrainerOptions& options() const { return options_; }
  const Dataset& data() const { return data_; }
  const TrainWeights& weights() const { return weights_; }
  std::span<const Parameter> parameters() const { return parameters_; }
  const std::vector<int>& n_experts() const { return n_experts_; }  // (n layers), 0: dense
  int64_t steps() const { return step_; }
  uint64_t tokens() const { return tokens_; }
  // Over the last steps, of full passes, behind dropouts and capacity.
  LayerUsage usage(size_t layer) const { return usage_.usage(layer); }
  size_t memory_bytes() const;  // weights, gradients, moments and temporaries
  int64_t trained() const;      // numbers that learn

  // A bigger model of the same vocabulary whose predictions the full pass learns from. Before the first step; must outlive
  // this.
  Status set_teacher(const Model& teacher);

  // One update; none, and no step_tokens in the report, when the data are used up. kOutOfRange when loss or gradients are not
  // finite: names step and tensor, and weights stay as they were.
  Status step(StepReport& report);
  // Reads what is left of `data`, whose context is at most the training's. Weights stay as they are.
  Result<HeldOutLoss> evaluate(Dataset& data, const EvaluationOptions& options);

  // Everything the next step depends on, as a model file that also runs: see checkpoint.cpp.
  Status save(const std::string& path) const;
  // kInvalidArgument for a checkpoint of another model, other data or options that change what is computed.
  Status restore(const std::string& path);

 private:
  struct Moments {
    Buffer grad, m, v;
  };
  Trainer(Metadata metadata, ModelConfig config, Dataset data, const TrainerOptions& options, TrainWeights weights,
          std::unique_ptr<Backend> backend, std::vector<int> n_experts);
  static Result<std::unique_ptr<Trainer>> assemble(const Metadata& metadata, const GgufFile* file, Dataset data,
                                                   const TrainerOptions& options, const BackendOptions& backend);
  Result<std::unique_ptr<TrainPass>> build_pass(TrainPassKind kind, int rows, std::optional<Tensor> teacher_head,
                                                float teacher_logit_scale);
  Status build_passes();
  Status build_update();
  Status bind_gradients(TrainPass& pass);
  int narrow_rows() const;  // of a batch; 0: there is no narrow pass
  LayerRouting routing_of(size_t layer, int k, double width) const;
  void set_routing(TrainPass& pass, int64_t batch, bool narrow);
  void drop_experts(Rng& rng, int k, LayerRouting& routing) const;
  Status run_batches(StepReport& report);
  Result<TrainPass::Losses> run_narrow(const DatasetBatch& batch, int64_t index, float share);
  Status check_losses(const TrainPass::Losses& losses, const char* pass) const;
  Status add_diversity(StepReport& report);
  Status finish_step(StepReport& report);
  std::string fingerprint() const;

  Metadata metadata_;
  ModelConfig config_;
  Dataset data_;
  TrainerOptions options_;
  std::unique_ptr<Backend> backend_;
  TrainWeights weights_;
  std::unique_ptr<TrainPass> full_, narrow_, forward_, teacher_pass_;
  std::vector<Parameter> parameters_;
  std::vector<Moments> moments_;  // (n parameters)
  UpdateGraph update_;
  NormGraph norm_;
  DiversityGraph diversity_;
  std::unique_ptr<Executable> update_run_, norm_run_, diversity_run_;
  std::vector<std::array<float, 8>> hyper_;  // (n groups)
  std::vector<int> n_experts_;               // (n layers)
  std::vector<std::vector<float>> bias_;     // (n layers, n_experts) selection biases
  std::vector<std::vector<uint32_t>> uses_;  // (n layers, n_experts) of the step at hand
  std::vector<DatasetBatch> batches_;        // of the step at hand
  std::vector<double> token_bytes_;          // (n_vocab)
  UsageMonitor usage_;
  uint64_t teacher_hash_ = 0;
  int64_t step_ = 0;
  uint64_t tokens_ = 0;
};

}  // namespace moe
