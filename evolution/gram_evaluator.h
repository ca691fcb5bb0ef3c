// Prices routings of single layers against a GramCache: what every offspring of a search is scored with first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "evolution/gram_cache.h"

namespace moe {

// Of one layer under one routing, over the sampled tokens.
struct LayerError {
  double error = 0;  // Σ ‖Δ‖² / Σ ‖y‖²: Δ the mixture's difference from the full model's, y. 1: as if skipped
  // Σ ‖Δ‖ / Σ ‖y‖. The end of the model follows this more closely: of a sum of squares a few tokens with long outputs make the
  // most
  double length = 0;
  std::vector<double> class_error;   // (n_classes) the same over the tokens of a class; 0 where none is of it
  std::vector<double> domain_error;  // (n_domains) and of a domain
  std::vector<uint32_t> load;        // (E) tokens that an expert works on
  double k_mean = 0;                 // experts a token uses
  double work_mean = 0;              // the same, an expert counted by the share of its channels that runs
  int escaped = 0;                   // tokens that selected an expert which is no candidate
};

// One a thread; the cache must outlive it. Results depend on the cache and the arguments only.
class GramEvaluator {
 public:
  // `isa` as in BackendOptions: the routers' kernels.
  static Result<std::unique_ptr<GramEvaluator>> create(const GramCache& cache, const std::string& isa = "");
  ~GramEvaluator();

  // The routing must be valid for the model (validate()). kInvalidArgument for a dense layer and for vectors of other sizes,
  // kUnsupported where widths are no quarters or the cache has none.
  Status evaluate(int layer, const LayerRouting& routing, const SampleClasses& classes, LayerError& result);
  Status evaluate(int layer, const LayerGene& gene, const SampleClasses& classes, LayerError& result);

 private:
  struct Difference;
  struct Kept {
    int like;  // the first of the layers that share it
    std::unique_ptr<RouterReplay> replay;
  };
  explicit GramEvaluator(const GramCache& cache);
  Status check(int layer, const LayerRouting& routing, const SampleClasses& classes) const;
  Status set_widths(const GramLayer& l, const LayerRouting& routing);
  Result<RouterReplay*> replay(int layer, int k);
  static size_t candidate(const GramLayer& l, size_t token, size_t e);
  double token_error(const GramLayer& l, size_t t, const RouterReplay& router, LayerError& result);

  const GramCache& cache_;
  std::unique_ptr<Backend> backend_;
  std::vector<int> like_;  // (n layers) the first layer with the same router
  std::vector<Kept> replays_;
  std::vector<uint8_t> quarters_;                   // (E) of the routing at hand
  std::vector<double> width_share_;                 // (E) of the channels that run
  std::unique_ptr<Difference> difference_;          // of the token at hand
  std::vector<double> class_power_, domain_power_;  // (n_classes), (n_domains)
};

struct GramJob {
  int layer = 0;
  const LayerGene* gene = nullptr;
  const SampleClasses* classes = nullptr;
};

// Many at once over threads, which take jobs as they come; each result is its job's alone.
class GramPool {
 public:
  static Result<std::unique_ptr<GramPool>> create(const GramCache& cache, ThreadPool& threads, const std::string& isa = "");
  // The error of the first job that failed, in order.
  Status evaluate(std::span<const GramJob> jobs, std::span<LayerError> results);

 private:
  explicit GramPool(ThreadPool& threads) : threads_(threads) {}
  ThreadPool& threads_;
  std::vector<std::unique_ptr<GramEvaluator>> evaluators_;  // (threads)
};

}  // namespace moe
