#include "tools/bench_calibrate.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "backends/cpu/ceilings.h"
#include "core/rng.h"
#include "evolution/genome.h"
#include "tools/bench_peers.h"
#include "tools/device_file.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

// --- Topologies ---

template <class F>
RoutingTopology edited(const RoutingShape& shape, F&& edit) {
  RoutingTopology t = full_topology(shape);
  for (size_t i = 0; i < t.layers.size(); ++i)
    if (t.layers[i].n_experts > 0) edit(t.layers[i], shape.layers[i], i);
  return t;
}

void set_k(LayerRouting& r, int k) { r.k_min = r.k_max = k; }

void set_width(LayerRouting& r, const RoutingShape::Layer& s, int quarters) {
  const int channels = channels_of(quarters, s);
  if (channels < s.d_ff) r.width.assign(static_cast<size_t>(r.n_experts), channels);
}

RoutingTopology with(const RoutingShape& shape, int k, int quarters) {
  return edited(shape, [&](LayerRouting& r, const RoutingShape::Layer& s, size_t) {
    set_k(r, std::min(k, r.k_max));
    set_width(r, s, quarters);
  });
}

RoutingTopology skipping(const RoutingShape& shape, size_t every, int k) {
  size_t routed = 0;
  return edited(shape, [&](LayerRouting& r, const RoutingShape::Layer&, size_t) {
    set_k(r, routed++ % every == every - 1 ? 0 : std::min(k, r.k_max));
  });
}

RoutingTopology mixture(const RoutingShape& shape, uint64_t seed) {
  Rng rng(seed, 2);
  return edited(shape, [&](LayerRouting& r, const RoutingShape::Layer& s, size_t) {
    set_k(r, static_cast<int>(rng.below(static_cast<uint64_t>(r.k_max) + 1)));
    r.width.resize(static_cast<size_t>(r.n_experts));
    for (int32_t& w : r.width) w = channels_of(static_cast<int>(1 + rng.below(kQuarters)), s);
    if (r.k_max > 1 && rng.below(2)) r.k_min = 1, r.threshold = 0.5f;
  });
}

// --- The table ---

std::string percent(double share) { return format_fixed(100 * share, 1) + " %"; }

double worst(const std::vector<CalibrationPoint>& points, bool held_back) {
  double most = 0;
  for (const CalibrationPoint& p : points)
    if (p.held_back == held_back) most = std::max(most, std::fabs(p.error()));
  return most;
}

void print_table(const std::vector<CalibrationPoint>& points) {
  using enum Table::Align;
  Table table({kLeft, kRight, kRight, kRight, kRight, kRight, kRight, kLeft});
  table.row({"topology", "MB/token", "MFLOP/token", "experts/token", "measured ms", "modelled ms", "off by", ""});
  for (const CalibrationPoint& p : points)
    table.row({p.name, format_fixed(p.sample.bytes_per_token / 1e6, 3), format_fixed(p.sample.active_flops / 1e6, 2),
               format_fixed(p.sample.experts, 1), format_fixed(p.sample.ms, 4), format_fixed(p.modelled_ms, 4),
               percent(p.error()), p.held_back ? "held back" : ""});
  std::fputs(table.text().c_str(), stdout);
}

Json to_json(const std::vector<CalibrationPoint>& points, const DeviceProfile& device) {
  Json rows = Json::array();
  for (const CalibrationPoint& p : points)
    rows.push_back({{"topology", p.name},
                    {"held_back", p.held_back},
                    {"bytes_per_token", p.sample.bytes_per_token},
                    {"active_flops", p.sample.active_flops},
                    {"experts", p.sample.experts},
                    {"ms", p.sample.ms},
                    {"modelled_ms", p.modelled_ms}});
  return {{"device", Json::parse(moe::to_json(device))}, {"worst_held_back", worst(points, true)}, {"points", std::move(rows)}};
}

// --- Measuring ---

// Of all layers together.
double experts_of(const Evaluation& e, const RoutingShape& shape) {
  double routed = 0;
  for (const RoutingShape::Layer& l : shape.layers) routed += l.n_experts > 0;
  return e.k_mean * routed;
}

Status measure(const CalibrateArguments& a, const Model& model, std::vector<CalibrationPoint>& points) {
  MOE_ASSIGN(const std::unique_ptr<DecodeClock> clock, DecodeClock::create(model, a.decode));
  MOE_ASSIGN(const ModelCosts costs, ModelCosts::of(model));
  for (CalibrationPoint& p : points) {
    MOE_ASSIGN(const Evaluation e, clock->cost(costs, p.topology));
    p.sample = {e.bytes_per_token, e.active_flops, 0, experts_of(e, model.routing_shape())};
  }
  Progress progress("calibrate", a.rounds * static_cast<double>(points.size()), Progress::Unit::kCount, "runs");
  std::vector<std::vector<double>> ms(points.size());
  double done = 0;
  for (int round = 0; round < a.rounds; ++round)
    for (size_t i = 0; i < points.size(); ++i) {  // in turns: a machine is faster and slower by the minute
      progress.update(done++, points[i].name);
      MOE_TRY(clock->time(points[i].topology, ms[i]));
    }
  for (size_t i = 0; i < points.size(); ++i) points[i].sample.ms = median(ms[i]);
  return Status::Ok();
}

