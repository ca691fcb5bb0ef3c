// moe-bench: speed of a model, of the machine below it, and of each kernel.
#include "tools/bench_calibrate.h"
#include "tools/bench_ops.h"
#include "tools/bench_report.h"
#include "tools/bench_topology.h"
#include "tools/zoo.h"

namespace moe::tools {
namespace {

struct Arguments {
  BenchArguments bench;
  OpsArguments ops;
  CalibrateArguments calibrate;
  TopologyBenchArguments topology;
  bool ceilings = false;
};

// "512" or "128,512,1024".
CLI::Option* add_list(CLI::App& app, const char* names, std::vector<int>& values, const char* text, int least, int most) {
  return app.add_option(names, values, text)->delimiter(',')->check(CLI::Range(least, most))->capture_default_str();
}

void add_options(Program& program, Arguments& a) {
  CLI::App& app = program.app();
  constexpr int kMost = 1 << 24;
  add_model_options(app, a.bench.model, false);
  add_list(app, "-p,--n-prompt", a.bench.n_prompt, "tokens of a prompt; 0: no such test", 0, kMost);
  add_list(app, "-n,--n-gen", a.bench.n_gen, "tokens to generate; 0: no such test", 0, kMost);
  add_list(app, "-d,--n-depth", a.bench.n_depth, "tokens in the context before a test begins", 0, kMost);
  add_list(app, "-b,--batch", a.bench.n_batch, "most tokens evaluated at once", 1, kMost);
  app.remove_option(app.get_option("--threads"));  // here it is a list
  add_list(app, "-t,--threads", a.bench.n_threads, "threads; default: one for each physical core this process may use", 1,
           1024);
  app.add_option("-r,--repetitions", a.bench.repetitions, "measured runs of each test, after one to warm up")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--seqs", a.bench.n_seqs, "sequences that generate together")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_flag("--profile", a.bench.profile, "where the time goes: each op's share, GB/s and GMAC/s against the ceilings");
  app.add_option("-o,--output", a.bench.format, "md, json or csv")
      ->check(CLI::IsMember({"md", "json", "csv"}))
      ->capture_default_str();
  app.add_option("--vs", a.bench.peers,
                 "NAME=COMMAND, repeatable: a peer's llama-bench or llama-sweep-bench, run in turns with ours");
  app.add_flag("--vs-may-fail", a.bench.peers_may_fail, "warn where a peer fails and go on without it");
  app.add_flag("--ceilings", a.ceilings, "measure the machine's memory and arithmetic instead of a model");
  add_topology_options(app, a.bench.model);
  CLI::App* ops = app.add_subcommand("ops", "measure each kernel instead of a model");
  ops->add_option("--isa", a.ops.isa, "kernels to measure; default: the best this processor has");
  ops->add_option("--filter", a.ops.filter, "only kernels whose name holds this, e.g. dot_q4_k");
  add_calibrate_command(app, a.calibrate);
  add_topology_bench_command(app, a.topology);
}

Status run(Program& program, Arguments& a) {
  if (program.app().got_subcommand("ops")) return bench_ops(program, a.ops);
  if (program.app().got_subcommand("calibrate")) {
    MOE_TRY(find_model(program, a.calibrate.model.path));
    return calibrate(program, a.calibrate);
  }
  if (program.app().got_subcommand("topology")) {
    MOE_TRY(find_model(program, a.topology.model.path));
    return bench_topology(program, a.topology);
  }
  if (a.ceilings) return print_ceilings(program, a.bench.model.isa, a.bench.n_threads);
  if (a.bench.model.path.empty()) usage_error("MODEL is required unless --ceilings or ops is given");
  if (program.json()) a.bench.format = "json";
  if (a.bench.profile && a.bench.format == "csv") usage_error("--profile: wanted -o md or json, found csv");
  if (a.bench.profile && !a.bench.peers.empty()) usage_error("--profile and --vs: wanted one of them");
  if (!a.bench.peers.empty() && a.bench.format == "csv") usage_error("--vs: wanted -o md or json, found csv");
  MOE_TRY(find_model(program, a.bench.model.path));
  MOE_TRY(pick_topology(program, a.bench.model));
  BenchReport report(a.bench);
  Status failed;
  const Status status = run_bench(program, a.bench, [&](const Model& model, const BenchResult& result) {
    if (failed.ok()) failed = report.add(model, result);
  });
  report.finish();
  return status.ok() ? failed : status;
}

}  // namespace
}  // namespace moe::tools

int main(int argc, char** argv) {
  using namespace moe::tools;
  Program program("moe-bench", "Speed of a model, of the machine below it, and of each kernel.");
  Arguments arguments;
  add_options(program, arguments);
  return program.run(argc, argv, [&] { return run(program, arguments); });
}
