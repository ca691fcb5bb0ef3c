// The weights of a model in training: float32 in memory that the optimiser writes, and for the big matrices, where asked, the
// bfloat16 copies that graphs read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "models/graph_builder.h"
#include "models/io/gguf.h"
#include "tensor/backend.h"

namespace moe {

// Graphs that are built with it read these weights as they are at each run. Move-only; the backend must outlive it.
class TrainWeights final : public WeightSource {
 public:
  struct Weight {
    std::string name;
    Shape shape;
    Buffer values;  // f32 (shape)
    Buffer copy;    // bf16 (shape), or empty
  };

  // As training begins: matrices of rows of unit gain, those that write to the residual stream less by √(2 · layers), a small
  // embedding and router (OLMoE, arXiv 2409.02060 §4.1.2, uses N(0, 0.02) at a width of 2048, which is about that gain).
  static Result<TrainWeights> random(Backend& backend, const std::vector<DeclaredTensor>& tensors, int n_layer, uint64_t seed,
                                     bool bf16);
  // All weights of a file, whatever their format. kCorrupt names a tensor with a number that is not finite.
  static Result<TrainWeights> load(Backend& backend, const GgufFile& file, bool bf16);

  Result<Tensor> weight(const std::string& name, bool plain) override;
  bool has(const std::string& name) const override { return index_.contains(name); }

  // In the order of the file that a model of these weights has.
  const std::vector<Weight>& all() const { return weights_; }
  const Weight* find(const std::string& name) const;
  // Writes the copies anew, after `values` were written past the optimiser.
  Status refresh_copies();

 private:
  explicit TrainWeights(Backend& backend) : backend_(&backend) {}
  Status add(const std::string& name, const Shape& shape, bool copy);

  Backend* backend_;
  std::vector<Weight> weights_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace moe
