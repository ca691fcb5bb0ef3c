// What a model's layers do with a calibration text, measured in one forward pass of the full model: who is used, how strongly,
// how far each expert moves the residual stream, and the layer inputs of a sample of tokens. Everything a search knows before
// its first candidate comes from here: saliency.h ranks experts by it, gram_cache.h prices routings on the sample.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "evolution/pair_index.h"
#include "models/model.h"

namespace moe {

struct CalibrationText {
  std::span<const Token> tokens;
  std::span<const int> lengths;               // of its sequences, one behind the other
  std::span<const int> domains = {};          // of each sequence, from 0 on; empty: all 0
  int n_classes = 1;                          // as in RoutingTopology: sums are apart for each class
  std::span<const uint8_t> token_class = {};  // (n_vocab), empty: all class 0
};

struct CalibrationOptions {
  uint64_t seed = 0;                                          // which tokens are sampled
  int n_sampled = 256;                                        // tokens whose layer inputs are kept; of a shorter text all
  bool co_activation = true;                                  // LayerCalibration::together, E (E + 1) / 2 numbers a layer
  int batch_tokens = 512;                                     // in one run; the longest sequence where that is longer
  std::function<bool(int64_t tokens_done)> on_progress = {};  // false: kCancelled
};

struct LayerCalibration {
  int n_experts = 0;                // 0: a dense layer, and all else is empty
  std::vector<int64_t> use;         // (n_classes, E) tokens that used the expert
  std::vector<double> gate;         // (n_classes, E) Σ g over them, g the routing weight
  std::vector<double> norm;         // (n_classes, E) Σ ‖E_e(x)‖
  std::vector<double> gate_norm;    // (n_classes, E) Σ g · ‖E_e(x)‖
  std::vector<int64_t> domain_use;  // (n_domains, E) as use, by the kind of text
  std::vector<double> entropy;      // (n_classes) Σ over tokens of the entropy of softmax(router logits), nats
  std::vector<uint32_t> together;   // (E (E + 1) / 2) tokens that used both; see pair_index()
  std::vector<float> x;             // (n_sampled, d_model) what router and experts of the layer read
  std::vector<float> logits;        // (n_sampled, E) of the router

  // Over all classes, e.g. total(gate, e).
  template <class T>
  T total(const std::vector<T>& per_class, int e) const {
    T sum = 0;
    for (size_t i = static_cast<size_t>(e); i < per_class.size(); i += static_cast<size_t>(n_experts)) sum += per_class[i];
    return sum;
  }
};

struct Calibration {
  uint64_t model_hash = 0;
  int d_model = 0, n_classes = 1, n_domains = 1;
  std::vector<int64_t> tokens;           // (n_classes) in the text
  std::vector<int64_t> sampled;          // (n_sampled) positions in the text, ascending
  std::vector<Token> sampled_tokens;     // (n_sampled)
  std::vector<int> sampled_domains;      // (n_sampled)
  std::vector<LayerCalibration> layers;  // (n layers)
  double token_layers = 0;               // what it cost, in token · layer forwards of the full model

  size_t bytes() const;
};

// Same bits for any number of threads. kInvalidArgument for an empty text or sequences that do not add up, kUnsupported for a
// model whose file brings a topology.
Result<Calibration> calibrate(const Model& model, const CalibrationText& text, const CalibrationOptions& options = {});

// The n of `total` positions whose random numbers under the seed are the least, ascending: whether one is in the sample depends
// on little else but its position.
std::vector<int64_t> sample_positions(uint64_t seed, int64_t total, int n);

}  // namespace moe
