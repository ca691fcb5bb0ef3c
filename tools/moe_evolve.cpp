// moe-evolve: searches for routing topologies that make a model smaller and faster at the same quality.
#include <cstring>

#include "tools/evolve_report.h"
#include "tools/evolve_run.h"
#include "tools/xz_source.h"
#include "tools/yaml_leaves.h"
#include "tools/zoo.h"

namespace moe::tools {
namespace {

struct RunArguments {
  EvolveRunOptions options;
  std::string config, objectives;
  std::vector<std::string> texts, set, limits, devices;
  std::vector<std::pair<std::string, std::string>> settings;  // those with an option of their own
  bool describe = false;
};

// Options that are settings under a shorter name.
struct Shortcut {
  const char *option, *setting, *help;
};
constexpr Shortcut kShortcuts[] = {
    {"-o,--out", "out", "folder for journal, front and topologies"},
    {"--kept", "constraints.kept", "experts kept in all: 50%, 64, 25%-50%"},
    {"--active", "constraints.active", "experts a token uses, summed over layers: 75%, 24, 50%-75%"},
    {"--algorithm", "evolution.algorithm", "nsga2, nsga3; of one objective: genetic, level-switch"},
    {"--population", "evolution.population_size", "candidates of a generation"},
    {"--generations", "evolution.generations", "generations; default: 50, unless something else ends it"},
    {"--budget", "stop.budget", "ends it after so many token · layer forwards"},
    {"--time", "stop.seconds", "ends it after so many seconds"},
    {"--stagnation", "stop.stagnation", "ends it after so many generations without a gain of 0.1 %"},
    {"--layout", "text.layout", "document of a JSON object of .jsonl files: 'Q: {question}\\nA: {answer}'"},
};

void add_run_command(CLI::App& app, RunArguments& a) {
  CLI::App* run = app.add_subcommand("run", "searches; the word may be left out");
  add_model_options(*run, a.options.model, false);
  run->add_option("-f,--file", a.texts,
                  "NAME=FILE, a kind of text that the model is for: plain, .jsonl, .xz, or tokens; repeatable")
      ->allow_extra_args(false);
  run->add_option("--config", a.config, "evolution.yaml; --describe lists what it may hold");
  run->add_option("--set", a.set, "a setting of the file, after it: --set evolution.keep=0.25; repeatable")
      ->allow_extra_args(false);
  run->add_option("--objectives", a.objectives, "what should be small or large, comma between; default: kl,bytes-per-token");
  run->add_option("--limit", a.limits, "OBJECTIVE=VALUE, what misses it goes behind what keeps it; repeatable")
      ->allow_extra_args(false);
  run->add_option(
         "--device-profile", a.devices,
         "edge, mobile, server, or a file of moe-bench calibrate: its memory and latency are limits; repeatable, a front "
         "for each")
      ->allow_extra_args(false);
  for (const Shortcut& s : kShortcuts)
    run->add_option_function<std::string>(
           s.option, [&a, setting = s.setting](const std::string& value) { a.settings.emplace_back(setting, value); }, s.help)
        ->take_last();
  run->add_flag_callback(
      "--widths", [&a] { a.settings.emplace_back("constraints.widths", "true"); }, "experts may run narrower");
  run->add_flag("--resume", a.options.resume, "goes on from the folder's journal: the same front as if it had never stopped");
  run->add_flag("--overwrite", a.options.overwrite, "begins anew where the folder holds a run")->excludes("--resume");
  run->add_flag("--describe", a.describe, "prints every setting with its default, as YAML, and ends");
}

void add_objectives(const std::string& names, std::vector<ConfigEntry>& entries) {
  entries.push_back({"objectives", "", "--objectives"});
  size_t begin = 0;
  for (int i = 0; begin <= names.size(); ++i) {
    const size_t end = std::min(names.find(',', begin), names.size());
    entries.push_back({"objectives." + std::to_string(i) + ".name", names.substr(begin, end - begin), "--objectives"});
    begin = end + 1;
  }
}

void add_texts(const std::vector<std::string>& texts, std::vector<ConfigEntry>& entries) {
  if (!texts.empty()) entries.push_back({"texts", "", "-f"});
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string item = "texts." + std::to_string(i);
    const size_t at = texts[i].find('=');
    const std::string file = at == std::string::npos ? texts[i] : texts[i].substr(at + 1);
    const std::string stem = file.substr(file.find_last_of('/') + 1);
    entries.push_back(
        {item + ".name", at == std::string::npos ? stem.substr(0, stem.find('.')) : texts[i].substr(0, at), "-f"});
    entries.push_back({item + ".file", file, "-f"});
  }
}

Status run_command(Program& program, RunArguments& a) {
  if (a.describe) {
    std::printf("%s", describe_evolve_config().c_str());
    return Status::Ok();
  }
  if (a.options.model.path.empty()) usage_error("MODEL is required");
  std::vector<ConfigEntry> entries;
  if (!a.config.empty()) {
    MOE_ASSIGN(entries, read_yaml(a.config));
  }
  add_texts(a.texts, entries);
  if (!a.objectives.empty()) add_objectives(a.objectives, entries);
  std::string devices;
  for (const std::string& name : a.devices) devices += (devices.empty() ? "" : ",") + name;
  if (!devices.empty()) entries.push_back({"device", devices, "--device-profile"});
  for (const auto& [name, value] : a.settings) entries.push_back({name, value, name});
  for (const std::string& text : a.limits) {
    ConfigEntry limit = or_usage("--limit", parse_set(text));
    entries.push_back({"limits." + limit.name, limit.value, "--limit"});
  }
  for (const std::string& text : a.set) entries.push_back(or_usage("--set", parse_set(text)));
  const bool seeded = std::any_of(entries.begin(), entries.end(), [](const ConfigEntry& e) { return e.name == "seed"; });
  if (program.common().seed || !seeded) entries.push_back({"seed", std::to_string(program.seed()), "--seed"});
  const EvolveConfig config = or_usage("run", read_evolve_config(entries));
  for (const std::string& warning : warnings_of(config)) program.warn(warning);
  MOE_TRY(find_model(program, a.options.model.path));
  catch_interrupts();
  return run_evolution(program, config, a.options);
}

}  // namespace
}  // namespace moe::tools

int main(int argc, char** argv) {
  using namespace moe::tools;
  Program program("moe-evolve", "Searches for routing topologies that make a model smaller and faster at the same quality.");
  CLI::App& app = program.app();
  RunArguments run;
  ReportArguments report;
  run.options.open = open_text_source;
  app.require_subcommand(1);
  add_run_command(app, run);
  add_report(app, report);
  // moe-evolve MODEL …: the word `run` may be left out.
  std::vector<const char*> words(argv, argv + argc);
  const auto is_command = [](const char* word) { return std::strcmp(word, "run") == 0 || std::strcmp(word, "report") == 0; };
  if (argc > 1 && argv[1][0] != '-' && !is_command(argv[1])) words.insert(words.begin() + 1, "run");
  return program.run(static_cast<int>(words.size()), words.data(), [&] {
    return app.got_subcommand("report") ? report_command(program, report) : run_command(program, run);
  });
}
