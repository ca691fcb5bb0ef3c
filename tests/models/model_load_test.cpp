// Files that are no sound model: each gets one line that names the file and the key or tensor, and nothing else happens.
#include "models/model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "models/arch.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

const std::vector<std::string> kArchs = {"llama", "olmoe", "qwen2moe", "qwen3moe", "granitemoe", "gpt-oss", "deepseek2"};

Status load_status(const std::string& path) {
  ModelOptions o;
  o.backend_options.n_threads = 1;
  const auto m = Model::load(path, o);
  return m.ok() ? Status::Ok() : m.status();
}

// Loads the file and, where that works, opens a session: whichever refuses.
Status open_status(const std::string& path) {
  ModelOptions o;
  o.backend_options.n_threads = 1;
  const auto m = Model::load(path, o);
  if (!m.ok()) return m.status();
  const auto s = Session::create(**m, roomy());
  return s.ok() ? Status::Ok() : s.status();
}

void check_refused(const ModelFile& file, const TempFolder& folder, std::string_view text) {
  const std::string path = file.write(folder);
  const Status s = open_status(path);
  CAPTURE(text);
  REQUIRE_FALSE(s.ok());
  CHECK_MESSAGE(is_one_line(s), s.message());
  CHECK_MESSAGE(has_text(s, path), s.message());
  CHECK_MESSAGE(has_text(s, text), s.message());
}

ModelFile tiny(const std::string& arch) { return random_model(tiny_config(arch)); }

}  // namespace

TEST_CASE("a random model of every architecture loads and gives finite logits") {
  TempFolder folder;
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    const auto model = load_model(tiny(arch).write(folder, arch + ".gguf"));
    CHECK(all_finite(run_reference(*model)));
    CHECK(model->check_weights().ok());
    CHECK(model->tokenizer() == nullptr);
    CHECK(has_text(model->tokenizer_status(), "tokenizer.ggml.model"));
  }
}

TEST_CASE("every key and tensor that an architecture cannot do without is named when missing") {
  TempFolder folder;
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    const ModelFile whole = tiny(arch);
    for (const char* suffix :
         {"context_length", "block_count", "embedding_length", "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
      ModelFile file = whole;
      const std::string key = arch + "." + suffix;
      REQUIRE(file.metadata.remove(key));
      check_refused(file, folder, "key '" + key + "' is missing");
    }
    ModelFile nameless = whole;
    nameless.metadata.remove("general.architecture");
    check_refused(nameless, folder, "general.architecture");
    for (size_t i = 0; i < whole.tensors.size(); ++i) {
      ModelFile file = whole;
      const std::string name = file.tensors[i].name;
      file.remove(name);
      const std::string path = file.write(folder);
      const Status s = load_status(path);
      const bool optional = name == "output.weight" || name.ends_with(".bias");  // tied head; biases some models lack
      if (optional && s.ok()) continue;
      REQUIRE_FALSE_MESSAGE(s.ok(), name);
      CHECK_MESSAGE(has_text(s, path), s.message());
      CHECK(is_one_line(s));
      // Without low-rank queries the full matrix is asked for.
      if (!name.ends_with("attn_q_a.weight")) CHECK_MESSAGE(has_text(s, "tensor '" + name + "'"), s.message());
    }
  }
}

TEST_CASE("a tensor of another shape or rank is named with both shapes") {
  TempFolder folder;
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    const ModelFile whole = tiny(arch);
    for (size_t i = 0; i < whole.tensors.size(); ++i) {
      const std::string name = whole.tensors[i].name;
      if (name == "token_embd.weight") continue;  // its rows are the vocabulary
      ModelFile longer = whole;
      FileTensor& t = longer.tensors[i];
      t.values.resize(t.values.size() / static_cast<size_t>(t.shape[0]) * static_cast<size_t>(t.shape[0] + 1), 0.5f);
      ++t.shape[0];
      check_refused(longer, folder, "tensor '" + name + "': wanted (");
      ModelFile flat = whole;
      flat.tensors[i].shape.insert(flat.tensors[i].shape.begin(), 1);
      if (flat.tensors[i].shape.size() <= 4) check_refused(flat, folder, "tensor '" + name + "': wanted (");
    }
  }
}

