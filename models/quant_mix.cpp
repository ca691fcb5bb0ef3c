// The recipes as a table: for each group of tensors, the layers that get another type than the base.
#include "models/quant_mix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <numeric>
#include <optional>

#include "models/io/gguf_format.h"

namespace moe {
namespace {

using enum DType;

enum class Layers {
  kNone,
  kAll,
  kGrouped,          // all of a model where 4 or more query heads share a key head
  kFirstTwo,         //
  kFirstFour,        //
  kFirstEighth,      //
  kFirstSixteenth,   //
  kFirstLastThirds,  // the first eighth, the last eighth, every third between
};

struct Exception {
  Layers layers = Layers::kNone;
  DType type = kF32;
};

struct Mix {
  QuantMixName id;
  Exception attn_v[2] = {};    // attn_v, fused attn_qkv, attn_kv_b; the first that applies
  Exception ffn_down[2] = {};  // of experts, shared experts and dense layers
  Exception attn_output = {};  // of models without 8 experts
  Exception attn_output_8 = {};
};

constexpr Mix kMixes[] = {
    {{"f32", kF32, 0, ""}},
    {{"f16", kF16, 1, ""}},
    {{"bf16", kBF16, 32, ""}},
    {{"q8_0", kQ8_0, 7, ""}},
    {{"q4_0", kQ4_0, 2, ""}},
    {{"q4_1", kQ4_1, 3, ""}},
    {{"q5_0", kQ5_0, 8, ""}},
    {{"q5_1", kQ5_1, 9, ""}},
    {{"q2_k", kQ2_K, 10, ""},
     {{Layers::kGrouped, kQ4_K}, {Layers::kAll, kQ3_K}},
     {{Layers::kAll, kQ3_K}},
     {Layers::kAll, kQ3_K},
     {Layers::kAll, kQ5_K}},
    {{"q3_k_s", kQ3_K, 11, ""}, {}, {}, {}, {Layers::kAll, kQ5_K}},
    {{"q3_k_m", kQ3_K, 12, "q3_k"},
     {{Layers::kFirstTwo, kQ5_K}, {Layers::kAll, kQ4_K}},
     {{Layers::kFirstSixteenth, kQ5_K}, {Layers::kAll, kQ4_K}},
     {Layers::kAll, kQ4_K},
     {Layers::kAll, kQ5_K}},
    {{"q3_k_l", kQ3_K, 13, ""}, {{Layers::kAll, kQ5_K}}, {{Layers::kAll, kQ5_K}}, {Layers::kAll, kQ5_K}, {}},
    {{"q4_k_s", kQ4_K, 14, ""}, {{Layers::kFirstFour, kQ5_K}}, {{Layers::kFirstEighth, kQ5_K}}, {}, {Layers::kAll, kQ5_K}},
    {{"q4_k_m", kQ4_K, 15, "q4_k"},
     {{Layers::kFirstLastThirds, kQ6_K}},
     {{Layers::kFirstLastThirds, kQ6_K}},
     {},
     {Layers::kAll, kQ5_K}},
    {{"q5_k_s", kQ5_K, 16, ""}},
    {{"q5_k_m", kQ5_K, 17, "q5_k"}, {{Layers::kFirstLastThirds, kQ6_K}}, {{Layers::kFirstLastThirds, kQ6_K}}},
    {{"q6_k", kQ6_K, 18, ""}},
    {{"iq4_nl", kIQ4_NL, 25, ""}, {{Layers::kGrouped, kQ5_K}}, {{Layers::kFirstEighth, kQ5_K}}, {}, {Layers::kAll, kQ5_K}},
    {{"mxfp4", kMXFP4, 38, "mxfp4_moe"}},  // experts; the rest becomes q8_0
};

constexpr auto kMixNames = [] {
  std::array<QuantMixName, std::size(kMixes)> names{};
  for (size_t i = 0; i < names.size(); ++i) names[i] = kMixes[i].id;
  return names;
}();

// What takes the place of a format whose blocks are longer than the rows can be cut into.
struct Replacement {
  DType from, to;
};
constexpr Replacement kReplacements[] = {
    {kQ2_K, kQ4_0}, {kQ3_K, kQ4_0}, {kQ4_K, kQ5_0}, {kQ5_K, kQ5_1}, {kQ6_K, kQ8_0},
};

enum class Group { kOutput, kEmbedding, kAttentionV, kAttentionK, kAttentionOutput, kFfnDown, kOther };

struct GroupName {
  Group group;
  const char* part;
  bool whole;  // the name is the part, else it contains it
};
constexpr GroupName kGroupNames[] = {
    {Group::kOutput, "output.weight", true},
    {Group::kEmbedding, "token_embd.weight", true},
    {Group::kAttentionV, "attn_qkv.weight", false},
    {Group::kAttentionV, "attn_kv_b.weight", false},
    {Group::kAttentionV, "attn_v.weight", false},
    {Group::kAttentionK, "attn_k.weight", false},
    {Group::kAttentionOutput, "attn_output.weight", false},
    {Group::kFfnDown, "ffn_down", false},
};

Group group_of(std::string_view name) {
  for (const GroupName& g : kGroupNames) {
    if (g.whole ? name == g.part : name.find(g.part) != std::string_view::npos) return g.group;
  }
  return Group::kOther;
}

// 3 of "blk.3.attn_q.weight"; −1 outside the layers.
int layer_of(std::string_view name) {
  if (!name.starts_with("blk.")) return -1;
  int layer = -1;
  const auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' && layer >= 0 ? layer : -1;
}

struct ModelFacts {
  int n_layer = 0, n_expert = 0;
  int n_gqa = 0;     // query heads a key head
  bool tied = true;  // no output head of its own
  bool big = false;  // Llama-2-70B and its kind
  int n_attn_v = 0;  // tensors of that group
};

// A number, or the first of an array of one a layer; 0 when absent or of another type.
int number_of(const Metadata& m, const std::string& arch, const char* suffix) {
  const std::string key = arch + "." + suffix;
  if (const auto one = m.get<int32_t>(key); one.ok()) return *one;
  const auto all = m.get_array<int32_t>(key);
  return all.ok() && !all->empty() ? all->front() : 0;
}

ModelFacts facts_of(std::span<const TypeRequest> requests, const Metadata& m) {
  ModelFacts f;
  const auto arch = m.get_or<std::string>("general.architecture", "");
  if (!arch.ok()) return f;
  f.n_layer = number_of(m, *arch, "block_count");
  f.n_expert = number_of(m, *arch, "expert_count");
  const int n_head = number_of(m, *arch, "attention.head_count");
  const int n_kv_head = m.has(*arch + ".attention.head_count_kv") ? number_of(m, *arch, "attention.head_count_kv") : n_head;
  f.n_gqa = n_kv_head > 0 ? n_head / n_kv_head : 0;
  f.big = *arch == "llama" && f.n_layer == 80 && n_head != n_kv_head;
  for (const TypeRequest& r : requests) {
    f.tied = f.tied && group_of(r.name) != Group::kOutput;
    f.n_attn_v += group_of(r.name) == Group::kAttentionV;
  }
  return f;
}

bool covers(Layers layers, int i, int n, const ModelFacts& facts) {
  switch (layers) {
    case Layers::kNone:
      return false;
    case Layers::kAll:
      return true;
    case Layers::kGrouped:
      return facts.n_gqa >= 4;
    case Layers::kFirstTwo:
      return i < 2;
    case Layers::kFirstFour:
      return i < 4;
    case Layers::kFirstEighth:
      return i < n / 8;
    case Layers::kFirstSixteenth:
      return i < n / 16;
    case Layers::kFirstLastThirds:
      return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
  }
  return false;
}

DType first_match(std::span<const Exception> exceptions, int i, int n, const ModelFacts& facts, DType base) {
  for (const Exception& e : exceptions) {
    if (covers(e.layers, i, n, facts)) return e.type;
  }
  return base;
}

bool whole_blocks(DType type, int64_t row) { return row % traits(type).block_elements == 0; }

// Chooses for one tensor after the other, in the order of layers, then names: the first layers of a group are counted.
class Chooser {
 public:
  Chooser(const Mix& mix, const TypeChoiceOptions& options, const ModelFacts& facts)
      : mix_(mix), options_(options), facts_(facts) {}

