#include "tools/bench_profile.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "tools/common.h"
#include "tools/markdown.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

// An op and what it reads most of: weights or a cache by their format.
std::string row_name(const Graph& g, const Node& n) {
  std::string name = op_name(n.op);
  size_t most = 0;
  std::string format;
  for (const ValueId id : n.in) {
    if (id == kNone) continue;
    const Value& v = g.value(id);
    const bool is_matrix = (v.kind == ValueKind::kWeight || v.kind == ValueKind::kState) && v.shape.rank > 1;
    if (!is_matrix) continue;
    const size_t bytes = dtype_bytes(v.dtype, v.shape.elements());
    if (bytes > most) most = bytes, format = traits(v.dtype).name;
  }
  return format.empty() ? name : name + " " + format;
}

// Lines that are no ops.
struct Rest {
  const char* name;
  double thread_seconds;
};
std::vector<Rest> rest_of(const BenchProfile& p) {
  return {{"waiting at barriers", p.waiting()},
          {"preempted by others", p.preempted},
          {"starting and ending runs", p.starting()},
          {"outside runs", p.outside()}};
}

std::string percent(double share) { return format_fixed(100 * share, 1) + " %"; }

}  // namespace

double BenchProfile::busy() const {
  double sum = 0;
  for (const ProfileRow& r : rows) sum += r.busy;
  return sum;
}

double BenchProfile::waiting() const {
  double sum = 0;
  for (const ProfileRow& r : rows) sum += r.waiting;
  return sum;
}

double BenchProfile::starting() const {
  double sum = run_seconds * n_threads - preempted;
  for (const ProfileRow& r : rows) sum -= r.busy + r.waiting;
  return sum;
}

double BenchProfile::outside() const { return (seconds - run_seconds) * n_threads; }

BenchProfile make_profile(const Graph& g, const ExecutableProfile& before, const ExecutableProfile& after, int n_threads,
                          double seconds, const BenchTest& test, int repetitions, double k_mean, bool exact) {
  BenchProfile profile;
  profile.n_threads = n_threads, profile.preempted = after.preempted - before.preempted;
  profile.seconds = seconds, profile.run_seconds = after.seconds - before.seconds;
  std::map<std::string, ProfileRow> rows;
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    const std::string name = row_name(g, g.nodes[i]);
    ProfileRow& r = rows[name];
    r.op = name, ++r.nodes;
    r.busy += after.busy[i] - before.busy[i], r.waiting += after.waiting[i] - before.waiting[i];
    r.work.add(work_of(g, g.nodes[i], test, k_mean, exact), repetitions);
  }
  for (auto& [name, row] : rows) profile.rows.push_back(std::move(row));
  std::stable_sort(profile.rows.begin(), profile.rows.end(),
                   [](const ProfileRow& a, const ProfileRow& b) { return a.busy > b.busy; });
  return profile;
}

std::string profile_text(const BenchProfile& p, int repetitions, const cpu::Ceilings& c) {
  const MarkdownTable table({{"op", 24, false},
                             {"nodes", 5, true},
                             {"ms", 9, true},
                             {"share", 7, true},
                             {"of work", 7, true},
                             {"then waits", 10, true},
                             {"GB/s", 6, true},
                             {"of read", 7, true},
                             {"GMAC/s", 7, true},
                             {"of peak", 7, true}});
  const auto clock_ms = [&](double thread_seconds) {
    return format_fixed(1e3 * thread_seconds / p.n_threads / repetitions, 2);
  };
  std::string text = table.head();
  for (const ProfileRow& r : p.rows) {
    const double seconds = r.busy / p.n_threads;
    const bool ran = seconds > 0;
    text += table.row(
        {r.op, std::to_string(r.nodes), clock_ms(r.busy), percent(r.busy / p.thread_seconds()), percent(r.busy / p.busy()),
         percent(r.waiting / p.thread_seconds()), ran ? format_fixed(r.work.bytes_read / seconds / 1e9, 1) : "-",
         ran ? percent(r.work.bytes_read / seconds / c.read) : "-", ran ? format_fixed(r.work.macs() / seconds / 1e9, 1) : "-",
         ran ? percent(share_of_peak(r.work, c, seconds)) : "-"});
  }
  for (const Rest& r : rest_of(p))
    text += table.row(
        {r.name, "", clock_ms(r.thread_seconds), percent(r.thread_seconds / p.thread_seconds()), "", "", "", "", "", ""});
  return text;
}

Json profile_json(const BenchProfile& p, int repetitions, const cpu::Ceilings& c) {
  Json rows = Json::array();
  for (const ProfileRow& r : p.rows) {
    const double seconds = r.busy / p.n_threads;
    const auto rate = [&](double x) { return seconds > 0 ? Json(x / seconds) : Json(); };
    rows.push_back({{"op", r.op},
                    {"nodes", r.nodes},
                    {"seconds", seconds / repetitions},
                    {"share", r.busy / p.thread_seconds()},
                    {"share_of_work", r.busy / p.busy()},
                    {"share_waiting_after", r.waiting / p.thread_seconds()},
                    {"gb_per_s", rate(r.work.bytes_read / 1e9)},
                    {"share_of_read", rate(r.work.bytes_read / c.read)},
                    {"gmac_per_s", rate(r.work.macs() / 1e9)},
                    {"share_of_peak", rate(share_of_peak(r.work, c, 1))}});
  }
  for (const Rest& r : rest_of(p))
    rows.push_back({{"op", r.name},
                    {"seconds", r.thread_seconds / p.n_threads / repetitions},
                    {"share", r.thread_seconds / p.thread_seconds()}});
  return rows;
}

}  // namespace moe::tools
