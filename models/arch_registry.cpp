// The table of architectures.
#include "models/arch.h"
#include "models/archs/archs.h"

namespace moe {

std::span<const ArchDef> all_archs() {
  static constexpr const ArchDef* kArchs[] = {&kLlamaArch,      &kOlmoeArch,  &kQwen2MoeArch, &kQwen3MoeArch,
                                              &kGraniteMoeArch, &kGptOssArch, &kDeepseek2Arch};
  static const std::vector<ArchDef> table = [] {
    std::vector<ArchDef> t;
    for (const ArchDef* a : kArchs) t.push_back(*a);
    return t;
  }();
  return table;
}

Result<const ArchDef*> find_arch(std::string_view name) {
  std::string known;
  for (const ArchDef& a : all_archs()) {
    if (name == a.name) return &a;
    known += (known.empty() ? "" : ", ") + std::string(a.name);
  }
  return Status::Unsupported("architecture '" + std::string(name) + "'; known: " + known);
}

Result<ModelGraph> build_graph(const ModelConfig& config, const GraphOptions& options, WeightSource* source) {
  MOE_ASSIGN(const ArchDef* arch, find_arch(config.arch));
  GraphBuilder b(config, options, source);
  arch->build(b);
  MOE_TRY(b.status());
  return std::move(b.model());
}

Result<std::vector<DeclaredTensor>> declare_tensors(const ModelConfig& config) {
  MOE_ASSIGN(const ArchDef* arch, find_arch(config.arch));
  GraphBuilder b(config, {}, nullptr);
  arch->build(b);
  MOE_TRY(b.status());
  return b.declared();
}

void build_decoder(GraphBuilder& b, const std::function<ValueId(ValueId, int)>& layer) {
  const ModelConfig& c = b.config();
  const ValueId table = b.matrix("token_embd.weight", {c.n_vocab, c.d_model}, Presence::kRequired, Role::kEmbedding);
  ValueId x = b.op(Op::kEmbed, {table, b.model().tokens});
  if (c.embedding_scale != 0) x = b.scale(x, c.embedding_scale);
  for (int i = 0; i < c.n_layer; ++i) {
    b.set_layer(i);
    b.model().residual.push_back(x);
    x = layer(x, i);
  }
  b.set_layer(-1);
  x = b.op(Op::kSelectRows, {x, b.model().rows});
  x = b.rms_norm(x, b.vector("output_norm.weight", c.d_model, Role::kNorm), c.d_model);
  const ValueId head = b.matrix("output.weight", {c.n_vocab, c.d_model}, Presence::kUsual);
  b.model().hidden = x, b.model().head = head == kNone ? table : head;
  ValueId logits = b.linear(x, b.model().head);
  if (c.logit_scale != 0) logits = b.scale(logits, 1 / c.logit_scale);
  b.mark_output(logits, "logits");
  b.model().logits = logits;
}

}  // namespace moe