  TypeChoice choose(const TypeRequest& r) {
    if (!is_quantizable(r.name, r.shape)) return {r.type, ""};
    return fit(wanted(r), r.shape.back());
  }

 private:
  DType wanted(const TypeRequest& r) {
    const Group group = group_of(r.name);
    if (group == Group::kEmbedding && options_.embedding_type) return *options_.embedding_type;
    if (is_head(group) && options_.output_type) return *options_.output_type;
    for (const TensorTypeRule& rule : options_.rules) {
      if (matches_pattern(rule.pattern, r.name)) return rule.type;
    }
    const bool plain = traits(mix_.id.base).block_elements == 1;
    return plain || options_.pure ? mix_.id.base : by_mix(r, group);
  }

  bool is_head(Group group) const { return group == Group::kOutput || (group == Group::kEmbedding && facts_.tied); }

  DType by_mix(const TypeRequest& r, Group group) {
    const DType base = mix_.id.base;
    if (is_head(group)) {
      const bool eight_bits = base == kQ8_0 || base == kMXFP4 || !whole_blocks(base, r.shape.back());
      return eight_bits ? kQ8_0 : kQ6_K;
    }
    if (base == kMXFP4) return r.shape.size() > 2 && r.shape[r.shape.size() - 3] > 1 ? kMXFP4 : kQ8_0;
    switch (group) {
      case Group::kAttentionV:
        return attention_v();
      case Group::kAttentionK:
        return facts_.n_expert == 8 ? kQ8_0 : base;
      case Group::kFfnDown:
        return ffn_down(r.name);
      case Group::kAttentionOutput: {
        const Exception& e = facts_.n_expert == 8 ? mix_.attn_output_8 : mix_.attn_output;
        return first_match({&e, 1}, 0, 0, facts_, base);
      }
      default:
        return base;
    }
  }

