// An evaluator that knows the truth: every expert is worth something, and in each layer two can stand in for each other. No
// model, no forward passes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "evolution/search.h"

namespace moe::test {

// `layers` layers of 8 experts, k = 2.
RoutingShape planted_shape(int layers);

class PlantedTruth : public Evaluator {
 public:
  explicit PlantedTruth(RoutingShape shape) : shape_(std::move(shape)) {}

  uint32_t fresh_every = 0;  // generations; 0: one text for all
  int fail_after = -1;       // calls of score() and confirm(); then kCancelled
  int calls = 0;
  std::vector<uint32_t> scored_in;  // generations of score()'s calls

  // What leaving out experts costs on a text: 0 for the full model. Additive but for experts 0 and 1 of each layer: one of them
  // is worth next to nothing, both more than all others.
  double loss(const Genome& genome, uint32_t text) const;
  // The least loss of all genomes that keep this many experts.
  double least_loss(int kept) const;

  Status screen(std::span<const Genome> genomes, std::span<Evaluation> results) override;
  Status score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
               std::span<Evaluation> results) override;
  uint32_t text_of(uint32_t generation) const override { return fresh_every ? generation / fresh_every : 0; }
  Status confirm(std::span<const Genome> genomes, std::span<Evaluation> results) override;
  Status held_out(std::span<const Genome> genomes, std::span<Evaluation> results) override { return confirm(genomes, results); }
  double token_layers() const override { return spent_; }
  std::vector<Tier> tiers() const override { return {}; }

 private:
  Status count_call();
  double worth(int layer, int e) const;
  RoutingShape shape_;
  double spent_ = 0;
};

// A search over it with one population, on so many threads.
struct PlantedSearch {
  struct Setup {
    int layers = 3, kept = 0;  // kept experts, exactly; 0: any number
    std::vector<const char*> objectives = {"kl"};
    std::string algorithm = "nsga2";
    uint32_t population = 16, generations = 40;
    uint64_t seed = 1;
    int threads = 1;
    uint32_t fresh_every = 0;
    bool learn = true;
    int archive = 64;
    std::vector<std::string> mutations;  // by name; empty: all
    std::vector<double> weights;         // of the objectives' sum; empty: no sum
  };
  explicit PlantedSearch(const Setup& setup);

  RoutingShape shape;
  PlantedTruth truth;
  ThreadPool threads;
  std::shared_ptr<GenePool> pool = std::make_shared<GenePool>();
  std::unique_ptr<Search> search;

  std::vector<GenerationRecord> run();  // to its end
};

}  // namespace moe::test
