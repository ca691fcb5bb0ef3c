#include "evolution/device.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "evolution/json_fields.h"

namespace moe {
namespace {

constexpr size_t kMostText = size_t{1} << 16, kMostName = 200;
constexpr int kMostThreads = 4096;
constexpr double kMost = 1e18;

struct Number {
  const char* name;
  double DeviceProfile::*value;
};
constexpr Number kNumbers[] = {
    {"memory_bytes", &DeviceProfile::memory_bytes}, {"target_latency_ms", &DeviceProfile::target_latency_ms},
    {"int8_gops", &DeviceProfile::int8_gops},       {"fp16_gflops", &DeviceProfile::fp16_gflops},
    {"fp32_gflops", &DeviceProfile::fp32_gflops},   {"read_gbs", &DeviceProfile::read_gbs}};

// What experts are multiplied with: the fastest arithmetic the profile names.
double best_rate(const DeviceProfile& d) { return std::max({d.int8_gops, d.fp16_gflops, d.fp32_gflops}); }

LatencyModel from_rates(const DeviceProfile& d) {
  LatencyModel m;
  if (d.read_gbs > 0) m.ms_per_gigabyte = 1e3 / d.read_gbs;
  if (best_rate(d) > 0) m.ms_per_gigaflop = 1e3 / best_rate(d);
  return m;
}

DeviceProfile profile(const char* name, double memory, double latency, double int8, double fp16, double fp32, double read,
                      int threads) {
  DeviceProfile d{name, memory, latency, int8, fp16, fp32, read, threads, {}};
  d.latency = from_rates(d);
  return d;
}

// --- Least squares, coefficients at least 0 ---

constexpr int kTerms = 4;  // a constant, gigabytes, GFLOPs, experts: each over the time measured
using Row = std::array<double, kTerms>;

// The c of `terms` (a set of bits) that minimise Σ (row · c − 1)², others 0; false where the rows do not tell them apart.
bool solve(std::span<const Row> rows, unsigned terms, Row& c) {
  std::array<int, kTerms> used{};
  int n = 0;
  for (int t = 0; t < kTerms; ++t)
    if (terms >> t & 1u) used[static_cast<size_t>(n++)] = t;
  // Gram–Schmidt on the columns: rounding stays in the square root's order, where normal equations would square it.
  std::vector<std::vector<double>> q;
  double upper[kTerms][kTerms] = {}, right[kTerms] = {};
  for (int j = 0; j < n; ++j) {
    std::vector<double> column(rows.size());
    double before = 0, after = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      column[i] = rows[i][static_cast<size_t>(used[static_cast<size_t>(j)])];
      before += column[i] * column[i];
    }
    for (int pass = 0; pass < 2; ++pass) {
      for (int k = 0; k < j; ++k) {
        double dot = 0;
        for (size_t i = 0; i < rows.size(); ++i) dot += q[static_cast<size_t>(k)][i] * column[i];
        for (size_t i = 0; i < rows.size(); ++i) column[i] -= dot * q[static_cast<size_t>(k)][i];
        upper[k][j] += dot;
      }
    }
    for (const double v : column) after += v * v;
    if (!(after > 1e-12 * before) || !(after > 0)) return false;
    upper[j][j] = std::sqrt(after);
    for (double& v : column) v /= upper[j][j], right[j] += v;
    q.push_back(std::move(column));
  }
  c = {};
  for (int j = n - 1; j >= 0; --j) {
    double sum = right[j];
    for (int k = j + 1; k < n; ++k) sum -= upper[j][k] * c[static_cast<size_t>(used[static_cast<size_t>(k)])];
    c[static_cast<size_t>(used[static_cast<size_t>(j)])] = sum / upper[j][j];
  }
  return true;
}

double product(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t t = 0; t < a.size(); ++t) sum += a[t] * b[t];
  return sum;
}

double squares(std::span<const Row> rows, const Row& c) {
  double sum = 0;
  for (const Row& r : rows) {
    const double d = product(r, c) - 1;
    sum += d * d;
  }
  return sum;
}

}  // namespace

