#include "models/quant_mix.h"

#include <doctest/doctest.h>
#include <map>

using namespace moe;

namespace {

struct Shape2 {
  int n_layer = 32, n_expert = 0, n_head = 32, n_kv_head = 32;
  bool head = true;
  int64_t width = 4096;
};

std::string block(int layer, const std::string& suffix) { return "blk." + std::to_string(layer) + "." + suffix; }

// The tensors of a model in an order that is not that of its layers.
std::vector<TypeRequest> tensors_of(const Shape2& s) {
  std::vector<TypeRequest> all = {{"token_embd.weight", {1000, s.width}, DType::kF32},
                                  {"output_norm.weight", {s.width}, DType::kF32}};
  if (s.head) all.push_back({"output.weight", {1000, s.width}, DType::kF32});
  for (int i = s.n_layer - 1; i >= 0; --i) {
    for (const char* name : {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"}) {
      all.push_back({block(i, name), {s.width, s.width}, DType::kF32});
    }
    all.push_back({block(i, "attn_norm.weight"), {s.width}, DType::kF32});
    all.push_back({block(i, "attn_q.bias"), {s.width}, DType::kF32});
    const std::string tail = s.n_expert ? "_exps.weight" : ".weight";
    for (const char* name : {"ffn_gate", "ffn_up", "ffn_down"}) {
      std::vector<int64_t> shape = {s.width, s.width};
      if (s.n_expert) shape.insert(shape.begin(), s.n_expert);
      all.push_back({block(i, name + tail), shape, DType::kF32});
    }
    if (s.n_expert) all.push_back({block(i, "ffn_gate_inp.weight"), {s.n_expert, s.width}, DType::kF32});
    if (s.n_expert) all.push_back({block(i, "ffn_up_exps.bias"), {s.n_expert, s.width}, DType::kF32});
  }
  return all;
}

Metadata metadata_of(const Shape2& s) {
  Metadata m;
  m.set("general.architecture", "llama");
  m.set("llama.block_count", static_cast<uint32_t>(s.n_layer));
  m.set("llama.expert_count", static_cast<uint32_t>(s.n_expert));
  m.set("llama.attention.head_count", static_cast<uint32_t>(s.n_head));
  m.set("llama.attention.head_count_kv", static_cast<uint32_t>(s.n_kv_head));
  return m;
}

using Types = std::map<std::string, std::string>;  // tensor → format

Types choose(const Shape2& s, const TypeChoiceOptions& options) {
  const auto requests = tensors_of(s);
  const auto choices = choose_types(requests, metadata_of(s), options);
  REQUIRE_MESSAGE(choices.ok(), choices.status().message());
  Types types;
  for (size_t i = 0; i < requests.size(); ++i) types[requests[i].name] = traits((*choices)[i].type).name;
  return types;
}

Types choose(const Shape2& s, const std::string& mix) {
  TypeChoiceOptions o;
  o.mix = mix;
  return choose(s, o);
}

// Layers where a tensor is not of the type `base`: "0-3 6 28-31".
std::string layers_not(const Types& types, const std::string& suffix, const std::string& base, int n_layer) {
  std::string text;
  for (int i = 0; i < n_layer; ++i) {
    if (const std::string& t = types.at(block(i, suffix)); t != base)
      text += (text.empty() ? "" : " ") + std::to_string(i) + ":" + t;
  }
  return text;
}

}  // namespace

TEST_CASE("norms, biases, routers and vectors keep their type under every mix") {
  for (const QuantMixName& mix : quant_mixes()) {
    CAPTURE(mix.name);
    const Types t = choose({.n_layer = 2, .n_expert = 16}, mix.name);
    for (const char* name : {"output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.bias", "blk.1.ffn_gate_inp.weight",
                             "blk.1.ffn_up_exps.bias"}) {
      CHECK(t.at(name) == "f32");
    }
  }
  CHECK_FALSE(is_quantizable("blk.0.attn_q.weight", std::vector<int64_t>{1, 64}));
  CHECK(is_quantizable("blk.0.attn_q.weight", std::vector<int64_t>{2, 64}));
}

TEST_CASE("most matrices of a mix get its base type") {
  for (const QuantMixName& mix : quant_mixes()) {
    if (mix.base == DType::kMXFP4) continue;
    CAPTURE(mix.name);
    const Types t = choose({.n_layer = 8, .n_expert = 16}, mix.name);
    CHECK(t.at("blk.5.attn_q.weight") == traits(mix.base).name);
    CHECK(t.at("blk.5.ffn_gate_exps.weight") == traits(mix.base).name);
    CHECK(t.at("token_embd.weight") == traits(mix.base).name);
  }
}

TEST_CASE("q4_k_m gives the first and last eighth and every third layer between more bits") {
  const Types t = choose({.n_layer = 16, .n_expert = 16}, "q4_k_m");
  const std::string wanted = "0:q6_k 1:q6_k 4:q6_k 7:q6_k 10:q6_k 13:q6_k 14:q6_k 15:q6_k";
  CHECK(layers_not(t, "attn_v.weight", "q4_k", 16) == wanted);
  CHECK(layers_not(t, "ffn_down_exps.weight", "q4_k", 16) == wanted);
  CHECK(layers_not(t, "attn_output.weight", "q4_k", 16) == "");
  CHECK(t.at("output.weight") == "q6_k");
  CHECK(choose({.n_layer = 16, .n_expert = 16}, "Q4_K") == t);  // its other name
}

TEST_CASE("other mixes spend bits where llama.cpp does") {
  const Types s = choose({.n_layer = 16}, "q4_k_s");
  CHECK(layers_not(s, "attn_v.weight", "q4_k", 16) == "0:q5_k 1:q5_k 2:q5_k 3:q5_k");
  CHECK(layers_not(s, "ffn_down.weight", "q4_k", 16) == "0:q5_k 1:q5_k");
  const Types m = choose({.n_layer = 32}, "q3_k_m");
  CHECK(layers_not(m, "attn_v.weight", "q4_k", 32) == "0:q5_k 1:q5_k");
  CHECK(layers_not(m, "ffn_down.weight", "q4_k", 32) == "0:q5_k 1:q5_k");
  CHECK(m.at("blk.9.attn_output.weight") == "q4_k");
  CHECK(m.at("blk.9.attn_q.weight") == "q3_k");
  CHECK(choose({.n_layer = 4}, "q2_k").at("blk.2.attn_v.weight") == "q3_k");
  CHECK(choose({.n_layer = 4, .n_head = 32, .n_kv_head = 8}, "q2_k").at("blk.2.attn_v.weight") == "q4_k");
  CHECK(choose({.n_layer = 4}, "q8_0").at("output.weight") == "q8_0");
}

TEST_CASE("a model of 8 experts spends more on its few attention weights") {
  const Types t = choose({.n_layer = 4, .n_expert = 8}, "q4_k_m");
  CHECK(t.at("blk.1.attn_v.weight") == "q8_0");
  CHECK(t.at("blk.1.attn_k.weight") == "q8_0");
  CHECK(t.at("blk.1.attn_output.weight") == "q5_k");
  CHECK(t.at("blk.1.attn_q.weight") == "q4_k");
}

TEST_CASE("an embedding that is the output too is stored as an output") {
  CHECK(choose({.n_layer = 2, .head = false}, "q4_k_m").at("token_embd.weight") == "q6_k");
  TypeChoiceOptions o;
  o.mix = "q4_k_m";
  o.output_type = DType::kF16;
  CHECK(choose({.n_layer = 2, .head = false}, o).at("token_embd.weight") == "f16");
  CHECK(choose({.n_layer = 2, .head = true}, o).at("token_embd.weight") == "q4_k");
}

TEST_CASE("mxfp4 is for experts, what is beside them becomes q8_0") {
  const Types t = choose({.n_layer = 2, .n_expert = 16}, "mxfp4");
  CHECK(t.at("blk.0.ffn_down_exps.weight") == "mxfp4");
  CHECK(t.at("blk.0.attn_q.weight") == "q8_0");
  CHECK(t.at("output.weight") == "q8_0");
}

TEST_CASE("rows that are no whole blocks get the next larger format that fits, and why is said") {
  struct Row {
    const char* mix;
    int64_t width;
    const char* type;
  };
  for (const Row& r : {Row{"q2_k", 96, "q4_0"},
                       {"q3_k_s", 96, "q4_0"},
                       {"q4_k_s", 96, "q5_0"},
                       {"q5_k_s", 96, "q5_1"},
                       {"q6_k", 96, "q8_0"},
                       {"q6_k", 48, "f16"},
                       {"q4_0", 48, "f16"},
                       {"q4_0", 96, "q4_0"}}) {
    CAPTURE(r.mix);
    CAPTURE(r.width);
    TypeChoiceOptions o;
    o.mix = r.mix;
    const std::vector<TypeRequest> request = {{"blk.0.attn_q.weight", {8, r.width}, DType::kF32}};
    const auto choice = choose_types(request, {}, o);
    REQUIRE(choice.ok());
    CHECK(traits(choice->front().type).name == std::string(r.type));
    const bool as_wanted = std::string(r.mix) == r.type;
    CHECK(choice->front().fallback.empty() == as_wanted);
  }
}

TEST_CASE("rules come before the mix, the first that matches wins, and --pure knows no exceptions") {
  TypeChoiceOptions o;
  o.mix = "q4_k_m";
  o.rules = {{"blk.0.*", DType::kQ8_0}, {"*.ffn_down_exps.weight", DType::kQ2_K}, {"*ffn_gate_inp*", DType::kQ2_K}};
  const auto refused = choose_types(tensors_of({.n_layer = 2, .n_expert = 16}), metadata_of({}), o);
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);  // routers never change
  o.rules.pop_back();
  const Types t = choose({.n_layer = 2, .n_expert = 16}, o);
  CHECK(t.at("blk.0.ffn_down_exps.weight") == "q8_0");
  CHECK(t.at("blk.1.ffn_down_exps.weight") == "q2_k");
  CHECK(t.at("blk.0.attn_norm.weight") == "f32");
  CHECK(t.at("blk.0.ffn_gate_inp.weight") == "f32");
  o.rules.clear();
  o.pure = true;
  for (const auto& [name, type] : choose({.n_layer = 8, .n_expert = 8}, o)) CHECK((type == "q4_k" || type == "f32"));
}

