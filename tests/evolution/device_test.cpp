#include "evolution/device.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace moe;

namespace {

DeviceProfile measured() {
  DeviceProfile d;
  d.name = "here";
  d.memory_bytes = 3e9, d.target_latency_ms = 12.5, d.read_gbs = 31.1, d.int8_gops = 500, d.threads = 2;
  d.latency = {0.1, 28.3, 1.7, 14, 0.07, 0.004};
  return d;
}

std::string refusal(const std::string& text) {
  const Result<DeviceProfile> d = device_from_json(text);
  return d.ok() ? "" : d.status().message();
}

// A machine with these coefficients, measured with errors of at most `noise`.
std::vector<LatencySample> samples_of(const LatencyModel& m, double noise) {
  std::vector<LatencySample> samples;
  for (int i = 0; i < 12; ++i) {
    const double bytes = 1e7 * (3 + i), flops = 1e7 * (2 + (i * 5) % 12);
    const double experts = m.ms_per_expert > 0 ? 4 + (i * 7) % 12 : 0;
    const double exact =
        m.fixed_ms + m.ms_per_gigabyte * bytes / 1e9 + m.ms_per_gigaflop * flops / 1e9 + m.ms_per_expert * experts;
    samples.push_back({bytes, flops, exact * (1 + noise * (i % 3 - 1)), experts});
  }
  return samples;
}

}  // namespace

TEST_CASE("device: a profile written reads back as it was") {
  std::vector<DeviceProfile> all = shipped_devices();
  REQUIRE(all.size() == 3);
  all.push_back(measured());
  for (const DeviceProfile& d : all) {
    const Result<DeviceProfile> back = device_from_json(to_json(d));
    REQUIRE(back.ok());
    CHECK(to_json(*back) == to_json(d));
    CHECK(latency_ms(*back, 2e8, 4e8) == latency_ms(d, 2e8, 4e8));
    CHECK(back->threads == d.threads);
  }
}

TEST_CASE("device: without measurements memory or arithmetic decides, with them their sum") {
  DeviceProfile d =
      *device_from_json(R"({"format":"moe-device","version":1,"name":"a","read_gbs":10,"int8_gops":100,"fp32_gflops":20})");
  CHECK(latency_ms(d, 1e9, 1e9) == doctest::Approx(100));
  CHECK(latency_ms(d, 1e7, 1e9) == doctest::Approx(10));
  CHECK(latency_ms(measured(), 1e9, 2e9) == doctest::Approx(0.1 + 28.3 + 3.4));
  CHECK(latency_ms(measured(), 1e9, 2e9, 16) == doctest::Approx(0.1 + 28.3 + 3.4 + 0.064));
}

TEST_CASE("device: what is no profile is refused with path, wanted and found") {
  const std::string head = R"({"format":"moe-device","version":1,"name":"a")";
  CHECK(refusal(head + "}").find("\"read_gbs\"") != std::string::npos);
  CHECK(refusal(head + ",\"read_gbs\":-1}") == "device JSON: read_gbs: wanted a number from 0.0 to 1e+18, found -1");
  CHECK(refusal(head + ",\"memory\":1}").find("found the key \"memory\"") != std::string::npos);
  CHECK(refusal(head + ",\"latency\":{\"fixed_ms\":1}}") ==
        "device JSON: latency: wanted the key \"ms_per_gigabyte\", found none");
  CHECK(refusal(R"({"format":"moe-front","version":1,"name":"a"})") ==
        "device JSON: format: wanted \"moe-device\", found \"moe-front\"");
  CHECK(refusal(R"({"format":"moe-device","version":2,"name":"a"})") != "");
  const std::string whole = to_json(measured());
  for (size_t n = 0; n + 2 < whole.size(); ++n) {
    if (!device_from_json(std::string_view(whole).substr(0, n)).ok()) continue;
    CAPTURE(n);
    FAIL("half a profile was read");
  }
}

TEST_CASE("latency: least squares find the machine that measurements come from") {
  const LatencyModel machine{0.2, 30, 5, 0, 0};
  const Result<LatencyModel> exact = fit_latency(samples_of(machine, 0));
  REQUIRE(exact.ok());
  CHECK(exact->fixed_ms == doctest::Approx(0.2).epsilon(1e-9));
  CHECK(exact->ms_per_gigabyte == doctest::Approx(30).epsilon(1e-9));
  CHECK(exact->ms_per_gigaflop == doctest::Approx(5).epsilon(1e-9));
  CHECK(exact->n_measured == 12);
  CHECK(exact->worst_residual < 1e-9);
  const Result<LatencyModel> small = fit_latency(samples_of({0.2, 30, 5, 0, 0, 0.125}, 0));
  REQUIRE(small.ok());
  CHECK(small->ms_per_gigaflop == doctest::Approx(5).epsilon(1e-9));
  CHECK(small->ms_per_expert == doctest::Approx(0.125).epsilon(1e-9));
  const Result<LatencyModel> noisy = fit_latency(samples_of(machine, 0.03));
  REQUIRE(noisy.ok());
  CHECK(noisy->worst_residual < 0.05);
  CHECK(noisy->worst_residual > 0.01);
}

TEST_CASE("latency: FLOPs in step with bytes count as bytes") {
  std::vector<LatencySample> samples = samples_of({0.2, 30, 0, 0, 0}, 0);
  for (LatencySample& s : samples) s.active_flops = 3 * s.bytes_per_token;
  const Result<LatencyModel> m = fit_latency(samples);
  REQUIRE(m.ok());
  CHECK(m->ms_per_gigabyte == doctest::Approx(30).epsilon(1e-9));
  CHECK(m->ms_per_gigaflop == 0);
}

TEST_CASE("latency: coefficients stay at 0 or above, and the rest fits as well as it can") {
  const Result<LatencyModel> m = fit_latency(samples_of({0.5, 20, -3, 0, 0}, 0));
  REQUIRE(m.ok());
  CHECK(m->ms_per_gigaflop == 0);
  CHECK(m->ms_per_gigabyte > 0);
  CHECK(m->fixed_ms >= 0);
}

TEST_CASE("latency: measurements that tell too little are refused") {
  std::vector<LatencySample> samples = samples_of({0.2, 30, 5, 0, 0}, 0);
  CHECK_FALSE(fit_latency(std::span(samples).first(3)).ok());
  std::vector<LatencySample> alike = samples;
  for (LatencySample& s : alike) s.bytes_per_token = 1e8;
  CHECK(fit_latency(alike).status().message().find("different bytes a token") != std::string::npos);
  samples[3].ms = 0;
  CHECK_FALSE(fit_latency(samples).ok());
  samples[3].ms = NAN;
  CHECK_FALSE(fit_latency(samples).ok());
}
