#include "tools/bench_topology.h"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/specialise.h"
#include "tools/bench_peers.h"
#include "tools/device_file.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

// --- Memory of this process ---

// "Rss:     123 kB" → bytes.
double kilobytes(const std::string& line) { return 1024 * std::strtod(line.c_str() + line.find(':') + 1, nullptr); }

double private_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("RssAnon:")) return kilobytes(line);
  return 0;
}

// Touched pages of the mappings that tensors lie in. The head of a mapping begins with its addresses: "7f00-7fff r--p …".
double mapped_bytes(const GgufFile& file) {
  std::vector<uintptr_t> tensors;
  for (const TensorInfo& t : file.tensors()) tensors.push_back(reinterpret_cast<uintptr_t>(t.data.data()));
  std::sort(tensors.begin(), tensors.end());
  std::ifstream maps("/proc/self/smaps");
  double sum = 0;
  bool ours = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) {
      char* end = nullptr;
      const uintptr_t first = std::strtoull(line.c_str(), &end, 16), last = std::strtoull(end + 1, nullptr, 16);
      const auto tensor = std::lower_bound(tensors.begin(), tensors.end(), first);
      ours = tensor != tensors.end() && *tensor < last;
    }
    if (ours && line.starts_with("Rss:")) sum += kilobytes(line);
  }
  return sum;
}

// --- A child process ---

// What it sends: a run, or a message.
struct Answer {
  TopologyRun run = {};
  char message[400] = {};
};

Result<TopologyRun> run_here(const Program& program, const ModelArguments& a, const RoutingTopology* topology,
                             const DecodeOptions& options, int n_threads) {
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, a, n_threads));
  MOE_ASSIGN(const std::unique_ptr<DecodeClock> clock, DecodeClock::create(*model, options));
  std::vector<double> ms;
  MOE_TRY(clock->time(topology ? *topology : model->topology(), ms));
  return TopologyRun{median(ms), clock->prompt_rate(), mapped_bytes(model->file()), private_bytes()};
}

