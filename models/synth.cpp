// Activations stay sane: every matrix has rows of about unit gain, norms scale by about 1, and embeddings have unit variance,
// so that each layer adds to the residual stream about as much as came in.
#include "models/synth.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <variant>

#include "core/rng.h"
#include "models/arch.h"
#include "models/io/gguf_format.h"
#include "models/quant_mix.h"
#include "models/tokenizer/vocabulary.h"

namespace moe {
namespace {

// --- Settings ---

using Member = std::variant<int ModelConfig::*, float ModelConfig::*, bool ModelConfig::*, std::string ModelConfig::*>;
struct Setting {
  const char* name;
  Member member;
};
#define SETTING(name) \
  { #name, &ModelConfig::name }
const Setting kSettings[] = {
    SETTING(name),
    SETTING(n_vocab),
    SETTING(n_ctx_train),
    SETTING(n_layer),
    SETTING(d_model),
    SETTING(n_head),
    SETTING(n_kv_head),
    SETTING(head_dim),
    SETTING(v_dim),
    SETTING(d_ff),
    SETTING(n_expert),
    SETTING(n_expert_used),
    SETTING(n_expert_shared),
    SETTING(d_ff_expert),
    SETTING(d_ff_shared),
    SETTING(n_dense_lead),
    SETTING(norm_eps),
    SETTING(rope_dims),
    SETTING(rope_base),
    SETTING(rope_scaling),
    SETTING(rope_factor),
    SETTING(rope_original_ctx),
    SETTING(rope_attn_factor),
    SETTING(rope_log_multiplier),
    SETTING(window),
    SETTING(embedding_scale),
    SETTING(residual_scale),
    SETTING(attention_scale),
    SETTING(logit_scale),
    SETTING(gating),
    SETTING(weights_normalized),
    SETTING(weights_scale),
    SETTING(n_group),
    SETTING(topk_group),
    SETTING(q_rank),
    SETTING(kv_rank),
    SETTING(head_dim_mla),
    SETTING(v_dim_mla),
};
#undef SETTING

bool parse_value(std::string_view text, std::string& out) {
  out = text;
  return true;
}
bool parse_value(std::string_view text, bool& out) {
  out = text == "true" || text == "1";
  return out || text == "false" || text == "0";
}
template <class T>
bool parse_value(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

// Finds the member by our name or by the file's key, and sets it; `which` becomes its address.
Status apply_setting(ModelConfig& c, const std::string& setting, const void*& which) {
  const size_t at = setting.find('=');
  if (at == std::string::npos || at == 0)
    return Status::InvalidArgument("wanted NAME=VALUE, found '" + printable(setting) + "'");
  const std::string name = setting.substr(0, at), value = setting.substr(at + 1);
  bool good = true;
  const auto set = [&](auto& member) {
    good = parse_value(value, member);
    which = &member;
  };
  for (const Setting& s : kSettings) {
    if (name == s.name) std::visit([&](auto member) { set(c.*member); }, s.member);
  }
  visit_config(c, [&](const char* key, auto& member, bool) {
    if (!which && name == key) set(member);
  });
  if (!which) {
    std::string known;
    for (const Setting& s : kSettings) known += (known.empty() ? "" : ", ") + std::string(s.name);
    return Status::InvalidArgument("unknown setting '" + printable(name) + "', wanted one of " + known);
  }
  if (!good) return Status::InvalidArgument("setting '" + name + "': '" + printable(value) + "' is no value for it");
  return Status::Ok();
}

// What the example states but the settings make impossible follows them, unless set as well.
void follow(ModelConfig& c, const ModelConfig& example, const std::vector<const void*>& given) {
  const auto is_given = [&](const void* member) { return std::find(given.begin(), given.end(), member) != given.end(); };
  if (!is_given(&c.n_kv_head) && is_given(&c.n_head)) {
    const int group = std::max(1, example.n_head / std::max(1, example.n_kv_head));
    c.n_kv_head = c.n_head % group == 0 ? c.n_head / group : c.n_head;
  }
  if (is_given(&c.head_dim) && c.kv_rank == 0) {
    if (!is_given(&c.v_dim)) c.v_dim = c.head_dim;
    if (!is_given(&c.rope_dims)) c.rope_dims = c.head_dim;
  }
  if (!is_given(&c.n_expert_used)) c.n_expert_used = std::min(c.n_expert_used, c.n_expert);
  if (!is_given(&c.rope_original_ctx) && c.rope_original_ctx > c.n_ctx_train) c.rope_original_ctx = c.n_ctx_train;
}

// --- Tokenizer ---

struct Special {
  const char* text;
  const char* key;  // of the metadata that names it, or null
};
constexpr Special kSpecials[] = {
    {"<|startoftext|>", "tokenizer.ggml.bos_token_id"},
    {"<|endoftext|>", "tokenizer.ggml.eos_token_id"},
    {"<|im_start|>", nullptr},
    {"<|im_end|>", "tokenizer.ggml.eot_token_id"},
};
constexpr int kSmallestVocab = 256 + static_cast<int>(std::size(kSpecials));
constexpr int kDefaultVocab = 320;

constexpr const char* kChatMl =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

std::string utf8(uint32_t c) {  // level_char() stays below U+0800
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
}

// Byte-level BPE without merges: token b is byte b, then the special ones, then <unused0> and on.
void set_byte_tokenizer(int n_vocab, Metadata& m) {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  const auto add = [&](std::string text, TokenKind kind) {
    tokens.push_back(std::move(text));
    types.push_back(static_cast<int32_t>(kind));
  };
  for (int b = 0; b < 256; ++b) add(utf8(level_char(static_cast<uint8_t>(b))), TokenKind::kNormal);
  for (const Special& s : kSpecials) add(s.text, TokenKind::kControl);
  for (int i = kSmallestVocab; i < n_vocab; ++i) add("<unused" + std::to_string(i - kSmallestVocab) + ">", TokenKind::kUnused);

  m.set("tokenizer.ggml.model", "gpt2");
  m.set("tokenizer.ggml.pre", "gpt-2");
  m.set("tokenizer.ggml.tokens", tokens);
  m.set("tokenizer.ggml.token_type", types);
  m.set("tokenizer.ggml.merges", std::vector<std::string>{});
  for (size_t i = 0; i < std::size(kSpecials); ++i) {
    if (kSpecials[i].key) m.set(kSpecials[i].key, static_cast<uint32_t>(256 + i));
  }
  m.set("tokenizer.ggml.add_bos_token", false);
  m.set("tokenizer.chat_template", kChatMl);
}

void copy_tokenizer(const Metadata& from, Metadata& to) {
  for (const MetadataEntry& e : from.entries()) {
    if (e.key.starts_with("tokenizer.")) to.set_entry(e);
  }
}

Status settle_vocabulary(const SynthOptions& o, bool given, ModelConfig& c) {
  if (o.vocabulary) {
    const MetadataEntry* tokens = o.vocabulary->find("tokenizer.ggml.tokens");
    if (!tokens || tokens->type != GgufType::kArray)
      return Status::NotFound(o.vocabulary->source() +
                              ": key 'tokenizer.ggml.tokens' is missing: there is no vocabulary to borrow");
    const int n = static_cast<int>(std::min<uint64_t>(tokens->count, 1 << 24));
    if (given && c.n_vocab != n)
      return Status::InvalidArgument("setting 'n_vocab': wanted " + std::to_string(n) +
                                     ", the size of the borrowed vocabulary, found " + std::to_string(c.n_vocab));
    c.n_vocab = n;
    return Status::Ok();
  }
  if (!given && c.n_vocab < kSmallestVocab) c.n_vocab = kDefaultVocab;
  if (c.n_vocab < kSmallestVocab || c.n_vocab > 1 << 24)
    return Status::InvalidArgument("setting 'n_vocab': wanted " + std::to_string(kSmallestVocab) + " (256 bytes and " +
                                   std::to_string(std::size(kSpecials)) + " special tokens) to 2^24, found " +
                                   std::to_string(c.n_vocab));
  return Status::Ok();
}

// --- Weights ---

struct Distribution {
  float mean, deviation;
};

Distribution distribution_of(const DeclaredTensor& t) {
  const float gain = 1 / std::sqrt(static_cast<float>(std::max<int64_t>(1, t.shape.last())));
  switch (t.role) {
    case Role::kMatrix:
      return {0, gain};
    case Role::kRouter:
      return {0, 2 * gain};  // probabilities that differ: a softmax over logits of deviation 2
    case Role::kEmbedding:
      return {0, 1};
    case Role::kNorm:
      return {1, 0.1f};
    case Role::kBias:
      return {0, 0.1f};
  }
  return {0, gain};
}

// FNV-1a: the stream of a tensor depends on its name alone, so that models which share tensors share their values.
uint64_t stream_of(std::string_view name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

Status choose_step_types(const SynthOptions& o, std::span<const DeclaredTensor> tensors, SynthPlan& plan) {
  std::vector<TypeRequest> requests;
  for (const DeclaredTensor& t : tensors) {
    requests.push_back({t.name, {t.shape.dim.begin(), t.shape.dim.begin() + t.shape.rank}, DType::kF32});
  }
  TypeChoiceOptions options;
  options.mix = o.type;
  MOE_ASSIGN(const std::vector<TypeChoice> choices, choose_types(requests, plan.metadata, options));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Distribution d = distribution_of(tensors[i]);
    const DTypeTraits& t = traits(choices[i].type);
    auto bytes = gguf_tensor_bytes(requests[i].shape, t.block_elements, static_cast<int64_t>(t.block_bytes));
    if (!bytes.ok()) return Status::InvalidArgument("tensor '" + tensors[i].name + "': " + bytes.status().message());
    plan.steps.push_back({tensors[i].name, requests[i].shape, t.dtype, d.mean, d.deviation, stream_of(tensors[i].name)});
    plan.elements += tensors[i].shape.elements();
    plan.bytes += *bytes;
  }
  return Status::Ok();
}

}  // namespace

std::vector<std::string> config_names() {
  std::vector<std::string> names;
  for (const Setting& s : kSettings) names.emplace_back(s.name);
  return names;
}

Result<SynthPlan> plan_synth(const SynthOptions& o) {
  MOE_ASSIGN(const ArchDef* arch, find_arch(o.arch));
  const ModelConfig example = arch->example();
  ModelConfig c = example;
  c.name = o.arch + " with random weights, seed " + std::to_string(o.seed);
  std::vector<const void*> given;
  for (const std::string& setting : o.settings) {
    const void* which = nullptr;
    MOE_TRY(apply_setting(c, setting, which));
    given.push_back(which);
  }
  follow(c, example, given);
  MOE_TRY(settle_vocabulary(o, std::find(given.begin(), given.end(), &c.n_vocab) != given.end(), c));

  ModelConfig settled = c;  // some architectures have one width under both names
  MOE_TRY(arch->configure(settled, o.arch));
  c.d_ff = settled.d_ff;

  SynthPlan plan;
  plan.seed = o.seed;
  plan.metadata.set_source(o.arch);
  write_config(c, plan.metadata);
  MOE_TRY(set_file_type(o.type, plan.metadata));
  if (o.vocabulary)
    copy_tokenizer(*o.vocabulary, plan.metadata);
  else
    set_byte_tokenizer(c.n_vocab, plan.metadata);
  // As a reader will see it, so that its checks speak now.
  MOE_ASSIGN(plan.config, read_config(plan.metadata));
  MOE_TRY(arch->configure(plan.config, o.arch));
  MOE_ASSIGN(const std::vector<DeclaredTensor> tensors, declare_tensors(plan.config));
  MOE_TRY(choose_step_types(o, tensors, plan));
  return plan;
}

Status write_synth(const SynthPlan& plan, ThreadPool& pool, const std::string& path,
                   const WeightStream::OnWritten& on_written) {
  std::vector<GgufWriter::TensorSpec> specs;
  for (const SynthPlan::Step& s : plan.steps) specs.push_back({s.name, s.type, s.shape});
  MOE_ASSIGN(GgufWriter writer, GgufWriter::create(path, plan.metadata, std::move(specs)));
  WeightStream stream(pool, writer, on_written);
  for (const SynthPlan::Step& s : plan.steps) {
    int64_t n = 1;
    for (const int64_t d : s.shape) n *= d;
    MOE_TRY(stream.encode(s.name, s.type, n, [&](int64_t first, int64_t count, float* out) {
      Rng rng(plan.seed, s.stream);
      rng.seek(static_cast<uint64_t>(first) * 2);  // normal() draws twice
      for (int64_t i = 0; i < count; ++i) out[i] = s.mean + s.deviation * rng.normal();
      return Status::Ok();
    }));
  }
  return writer.commit();
}

}  // namespace moe
