// moe-inspect: looks into model files, and makes small ones.
#include "models/arch.h"
#include "models/quant_mix.h"
#include "models/synth.h"
#include "tools/inspect.h"
#include "tools/zoo.h"

namespace moe::tools {
namespace {

struct Arguments {
  ModelArguments model;
  bool full = false;
  TokenizeArguments tokenize;
  DetokenizeArguments detokenize;
  GraphArguments graph;
  TopologyArguments topology;
  SynthArguments synth;
};

template <class Items, class Name>
std::string list(const Items& items, Name name) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + std::string(name(item));
  return text;
}

void add_text_commands(CLI::App& app, Arguments& a) {
  CLI::App* tokenize = app.add_subcommand("tokenize", "text to token ids, on one line");
  tokenize->add_option("-f,--file", a.tokenize.file, "file with the text; - is standard input");
  tokenize->add_option("-p,--prompt", a.tokenize.text, "the text")->each([&](const std::string&) {
    a.tokenize.has_text = true;
  });
  tokenize->add_flag("--special", a.tokenize.special, "the texts of control tokens become those tokens");
  tokenize->add_flag("--bos", a.tokenize.bos, "begin with the begin-of-sequence token");

  CLI::App* detokenize = app.add_subcommand("detokenize", "token ids to text");
  detokenize->add_option("IDS", a.detokenize.ids, "token ids")->expected(-1);
  detokenize->add_option("-f,--file", a.detokenize.file, "file with ids; - is standard input");
  detokenize->add_flag("--special", a.detokenize.special, "show control tokens");
}

void add_model_commands(CLI::App& app, Arguments& a) {
  CLI::App* graph = app.add_subcommand("graph", "the forward pass, one line an op");
  graph->add_flag("--costs", a.graph.costs, "FLOPs and bytes of every op");
  graph->add_flag("--unfused", a.graph.unfused, "fused ops taken apart");
  graph->add_option("--ctx", a.graph.ctx, "positions of the cache, all of them in use for --costs")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  graph->add_option("--tokens", a.graph.tokens, "tokens of the batch for --costs")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();

  CLI::App* topology = app.add_subcommand("topology", "the routing topology as JSON, or what one saves");
  topology->add_option("-o,--out", a.topology.out, "write it to this file instead of stdout");
  CLI::Option* validate = topology->add_option("--validate", a.topology.validate, "check this topology against the model");
  topology->add_option("--topology", a.model.topology, "start from this one instead of the full one")->excludes(validate);
  topology->add_option("--experts", a.model.experts, "experts a token uses in every layer")
      ->check(CLI::Range(1, kMostExperts))
      ->excludes(validate);
  topology->add_option("--threshold", a.model.threshold, "drop experts whose score is below this share of the best one's")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(validate);
  topology->add_option("--width", a.model.width, "share of each expert's hidden channels that runs")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(validate);

  app.add_subcommand("check", "look for weights that are no finite numbers");
}

void add_synth_command(CLI::App& app, Arguments& a) {
  CLI::App* synth = app.add_subcommand("synth", "write a model with random weights: moe-inspect synth -o FILE");
  synth->add_option("-o,--out,OUT", a.synth.out, "GGUF file to write");
  synth->add_option("--arch", a.synth.arch, list(all_archs(), [](const ArchDef& d) { return d.name; }))->capture_default_str();
  synth->add_option("--type", a.synth.type, list(quant_mixes(), [](const QuantMixName& m) { return m.name; }))
      ->capture_default_str();
  synth->add_option("--vocab-from", a.synth.vocab_from, "borrow the tokenizer of this GGUF file; default: one token a byte");
  synth->add_option("--set", a.synth.settings,
                    "NAME=VALUE, repeatable: " + list(config_names(), [](const std::string& n) { return n; }));
  synth->footer("The seed is 0 unless --seed says otherwise; equal seeds give equal files.");
}

struct Command {
  const char* name;
  bool needs_model;
  Status (*run)(const Program&, const Arguments&);
};
constexpr Command kCommands[] = {
    {"keys", true, [](const Program& p, const Arguments& a) { return inspect_keys(p, a.model.path, a.full); }},
    {"tensors", true, [](const Program& p, const Arguments& a) { return inspect_tensors(p, a.model.path); }},
    {"tokenize", true, [](const Program& p, const Arguments& a) { return inspect_tokenize(p, a.model.path, a.tokenize); }},
    {"detokenize", true,
     [](const Program& p, const Arguments& a) { return inspect_detokenize(p, a.model.path, a.detokenize); }},
    {"graph", true, [](const Program& p, const Arguments& a) { return inspect_graph(p, a.model, a.graph); }},
    {"topology", true, [](const Program& p, const Arguments& a) { return inspect_topology(p, a.model, a.topology); }},
    {"check", true, [](const Program& p, const Arguments& a) { return inspect_check(p, a.model); }},
    {"synth", false, [](const Program& p, const Arguments& a) { return inspect_synth(p, a.synth); }},
};

void add_options(CLI::App& app, Arguments& a) {
  app.add_option("MODEL", a.model.path, "GGUF file, or any part of a split one, or a name that moe-run --zoo lists");
  app.require_subcommand(0, 1);
  app.add_subcommand("keys", "all metadata")->add_flag("--full", a.full, "whole values, however long");
  app.add_subcommand("tensors", "names, types and shapes (outermost extent first)");
  add_text_commands(app, a);
  add_model_commands(app, a);
  add_synth_command(app, a);
  app.footer("Without a command: a summary. A command's own options: moe-inspect COMMAND --help");
}

Status inspect(Program& program, Arguments& a) {
  const bool has_model = !a.model.path.empty();
  for (const Command& c : kCommands) {
    if (!program.app().got_subcommand(c.name)) continue;
    if (c.needs_model && !has_model) usage_error("MODEL is required");
    if (!c.needs_model && has_model) usage_error(std::string(c.name) + ": takes no MODEL, found " + a.model.path);
    MOE_TRY(find_model(program, a.model.path));
    return c.run(program, a);
  }
  if (!has_model) usage_error("MODEL is required");
  MOE_TRY(find_model(program, a.model.path));
  return inspect_summary(program, a.model.path);
}

}  // namespace
}  // namespace moe::tools

int main(int argc, char** argv) {
  using namespace moe::tools;
  Program program("moe-inspect", "Shows what is in a model file.");
  Arguments arguments;
  add_options(program.app(), arguments);
  return program.run(argc, argv, [&] { return inspect(program, arguments); });
}
