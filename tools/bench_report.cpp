#include "tools/bench_report.h"

#include <algorithm>
#include <cstdio>

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

const MarkdownTable& model_table() {
  static const MarkdownTable table({{"model", 24, false},
                                    {"size", 8, true},
                                    {"params", 8, true},
                                    {"threads", 7, true},
                                    {"batch", 5, true},
                                    {"test", 18, true},
                                    {"t/s", 21, true},
                                    {"GB/s", 6, true},
                                    {"of read", 7, true},
                                    {"GMAC/s", 7, true},
                                    {"of peak", 7, true}});
  return table;
}

// "333.1 ± 2 %": the median and the spread.
std::string rate_text(const std::vector<double>& rates) {
  return format_fixed(median(rates), 1) + " ± " + format_fixed(100 * spread(rates), 0) + " %";
}

MarkdownTable versus_table(const std::vector<PeerResult>& peers) {
  std::vector<MarkdownTable::Column> columns = {{"model", 24, false},  {"size", 8, true},    {"test", 14, true},
                                                {"moe t/s", 14, true}, {"of read", 7, true}, {"of peak", 7, true}};
  for (const PeerResult& p : peers) {
    columns.push_back({p.peer.name + " t/s", 14, true});
    columns.push_back({"moe / " + p.peer.name, 6, true});
  }
  return MarkdownTable(columns);
}

Json versus_json(const BenchResult& r) {
  Json peers = Json::array();
  for (const PeerResult& p : r.peers) {
    const bool ran = !p.rates.empty();
    peers.push_back({{"name", p.peer.name},
                     {"command", p.peer.command},
                     {"samples_ts", p.rates},
                     {"median_ts", ran ? Json(median(p.rates)) : Json()},
                     {"spread", ran ? Json(spread(p.rates)) : Json()},
                     {"ratio", ran ? Json(median(r.rates()) / median(p.rates)) : Json()}});
  }
  return {{"median_ts", median(r.rates())}, {"spread", spread(r.rates())}, {"peers", peers}};
}

std::string percent(double share) { return format_fixed(100 * share, 1) + " %"; }

}  // namespace

Json bench_json(const Model& model, const BenchArguments& a, const BenchResult& r, const cpu::Ceilings& c) {
  const BackendInfo& backend = model.backend().info();
  std::vector<double> ns, rates;
  for (const double s : r.seconds) ns.push_back(s * 1e9), rates.push_back(r.test.tokens() / s);
  const double seconds = r.mean_seconds();
  const std::string cache = a.model.cache_type == "auto" ? traits(natural_cache_type(model)).name : a.model.cache_type;
  Json row = {{"build_commit", std::string("moe ") + kVersion},
              {"cpu_info", backend.description.substr(0, backend.description.find(','))},
              {"gpu_info", ""},
              {"backend", backend.name},
              {"backends", backend.name},
              {"model_filename", a.model.path},
              {"model_type", model_type(model.file(), model.config().arch)},
              {"model_size", weight_bytes(model.file())},
              {"model_n_params", parameter_count(model.file())},
              {"n_batch", r.test.n_batch},
              {"n_ubatch", r.test.n_batch},
              {"n_threads", backend.n_threads},
              {"type_k", cache},
              {"type_v", cache},
              {"n_seqs", r.test.n_seqs},
              {"isa", backend.isa},
              {"exact", a.model.exact},
              {"routing", topology_text(a.model)},
              {"n_prompt", r.test.n_prompt},
              {"n_gen", r.test.n_gen},
              {"n_depth", r.test.n_depth},
              {"test_time", r.time},
              {"avg_ns", std::llround(seconds * 1e9)},
              {"stddev_ns", std::llround(sample_deviation(ns))},
              {"avg_ts", r.mean_rate()},
              {"stddev_ts", r.rate_deviation()},
              {"samples_ns", ns},
              {"samples_ts", rates},
              {"gb_per_s", r.work.bytes_read / seconds / 1e9},
              {"gmac_per_s", r.work.macs() / seconds / 1e9},
              {"share_of_read", r.work.bytes_read / seconds / c.read},
              {"share_of_peak", share_of_peak(r.work, c, seconds)},
              {"ceiling_gb_per_s", c.read / 1e9},
              {"ceiling_int8_gmac_per_s", c.int8 / 1e9},
              {"ceiling_bf16_gmac_per_s", c.bf16 / 1e9},
              {"ceiling_f32_gmac_per_s", c.f32 / 1e9}};
  if (!r.peers.empty()) row.update(versus_json(r));
  if (r.profile) row["profile"] = profile_json(*r.profile, static_cast<int>(r.seconds.size()), c);
  return row;
}

Result<const cpu::Ceilings*> BenchReport::ceilings_for(int n_threads) {
  if (const auto it = ceilings_.find(n_threads); it != ceilings_.end()) return &it->second;
  MOE_ASSIGN(const Isa isa, choose_isa(detect_cpu(), arguments_.model.isa));
  MOE_ASSIGN(const cpu::Ceilings measured, cpu::measure_ceilings(isa, n_threads));
  return &ceilings_.emplace(n_threads, measured).first->second;
}

Status BenchReport::add(const Model& model, const BenchResult& result) {
  MOE_ASSIGN(const cpu::Ceilings* measured, ceilings_for(model.backend().info().n_threads));
  cpu::Ceilings c = *measured;
  if (!result.reads.empty()) c.read = median(result.reads);
  if (arguments_.format == "md")
    print_markdown(model, result, c);
  else if (arguments_.format == "csv")
    print_csv(bench_json(model, arguments_, result, c));
  else
    rows_.push_back(bench_json(model, arguments_, result, c));
  std::fflush(stdout);
  return Status::Ok();
}