  DType attention_v() {
    const DType type = first_match(mix_.attn_v, i_attn_v_++, facts_.n_attn_v, facts_, mix_.id.base);
    if (facts_.n_expert == 8) return kQ8_0;
    return facts_.big && (type == kQ3_K || type == kQ4_K) ? kQ5_K : type;
  }

  DType ffn_down(const std::string& name) {
    const int counted = i_ffn_down_++;
    const int layer = facts_.n_expert > 1 ? std::max(0, layer_of(name)) : counted;
    return first_match(mix_.ffn_down, layer, facts_.n_layer, facts_, mix_.id.base);
  }

  static TypeChoice fit(DType type, int64_t row) {
    const DType first = type;
    const auto replacement =
        std::find_if(std::begin(kReplacements), std::end(kReplacements), [&](auto& r) { return r.from == type; });
    if (!whole_blocks(type, row) && replacement != std::end(kReplacements)) type = replacement->to;
    if (!whole_blocks(type, row)) type = kF16;
    if (type == first) return {type, ""};
    return {type, "rows of " + std::to_string(row) + ": " + traits(first).name + " needs a multiple of " +
                      std::to_string(traits(first).block_elements)};
  }

  const Mix& mix_;
  const TypeChoiceOptions& options_;
  const ModelFacts& facts_;
  int i_attn_v_ = 0, i_ffn_down_ = 0;
};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

Result<const Mix*> find_mix(const std::string& name) {
  std::string known;
  for (const Mix& m : kMixes) {
    if (equal_ignoring_case(name, m.id.name) || (*m.id.alias && equal_ignoring_case(name, m.id.alias))) return &m;
    known += (known.empty() ? "" : ", ") + std::string(m.id.name);
  }
  return Status::InvalidArgument("unknown type '" + printable(name) + "', wanted one of " + known);
}

Status check_rules(std::span<const TypeRequest> requests, std::span<const TensorTypeRule> rules) {
  for (const TensorTypeRule& rule : rules) {
    const bool used = std::any_of(requests.begin(), requests.end(), [&](const TypeRequest& r) {
      return is_quantizable(r.name, r.shape) && matches_pattern(rule.pattern, r.name);
    });
    if (!used)
      return Status::InvalidArgument("pattern '" + printable(rule.pattern) + "' matches no tensor that may change its type");
  }
  return Status::Ok();
}

}  // namespace

std::span<const QuantMixName> quant_mixes() { return kMixNames; }

// Iterative: on a mismatch the last * takes one more character.
bool matches_pattern(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, after = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++, after = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1, n = ++after;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

Result<TensorTypeRule> parse_tensor_rule(std::string_view text) {
  const size_t at = text.rfind('=');
  if (at == std::string_view::npos || at == 0)
    return Status::InvalidArgument("wanted PATTERN=TYPE, found '" + printable(text) + "'");
  MOE_ASSIGN(const DType type, parse_dtype(text.substr(at + 1)));
  if (!traits(type).is_weight)
    return Status::InvalidArgument("'" + std::string(traits(type).name) + "' is no format of weights");
  return TensorTypeRule{std::string(text.substr(0, at)), type};
}

bool is_quantizable(std::string_view name, std::span<const int64_t> shape) {
  const auto first = std::find_if(shape.begin(), shape.end(), [](int64_t d) { return d != 1; });
  const bool matrix = shape.end() - first >= 2;
  return matrix && name.ends_with("weight") && name.find("_norm.weight") == std::string_view::npos &&
         name.find("ffn_gate_inp") == std::string_view::npos;
}

Result<std::vector<TypeChoice>> choose_types(std::span<const TypeRequest> requests, const Metadata& metadata,
                                             const TypeChoiceOptions& options) {
  MOE_ASSIGN(const Mix* mix, find_mix(options.mix));
  MOE_TRY(check_rules(requests, options.rules));
  const ModelFacts facts = facts_of(requests, metadata);
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const int x = layer_of(requests[a].name), y = layer_of(requests[b].name);
    return x != y ? x < y : requests[a].name < requests[b].name;
  });
  Chooser chooser(*mix, options, facts);
  std::vector<TypeChoice> choices(requests.size());
  for (const size_t i : order) choices[i] = chooser.choose(requests[i]);
  return choices;
}

Status set_file_type(const std::string& mix, Metadata& metadata) {
  MOE_ASSIGN(const Mix* m, find_mix(mix));
  metadata.set("general.file_type", m->id.file_type);
  metadata.set("general.quantization_version", uint32_t{2});  // ggml.h, GGML_QNT_VERSION: the block layouts of today
  return Status::Ok();
}

}  // namespace moe
