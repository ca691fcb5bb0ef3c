#include "tests/evolution/planted.h"

#include <algorithm>

#include "core/rng.h"

namespace moe::test {
namespace {

constexpr int kKinds = 8, kWidth = 64, kVocabulary = 64, kDocument = 40;
constexpr float kLoud = 4;  // of a kind's own channel: the first eight of the residual stream

// Experts of each kind, the first choice first.
using Lines = std::vector<std::vector<int>>;
const Lines kFirstLayer = {{0, 1, 2}, {1, 0, 3}, {2, 4}, {3, 5}, {4, 5}, {5, 4}, {6, 4}, {7, 5}};
const Lines kSecondLayer = {{0, 1, 4}, {1, 0, 5}, {2, 3, 4}, {3, 2, 5}, {4, 5}, {5, 4}, {6, 4}, {7, 5}};

ModelFile plain_model() {
  ModelConfig c = tiny_config("qwen3moe");
  c.n_vocab = kVocabulary, c.n_expert_used = 1;
  ModelFile m = random_model(c, 5);
  Rng rng(9);
  std::vector<float>& embedding = m.tensor("token_embd.weight").values;  // (vocabulary, width)
  for (size_t i = 0; i < embedding.size(); ++i) {
    const size_t token = i / kWidth, channel = i % kWidth;
    if (channel < kKinds) {
      embedding[i] = channel == token % kKinds ? kLoud : 0;
    } else {
      embedding[i] = 0.5f * rng.normal();
    }
  }
  return m;
}

std::string block(int layer, const char* rest) { return "blk." + std::to_string(layer) + "." + rest; }

// Nothing that a layer adds changes a token's kind.
void guard_kinds(ModelFile& m, int layer) {
  std::fill_n(m.tensor(block(layer, "ffn_norm.weight")).values.begin(), kKinds, 1.0f);
  FileTensor& attention = m.tensor(block(layer, "attn_output.weight"));  // (width, heads)
  std::fill_n(attention.values.begin(), kKinds * attention.shape[1], 0.0f);
  FileTensor& down = m.tensor(block(layer, "ffn_down_exps.weight"));  // (experts, width, d_ff)
  const int64_t expert = down.shape[1] * down.shape[2];
  for (int64_t e = 0; e < down.shape[0]; ++e) std::fill_n(down.values.begin() + e * expert, kKinds * down.shape[2], 0.0f);
}

void line_up(ModelFile& m, int layer, const Lines& lines) {
  std::vector<float>& router = m.tensor(block(layer, "ffn_gate_inp.weight")).values;  // (experts, width)
  std::fill(router.begin(), router.end(), 0.0f);
  for (size_t kind = 0; kind < lines.size(); ++kind) {
    for (size_t e = 0; e < kKinds; ++e) router[e * kWidth + kind] = 0.01f * static_cast<float>(kKinds - e);
    for (size_t i = 0; i < lines[kind].size(); ++i)
      router[static_cast<size_t>(lines[kind][i]) * kWidth + kind] = 1 - 0.3f * static_cast<float>(i);
  }
}

template <class Edit>  // (float* expert's weights, expert, their number)
void edit_experts(ModelFile& m, const std::string& name, const Edit& edit) {
  FileTensor& t = m.tensor(name);
  const int64_t n = t.shape[1] * t.shape[2];
  for (int e = 0; e < kKinds; ++e) edit(t.values.data(), e, n);
}

void copy_expert(ModelFile& m, int layer, int from, int to) {
  for (const char* part : {"ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"})
    edit_experts(m, block(layer, part), [&](float* all, int e, int64_t n) {
      if (e == to) std::copy_n(all + from * n, n, all + to * n);
    });
}

void scale_expert(ModelFile& m, int layer, int expert, float by) {
  edit_experts(m, block(layer, "ffn_down_exps.weight"), [&](float* all, int e, int64_t n) {
    for (int64_t i = 0; e == expert && i < n; ++i) all[e * n + i] *= by;
  });
}

}  // namespace

ModelFile planted_model() {
  ModelFile m = plain_model();
  for (const int layer : {0, 1}) {
    guard_kinds(m, layer);
    line_up(m, layer, layer == 0 ? kFirstLayer : kSecondLayer);
    for (int e = 0; e < kKinds; ++e) scale_expert(m, layer, e, e < 6 ? 2.0f : 1.0f);  // P and Q half as long
  }
  copy_expert(m, 0, 0, 2), copy_expert(m, 0, 1, 3);
  scale_expert(m, 1, 0, 0), scale_expert(m, 1, 1, 0);
  copy_expert(m, 1, 2, 3);
  return m;
}

ModelFile identical_experts_model() {
  ModelFile m = plain_model();
  for (const int layer : {0, 1}) {
    guard_kinds(m, layer);
    line_up(m, layer, kFirstLayer);
    for (int e = 1; e < kKinds; ++e) copy_expert(m, layer, 0, e);
  }
  return m;
}

std::vector<TextDomain> planted_text(int n_documents) {
  constexpr int kShares[2][kKinds] = {{22, 22, 14, 14, 14, 14, 0, 0}, {18, 18, 12, 12, 10, 10, 10, 10}};  // of 100
  std::vector<TextDomain> domains = {{"plain", {}}, {"rare", {}}};
  Rng rng(17);
  for (size_t d = 0; d < 2; ++d) {
    for (int i = 0; i < n_documents; ++i) {
      std::vector<Token>& document = domains[d].documents.emplace_back();
      for (int t = 0; t < kDocument; ++t) {
        int kind = 0;
        for (auto left = static_cast<int>(rng.below(100)); left >= kShares[d][kind]; ++kind) left -= kShares[d][kind];
        document.push_back(static_cast<Token>(kind + kKinds * static_cast<int>(rng.below(kVocabulary / kKinds))));
      }
    }
  }
  return domains;
}

}  // namespace moe::test
