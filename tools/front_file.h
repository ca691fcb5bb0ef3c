// front.json: what a search found, beside the full model and simpler ways to choose. moe-evolve writes it, its report draws it,
// programs pick points from it (front_pick.h).
//
//   {"format": "moe-front", "version": 1,
//    "model": {"name", "hash", "bytes"}, "seed", "algorithm", "device": device profile | null,
//    "objectives": [{"name", "unit", "maximise"}…],
//    "texts": [{"name", "tokens", "calibration", "select", "test"}…],          tokens in all, and of each split
//    "full": POINT, "baselines": [POINT…], "points": [POINT…],
//    "spent": {"token_layers", "generations", "evaluations", "seconds"}}
//   POINT: {"name", "topology": path from the file's folder | null, "hash",
//           "selection": {objective: value…},
//           "held_out": {"kl", "kl_error", "perplexity", "worst_domain_kl", "domain_kl": {text: value…}},
//           "costs": {"active_flops", "expert_flops", "bytes_per_token", "resident_bytes", "latency_ms", "kept_share",
//                     "k_mean", "load_cv", "diversity"},
//           "measured": {"tokens_per_s", "resident_bytes"} | null}
//
// What was not measured is null, NaN here. Numbers read back as the same doubles. Hashes are 16 hexadecimal digits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "evolution/device.h"
#include "evolution/evaluation.h"
#include "evolution/objectives.h"

namespace moe::tools {

using NamedValues = std::vector<std::pair<std::string, double>>;  // in any order; read back sorted by name

struct FrontPoint {
  struct HeldOut {
    double kl = kNotMeasured, kl_error = kNotMeasured, perplexity = kNotMeasured, worst_domain_kl = kNotMeasured;
    NamedValues domain_kl;
  };
  struct Costs {  // as in Evaluation
    double active_flops = kNotMeasured, expert_flops = kNotMeasured, bytes_per_token = kNotMeasured,
           resident_bytes = kNotMeasured, latency_ms = kNotMeasured, kept_share = kNotMeasured, k_mean = kNotMeasured,
           load_cv = kNotMeasured, diversity = kNotMeasured;
  };
  struct Measured {
    double tokens_per_s = kNotMeasured, resident_bytes = kNotMeasured;
  };
  std::string name;      // "p03", "full", "reap 50 %"
  std::string topology;  // path from the file's folder; "": none
  uint64_t hash = 0;     // of the topology
  NamedValues selection;
  HeldOut held_out;
  Costs costs;
  std::optional<Measured> measured;
};

struct FrontFile {
  struct Model {
    std::string name;
    uint64_t hash = 0;
    double bytes = 0;
  };
  struct Objective {
    std::string name, unit;
    bool maximise = false;
  };
  struct Text {
    std::string name;
    int64_t tokens = 0, calibration = 0, select = 0, test = 0;
  };
  struct Spent {
    double token_layers = 0, generations = 0, evaluations = 0, seconds = 0;
  };
  Model model;
  uint64_t seed = 0;
  std::string algorithm;
  std::optional<DeviceProfile> device;
  std::vector<Objective> objectives;
  std::vector<Text> texts;
  FrontPoint full;
  std::vector<FrontPoint> baselines, points;
  Spent spent;
};

// A point's numbers from an evaluator's. `domains`: names for Evaluation::domain_kl.
NamedValues selection_of(const Evaluation& evaluation, std::span<const ObjectiveDef* const> objectives);
FrontPoint::HeldOut held_out_of(const Evaluation& evaluation, std::span<const std::string> domains);
FrontPoint::Costs costs_of(const Evaluation& evaluation);

std::string to_json(const FrontFile& front);
// kCorrupt names the path, wanted and found. Topology paths stay in the file's folder.
Result<FrontFile> front_from_json(std::string_view text);

Result<FrontFile> read_front(const std::string& path);
Status write_front(const FrontFile& front, const std::string& path);  // whole or not at all
// Path of a point's topology, given that of front.json.
std::string topology_path(const std::string& front_path, const FrontPoint& point);

}  // namespace moe::tools
