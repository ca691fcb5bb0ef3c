// What a genome costs to run, from the model's shape and from how its layers route a sample: FLOPs, bytes, loads. No forward
// pass.
#pragma once

#include <span>
#include <vector>

#include "evolution/evaluation.h"
#include "models/model.h"

namespace moe {

// How one layer routes the calibration sample under a genome (LayerError has these numbers).
struct LayerUse {
  double k_mean = 0;               // experts a token uses
  double work_mean = 0;            // the same, an expert counted by the share of its channels that runs
  std::span<const uint32_t> load;  // (E) tokens an expert works on
};

// Of one model. Immutable.
class ModelCosts {
 public:
  static Result<ModelCosts> of(const Model& model);

  // Fills in active_flops … diversity, but latency_ms (device.h). uses: (n layers), dense and skipped layers zero.
  void fill(const Genome& genome, std::span<const LayerUse> uses, Evaluation& result) const;

  double dense_flops() const { return dense_flops_; }  // of a token, all but routed experts
  double dense_bytes() const { return dense_bytes_; }  // of weights that every token reads, routers included

 private:
  struct Layer {
    int n_experts = 0, d_ff = 0;
    double router_flops = 0, router_bytes = 0;
    double expert_flops = 0, expert_bytes = 0;  // of one whole expert
    double fixed_bytes = 0;                     // of an expert, whatever its width: biases of outputs
  };
  std::vector<Layer> layers_;
  double dense_flops_ = 0, dense_bytes_ = 0, other_bytes_ = 0;  // other: resident but not read for a token, e.g. embeddings
};

}  // namespace moe