TEST_CASE("counts and sizes that make no sense are refused by key") {
  TempFolder folder;
  struct Case {
    const char* arch;
    const char* suffix;
    uint32_t value;
  };
  constexpr uint32_t kBillion = 1000000000;
  const Case cases[] = {
      {"olmoe", "block_count", 0},
      {"olmoe", "block_count", kBillion},
      {"olmoe", "block_count", 0xffffffff},
      {"olmoe", "expert_count", kBillion},
      {"olmoe", "expert_used_count", 9},
      {"olmoe", "expert_used_count", 0},
      {"olmoe", "embedding_length", 0},
      {"olmoe", "embedding_length", kBillion},
      {"olmoe", "context_length", 0},
      {"llama", "attention.head_count", 0},
      {"llama", "attention.head_count", kBillion},
      {"llama", "attention.head_count_kv", 3},
      {"llama", "attention.head_count_kv", kBillion},
      {"llama", "attention.key_length", kBillion},
      {"llama", "attention.value_length", kBillion},
      {"llama", "rope.dimension_count", 7},
      {"llama", "rope.dimension_count", 1},
      {"llama", "rope.dimension_count", 18},
      {"llama", "rope.dimension_count", kBillion},
      {"llama", "feed_forward_length", kBillion},
      {"deepseek2", "attention.kv_lora_rank", kBillion},
      {"deepseek2", "expert_group_count", 3},
      {"deepseek2", "expert_group_used_count", 0},
      {"deepseek2", "expert_group_used_count", 9},
      {"deepseek2", "expert_gating_func", 9},
      {"deepseek2", "expert_gating_func", 3},
      {"deepseek2", "leading_dense_block_count", kBillion},
  };
  for (const Case& c : cases) {
    ModelFile file = tiny(c.arch);
    const std::string key = std::string(c.arch) + "." + c.suffix;
    file.metadata.set<uint32_t>(key, c.value);
    CAPTURE(key);
    CAPTURE(c.value);
    check_refused(file, folder, std::string(c.suffix).substr(0, std::string(c.suffix).find('.')));
  }
}

TEST_CASE("0 stands for the default where a head size is not given") {
  TempFolder folder;
  ModelFile file = tiny("llama");
  for (const char* key : {"llama.attention.key_length", "llama.attention.value_length"}) file.metadata.set<uint32_t>(key, 0);
  const auto model = load_model(file.write(folder));
  CHECK(model->config().head_dim == 16);
  CHECK(model->config().v_dim == 16);
}

TEST_CASE("sizes that only tensors contradict name the tensor") {
  TempFolder folder;
  const auto with = [](const char* arch, const char* suffix, uint32_t value) {
    ModelFile file = tiny(arch);
    file.metadata.set<uint32_t>(std::string(arch) + "." + suffix, value);
    return file;
  };
  check_refused(with("llama", "block_count", 3), folder, "blk.2.attn_norm.weight");
  check_refused(with("llama", "attention.key_length", 32), folder, "attn_q.weight");
  check_refused(with("olmoe", "expert_count", 64), folder, "ffn_gate_inp.weight");
  check_refused(with("olmoe", "feed_forward_length", 48), folder, "ffn_gate_exps.weight");
  check_refused(with("deepseek2", "attention.q_lora_rank", 0), folder, "attn_q_a.weight");
  check_refused(with("deepseek2", "attention.q_lora_rank", 16777216), folder, "attn_q_a.weight");
  check_refused(with("deepseek2", "attention.kv_lora_rank", 16777216), folder, "attn_kv_a_mqa.weight");
  check_refused(with("deepseek2", "attention.key_length", 8), folder, "rope.dimension_count");
  check_refused(with("deepseek2", "expert_shared_count", 16777216), folder, "ffn_gate_shexp.weight");
  ModelFile wide = with("deepseek2", "expert_shared_count", 16777216);
  wide.metadata.set<uint32_t>("deepseek2.expert_feed_forward_length", 16777216);
  check_refused(wide, folder, "expert_shared_count");
  check_refused(with("deepseek2", "expert_shared_feed_forward_length", 16777216), folder, "shexp");
}

