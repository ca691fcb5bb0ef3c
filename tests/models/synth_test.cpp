#include "models/synth.h"

#include <doctest/doctest.h>
#include <cmath>

#include "core/file.h"
#include "models/arch.h"
#include "models/model.h"
#include "tests/temp_folder.h"

using namespace moe;
using moe::test::TempFolder;

namespace {

Result<SynthPlan> plan(const std::string& arch, std::vector<std::string> settings = {}, const std::string& type = "f32") {
  SynthOptions o;
  o.arch = arch;
  o.settings = std::move(settings);
  o.type = type;
  o.seed = 1;
  return plan_synth(o);
}

void write(const SynthPlan& p, const std::string& path, int n_threads = 1) {
  ThreadPool pool(n_threads);
  const Status s = write_synth(p, pool, path, {});
  REQUIRE_MESSAGE(s.ok(), s.message());
}

std::string bytes_of(const std::string& path) {
  const auto text = read_text_file(path);
  REQUIRE(text.ok());
  return *text;
}

}  // namespace

TEST_CASE("a synthetic model of every architecture loads, in floats and quantised") {
  for (const ArchDef& arch : all_archs()) {
    for (const char* type : {"f32", "q4_k_m", "mxfp4"}) {
      CAPTURE(arch.name);
      CAPTURE(type);
      const TempFolder folder;
      const auto p = plan(arch.name, {"n_layer=2"}, type);
      REQUIRE_MESSAGE(p.ok(), p.status().message());
      write(*p, folder / "m.gguf");
      ModelOptions options;
      options.backend_options.n_threads = 1;
      const auto model = Model::load(folder / "m.gguf", options);
      REQUIRE_MESSAGE(model.ok(), model.status().message());
      CHECK((*model)->config() == p->config);
      REQUIRE((*model)->tokenizer());
      CHECK((*model)->tokenizer()->n_vocab() == p->config.n_vocab);
      CHECK((*model)->check_weights().ok());
    }
  }
}

TEST_CASE("equal seeds give equal files for any number of threads, other seeds give other weights") {
  const TempFolder folder;
  const auto p = plan("qwen2moe", {"n_layer=2"}, "q8_0");
  REQUIRE(p.ok());
  write(*p, folder / "1.gguf", 1);
  write(*p, folder / "3.gguf", 3);
  CHECK(bytes_of(folder / "1.gguf") == bytes_of(folder / "3.gguf"));
  SynthPlan other = *p;
  other.seed = 2;
  write(other, folder / "other.gguf");
  CHECK(bytes_of(folder / "1.gguf") != bytes_of(folder / "other.gguf"));
}

TEST_CASE("the weights are normal with the deviation that their role asks for") {
  const TempFolder folder;
  const auto p = plan("olmoe", {"n_layer=1"});
  REQUIRE(p.ok());
  write(*p, folder / "m.gguf");
  const auto file = GgufFile::open(folder / "m.gguf");
  REQUIRE(file.ok());
  struct Row {
    const char* name;
    double mean, deviation;
  };
  for (const Row& r : {Row{"token_embd.weight", 0, 1},
                       {"blk.0.ffn_down_exps.weight", 0, 1 / std::sqrt(128.0)},
                       {"blk.0.attn_q.weight", 0, 1 / 16.0},
                       {"blk.0.ffn_gate_inp.weight", 0, 2 / 16.0},
                       {"blk.0.attn_norm.weight", 1, 0.1}}) {
    CAPTURE(r.name);
    const TensorInfo* t = file->find(r.name);
    REQUIRE(t);
    const size_t n = t->data.size() / sizeof(float);
    const auto* x = reinterpret_cast<const float*>(t->data.data());
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; ++i) sum += x[i], squares += (x[i] - r.mean) * (x[i] - r.mean);
    const double spread = 4 / std::sqrt(static_cast<double>(n));  // 4 standard errors
    CHECK(std::abs(sum / static_cast<double>(n) - r.mean) < spread * r.deviation);
    CHECK(std::abs(std::sqrt(squares / static_cast<double>(n)) / r.deviation - 1) < spread);
  }
}

TEST_CASE("the byte tokenizer takes every text and gives it back") {
  const TempFolder folder;
  const auto p = plan("olmoe", {"n_vocab=300", "n_layer=1"});
  REQUIRE(p.ok());
  auto data = TokenizerData::from_metadata(p->metadata);
  REQUIRE(data.ok());
  const auto t = Tokenizer::create(std::move(data).value());
  REQUIRE_MESSAGE(t.ok(), t.status().message());
  std::string text;
  for (int b = 0; b < 256; ++b) text += static_cast<char>(b);
  text += "Grüße, 世界 🙂\r\n";
  const auto ids = t->encode(text, {false, false});
  REQUIRE(ids.ok());
  CHECK(ids->size() == text.size());
  CHECK(t->decode(*ids) == text);
  CHECK(t->n_vocab() == 300);
  CHECK(t->bos() == 256);
  CHECK(t->eos() == 257);
  CHECK(t->find("<|im_end|>") == 259);
  CHECK(t->find("<unused0>") == 260);
  CHECK(t->is_end_of_generation(259));
  CHECK_FALSE(t->chat_template().empty());
}

