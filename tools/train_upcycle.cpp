#include "tools/train_upcycle.h"

#include <filesystem>
#include <nlohmann/json.hpp>

namespace moe::tools {

void add_upcycle_command(CLI::App& app, UpcycleArguments& a) {
  CLI::App* command =
      app.add_subcommand("upcycle", "a dense llama as a mixture of experts that computes the same, for run --init");
  command->add_option("DENSE", a.in, "GGUF file")->required();
  command->add_option("-o,--out", a.out, "GGUF file to write; experts are float32")->required();
  command->add_option("--copies", a.options.copies, "copies of each feed-forward layer")->capture_default_str();
  command->add_option("--used", a.options.used, "copies that a token uses")->capture_default_str();
  command->add_option("--slices", a.options.slices, "experts that a copy is cut into")->capture_default_str();
  command->add_option("--noise", a.options.noise, "added to all copies but the first, relative to the weights' deviation")
      ->capture_default_str();
}

Status run_upcycle(Program& program, const UpcycleArguments& a) {
  std::error_code none;
  if (std::filesystem::equivalent(a.in, a.out, none)) usage_error("--out is the dense model: " + a.out);
  UpcycleOptions options = a.options;
  options.seed = program.seed();
  MOE_ASSIGN(const GgufFile file, GgufFile::open(a.in));
  MOE_ASSIGN(const UpcyclePlan plan, plan_upcycle(file, options));
  ThreadPool pool(program.n_threads());
  catch_interrupts();
  {
    Progress progress("upcycle", static_cast<double>(plan.bytes), Progress::Unit::kBytes);
    MOE_TRY(write_upcycled(plan, pool, a.out, [&](uint64_t bytes, std::string_view tensor) {
      progress.update(static_cast<double>(bytes), tensor);
      return !interrupted();
    }));
  }
  const int experts = options.copies * options.slices;
  if (program.json())
    print_json({{"out", a.out},
                {"experts", experts},
                {"used", options.used * options.slices},
                {"bytes", plan.bytes},
                {"seed", options.seed}});
  else
    std::printf("# %s  %d experts a layer, %d used  %s\n", a.out.c_str(), experts, options.used * options.slices,
                format_bytes(static_cast<double>(plan.bytes)).c_str());
  return Status::Ok();
}

}  // namespace moe::tools