TEST_CASE("numbers that are not finite or of the wrong type are refused by key") {
  TempFolder folder;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const char* suffix : {"rope.freq_base", "attention.layer_norm_rms_epsilon", "rope.scaling.factor", "attention.scale"})
    for (const float bad : {nan, std::numeric_limits<float>::infinity()}) {
      ModelFile file = tiny("llama");
      file.metadata.set<float>(std::string("llama.") + suffix, bad);
      check_refused(file, folder, suffix);
    }
  ModelFile words = tiny("llama");
  words.metadata.set("llama.block_count", "two");
  check_refused(words, folder, "llama.block_count");
  ModelFile real = tiny("llama");
  real.metadata.set<float>("llama.block_count", 2.0f);
  check_refused(real, folder, "llama.block_count");
  ModelFile negative = tiny("llama");
  negative.metadata.set<int32_t>("llama.attention.head_count", -4);
  check_refused(negative, folder, "llama.attention.head_count");
  ModelFile list = tiny("llama");
  list.metadata.set("llama.attention.head_count_kv", std::vector<int32_t>{2, 1});
  check_refused(list, folder, "llama.attention.head_count_kv");
  ModelFile none = tiny("llama");
  none.metadata.set("llama.attention.head_count_kv", std::vector<int32_t>{});
  check_refused(none, folder, "llama.attention.head_count_kv");
  ModelFile scaling = tiny("llama");
  scaling.metadata.set("llama.rope.scaling.type", "dynamic");
  check_refused(scaling, folder, "found 'dynamic'");
  ModelFile base = tiny("llama");
  base.metadata.set<float>("llama.rope.freq_base", 0);
  check_refused(base, folder, "rope.freq_base");
}

TEST_CASE("an unknown architecture is refused with the list of those there are") {
  TempFolder folder;
  ModelFile file = tiny("llama");
  for (const char* suffix : {"context_length", "block_count", "embedding_length", "attention.head_count"})
    file.metadata.set<uint32_t>(std::string("mamba.") + suffix, 2);
  file.metadata.set<float>("mamba.attention.layer_norm_rms_epsilon", 1e-5f);
  file.metadata.set("general.architecture", "mamba");
  check_refused(file, folder, "architecture 'mamba'; known: llama, olmoe");
}

TEST_CASE("groups that cannot hold the experts a token uses are refused") {
  TempFolder folder;
  ModelConfig c = tiny_config("deepseek2");
  c.n_expert = 8, c.n_group = 4, c.topk_group = 1, c.n_expert_used = 3;
  check_refused(random_model(c), folder, "expert_group_used_count");
}

