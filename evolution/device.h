// The device that a search is for: what it has, and how long it takes to decode a token. Profiles are JSON (devices/*.json) and
// come as text; `moe-bench calibrate` measures the machine at hand and writes one.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "evolution/evaluation.h"

namespace moe {

// ms = fixed + per_gigabyte · (bytes per token / 1e9) + per_gigaflop · (active FLOPs / 1e9) + per_expert · experts. Fitted or,
// without measurements, the larger of what memory and arithmetic allow. Experts are those that a token uses, summed over
// layers: small ones cost more to begin than to run.
struct LatencyModel {
  double fixed_ms = 0, ms_per_gigabyte = 0, ms_per_gigaflop = 0;
  int n_measured = 0;         // 0: from the profile's rates
  double worst_residual = 0;  // |modelled − measured| / measured, the largest of the measurements it was fitted to
  double ms_per_expert = 0;
};

struct DeviceProfile {
  std::string name;
  double memory_bytes = 0;                                 // for weights; 0: no limit
  double target_latency_ms = 0;                            // of a token; 0: none
  double int8_gops = 0, fp16_gflops = 0, fp32_gflops = 0;  // 2 operations a multiply-add
  double read_gbs = 0;                                     // gigabytes (1e9) of weights a second
  int threads = 0;                                         // 0: all there are
  LatencyModel latency;
};

Result<DeviceProfile> device_from_json(std::string_view text);  // kCorrupt names the path, wanted and found
std::string to_json(const DeviceProfile& device);
std::vector<DeviceProfile> shipped_devices();  // edge, mobile, server

double latency_ms(const DeviceProfile& device, double bytes_per_token, double active_flops, double experts = 0);

struct LatencySample {
  double bytes_per_token = 0, active_flops = 0, ms = 0, experts = 0;
};
// Least squares of relative errors, coefficients at least 0; what samples do not tell apart (bytes from FLOPs, where all
// weights have one format) counts as the first of them. kInvalidArgument for fewer than 4 samples, or samples whose bytes are
// all alike.
Result<LatencyModel> fit_latency(std::span<const LatencySample> samples);

}  // namespace moe
