// The options of every program that evaluates a model, declared once: the file, its backend, cache and routing topology.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "models/model.h"
#include "tools/common.h"
#include "tools/front_pick.h"

namespace moe::tools {

inline constexpr int kMostExperts = 1 << 16;  // that an option may ask for; validate() knows how many there are

struct ModelArguments {
  std::string path;
  std::string isa;
  bool exact = false;
  std::string cache_type = "auto";

  std::string topology;  // file
  FrontWish front;       // instead of it
  std::optional<uint64_t> front_model;
  std::optional<int> experts;
  std::optional<float> threshold;
  std::optional<double> width;
};

// MODEL, --isa, --exact, --cache-type; MODEL may be missing unless `required`.
void add_model_options(CLI::App& app, ModelArguments& arguments, bool required = true);
// --topology, --experts, --expert-threshold, --width; --front and what belongs to it.
void add_topology_options(CLI::App& app, ModelArguments& arguments);

// The --cache-type of that name; none for auto.
Result<std::optional<DType>> parse_cache_type(const std::string& name);

// Opens the model with `program`'s threads, or with n_threads of them.
Result<std::unique_ptr<Model>> load_model(const Program& program, const ModelArguments& arguments, int n_threads = 0);

// With --front: chooses its point, says so, and makes that the --topology. Before the functions below.
Status pick_topology(const Program& program, ModelArguments& arguments);

// The topology in a file, valid for the model; errors say where to read more.
Result<RoutingTopology> read_topology(const Model& model, const std::string& path);
// The topology that the options describe: the file's, or the model's own, then edited by the others. Valid for the model.
Result<RoutingTopology> make_topology(const Model& model, const ModelArguments& arguments);
// "k 4, threshold 0.2", or "" when no option changes the routing.
std::string topology_text(const ModelArguments& arguments);

// "olmoe 6.92 B q8_0": architecture, parameters and the format of most weights.
std::string model_type(const GgufFile& file, const std::string& arch);
int64_t parameter_count(const GgufFile& file);
size_t weight_bytes(const GgufFile& file);

}  // namespace moe::tools
