// moe-quantize: writes a model with its weights in other storage formats, or the smaller model of a routing topology.
#include <cerrno>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "models/io/gguf_format.h"
#include "models/quantize.h"
#include "tools/common.h"
#include "tools/front_pick.h"
#include "tools/quantize_topology.h"
#include "tools/zoo.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string in, out, type, topology;
  FrontWish front;
  std::vector<std::string> rules;
  std::string output_type, embedding_type;
  bool pure = false, dry_run = false, allow_requantize = false;
};

std::string type_help() {
  std::string text = "format or mix: ";
  for (const QuantMixName& m : quant_mixes()) {
    text += (&m == &quant_mixes().front() ? "" : ", ") + std::string(m.name) +
            (*m.alias ? " (or " + std::string(m.alias) + ")" : "");
  }
  return text;
}

void add_options(CLI::App& app, Arguments& a) {
  app.add_option("IN", a.in, "GGUF file, or any part of a split one, or a name that moe-run --zoo lists")->required();
  app.add_option("OUT,-o,--out", a.out, "GGUF file to write; not needed with --dry-run");
  CLI::Option* type = app.add_option("--type", a.type, type_help());
  CLI::Option* topology = app.add_option("--topology", a.topology,
                                         "instead of --type: leave out what this routing topology (models/TOPOLOGY.md) does "
                                         "not use; weights that stay are copied as they are");
  app.add_option("--tensor", a.rules,
                 "PATTERN=FORMAT: tensors whose whole name matches get this format; * is any text, ? any character; "
                 "repeatable, the first match wins: --tensor '*.ffn_down_exps.weight=q6_k'")
      ->allow_extra_args(false);
  app.add_option("--output-type", a.output_type, "format of output.weight, or of the embedding where that is the output too");
  app.add_option("--embedding-type", a.embedding_type, "format of token_embd.weight");
  app.add_flag("--pure", a.pure, "no exceptions of the mix: one format for all matrices");
  app.add_flag("--dry-run", a.dry_run, "only show what would be written");
  app.add_flag("--allow-requantize", a.allow_requantize, "quantise what is quantised already, at the price of more error");
  add_front_options(app, a.front);
  CLI::Option* front = app.get_option("--front");
  topology->excludes(type)->excludes(front);
  front->excludes(type);
  for (const char* name : {"--tensor", "--output-type", "--embedding-type", "--pure", "--allow-requantize"})
    app.get_option(name)->needs(type);
  app.footer(
      "Norms, biases, routers and vectors stay as they are. A mix stores the tensors that suffer most with more bits, by the\n"
      "rules of llama.cpp; rows that a format cannot cut into whole blocks get the next larger format that fits.\n"
      "With --topology the file computes what the whole model computes under it, bit by bit: experts that no token can reach\n"
      "are gone, widths are cut, and what GGUF has no keys for goes into keys of ours. To quantise as well, run twice.");
}

DType weight_format(const char* option, const std::string& name) {
  const DType type = or_usage(option, parse_dtype(name));
  if (!traits(type).is_weight) usage_error(std::string(option) + ": " + traits(type).name + " is no format of weights");
  return type;
}

// Where to write, in every mode.
void check_out(const Arguments& a) {
  if (a.out.empty() && !a.dry_run) usage_error("OUT is required, unless --dry-run");
  std::error_code none;
  if (std::filesystem::equivalent(a.in, a.out, none)) usage_error("OUT is the same file as IN: " + a.out);
}

TypeChoiceOptions options_of(const Arguments& a) {
  TypeChoiceOptions o;
  o.mix = a.type;
  o.pure = a.pure;
  for (const std::string& rule : a.rules) o.rules.push_back(or_usage("--tensor", parse_tensor_rule(rule)));
  if (!a.output_type.empty()) o.output_type = weight_format("--output-type", a.output_type);
  if (!a.embedding_type.empty()) o.embedding_type = weight_format("--embedding-type", a.embedding_type);
  Metadata unused;
  if (Status s = set_file_type(a.type, unused); !s.ok()) usage_error("--type: " + s.message());
  check_out(a);
  return o;
}

