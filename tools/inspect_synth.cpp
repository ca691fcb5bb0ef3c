// A model out of nothing but a seed.
#include <nlohmann/json.hpp>

#include "models/routing.h"
#include "models/synth.h"
#include "tools/inspect.h"

namespace moe::tools {
namespace {

Result<SynthPlan> make_plan(const Program& program, const SynthArguments& a) {
  SynthOptions o;
  o.arch = a.arch;
  o.settings = a.settings;
  o.type = a.type;
  o.seed = program.common().seed.value_or(0);
  Metadata vocabulary;
  if (!a.vocab_from.empty()) {
    MOE_ASSIGN(const GgufFile file, GgufFile::open(a.vocab_from));
    vocabulary = file.metadata();
    o.vocabulary = &vocabulary;
  }
  // What can go wrong from here on was said on the command line.
  auto plan = plan_synth(o);
  if (!plan.ok() && plan.status().code() != StatusCode::kNotFound) usage_error("synth: " + plan.status().message());
  return plan;
}

}  // namespace

Status inspect_synth(const Program& program, const SynthArguments& a) {
  if (a.out.empty()) usage_error("synth: wanted the file to write, -o FILE");
  MOE_ASSIGN(const SynthPlan plan, make_plan(program, a));
  const auto start = std::chrono::steady_clock::now();
  catch_interrupts();
  {
    ThreadPool pool(program.n_threads());
    Progress progress("synth", static_cast<double>(plan.bytes), Progress::Unit::kBytes);
    uint64_t done = 0;
    MOE_TRY(write_synth(plan, pool, a.out, [&](uint64_t bytes, std::string_view tensor) {
      progress.update(static_cast<double>(done += bytes), tensor);
      return !interrupted();
    }));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  MOE_ASSIGN(const GgufFile file, GgufFile::open(a.out));
  const std::string hash = hash_to_hex(file.content_hash());
  if (program.json()) {
    print_json({{"file", a.out},
                {"arch", a.arch},
                {"type", a.type},
                {"seed", plan.seed},
                {"parameters", plan.elements},
                {"file_bytes", file.file_bytes()},
                {"n_vocab", plan.config.n_vocab},
                {"hash", hash},
                {"seconds", seconds}});
  } else {
    std::printf("# %s  %s  %s parameters, %s as %s  seed %llu  hash %s  %s\n", a.out.c_str(), a.arch.c_str(),
                format_count(static_cast<double>(plan.elements)).c_str(),
                format_bytes(static_cast<double>(file.file_bytes())).c_str(), a.type.c_str(),
                static_cast<unsigned long long>(plan.seed), hash.c_str(), format_duration(seconds).c_str());
  }
  return Status::Ok();
}

}  // namespace moe::tools
