// One search, a front for each of its devices. The search prices its objectives for the first one; what it measured of
// candidates holds for all, so that at the end each device chooses among them by its own latency and under its own limits.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "evolution/search.h"
#include "models/model.h"
#include "tools/evolve_config.h"

namespace moe::tools {

// Those that the settings name, in order: of hardware_targets, shipped, or files. kInvalidArgument where two have one name.
Result<std::vector<DeviceProfile>> devices_of(const EvolveConfig& config);

// Objectives, and the limits of the settings, then those of the device where they say nothing. Null: no device.
Result<ObjectiveSet> objectives_for(const EvolveConfig& config, const DeviceProfile* device);
// Those of the search: of several devices what all of them would refuse is refused, and latency is left to the end.
Result<ObjectiveSet> search_objectives(const EvolveConfig& config, std::span<const DeviceProfile> devices);

// kInvalidArgument, with the sums, where the smallest routing that the settings allow misses a limit of costs: then all do.
Status check_limits(const Model& model, const EvolveConfig& config, const DeviceProfile* device);

// What a routing takes on another device than it was measured for.
double latency_on(const DeviceProfile& device, const RoutingShape& shape, double bytes_per_token, double active_flops,
                  double k_mean);

// Indices of the candidates that keep the device's limits and are not dominated by others that do, at most `most`; ascending by
// the first objective, of equal ones the first.
Result<std::vector<size_t>> device_front(std::span<const Candidate> candidates, const ObjectiveSet& objectives,
                                         const DeviceProfile& device, const RoutingShape& shape, size_t most);

std::string device_front_name(const DeviceProfile& device);  // "front-edge.json"

// An evaluator that remembers whom it measured on the whole selection text, in order and once each: those that devices choose
// from. `inner` must outlive it.
class ConfirmedLog : public Evaluator {
 public:
  explicit ConfirmedLog(Evaluator& inner) : inner_(inner) {}

  std::span<const Candidate> candidates() const { return candidates_; }
  // A generation that was replayed: what its recall_confirm() was about.
  void replayed(const GenerationRecord& record);

  Status screen(std::span<const Genome> genomes, std::span<Evaluation> results) override {
    return inner_.screen(genomes, results);
  }
  Status score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
               std::span<Evaluation> results) override {
    return inner_.score(generation, genomes, keep, results);
  }
  uint32_t text_of(uint32_t generation) const override { return inner_.text_of(generation); }
  Status confirm(std::span<const Genome> genomes, std::span<Evaluation> results) override;
  Status held_out(std::span<const Genome> genomes, std::span<Evaluation> results) override {
    return inner_.held_out(genomes, results);
  }
  Status recall_score(uint32_t generation, std::span<const Genome> genomes, std::span<const Evaluation> results) override {
    return inner_.recall_score(generation, genomes, results);
  }
  Status recall_confirm(std::span<const Genome> genomes) override;
  double token_layers() const override { return inner_.token_layers(); }
  std::vector<Tier> tiers() const override { return inner_.tiers(); }

 private:
  void add(std::span<const Genome> genomes, std::span<const Evaluation> results);
  Evaluator& inner_;
  std::vector<Genome> recalled_;
  std::vector<Candidate> candidates_;
  std::vector<uint64_t> known_;  // hashes of their genomes, ascending
};

}  // namespace moe::tools