Status receive(int fd, Answer& answer) {
  auto* at = reinterpret_cast<char*>(&answer);
  for (size_t done = 0; done < sizeof answer;) {
    const ssize_t n = ::read(fd, at + done, sizeof answer - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Status::Io("the measuring process ended without a result");
    done += static_cast<size_t>(n);
  }
  return Status::Ok();
}

// --- The table ---

struct Variant {
  const char* name;
  ModelArguments model;
  const RoutingTopology* topology;
  double modelled_ms = 0, file_bytes = 0;
  std::vector<TopologyRun> runs = {};

  double of(double TopologyRun::*value) const {
    std::vector<double> all;
    for (const TopologyRun& r : runs) all.push_back(r.*value);
    return median(all);
  }
  double resident() const { return of(&TopologyRun::weight_bytes) + of(&TopologyRun::private_bytes); }
};

void print_table(const std::vector<Variant>& variants, bool modelled) {
  using enum Table::Align;
  Table table({kLeft, kRight, kRight, kRight, kRight, kRight, kRight, kRight, kRight});
  std::vector<std::string> head = {"",        "file", "generates tok/s", "ms", "reads tok/s", "weights touched", "other memory",
                                   "resident"};
  if (modelled) head.push_back("modelled ms");
  table.row(head);
  for (const Variant& v : variants) {
    const double ms = v.of(&TopologyRun::ms);
    std::vector<std::string> cells = {v.name,
                                      format_bytes(v.file_bytes),
                                      format_fixed(1e3 / ms, 1),
                                      format_fixed(ms, 4),
                                      format_fixed(v.of(&TopologyRun::prompt_rate), 1),
                                      format_bytes(v.of(&TopologyRun::weight_bytes)),
                                      format_bytes(v.of(&TopologyRun::private_bytes)),
                                      format_bytes(v.resident())};
    if (modelled)
      cells.push_back(format_fixed(v.modelled_ms, 4) + " (" + format_fixed(100 * (v.modelled_ms / ms - 1), 1) + " %)");
    table.row(cells);
  }
  std::fputs(table.text().c_str(), stdout);
}

Json to_json(const std::vector<Variant>& variants, bool modelled) {
  Json rows = Json::array();
  for (const Variant& v : variants)
    rows.push_back({{"name", v.name},
                    {"file_bytes", v.file_bytes},
                    {"tokens_per_s", 1e3 / v.of(&TopologyRun::ms)},
                    {"ms", v.of(&TopologyRun::ms)},
                    {"modelled_ms", modelled ? Json(v.modelled_ms) : Json()},
                    {"prompt_tokens_per_s", v.of(&TopologyRun::prompt_rate)},
                    {"weight_bytes", v.of(&TopologyRun::weight_bytes)},
                    {"private_bytes", v.of(&TopologyRun::private_bytes)},
                    {"resident_bytes", v.resident()}});
  return rows;
}

// --- The command ---

// A file that goes with the scope, unless the user wants it.
class SmallFile {
 public:
  explicit SmallFile(const std::string& keep) : path_(keep), keep_(!keep.empty()) {
    if (keep_) return;
    folder_ = (std::filesystem::temp_directory_path() / "moe-bench-XXXXXX").string();
    if (!::mkdtemp(folder_.data())) folder_.clear();
    path_ = folder_ + "/specialised.gguf";
  }
  ~SmallFile() {
    std::error_code none;
    if (!keep_ && !folder_.empty()) std::filesystem::remove_all(folder_, none);
  }
  SmallFile(const SmallFile&) = delete;
  SmallFile& operator=(const SmallFile&) = delete;
  Status status() const { return keep_ || !folder_.empty() ? Status::Ok() : Status::Io("no folder for temporary files"); }
  const std::string& path() const { return path_; }

 private:
  std::string path_, folder_;
  bool keep_;
};

struct Prepared {
  RoutingTopology full, topology;
  double full_bytes = 0, small_bytes = 0, full_ms = 0, small_ms = 0;
};

Result<double> modelled(const Model& model, const TopologyBenchArguments& a, const DeviceProfile& device,
                        const RoutingTopology& topology) {
  MOE_ASSIGN(const ModelCosts costs, ModelCosts::of(model));
  MOE_ASSIGN(const std::unique_ptr<DecodeClock> clock, DecodeClock::create(model, a.decode));
  MOE_ASSIGN(const Evaluation e, clock->cost(costs, topology));
  double routed = 0;
  for (const RoutingShape::Layer& l : model.routing_shape().layers) routed += l.n_experts > 0;
  return latency_ms(device, e.bytes_per_token, e.active_flops, e.k_mean * routed);
}

// Writes the specialised file. The model and its threads are gone at the end.
Result<Prepared> prepare(const Program& program, const TopologyBenchArguments& a, int n_threads, const std::string& path) {
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, a.model, n_threads));
  Prepared p;
  p.full = full_topology(model->routing_shape());
  MOE_ASSIGN(p.topology, make_topology(*model, a.model));
  if (hash(p.topology) == hash(p.full))
    usage_error("topology: wanted --topology, --front or another option of routing, found none that changes the model's own");
  MOE_ASSIGN(const SpecialisePlan plan, plan_specialise(*model, p.topology));
  ThreadPool pool(1);
  MOE_TRY(write_specialised(plan, pool, path, {}));
  p.full_bytes = static_cast<double>(plan.bytes_before), p.small_bytes = static_cast<double>(plan.bytes_after);
  if (a.device.empty()) return p;
  MOE_ASSIGN(const DeviceProfile device, read_device(a.device));
  MOE_ASSIGN(p.full_ms, modelled(*model, a, device, p.full));
  MOE_ASSIGN(p.small_ms, modelled(*model, a, device, p.topology));
  return p;
}

}  // namespace

