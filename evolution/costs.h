// What a genome costs to run, from the model's shape and from how its layers route a sample: FLOPs, bytes, loads. No forward
// pass. It is the specialised file (specialise.h) that is priced: router rows and experts that nobody runs are gone.
//
//   FLOPs  2 for each weight that a token is multiplied with: norms, activations, routing itself and attention's products with
//          keys and values are left out
//   bytes  of weights as the file stores them; a token reads one row of its embedding, and of experts what it runs
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

  // Fills in active_flops … diversity, but latency_ms (device.h). uses: (n layers), dense and skipped layers zero. A layer
  // whose load is empty does not count for load_cv and diversity.
  void fill(const Genome& genome, std::span<const LayerUse> uses, Evaluation& result) const;

  double dense_flops() const { return dense_flops_; }  // of a token, all but routers and routed experts
  double dense_bytes() const { return dense_bytes_; }  // of weights that every token reads, routers left out

 private:
  struct Layer {
    RoutingShape::Layer shape;
    int n_experts = 0;                          // that have weights
    double router_flops = 0, router_bytes = 0;  // of a row
    double expert_flops = 0, expert_bytes = 0;  // of one whole expert; they shrink with its width
    double fixed_bytes = 0;                     // of an expert, whatever its width: biases of outputs
  };
  static Layer layer_of(const Model& model, size_t index);
  double rows_left(const Genome& genome, size_t layer, int common_groups) const;
  int common_groups(const Genome& genome) const;

  std::vector<Layer> layers_;
  double dense_flops_ = 0, dense_bytes_ = 0;
  double other_bytes_ = 0;  // resident, not read for every token: rows of the embedding
};

}  // namespace moe
