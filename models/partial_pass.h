// A part of a model's forward pass: from one of the values between its layers to another, over whole sequences.
//
//   tokens ──embed──► residual 0 ──layer 0──► residual 1 ── … ──layer n−1──► hidden ──head──► logits
//
//   inside of a routed layer:  router_input ──route──► experts (ids, weights) ──► mixture ──+──► the next residual
//
// It is what a search runs instead of sessions: all of it with the routers watched, the layers behind one that changed, or one
// layer's experts alone. Keys and values are scratch: every run begins its sequences anew, so nothing is left to restore.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/routing_tables.h"
#include "models/session.h"

namespace moe {

// Where a pass begins or ends.
struct PassPoint {
  enum class Kind { kTokenIds, kResidual, kRouterInput, kExperts, kMixture, kHidden, kLogits };
  Kind kind = Kind::kTokenIds;
  int layer = -1;

  static PassPoint tokens() { return {Kind::kTokenIds, -1}; }
  static PassPoint residual(int layer) { return {Kind::kResidual, layer}; }         // what enters the layer
  static PassPoint router_input(int layer) { return {Kind::kRouterInput, layer}; }  // what its router and experts read
  static PassPoint experts(int layer) { return {Kind::kExperts, layer}; }           // that, which experts, with what weights
  static PassPoint mixture(int layer) { return {Kind::kMixture, layer}; }           // what the routed experts add
  static PassPoint hidden() { return {Kind::kHidden, -1}; }                         // behind the last norm
  static PassPoint logits() { return {Kind::kLogits, -1}; }
};
std::string to_string(const PassPoint& point);  // "residual 3"

struct PartialPassOptions {
  int max_tokens = 512;                             // rows of one run
  int max_outputs = 0;                              // rows of hidden or logits in one run; 0: max_tokens
  int n_ctx = 0;                                    // the longest sequence; 0: max_tokens
  int max_sequences = 1;                            // in one run
  std::vector<int> k_capacity = {};                 // (n layers) the largest k of each; empty: the model's own
  std::optional<DType> cache_k = {}, cache_v = {};  // as in SessionOptions
  bool watch_residuals = false;                     // WatchedLayer::residual
  bool watch_routers = false;                       // x, logits, ids and weights
  bool watch_mixtures = false;                      // mixture
  bool watch_norms = false;                         // norms2
};

struct PassInput {
  std::span<const Token> tokens = {};     // (T) from tokens, and wherever the topology has classes of tokens
  std::span<const int> lengths = {};      // of the sequences, one behind the other; empty: one
  std::span<const float> x = {};          // (T, d_model) from elsewhere
  std::span<const int32_t> ids = {};      // (T, K) from experts, K the layer's k_capacity; −1: none
  std::span<const float> weights = {};    // (T, K)
  std::span<const int32_t> outputs = {};  // rows whose hidden or logits are wanted; empty: all
};

// Of the last run, views until the next one; empty where not asked for, or not made but given.
struct WatchedLayer {
  std::span<const float> residual;  // (T, d_model) what enters the layer
  std::span<const float> x;         // (T, d_model) what router and experts read
  std::span<const float> logits;    // (T, E) of the router
  std::span<const int32_t> ids;     // (T, K) expert or −1
  std::span<const float> weights;   // (T, K)
  std::span<const float> norms2;    // (T, K) squared length of each slot's expert output, before its weight
  std::span<const float> mixture;   // (T, d_model)
};

// Not thread-safe. The model must outlive it.
class PartialPass {
 public:
  // From tokens, residual, router_input or experts to residual, mixture, hidden or logits; the latter behind the former, and
  // from router_input and experts the mixture of the same layer. kInvalidArgument names both otherwise. kUnsupported for models
  // that lack the weights of some experts.
  static Result<std::unique_ptr<PartialPass>> create(const Model& model, PassPoint from, PassPoint to,
                                                     const PartialPassOptions& options);

  // For layers of the pass; the model's own until then. kOutOfRange when a k_max exceeds its k_capacity.
  Status set_topology(const RoutingTopology& topology);

  Status run(const PassInput& input);

  std::span<const float> output() const;  // (T or outputs, n) of the last run
  int64_t output_columns() const;         // n: d_model or n_vocab
  WatchedLayer watched(int layer) const;
  int n_tokens() const { return n_tokens_; }  // of the last run

 private:
  PartialPass(const Model& model, PassPoint from, PassPoint to, const PartialPassOptions& options);
  Status check_points() const;
  Status check_options();
  Status compile();
  void add_norms(RouterValues& router, ValueId& norms2);
  std::vector<ValueId> given() const;
  std::vector<ValueId> wanted();
  Status bind_all();
  Status bind_caches();
  Status check_input(const PassInput& input) const;
  Status place(const PassInput& input);
  bool runs_experts(size_t layer) const;
  template <class T>
  std::span<const T> view(ValueId id) const;

  const Model& model_;
  const PassPoint from_, to_;
  PartialPassOptions options_;
  ModelGraph graph_;             // after the cut
  std::vector<ValueId> norms2_;  // (n layers)
  ValueId out_ = kNone;
  std::unique_ptr<Executable> executable_;
  Buffer keys_, values_;  // of each layer in turn
  std::vector<int32_t> token_ids_, positions_, slots_, rows_, classes_;
  std::vector<RoutingTables> tables_;  // (n layers)
  int n_classes_ = 1;
  std::vector<uint8_t> token_class_;  // (n_vocab), empty: all class 0
  int n_tokens_ = 0, n_outputs_ = 0;
};

}  // namespace moe