double bits_a_weight(uint64_t bytes, int64_t elements) {
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(elements);
}

int64_t elements_of(const QuantizePlan::Step& s) {
  int64_t n = 1;
  for (const int64_t d : s.tensor->shape) n *= d;
  return n;
}

std::string type_name(DType t) { return traits(t).name; }

void print_table(const QuantizePlan& plan) {
  using enum Table::Align;
  Table table({kLeft, kLeft, kLeft, kLeft, kRight, kRight, kRight, kLeft});
  table.row({"tensor", "shape", "from", "to", "bytes before", "after", "bits/weight", ""});
  for (const QuantizePlan::Step& s : plan.steps) {
    table.row({printable(s.tensor->name), shape_text(s.tensor->shape), type_name(s.tensor->dtype), type_name(s.type),
               std::to_string(s.tensor->data.size()), std::to_string(s.bytes),
               format_fixed(bits_a_weight(s.bytes, elements_of(s)), 2), s.fallback});
  }
  table.row({"total", std::to_string(plan.steps.size()) + " tensors", "", "", std::to_string(plan.bytes_before),
             std::to_string(plan.bytes_after), format_fixed(bits_a_weight(plan.bytes_after, plan.elements), 2)});
  std::fputs(table.text().c_str(), stdout);
}

Json to_json(const QuantizePlan& plan, const Arguments& a, double seconds) {
  Json tensors = Json::array();
  for (const QuantizePlan::Step& s : plan.steps) {
    Json t = {{"name", s.tensor->name},
              {"shape", s.tensor->shape},
              {"from", type_name(s.tensor->dtype)},
              {"to", type_name(s.type)},
              {"bytes_before", s.tensor->data.size()},
              {"bytes_after", s.bytes}};
    if (!s.fallback.empty()) t["fallback"] = s.fallback;
    if (s.requantized) t["requantized"] = true;
    tensors.push_back(std::move(t));
  }
  Json json = {{"in", a.in},
               {"out", a.dry_run ? Json() : Json(a.out)},
               {"type", a.type},
               {"bytes_before", plan.bytes_before},
               {"bytes_after", plan.bytes_after},
               {"bits_per_weight", bits_a_weight(plan.bytes_after, plan.elements)}};
  if (!a.dry_run) json["seconds"] = seconds;
  json["tensors"] = std::move(tensors);
  return json;
}

// "q4_k 12, q6_k 3, f32 40"
std::string type_counts(const QuantizePlan& plan) {
  std::map<DType, int> counts;
  for (const QuantizePlan::Step& s : plan.steps) ++counts[s.type];
  std::string text;
  for (const auto& [type, n] : counts) text += (text.empty() ? "" : ", ") + type_name(type) + " " + std::to_string(n);
  return text;
}

void print_summary(const QuantizePlan& plan, const Arguments& a, double seconds) {
  const double before = static_cast<double>(plan.bytes_before), after = static_cast<double>(plan.bytes_after);
  std::printf("# %s  %s -> %s (%s%%)  %s -> %s bits/weight  tensors: %s  %s, %s/s\n", a.type.c_str(),
              format_bytes(before).c_str(), format_bytes(after).c_str(), format_fixed(100 * after / before, 1).c_str(),
              format_fixed(bits_a_weight(plan.bytes_before, plan.elements), 2).c_str(),
              format_fixed(bits_a_weight(plan.bytes_after, plan.elements), 2).c_str(), type_counts(plan).c_str(),
              format_duration(seconds).c_str(), format_bytes(before / seconds).c_str());
}