TEST_CASE("integers as weights and types nobody knows are refused by tensor") {
  TempFolder folder;
  const std::string path = tiny("olmoe").write(folder);
  auto mapped = MappedFile::open(path);
  REQUIRE(mapped.ok());
  const std::string bytes(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
  for (const std::string name : {"token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_norm.weight", "output.weight"})
    for (const uint32_t type : {uint32_t{26}, uint32_t{16}, uint32_t{99}}) {  // i32, iq2_xxs, nothing
      std::string broken = bytes;
      std::string length(8, '\0');  // names follow their length
      length[0] = static_cast<char>(name.size());
      size_t at = broken.find(length + name);
      REQUIRE(at != std::string::npos);
      at += length.size();
      uint32_t rank = 0;
      std::memcpy(&rank, broken.data() + at + name.size(), 4);
      std::memcpy(broken.data() + at + name.size() + 4 + 8 * rank, &type, 4);
      const std::string bad = folder.write("bad.gguf", broken);
      const Status s = load_status(bad);
      CAPTURE(name);
      CAPTURE(type);
      REQUIRE_FALSE(s.ok());
      CHECK(is_one_line(s));
      CHECK_MESSAGE(has_text(s, bad), s.message());
      CHECK_MESSAGE(has_text(s, "'" + name + "'"), s.message());
    }
}

TEST_CASE("weights that are not finite are refused by tensor, in norms and in blocks' scales") {
  TempFolder folder;
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, inf, -inf})
    for (const std::string name : {"blk.1.attn_norm.weight", "output.weight", "blk.0.ffn_down_exps.weight"}) {
      ModelFile file = tiny("olmoe");
      file.tensor(name).values[17] = bad;
      check_refused(file, folder, "tensor '" + name + "': wanted finite weights");
    }
  // Scales are the first two bytes of a q8_0 and a q4_0 block.
  for (const DType type : {DType::kQ8_0, DType::kQ4_0}) {
    ModelFile file = tiny("olmoe");
    file.tensor("blk.1.attn_k.weight").dtype = type;
    const std::string path = file.write(folder);
    auto parsed = GgufFile::open(path);
    REQUIRE(parsed.ok());
    auto mapped = MappedFile::open(path);
    std::string bytes(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
    const std::span<const std::byte> weights = parsed->find("blk.1.attn_k.weight")->data;
    const size_t at = bytes.find(std::string_view(reinterpret_cast<const char*>(weights.data()), weights.size()));
    REQUIRE(at != std::string::npos);
    const size_t scale = at + 2 * traits(type).block_bytes;
    bytes[scale] = 0x00, bytes[scale + 1] = 0x7e;
    const Status s = load_status(folder.write("nan.gguf", bytes));
    REQUIRE_FALSE(s.ok());
    CHECK_MESSAGE(has_text(s, "tensor 'blk.1.attn_k.weight': wanted finite weights"), s.message());
  }
}

TEST_CASE("a vocabulary of another length than the embedding is refused, and one it cannot use leaves the model") {
  TempFolder folder;
  ModelFile file = tiny("olmoe");
  file.metadata.set("tokenizer.ggml.model", "gpt2");
  file.metadata.set("tokenizer.ggml.pre", "olmo");
  file.metadata.set("tokenizer.ggml.merges", std::vector<std::string>{});
  std::vector<std::string> tokens;
  for (int i = 0; i < 319; ++i) tokens.push_back("t" + std::to_string(i));
  file.metadata.set("tokenizer.ggml.tokens", tokens);
  check_refused(file, folder, "tokenizer.ggml.tokens': wanted 320 tokens");
  ModelFile foreign = tiny("olmoe");
  foreign.metadata.set("tokenizer.ggml.model", "rwkv");
  tokens.push_back("last");
  foreign.metadata.set("tokenizer.ggml.tokens", tokens);
  const auto model = load_model(foreign.write(folder));
  CHECK(model->tokenizer() == nullptr);
  CHECK_FALSE(model->tokenizer_status().ok());
  CHECK(all_finite(run_reference(*model)));
}

TEST_CASE("what is no model at all is refused") {
  TempFolder folder;
  CHECK_FALSE(load_status(folder / "missing.gguf").ok());
  CHECK_FALSE(load_status(folder.path()).ok());
  CHECK_FALSE(load_status(folder.write("empty.gguf", "")).ok());
  CHECK_FALSE(load_status(folder.write("text.gguf", std::string(1000, 'x'))).ok());
  ModelFile no_tensors = tiny("olmoe");
  no_tensors.tensors.clear();
  check_refused(no_tensors, folder, "no weights to run");
  ModelOptions o;
  o.backend = "abacus";
  const auto m = Model::load(tiny("olmoe").write(folder), o);
  REQUIRE_FALSE(m.ok());
  CHECK(has_text(m.status(), "abacus"));
  o = {};
  o.backend_options.isa = "mmx";
  CHECK_FALSE(Model::load(tiny("olmoe").write(folder), o).ok());
}

}  // namespace moe