TEST_CASE("the order of the tensors in the file does not change their types") {
  TypeChoiceOptions o;
  o.mix = "q4_k_s";
  const auto backwards = tensors_of({.n_layer = 16});
  const std::vector<TypeRequest> forwards(backwards.rbegin(), backwards.rend());
  const auto a = choose_types(backwards, metadata_of({.n_layer = 16}), o),
             b = choose_types(forwards, metadata_of({.n_layer = 16}), o);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  for (size_t i = 0; i < a->size(); ++i) CHECK((*a)[i].type == (*b)[a->size() - 1 - i].type);
}

TEST_CASE("patterns match whole names") {
  CHECK(matches_pattern("*", ""));
  CHECK(matches_pattern("blk.?.attn_*.weight", "blk.3.attn_q.weight"));
  CHECK_FALSE(matches_pattern("blk.?.attn_*.weight", "blk.13.attn_q.weight"));
  CHECK_FALSE(matches_pattern("attn_q", "blk.3.attn_q.weight"));
  CHECK(matches_pattern("*a*b*c", "xaxbxbxc"));
  CHECK_FALSE(matches_pattern("*a*b*c", "xaxbxbx"));
  CHECK_FALSE(matches_pattern("", "x"));
  CHECK(matches_pattern("x**", "x"));
}

TEST_CASE("a wrong rule or mix is named") {
  CHECK(parse_tensor_rule("*.weight=q8_0").ok());
  for (const char* text : {"q8_0", "=q8_0", "*.weight=", "*.weight=q9", "*.weight=i32"}) {
    CAPTURE(text);
    CHECK(parse_tensor_rule(text).status().code() == StatusCode::kInvalidArgument);
  }
  TypeChoiceOptions o;
  o.mix = "q4_k_xl";
  const Status s = choose_types({}, {}, o).status();
  CHECK(s.message().find("'q4_k_xl'") != std::string::npos);
  CHECK(s.message().find("q4_k_m") != std::string::npos);
}