// One line for each reason, so that a model of many layers does not hide it.
void warn_of(const QuantizePlan& plan, const Program& program) {
  struct Group {
    std::string first;
    int n = 0;
  };
  std::map<std::string, Group> fallbacks;
  size_t again = 0;
  for (const QuantizePlan::Step& s : plan.steps) {
    again += s.requantized;
    if (s.fallback.empty()) continue;
    Group& g = fallbacks[s.fallback + "; becomes " + type_name(s.type)];
    if (g.n++ == 0) g.first = printable(s.tensor->name);
  }
  for (const auto& [reason, g] : fallbacks) {
    std::string text = "tensor '" + g.first + "'";
    if (g.n > 1) text.append(" and ").append(std::to_string(g.n - 1)).append(" more");
    program.warn(text.append(": ").append(reason));
  }
  if (again > 0) program.warn(std::to_string(again) + " tensors were quantised already: their errors add up");
}

Status refuse_requantizing(const GgufFile& file, const QuantizePlan& plan) {
  for (const QuantizePlan::Step& s : plan.steps) {
    if (!s.requantized) continue;
    return Status::InvalidArgument(file.name() + ": tensor '" + printable(s.tensor->name) +
                                   "' is quantised already: " + type_name(s.tensor->dtype) + " made " + type_name(s.type) +
                                   " adds error to error\n  start from the original weights, or say --allow-requantize");
  }
  return Status::Ok();
}

Result<double> write(const GgufFile& file, const QuantizePlan& plan, const Program& program, const std::string& out) {
  const auto start = std::chrono::steady_clock::now();
  catch_interrupts();
  ThreadPool pool(program.n_threads());
  Progress progress("quantize", static_cast<double>(plan.bytes_after), Progress::Unit::kBytes);
  uint64_t done = 0;
  MOE_TRY(write_quantized(file, plan, pool, out, [&](uint64_t bytes, std::string_view tensor) {
    progress.update(static_cast<double>(done += bytes), tensor);
    return !interrupted();
  }));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A topology of the front's, whose file is written.
Status pick_topology(const Program& program, Arguments& a) {
  if (a.front.front.empty()) return Status::Ok();
  MOE_ASSIGN(const FrontChoice choice, pick_from_front(program, a.front));
  if (choice.topology.empty())
    return Status::InvalidArgument(a.front.front + ": the full model satisfies this; there is nothing to leave out of " + a.in);
  a.topology = choice.topology;
  return Status::Ok();
}

Status quantize(const Program& program, Arguments& a) {
  if (a.type.empty() && a.topology.empty() && a.front.front.empty()) usage_error("--type, --topology or --front is required");
  if (a.type.empty()) {
    MOE_TRY(find_model(program, a.in));
    check_out(a);
    MOE_TRY(pick_topology(program, a));
    return write_by_topology(program, {a.in, a.out, a.topology, a.dry_run});
  }
  const TypeChoiceOptions options = options_of(a);
  MOE_TRY(find_model(program, a.in));
  MOE_ASSIGN(const GgufFile file, GgufFile::open(a.in));
  MOE_ASSIGN(const QuantizePlan plan, plan_quantize(file, options));
  if (!a.allow_requantize) MOE_TRY(refuse_requantizing(file, plan));
  warn_of(plan, program);
  double seconds = 0;
  if (!a.dry_run) {
    MOE_ASSIGN(seconds, write(file, plan, program, a.out));
  }
  if (program.json())
    print_json(to_json(plan, a, seconds));
  else if (a.dry_run)
    print_table(plan);
  else
    print_summary(plan, a, seconds);
  return Status::Ok();
}

}  // namespace
}  // namespace moe::tools

int main(int argc, char** argv) {
  using namespace moe::tools;
  Program program(
      "moe-quantize",
      "Writes a model again: its weights in other storage formats, or without the experts that a topology leaves out.");
  Arguments arguments;
  add_options(program.app(), arguments);
  return program.run(argc, argv, [&] { return quantize(program, arguments); });
}