void BenchReport::finish() {
  if (arguments_.format == "json") print_json(rows_);
}

// A row beside ceilings of another number of threads begins a new table.
void BenchReport::print_markdown(const Model& model, const BenchResult& r, const cpu::Ceilings& c) {
  const bool begins = described_threads_ != c.n_threads;
  if (begins) {
    const std::string routing = topology_text(arguments_.model);
    std::printf("%smoe-bench %s: %s%s%s%s\n", described_threads_ ? "\n" : "", kVersion,
                model.backend().info().description.c_str(), arguments_.model.exact ? ", exact" : "",
                routing.empty() ? "" : "; ", routing.c_str());
    std::printf("ceilings: %s\n\n", ceilings_text(c).c_str());
    described_threads_ = c.n_threads;
  }
  if (!r.peers.empty()) return print_versus(model, r, c, begins);
  if (begins && !r.profile) std::fputs(model_table().head().c_str(), stdout);
  const double seconds = r.mean_seconds();
  const std::string row = model_table().row(
      {model_type(model.file(), model.config().arch), format_bytes(static_cast<double>(weight_bytes(model.file()))),
       format_count(static_cast<double>(parameter_count(model.file()))), std::to_string(c.n_threads),
       std::to_string(r.test.n_batch), r.test.name(),
       format_fixed(r.mean_rate(), 2) + " ± " + format_fixed(r.rate_deviation(), 2),
       format_fixed(r.work.bytes_read / seconds / 1e9, 1), percent(r.work.bytes_read / seconds / c.read),
       format_fixed(r.work.macs() / seconds / 1e9, 1), percent(share_of_peak(r.work, c, seconds))});
  if (r.profile) std::fputs(model_table().head().c_str(), stdout);
  std::fputs(row.c_str(), stdout);
  if (r.profile) std::printf("\n%s\n", profile_text(*r.profile, static_cast<int>(r.seconds.size()), c).c_str());
}

// Medians: what else a machine does slows single runs, by much.
void BenchReport::print_versus(const Model& model, const BenchResult& r, const cpu::Ceilings& c, bool begins) {
  const MarkdownTable table = versus_table(r.peers);
  if (begins) std::fputs(table.head().c_str(), stdout);
  const double rate = median(r.rates()), seconds = r.test.tokens() / rate;
  std::vector<std::string> cells = {model_type(model.file(), model.config().arch),
                                    format_bytes(static_cast<double>(weight_bytes(model.file()))),
                                    r.test.name(),
                                    rate_text(r.rates()),
                                    percent(r.work.bytes_read / seconds / c.read),
                                    percent(share_of_peak(r.work, c, seconds))};
  for (const PeerResult& p : r.peers) {
    cells.push_back(p.rates.empty() ? "-" : rate_text(p.rates));
    cells.push_back(p.rates.empty() ? "-" : format_fixed(rate / median(p.rates), 2));
  }
  std::fputs(table.row(cells).c_str(), stdout);
}

// As llama-bench: every field in quotes, no samples.
void BenchReport::print_csv(const Json& row) {
  std::string keys, values;
  for (const auto& [key, value] : row.items()) {
    if (value.is_array()) continue;
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    for (size_t i = 0; (i = text.find('"', i)) != std::string::npos; i += 2) text.insert(i, "\"");
    keys += (keys.empty() ? "" : ",") + key;
    values += (values.empty() ? "\"" : ",\"") + text + "\"";
  }
  if (!described_threads_) std::printf("%s\n", keys.c_str());
  described_threads_ = 1;
  std::printf("%s\n", values.c_str());
}

std::string ceilings_text(const cpu::Ceilings& c) {
  const auto rate = [](const char* name, double macs) {
    return macs > 0 ? std::string(", ") + name + " " + format_fixed(macs / 1e9, 1) + " GMAC/s" : std::string();
  };
  return "read " + format_fixed(c.read / 1e9, 1) + " GB/s" + rate("int8", c.int8) + rate("bf16", c.bf16) + rate("f32", c.f32);
}

Status print_ceilings(const Program& program, const std::string& wanted_isa, std::vector<int> threads) {
  const CpuFeatures cpu = detect_cpu();
  MOE_ASSIGN(const Isa isa, choose_isa(cpu, wanted_isa));
  if (threads.empty()) threads = {1, program.n_threads()};
  threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
  const MarkdownTable table({{"threads", 7, true},
                             {"read GB/s", 9, true},
                             {"int8 GMAC/s", 11, true},
                             {"bf16 GMAC/s", 11, true},
                             {"f32 GMAC/s", 10, true}});
  Json rows = Json::array();
  if (!program.json()) std::printf("%s, %s\n\n%s", cpu.brand.c_str(), isa_name(isa), table.head().c_str());
  for (const int n : threads) {
    MOE_ASSIGN(const cpu::Ceilings c, cpu::measure_ceilings(isa, n));
    rows.push_back({{"cpu_info", cpu.brand},
                    {"isa", isa_name(isa)},
                    {"n_threads", n},
                    {"gb_per_s", c.read / 1e9},
                    {"int8_gmac_per_s", c.int8 / 1e9},
                    {"bf16_gmac_per_s", c.bf16 / 1e9},
                    {"f32_gmac_per_s", c.f32 / 1e9}});
    const auto rate = [](double x) { return x > 0 ? format_fixed(x / 1e9, 1) : std::string("-"); };
    if (!program.json())
      std::fputs(table.row({std::to_string(n), rate(c.read), rate(c.int8), rate(c.bf16), rate(c.f32)}).c_str(), stdout);
  }
  if (program.json()) print_json(rows);
  return Status::Ok();
}

}  // namespace moe::tools