Result<DeviceProfile> device_from_json(std::string_view text) {
  MOE_ASSIGN(const JsonDocument document, JsonDocument::parse(text, "device JSON", {.bytes = kMostText, .depth = 4}));
  const JsonField root = document.root();
  root.allow({"format", "version", "name", "memory_bytes", "target_latency_ms", "int8_gops", "fp16_gflops", "fp32_gflops",
              "read_gbs", "threads", "latency"});
  if (root["format"].text(kMostName) != "moe-device") root["format"].refuse("\"moe-device\"");
  root["version"].integer(1, 1);
  DeviceProfile d;
  d.name = root["name"].text(kMostName);
  for (const Number& n : kNumbers)
    if (root.has(n.name)) d.*n.value = root[n.name].number(0, kMost);
  if (root.has("threads")) d.threads = static_cast<int>(root["threads"].integer(0, kMostThreads));
  d.latency = from_rates(d);
  if (root.has("latency")) {
    const JsonField l = root["latency"];
    l.allow({"fixed_ms", "ms_per_gigabyte", "ms_per_gigaflop", "ms_per_expert", "n_measured", "worst_residual"});
    d.latency = {l["fixed_ms"].number(0, kMost), l["ms_per_gigabyte"].number(0, kMost), l["ms_per_gigaflop"].number(0, kMost),
                 static_cast<int>(l["n_measured"].integer(1, INT32_MAX)), l["worst_residual"].number(0, kMost)};
    if (l.has("ms_per_expert")) d.latency.ms_per_expert = l["ms_per_expert"].number(0, kMost);
  }
  MOE_TRY(document.status());
  if (d.latency.n_measured == 0 && (d.read_gbs == 0 || best_rate(d) == 0))
    return Status::Corrupt(
        "device JSON: document: wanted \"latency\", or \"read_gbs\" and one of \"int8_gops\", \"fp16_gflops\" and "
        "\"fp32_gflops\" above 0, found neither");
  return d;
}

std::string to_json(const DeviceProfile& d) {
  using Json = nlohmann::ordered_json;
  Json json = {{"format", "moe-device"}, {"version", 1}, {"name", d.name}, {"threads", d.threads}};
  for (const Number& n : kNumbers) json[n.name] = d.*n.value;
  if (d.latency.n_measured > 0)
    json["latency"] = {{"fixed_ms", d.latency.fixed_ms},
                       {"ms_per_gigabyte", d.latency.ms_per_gigabyte},
                       {"ms_per_gigaflop", d.latency.ms_per_gigaflop},
                       {"ms_per_expert", d.latency.ms_per_expert},
                       {"n_measured", d.latency.n_measured},
                       {"worst_residual", d.latency.worst_residual}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Orders of magnitude of three classes of machine, for a search without the machine: a board with four small cores and one
// channel of LPDDR4, a telephone's four large cores and LPDDR5, a server with 32 cores and eight channels of DDR4. Rates are
// what such machines sustain, about half of their data sheets'. `moe-bench calibrate` measures a real one.
std::vector<DeviceProfile> shipped_devices() {
  return {profile("edge", 1e9, 100, 60, 30, 15, 3, 4), profile("mobile", 4e9, 50, 400, 200, 100, 25, 4),
          profile("server", 32e9, 20, 8000, 1500, 1500, 100, 32)};
}

double latency_ms(const DeviceProfile& device, double bytes_per_token, double active_flops, double experts) {
  const LatencyModel& m = device.latency;
  const double read = m.ms_per_gigabyte * (bytes_per_token / 1e9), compute = m.ms_per_gigaflop * (active_flops / 1e9);
  return m.fixed_ms + m.ms_per_expert * experts + (m.n_measured > 0 ? read + compute : std::max(read, compute));
}

// Divided by its measurement, a sample is a row whose product with the coefficients should be 1. At the minimum over
// coefficients of at least 0 those above 0 solve the problem without the others, so the best of the fifteen ways to choose them
// whose solution is not negative is that minimum. Where two are as good but for rounding, the first one counts.
Result<LatencyModel> fit_latency(std::span<const LatencySample> samples) {
  if (samples.size() < kTerms)
    return Status::InvalidArgument("latency model: wanted at least 4 measurements, found " + std::to_string(samples.size()));
  std::vector<Row> rows;
  for (const LatencySample& s : samples) {
    const Row terms = {1, s.bytes_per_token / 1e9, s.active_flops / 1e9, s.experts};
    Row row;
    for (size_t t = 0; t < row.size(); ++t) {
      row[t] = terms[t] / s.ms;
      if (!(s.ms > 0) || !(terms[t] >= 0) || !std::isfinite(row[t]) || !(row[0] > 0))
        return Status::InvalidArgument("latency model: wanted finite times above 0, bytes, FLOPs and experts, found others");
    }
    rows.push_back(row);
  }
  Row best{}, c{};
  if (!solve(rows, 3, c))
    return Status::InvalidArgument("latency model: wanted measurements of different bytes a token, found " +
                                   std::to_string(samples.size()) + " of the same");
  constexpr double kRounding = 1e-20;  // of a sum of squares that should be 0
  double least = INFINITY;
  for (unsigned terms = 1; terms < 1u << kTerms; ++terms) {
    if (!solve(rows, terms, c) || *std::min_element(c.begin(), c.end()) < 0) continue;
    if (const double s = squares(rows, c); s < least * (1 - 1e-9) - kRounding) least = s, best = c;
  }
  LatencyModel m{best[0], best[1], best[2], static_cast<int>(samples.size()), 0, best[3]};
  for (const Row& r : rows) m.worst_residual = std::max(m.worst_residual, std::fabs(product(r, best) - 1));
  return m;
}

}  // namespace moe
