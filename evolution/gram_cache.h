// The exact error of any routing of one layer, without a forward pass. A layer's routed output is linear in the outputs of its
// experts, y = Σ_e w_e E_e(x); so for a sample of tokens it is enough to keep what the experts' outputs have in common,
//
//   G = Y Yᵀ   (m, m)   of the m candidate experts of the token, each a row Y_e = E_e(x)
//
// and a candidate routing with weights w differs from the full model by ‖Δ‖² = δᵀ G δ, δ = w − w_full: a hundred
// multiplications where a forward pass has a hundred million. The router is not linear: RouterReplay runs it on kept router
// logits.
//
//   calibrate() ──x, logits of a sample──► collect_gram() ──► GramCache ──► GramEvaluator::evaluate(layer, routing)
//
// Candidates are the full model's own experts and those it would choose next; a token whose routing selects another one has
// escaped, is counted, and is charged an upper bound. With m = E nothing escapes. Errors are those of one layer whose input is
// the full model's: what happens behind it is the business of forward passes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/threads.h"
#include "evolution/genome.h"
#include "evolution/pair_index.h"
#include "evolution/router_replay.h"
#include "models/routing.h"
#include "tensor/backend.h"

namespace moe {

struct GramOptions {
  int n_candidates = 0;  // m; 0 or more than a layer's experts: all of them
  bool widths = false;   // also at ¼, ½, ¾ of the width: 16 times the memory
};

// One routed layer. S sampled tokens, E experts, m candidates, n columns: m, or 4m with widths (column 4i + q − 1 is candidate
// i at q quarters).
struct GramLayer {
  RouterModel router;
  int m = 0, n_columns = 0;
  std::vector<float> logits;         // (S, E)
  std::vector<uint16_t> candidates;  // (S, m) ascending ids
  std::vector<float> gram;           // (S, n (n + 1) / 2) lower halves, row by row
  std::vector<int32_t> full_column;  // (S, k) of the experts that the full model uses; −1: none
  std::vector<float> full_weight;    // (S, k)
  std::vector<float> power;          // (S) ‖y‖² of the full model's mixture
  float longest = 0;                 // the largest ‖E_e(x)‖ of all

  bool is_dense() const { return m == 0; }
};

// What a cache asks of whoever has the experts: y (n, m, d), expert ids[t, i] of sampled token first + t at that width.
struct ExpertQuestion {
  int layer = 0;
  int64_t first = 0, n = 0;
  int m = 0;
  int quarters = kQuarters;
  std::span<const uint16_t> ids;  // (n, m)
};
using ExpertOutputs = std::function<Status(const ExpertQuestion&, std::span<float> y)>;

struct GramSource {
  struct Layer {
    RouterModel router;                  // n_experts 0: dense
    std::span<const float> logits = {};  // (S, E)
  };
  int d = 0;                      // length of an expert's output
  std::vector<int32_t> tokens;    // (S) ids, for classes of tokens
  std::vector<int> domains = {};  // (S) kinds of text, from 0 on; empty: all 0
  std::vector<Layer> layers;
  ExpertOutputs outputs;
};

// Classes of the sampled tokens under a topology; made once for all that share a token_class.
struct SampleClasses {
  int n_classes = 1;
  std::vector<int32_t> of;  // (S)
};

// Immutable, so thread-safe.
class GramCache {
 public:
  // Same bits for any number of threads. The backend runs routers.
  static Result<GramCache> build(const GramSource& source, const GramOptions& options, Backend& backend, ThreadPool& pool);

  int n_tokens() const { return static_cast<int>(tokens_.size()); }
  int n_domains() const { return n_domains_; }
  std::span<const int> domains() const { return domains_; }  // (S)
  int n_layers() const { return static_cast<int>(layers_.size()); }
  const GramLayer& layer(int i) const { return layers_[static_cast<size_t>(i)]; }
  bool has_widths() const { return widths_; }
  SampleClasses classes(int n_classes, std::span<const uint8_t> token_class) const;  // as in RoutingTopology
  size_t bytes() const;
  // What building it cost, in token · layer forwards of the full model: m experts instead of k, at each width.
  double token_layers() const { return token_layers_; }

 private:
  class Builder;
  std::vector<int32_t> tokens_;  // (S)
  std::vector<int> domains_;     // (S)
  int n_domains_ = 1;
  std::vector<GramLayer> layers_;
  bool widths_ = false;
  double token_layers_ = 0;
};

}  // namespace moe
