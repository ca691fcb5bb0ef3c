// moe-train: vocabularies and token files from text, models from those, pictures of how it went.
#include <filesystem>

#include "tools/train_corpus.h"
#include "tools/train_export.h"
#include "tools/train_plot.h"
#include "tools/train_run.h"
#include "tools/train_upcycle.h"
#include "tools/xz_source.h"
#include "tools/yaml_leaves.h"

namespace moe::tools {
namespace {

struct RunArguments {
  std::string config, out, init, teacher;
  std::vector<std::string> set;
  int64_t steps = 0;
  bool describe = false;
  TrainRunOptions options;
};

void add_run_command(CLI::App& app, RunArguments& a) {
  CLI::App* run = app.add_subcommand("run", "trains a model: a new one, or a file further");
  run->add_option("--config", a.config, "run.yaml; --describe lists what it may hold");
  run->add_option("--set", a.set, "a setting of the file, after it: --set train.rate=0.001; repeatable")
      ->allow_extra_args(false);
  run->add_option("--steps", a.steps, "train.steps")->check(CLI::PositiveNumber);
  run->add_option("--init", a.init, "GGUF file to go on from");
  run->add_option("--teacher", a.teacher, "bigger model of the same vocabulary to learn from");
  run->add_option("-o,--out", a.out, "folder for checkpoint, log and samples");
  run->add_flag("--resume", a.options.resume, "goes on from the folder's checkpoint, bit for bit");
  run->add_flag("--overwrite", a.options.overwrite, "begins anew where the folder holds a run")->excludes("--resume");
  run->add_flag("--describe", a.describe, "prints every setting with its default, as YAML, and ends");
}

Status run_command(Program& program, const RunArguments& a) {
  if (a.describe) {
    std::printf("%s", describe_run_config().c_str());
    return Status::Ok();
  }
  std::vector<ConfigEntry> entries;
  if (!a.config.empty()) {
    MOE_ASSIGN(entries, read_yaml(a.config));
  }
  if (a.steps > 0) entries.push_back({"train.steps", std::to_string(a.steps), "--steps"});
  if (!a.init.empty()) entries.push_back({"init", a.init, "--init"});
  if (!a.teacher.empty()) entries.push_back({"teacher", a.teacher, "--teacher"});
  if (!a.out.empty()) entries.push_back({"out", a.out, "--out"});
  if (program.common().seed) entries.push_back({"seed", std::to_string(*program.common().seed), "--seed"});
  for (const std::string& text : a.set) entries.push_back(or_usage("--set", parse_set(text)));
  const RunConfig config = or_usage("run", read_run_config(entries));
  catch_interrupts();
  return run_training(program, config, a.options);
}

}  // namespace
}  // namespace moe::tools

int main(int argc, char** argv) {
  using namespace moe::tools;
  Program program("moe-train", "Trains models, and makes the vocabularies and token files that training needs.");
  CLI::App& app = program.app();
  CorpusArguments corpus;
  corpus.text.open = open_text_source;
  RunArguments run;
  ExportArguments exported;
  PlotArguments plot;
  UpcycleArguments upcycle;
  app.require_subcommand(1);
  add_corpus_commands(app, corpus);
  add_run_command(app, run);
  add_export_command(app, exported);
  add_plot(app, plot);
  add_upcycle_command(app, upcycle);
  return program.run(argc, argv, [&] {
    if (app.got_subcommand("run")) return run_command(program, run);
    if (app.got_subcommand("export")) return run_export(program, exported);
    if (app.got_subcommand("upcycle")) return run_upcycle(program, upcycle);
    if (app.got_subcommand("plot")) return plot_log(program, plot);
    return run_corpus_command(program, corpus);
  });
}
