#include "tools/train_export.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/model.h"
#include "models/quantize.h"

namespace moe::tools {
namespace {

// Selection biases decide which experts a token gets, so they are part of the model. Architectures without a tensor for them
// get a topology beside the file.
Result<std::string> write_biases(const GgufFile& checkpoint, const std::string& out, const BackendOptions& backend) {
  if (!checkpoint.metadata().has("moe.train.selection_bias")) return std::string();
  MOE_ASSIGN(const std::vector<float> biases, checkpoint.metadata().get_array<float>("moe.train.selection_bias"));
  if (std::all_of(biases.begin(), biases.end(), [](float b) { return b == 0; })) return std::string();
  ModelOptions o;
  o.backend_options = backend;
  MOE_ASSIGN(const std::unique_ptr<Model> model, Model::load(out, o));
  RoutingTopology topology = full_topology(model->routing_shape());
  auto from = biases.begin();
  for (LayerRouting& layer : topology.layers) {
    if (biases.end() - from < layer.n_experts)
      return Status::Corrupt(checkpoint.name() + ": key 'moe.train.selection_bias' has too few numbers");
    layer.bias.assign(from, from + layer.n_experts);
    from += layer.n_experts;
  }
  topology.note = "selection biases of training";
  std::filesystem::path path = out;
  path.replace_extension(".topology.json");
  MOE_TRY(save_topology(topology, path.string()));
  return path.string();
}

}  // namespace

void add_export_command(CLI::App& app, ExportArguments& a) {
  CLI::App* command = app.add_subcommand("export", "the model of a checkpoint as a file that moe-run and other engines run");
  command->add_option("CHECKPOINT", a.in, "checkpoint.gguf of a run")->required();
  command->add_option("-o,--out", a.out, "file to write")->required();
  command->add_option("--type", a.type, "format of the weights: f32, f16, q8_0, q4_k_m … as moe-quantize has them")
      ->capture_default_str();
}

Status run_export(Program& program, const ExportArguments& a) {
  std::error_code none;
  if (std::filesystem::equivalent(a.in, a.out, none)) usage_error("--out is the checkpoint: " + a.out);
  TypeChoiceOptions o;
  o.mix = a.type;
  Metadata unused;
  if (const Status s = set_file_type(a.type, unused); !s.ok()) usage_error("--type: " + s.message());
  MOE_ASSIGN(const GgufFile file, GgufFile::open(a.in));
  MOE_ASSIGN(const QuantizePlan plan, plan_quantize(file, o));
  ThreadPool pool(program.n_threads());
  catch_interrupts();
  {
    Progress progress("export", static_cast<double>(plan.bytes_after), Progress::Unit::kBytes);
    MOE_TRY(write_quantized(file, plan, pool, a.out, [&](uint64_t bytes, std::string_view tensor) {
      progress.update(static_cast<double>(bytes), tensor);
      return !interrupted();
    }));
  }
  MOE_ASSIGN(const std::string topology, write_biases(file, a.out, program.backend_options()));
  if (program.json()) {
    nlohmann::ordered_json json = {{"out", a.out}, {"type", a.type}, {"bytes", plan.bytes_after}, {"elements", plan.elements}};
    if (!topology.empty()) json["topology"] = topology;
    print_json(json);
  } else {
    std::printf("# %s  %s weights  %s%s\n", a.out.c_str(), format_count(static_cast<double>(plan.elements)).c_str(),
                format_bytes(static_cast<double>(plan.bytes_after)).c_str(),
                topology.empty() ? "" : ("  run it with --topology " + topology).c_str());
  }
  return Status::Ok();
}

}  // namespace moe::tools
