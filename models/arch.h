// An architecture: how its metadata is read and how its graph is built. One file a row in archs/, one row in registry.cpp.
#pragma once

#include <functional>
#include <span>
#include <string_view>

#include "models/graph_builder.h"

namespace moe {

struct ArchDef {
  const char* name;         // general.architecture in the file
  const char* description;  // for moe-inspect and --help
  // Settles what the common keys leave open, and checks this architecture's own rules.
  Status (*configure)(ModelConfig& config, const std::string& source);
  // Appends the whole forward pass: tokens → logits.
  void (*build)(GraphBuilder& b);
  // A small model of this architecture for moe-inspect synth: its published proportions at a fraction of the size.
  ModelConfig (*example)();
};

std::span<const ArchDef> all_archs();
Result<const ArchDef*> find_arch(std::string_view name);  // kUnsupported lists the names there are

// The graph of a configured model. With a null source all weights are declared and none are bound (see GraphBuilder).
Result<ModelGraph> build_graph(const ModelConfig& config, const GraphOptions& options, WeightSource* source);

// The tensors that a new model of this configuration has, in file order.
Result<std::vector<DeclaredTensor>> declare_tensors(const ModelConfig& config);

// The decoder all architectures share: embedding, `layer` for each layer, final norm, output head (tied to the embedding when
// the file has none) on the rows asked for.
void build_decoder(GraphBuilder& b, const std::function<ValueId(ValueId x, int layer)>& layer);

}  // namespace moe
