#include "tools/evolve_measure.h"

#include <algorithm>
#include <chrono>

#include "tools/bench_peers.h"
#include "tools/bench_topology.h"

namespace moe::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 3;
constexpr DecodeOptions kDecode = {};

struct Runs {
  std::vector<double> ms, bytes;
};

}  // namespace

std::vector<size_t> evenly(size_t n, size_t most) {
  std::vector<size_t> all;
  const size_t count = std::min(n, most);
  for (size_t i = 0; i < count; ++i) all.push_back(count == 1 ? 0 : i * (n - 1) / (count - 1));
  return all;
}

Result<MeasureFacts> measure_items(const Program& program, const ModelArguments& model, std::vector<MeasureItem>& items,
                                   const MeasureOptions& options) {
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  MeasureFacts facts;
  std::vector<Runs> runs(items.size());
  Progress progress("measure", static_cast<double>(kRounds * items.size()), Progress::Unit::kCount, "runs");
  const auto over = [&] { return elapsed() >= options.seconds || interrupted(); };
  for (int round = 0; round < kRounds && !over(); ++round)
    for (size_t i = 0; i < items.size() && !over(); ++i) {
      progress.update(static_cast<double>(items.size()) * round + static_cast<double>(i), items[i].name);
      const Result<TopologyRun> run = run_in_child(program, model, &items[i].topology, kDecode, options.n_threads);
      if (!run.ok() && interrupted()) break;
      if (!run.ok()) return run.status();
      runs[i].ms.push_back(run->ms), runs[i].bytes.push_back(run->resident_bytes());
      facts.rounds = round + 1;
    }
  progress.finish();
  for (size_t i = 0; i < items.size(); ++i) {
    if (runs[i].ms.empty()) {
      ++facts.left;
      continue;
    }
    ++facts.measured;
    items[i].point->measured = FrontPoint::Measured{1e3 / median(runs[i].ms), median(runs[i].bytes)};
  }
  facts.seconds = elapsed();
  return facts;
}

std::string measure_text(const MeasureFacts& facts, const MeasureOptions& options) {
  std::string text = std::to_string(facts.measured) + " routings, " + std::to_string(facts.rounds) +
                     " processes each at most, " + std::to_string(kDecode.n_tokens) + " tokens behind " +
                     std::to_string(kDecode.depth) + ", " + std::to_string(options.n_threads) + " threads, " +
                     format_duration(facts.seconds);
  if (facts.left > 0) text += "; " + std::to_string(facts.left) + " were left out by measure.seconds";
  return text;
}

}  // namespace moe::tools