TEST_CASE("settings go by our names and by the file's, and what depends on them follows") {
  const auto p = plan("llama", {"n_head=16", "expert_count=1", "n_ctx_train=128", "rope.freq_base=5e5", "name=my model"});
  REQUIRE_MESSAGE(p.ok(), p.status().message());
  CHECK(p->config.n_head == 16);
  CHECK(p->config.n_kv_head == 8);  // the example groups heads in twos
  CHECK(p->config.n_expert == 1);
  CHECK(p->config.n_expert_used == 1);
  CHECK(p->config.n_ctx_train == 128);
  CHECK(p->config.rope_base == 5e5f);
  CHECK(p->config.name == "my model");
  const auto wide = plan("olmoe", {"head_dim=64"});
  REQUIRE(wide.ok());
  CHECK(wide->config.v_dim == 64);
  CHECK(wide->config.rope_dims == 64);
  const auto dense = plan("llama", {"n_expert=0"});
  REQUIRE(dense.ok());
  for (const SynthPlan::Step& s : dense->steps) CHECK(s.name.find("_exps") == std::string::npos);
}

TEST_CASE("architectures with one width state it under the key that other engines read") {
  for (const char* arch : {"llama", "olmoe", "granitemoe"}) {
    CAPTURE(arch);
    const auto p = plan(arch, {"d_ff_expert=96"});
    REQUIRE_MESSAGE(p.ok(), p.status().message());
    CHECK(p->config.d_ff == 96);
    CHECK(p->metadata.get<int32_t>(std::string(arch) + ".feed_forward_length").value() == 96);
  }
}

TEST_CASE("every name that is listed can be set") {
  for (const std::string& name : config_names()) {
    CAPTURE(name);
    const Status s = plan("olmoe", {name + "=x"}).status();
    CHECK(s.message().find("unknown setting") == std::string::npos);
  }
}

TEST_CASE("bad settings are refused by name before anything is written") {
  struct Row {
    const char* setting;
    const char* words;
  };
  for (const Row& r : {Row{"n_layer", "NAME=VALUE"},
                       {"=3", "NAME=VALUE"},
                       {"layers=3", "unknown setting 'layers'"},
                       {"n_layer=three", "'three'"},
                       {"n_layer=3x", "'3x'"},
                       {"n_layer=", "''"},
                       {"n_layer=0", "block_count"},
                       {"n_vocab=100", "n_vocab"},
                       {"n_expert_used=99", "expert_used_count"},
                       {"n_head=-1", "head_count"},
                       {"d_model=99999999999", "d_model"},
                       {"norm_eps=nan", "epsilon"}}) {
    CAPTURE(r.setting);
    const Status s = plan("olmoe", {r.setting}).status();
    CHECK_FALSE(s.ok());
    CHECK_MESSAGE(s.message().find(r.words) != std::string::npos, s.message());
  }
  CHECK(plan("bert").status().code() == StatusCode::kUnsupported);
  CHECK(plan("olmoe", {}, "q9").status().code() == StatusCode::kInvalidArgument);
  // 2^64 elements: refused, not wrapped round
  CHECK_FALSE(plan("olmoe", {"n_layer=1", "n_expert=65536", "d_model=16777216", "d_ff=16777216"}).ok());
}

TEST_CASE("a borrowed vocabulary brings its tokens and its size") {
  const auto lender = plan("olmoe", {"n_vocab=400"});
  REQUIRE(lender.ok());
  SynthOptions o;
  o.arch = "qwen3moe";
  o.vocabulary = &lender->metadata;
  const auto p = plan_synth(o);
  REQUIRE(p.ok());
  CHECK(p->config.n_vocab == 400);
  CHECK(*p->metadata.get<std::string>("tokenizer.ggml.model") == "gpt2");
  CHECK(*p->metadata.get<std::string>("general.architecture") == "qwen3moe");
  o.settings = {"n_vocab=500"};
  CHECK(plan_synth(o).status().message().find("wanted 400") != std::string::npos);
  Metadata empty("empty.gguf");
  o.vocabulary = &empty;
  CHECK(plan_synth(o).status().code() == StatusCode::kNotFound);
}
