// The table of architectures: what their example models declare, and what each one's own rules demand of the keys.
#include "models/arch.h"

#include <doctest/doctest.h>

#include <set>

#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

// The example as a file would state it, read back and configured.
Result<ModelConfig> settled(const Metadata& metadata) {
  MOE_ASSIGN(ModelConfig c, read_config(metadata));
  MOE_ASSIGN(const ArchDef* arch, find_arch(c.arch));
  MOE_TRY(arch->configure(c, metadata.source()));
  return c;
}

Metadata keys_of(const ModelConfig& config) {
  Metadata m("file");
  write_config(config, m);
  return m;
}

void check_refused(const Metadata& m, std::string_view text) {
  const auto c = settled(m);
  REQUIRE_FALSE(c.ok());
  CHECK(is_one_line(c.status()));
  CHECK_MESSAGE(has_text(c.status(), text), c.status().message());
  CHECK(has_text(c.status(), "file: "));
}

}  // namespace

TEST_CASE("all seven architectures are found by the name that files give them") {
  std::set<std::string> names;
  for (const ArchDef& a : all_archs()) {
    names.insert(a.name);
    auto found = find_arch(a.name);
    REQUIRE(found.ok());
    CHECK(*found == &a);
    CHECK(std::string(a.description).size() > 3);
  }
  CHECK(names == std::set<std::string>{"llama", "olmoe", "qwen2moe", "qwen3moe", "granitemoe", "gpt-oss", "deepseek2"});
  CHECK(find_arch("LLAMA").status().code() == StatusCode::kUnsupported);
}

TEST_CASE("the keys of every example read back as the same configuration") {
  for (const ArchDef& a : all_archs()) {
    CAPTURE(a.name);
    ModelConfig c = a.example();
    const auto once = settled(keys_of(c));
    REQUIRE_MESSAGE(once.ok(), once.status().message());
    const auto twice = settled(keys_of(*once));
    REQUIRE_MESSAGE(twice.ok(), twice.status().message());
    CHECK(*once == *twice);
    CHECK(once->n_layer == c.n_layer);
    CHECK(once->n_expert == c.n_expert);
  }
}

TEST_CASE("every example declares each of its tensors once, layer by layer, and builds a sound graph") {
  for (const ArchDef& a : all_archs()) {
    CAPTURE(a.name);
    ModelConfig c = a.example();
    c.n_vocab = 300;
    REQUIRE(a.configure(c, "example").ok());
    auto declared = declare_tensors(c);
    REQUIRE_MESSAGE(declared.ok(), declared.status().message());
    std::set<std::string> names;
    for (const DeclaredTensor& d : *declared) {
      CHECK(names.insert(d.name).second);
      CHECK(d.name.starts_with("blk." + std::to_string(d.layer) + ".") == (d.layer >= 0));
      CHECK(d.shape.is_static());
    }
    CHECK(names.count("token_embd.weight") == 1);
    CHECK(names.count("output_norm.weight") == 1);
    auto g = build_graph(c, {}, nullptr);
    REQUIRE_MESSAGE(g.ok(), g.status().message());
    CHECK(g->graph.validate().ok());
    CHECK(g->routers.size() == static_cast<size_t>(c.n_layer));
    int routed = 0;
    for (const RouterValues& r : g->routers) routed += r.n_experts > 0;
    CHECK(routed == c.n_layer - c.n_dense_lead);
  }
}

TEST_CASE("an architecture with experts demands their count and width") {
  for (const std::string name : {"olmoe", "qwen2moe", "qwen3moe", "granitemoe", "gpt-oss", "deepseek2"}) {
    CAPTURE(name);
    const ModelConfig c = (*find_arch(name))->example();
    Metadata m = keys_of(c);
    m.remove(std::string(name) + ".expert_count");
    check_refused(m, "expert_count");
    m = keys_of(c);
    m.remove(std::string(name) + ".expert_feed_forward_length"), m.remove(std::string(name) + ".feed_forward_length");
    check_refused(m, "feed_forward_length");
  }
}

TEST_CASE("rules of single architectures name their key") {
  Metadata granite = keys_of((*find_arch("granitemoe"))->example());
  granite.remove("granitemoe.logit_scale");
  check_refused(granite, "granitemoe.logit_scale");
  Metadata deepseek = keys_of((*find_arch("deepseek2"))->example());
  deepseek.remove("deepseek2.attention.kv_lora_rank");
  check_refused(deepseek, "kv_lora_rank");
  ModelConfig dense = (*find_arch("llama"))->example();
  dense.n_expert = dense.n_expert_used = 0;
  CHECK(settled(keys_of(dense)).ok());
  Metadata llama = keys_of(dense);
  llama.remove("llama.feed_forward_length");
  check_refused(llama, "llama.feed_forward_length");
}

TEST_CASE("one number a layer is taken where all layers agree") {
  const ModelConfig c = (*find_arch("llama"))->example();
  Metadata m = keys_of(c);
  m.set("llama.attention.head_count_kv", std::vector<uint32_t>(4, 4));
  auto equal = settled(m);
  REQUIRE(equal.ok());
  CHECK(equal->n_kv_head == 4);
  m.set("llama.attention.head_count_kv", std::vector<uint32_t>{4, 4, 2, 4});
  check_refused(m, "differ between layers");
}

}  // namespace moe
