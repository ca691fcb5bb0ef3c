// Decoding the same tokens under one topology after another, timed and counted: what calibration and the comparison of
// topologies measure.
#pragma once

#include <memory>
#include <vector>

#include "evolution/costs.h"
#include "models/session.h"

namespace moe::tools {

struct DecodeOptions {
  int n_tokens = 64, depth = 64;  // tokens timed, behind as many others
  uint64_t seed = 1;              // of random tokens
};

// One session of a model. Not thread-safe; the model must outlive it.
class DecodeClock {
 public:
  static Result<std::unique_ptr<DecodeClock>> create(const Model& model, const DecodeOptions& options);

  // Appends the milliseconds of each token.
  Status time(const RoutingTopology& topology, std::vector<double>& ms);
  // Tokens a second of the prompt before them.
  double prompt_rate() const { return prompt_rate_; }

  // Costs of these tokens: what the topology's own file would read and multiply, by the experts that were used.
  Result<Evaluation> cost(const ModelCosts& costs, const RoutingTopology& topology);

 private:
  DecodeClock(const Model& model, const DecodeOptions& options) : model_(model), options_(options) {}
  Status prepare(const RoutingTopology& topology);
  Status decode(std::vector<double>* ms);

  const Model& model_;
  DecodeOptions options_;
  std::unique_ptr<Session> session_;
  std::vector<Token> tokens_;  // (depth + n_tokens)
  double prompt_rate_ = 0;
};

}  // namespace moe::tools
