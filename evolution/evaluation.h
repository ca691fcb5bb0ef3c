// What a search knows of a candidate, and who finds it out. A driver (search.h) breeds candidates and hands them to an
// Evaluator; objectives.h makes scores of the answers.
//
//   genomes ──screen()──► costs and errors of single layers, microseconds each: which offspring are worth a forward pass
//           ──score()───► and the divergence from the full model on the generation's text, cheap rungs first
//           ──confirm()─► on the whole selection text, for what enters the archive
//           ──held_out()► on text that no decision has seen, once, for the final front
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "core/status.h"
#include "evolution/genome.h"

namespace moe {

inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

// Of one genome. Every number but `tokens` is kNotMeasured until the tier that makes it has run.
struct Evaluation {
  // Of the genome and of how its layers route the calibration sample.
  double active_flops = kNotMeasured;     // FLOPs of the whole model for one token, 2 a multiply-add, attention's products with
                                          // keys and values left out
  double expert_flops = kNotMeasured;     // those of routed experts
  double bytes_per_token = kNotMeasured;  // weight bytes that decoding one token alone reads
  double resident_bytes = kNotMeasured;   // weight bytes of the specialised file
  double latency_ms = kNotMeasured;       // modelled time of decoding one token on the device
  double kept_share = kNotMeasured;       // experts kept of those that the model has
  double k_mean = kNotMeasured;           // experts a token uses, mean over routed layers
  double load_cv = kNotMeasured;          // coefficient of variation of kept experts' loads, mean over routed layers
  double diversity = kNotMeasured;        // entropy of loads over kept experts / ln of their number, mean over routed layers

  double layer_error = kNotMeasured;  // Σ_l a_l · layer_errors[l]: predicted KL, for ranking only
  std::vector<double> layer_errors;   // (n layers) LayerError::length, 0 for dense layers

  // Of forward passes, nats a token.
  double kl = kNotMeasured, kl_error = kNotMeasured;  // mean KL(full ‖ candidate) and its standard error
  std::vector<double> domain_kl;                      // (n_domains)
  double worst_domain_kl = kNotMeasured;
  double nll = kNotMeasured;       // of the text itself
  double accuracy = kNotMeasured;  // of multiple choice
  int64_t tokens = 0;              // scored so far
  bool dropped = false;            // given up on a cheap rung: what follows it is not measured
};

// Of candidates scored so far on one rung, by index: sets keep[i] = 0 for those that go no further. At least one is kept.
using KeepBetter = std::function<void(std::span<const Evaluation>, std::span<uint8_t> keep)>;

// Results are functions of the genomes, the generation and what the evaluator was made of: same bits for any number of threads,
// whatever was asked before. Spans of one call have one length; results come in the order of genomes. Not thread-safe: it uses
// threads of its own.
class Evaluator {
 public:
  virtual ~Evaluator() = default;

  virtual Status screen(std::span<const Genome> genomes, std::span<Evaluation> results) = 0;
  // Fills in what screen() does as well. Every `fresh_every` generations the text is another: then text_of(g) != text_of(g −
  // 1), and a driver scores its population again. `keep` may be empty: nobody is dropped.
  virtual Status score(uint32_t generation, std::span<const Genome> genomes, const KeepBetter& keep,
                       std::span<Evaluation> results) = 0;
  virtual uint32_t text_of(uint32_t generation) const = 0;
  virtual Status confirm(std::span<const Genome> genomes, std::span<Evaluation> results) = 0;
  virtual Status held_out(std::span<const Genome> genomes, std::span<Evaluation> results) = 0;

  // What score() and confirm() found in an earlier process that did as this one, call by call, from the first on: from then on
  // token_layers() is as if this one had made the calls. Nothing is measured. `results` are those of the call.
  virtual Status recall_score(uint32_t /*generation*/, std::span<const Genome> /*genomes*/,
                              std::span<const Evaluation> /*results*/) {
    return Status::Ok();
  }
  virtual Status recall_confirm(std::span<const Genome> /*genomes*/) { return Status::Ok(); }

  // What was spent so far, in token · layer forwards of the full model, calibration and caches included; held_out() is not.
  virtual double token_layers() const = 0;
  // Evaluations made by each tier so far, and how many of them a memory answered.
  struct Tier {
    const char* name;
    uint64_t evaluations = 0, remembered = 0;
  };
  virtual std::vector<Tier> tiers() const = 0;

  // Polled between pieces of work: true ends a call with kCancelled.
  std::function<bool()> cancelled;
};

}  // namespace moe