Result<TopologyRun> run_in_child(const Program& program, const ModelArguments& model, const RoutingTopology* topology,
                                 const DecodeOptions& options, int n_threads) {
#ifdef __GLIBC__
  ::malloc_trim(0);  // what this process freed would be counted as the child's
#endif
  int ends[2];
  if (::pipe(ends) != 0) return Status::Io(std::string("pipe: ") + std::strerror(errno));
  const pid_t child = ::fork();
  if (child < 0) {
    ::close(ends[0]), ::close(ends[1]);
    return Status::Io(std::string("fork: ") + std::strerror(errno));
  }
  if (child == 0) {
    ::close(ends[0]);
    Answer answer;
    const Result<TopologyRun> run = run_here(program, model, topology, options, n_threads);
    if (run.ok())
      answer.run = *run;
    else
      std::strncpy(answer.message, run.status().message().c_str(), sizeof answer.message - 1);
    const bool sent = ::write(ends[1], &answer, sizeof answer) == static_cast<ssize_t>(sizeof answer);
    ::_exit(sent ? 0 : 1);
  }
  ::close(ends[1]);
  Answer answer;
  const Status received = receive(ends[0], answer);
  ::close(ends[0]);
  int ended = 0;
  while (::waitpid(child, &ended, 0) < 0 && errno == EINTR) {
  }
  MOE_TRY(received);
  if (answer.message[0]) return Status::Internal(answer.message);
  return answer.run;
}

void add_topology_bench_command(CLI::App& app, TopologyBenchArguments& a) {
  CLI::App* c =
      app.add_subcommand("topology", "speed and memory of a model, of a topology of it, and of the topology's own file");
  add_model_options(*c, a.model);
  add_topology_options(*c, a.model);
  add_device_option(*c, a.device);
  c->add_option("--keep", a.keep, "leave the topology's own file here");
  c->add_option("-t,--threads", a.n_threads, "default: one for each physical core this process may use")
      ->check(CLI::Range(1, 1024));
  c->add_option("--rounds", a.rounds, "processes of each, in turns")->check(CLI::Range(1, 10000))->capture_default_str();
  c->add_option("-n,--n-gen", a.decode.n_tokens, "tokens to generate")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  c->add_option("-d,--n-depth", a.decode.depth, "tokens of the prompt")->check(CLI::Range(1, 1 << 20))->capture_default_str();
}

Status bench_topology(Program& program, TopologyBenchArguments& a) {
  const int n_threads = a.n_threads > 0 ? a.n_threads : program.n_threads();
  a.decode.seed = program.common().seed.value_or(1);
  MOE_TRY(pick_topology(program, a.model));
  const SmallFile small(a.keep);
  MOE_TRY(small.status());
  MOE_ASSIGN(const Prepared p, prepare(program, a, n_threads, small.path()));
  ModelArguments specialised = a.model;
  specialised.path = small.path();
  std::vector<Variant> variants = {{"full", a.model, &p.full, p.full_ms, p.full_bytes},
                                   {"masked", a.model, &p.topology, p.small_ms, p.full_bytes},
                                   {"specialised", specialised, nullptr, p.small_ms, p.small_bytes}};
  catch_interrupts();
  Progress progress("topology", 3.0 * a.rounds, Progress::Unit::kCount, "runs");
  double done = 0;
  for (int round = 0; round < a.rounds; ++round)
    for (Variant& v : variants) {
      progress.update(done++, v.name);
      MOE_ASSIGN(const TopologyRun run, run_in_child(program, v.model, v.topology, a.decode, n_threads));
      v.runs.push_back(run);
      if (interrupted()) return interrupted_status();
    }
  progress.finish();
  const bool has_model = !a.device.empty();
  if (program.json()) {
    print_json(to_json(variants, has_model));
    return Status::Ok();
  }
  print_table(variants, has_model);
  std::printf("# medians of %d processes each, %d tokens behind %d, %d threads\n", a.rounds, a.decode.n_tokens, a.decode.depth,
              n_threads);
  return Status::Ok();
}

}  // namespace moe::tools