Result<DeviceProfile> profile_of(const CalibrateArguments& a, int n_threads) {
  DeviceProfile d;
  d.name = a.name, d.threads = n_threads;
  MOE_ASSIGN(const Isa isa, choose_isa(detect_cpu(), a.model.isa));
  MOE_ASSIGN(const cpu::Ceilings c, cpu::measure_ceilings(isa, d.threads));
  d.read_gbs = c.read / 1e9, d.int8_gops = 2 * c.int8 / 1e9, d.fp16_gflops = 2 * c.bf16 / 1e9, d.fp32_gflops = 2 * c.f32 / 1e9;
  d.memory_bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return d;
}

Status fit(std::vector<CalibrationPoint>& points, DeviceProfile& device) {
  std::vector<LatencySample> samples;
  for (const CalibrationPoint& p : points)
    if (!p.held_back) samples.push_back(p.sample);
  MOE_ASSIGN(device.latency, fit_latency(samples));
  for (CalibrationPoint& p : points)
    p.modelled_ms = latency_ms(device, p.sample.bytes_per_token, p.sample.active_flops, p.sample.experts);
  return Status::Ok();
}

}  // namespace

std::vector<CalibrationPoint> calibration_points(const RoutingShape& shape, uint64_t seed) {
  int most = 0;
  for (const RoutingShape::Layer& l : shape.layers) most = std::max(most, l.k);
  std::vector<CalibrationPoint> points;
  std::set<uint64_t> seen;
  const auto add = [&](const std::string& name, RoutingTopology t, bool held_back) {
    if (!validate(t, shape).ok() || !seen.insert(hash(t)).second) return;
    points.push_back({name, std::move(t), held_back});
  };
  std::set<int> ks = {1, std::max(1, most / 2), std::max(1, 3 * most / 4), most};
  for (const int quarters : {4, 2, 1})
    for (const int k : ks)
      add("k " + std::to_string(k) + ", width " + std::to_string(25 * quarters) + " %", with(shape, k, quarters), false);
  for (const int k : {most, std::max(1, most / 2)})
    for (const size_t every : {2, 3, 4})
      add("k " + std::to_string(k) + ", 1 layer of " + std::to_string(every) + " skipped", skipping(shape, every, k), false);
  for (uint64_t i = 0; i < 6; ++i) add("mixture " + std::to_string(i + 1), mixture(shape, seed + i), true);
  return points;
}

void add_calibrate_command(CLI::App& app, CalibrateArguments& a) {
  CLI::App* c = app.add_subcommand("calibrate", "measure topologies of a model and fit the latency model of this machine");
  add_model_options(*c, a.model);
  c->add_option("-o,--out", a.out, "device profile to write, for moe-evolve --device-profile");
  c->add_option("--name", a.name, "of the profile")->capture_default_str();
  c->add_option("-t,--threads", a.n_threads, "default: one for each physical core this process may use")
      ->check(CLI::Range(1, 1024));
  c->add_option("--rounds", a.rounds, "times that every topology has its turn")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  c->add_option("-n,--n-gen", a.decode.n_tokens, "tokens of a turn")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  c->add_option("-d,--n-depth", a.decode.depth, "tokens in the context before them")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
}

Status calibrate(Program& program, CalibrateArguments& a) {
  const int n_threads = a.n_threads > 0 ? a.n_threads : program.n_threads();
  a.decode.seed = program.common().seed.value_or(1);
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, a.model, n_threads));
  std::vector<CalibrationPoint> points = calibration_points(model->routing_shape(), a.decode.seed);
  catch_interrupts();
  MOE_ASSIGN(DeviceProfile device, profile_of(a, n_threads));
  MOE_TRY(measure(a, *model, points));
  if (Status s = fit(points, device); !s.ok()) return s.Annotate(a.model.path);
  if (!a.out.empty()) MOE_TRY(write_device(device, a.out));
  if (program.json()) {
    print_json(to_json(points, device));
    return Status::Ok();
  }
  print_table(points);
  const LatencyModel& m = device.latency;
  std::printf("# ms = %s + %s · GB + %s · GFLOP + %s · experts  off by %s at most, held back %s  %d threads%s%s\n",
              format_fixed(m.fixed_ms, 4).c_str(), format_fixed(m.ms_per_gigabyte, 2).c_str(),
              format_fixed(m.ms_per_gigaflop, 3).c_str(), format_fixed(m.ms_per_expert, 5).c_str(),
              percent(m.worst_residual).c_str(), percent(worst(points, true)).c_str(), device.threads,
              a.out.empty() ? "" : "  ", a.out.c_str());
  return Status::Ok();
}

}  // namespace moe::tools
