// The text form of topologies: models/routing_json.cpp.
#include <doctest/doctest.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "core/rng.h"
#include "models/routing.h"
#include "tests/temp_folder.h"

namespace {

using moe::LayerRouting;
using moe::Rng;
using moe::RoutingShape;
using moe::RoutingTopology;
using moe::Status;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A dense layer and two routed ones; class 1 of two classes may not use experts 1 and 5 of layer 1.
RoutingTopology two_classes() {
  RoutingShape shape;
  shape.model_hash = 0x00c0ffee12345678;
  shape.n_vocab = 10;
  shape.layers = {{0, 0, 0, 1}, {8, 2, 256, 32}, {16, 4, 128, 1}};
  RoutingTopology t = moe::full_topology(shape);
  t.n_classes = 2;
  t.token_class = {0, 0, 0, 1, 1, 1, 1, 0, 0, 1};
  for (LayerRouting& r : t.layers) r.allow.assign(2 * static_cast<size_t>(r.n_experts), 1);
  t.layers[1].allow[8 + 1] = t.layers[1].allow[8 + 5] = 0;
  return t;
}

RoutingTopology parse(const std::string& text) {
  auto t = moe::topology_from_json(text);
  REQUIRE_MESSAGE(t.ok(), t.status().message());
  return std::move(t).value();
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

// Any float that is not NaN or infinite, all exponents alike.
float any_float(Rng& rng) {
  for (;;) {
    const uint32_t bits = rng.next_u32();
    float f;
    std::memcpy(&f, &bits, sizeof f);
    if (std::isfinite(f)) return f;
  }
}

// Well-formed, not valid for any model.
RoutingTopology random_topology(uint64_t seed) {
  Rng rng(seed);
  RoutingTopology t;
  t.model_hash = rng.next_u64();
  t.n_classes = 1 + static_cast<int>(rng.below(16));
  const uint8_t classes = static_cast<uint8_t>(t.n_classes);
  if (rng.below(2)) t.token_class.resize(1 + rng.below(300));
  for (uint8_t& c : t.token_class) c = static_cast<uint8_t>(rng.below(classes));
  if (rng.below(2)) t.note = "line one\nline \"two\" \\ \t\x01 é 漢 🙂";
  t.layers.resize(rng.below(6));
  for (LayerRouting& r : t.layers) {
    const size_t n = rng.below(4) ? rng.below(70) : 0;
    r.n_experts = static_cast<int>(n);
    if (n == 0) continue;
    r.allow.resize(n * classes);
    for (uint8_t& a : r.allow) a = rng.below(4) != 0;
    r.k_min = static_cast<int>(rng.below(10));
    r.k_max = static_cast<int>(rng.below(10));
    r.threshold = any_float(rng);
    r.temperature = any_float(rng);
    if (rng.below(2)) r.bias.resize(n);
    for (float& b : r.bias) b = any_float(rng);
    if (rng.below(2)) r.width.resize(n);
    for (int32_t& w : r.width) w = 1 + static_cast<int32_t>(rng.below(std::numeric_limits<int32_t>::max()));
    if (rng.below(2)) r.redirect.assign(n, -1);
    for (int32_t& to : r.redirect) to = static_cast<int32_t>(rng.below(n + 1)) - 1;
  }
  return t;
}

}  // namespace

TEST_CASE("JSON text is as documented") {
  RoutingTopology t = two_classes();
  t.note = "a \"note\"";
  t.layers[1].threshold = 0.1f;
  t.layers[1].redirect = {-1, 4, -1, -1, -1, -1, -1, -1};
  t.layers[1].width.assign(8, 64);
  t.layers[1].bias = {0, -0.5f, 1e-10f, 3, 0, 0, 0, 0};
  CHECK(moe::to_json(t) == R"({
  "format": "moe-topology",
  "version": 1,
  "model_hash": "00c0ffee12345678",
  "note": "a \"note\"",
  "n_classes": 2,
  "token_class": [[3, 0], [4, 1], [2, 0], [1, 1]],
  "layers": [
    {"n_experts": 0},
    {"n_experts": 8, "k_min": 2, "k_max": 2, "threshold": 0.1, "temperature": 1,
     "masked": [[], [1, 5]],
     "redirect": [[1, 4]],
     "width": [64, 64, 64, 64, 64, 64, 64, 64],
     "bias": [0, -0.5, 1e-10, 3, 0, 0, 0, 0]},
    {"n_experts": 16, "k_min": 4, "k_max": 4, "threshold": 0, "temperature": 1}
  ]
}
)");
}

TEST_CASE("random topologies survive JSON unchanged, to the bit of every float") {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const RoutingTopology t = random_topology(seed);
    const std::string text = moe::to_json(t);
    const RoutingTopology back = parse(text);
    CHECK(back == t);
    CHECK(moe::hash(back) == moe::hash(t));
    CHECK(moe::to_json(back) == text);
  }
}

TEST_CASE("every proper prefix of a topology's JSON is refused with a message") {
  for (uint64_t seed : {3u, 17u}) {
    RoutingTopology t = random_topology(seed);
    t.layers.resize(std::min<size_t>(t.layers.size(), 2));
    const std::string text = moe::to_json(t);
    for (size_t n = 0; n + 2 < text.size(); ++n) {  // without "}\n"
      const std::unique_ptr<char[]> block(new char[n]);
      std::copy_n(text.begin(), n, block.get());
      const auto r = moe::topology_from_json({block.get(), n});
      REQUIRE_FALSE(r.ok());
      REQUIRE(r.status().code() == moe::StatusCode::kCorrupt);
      REQUIRE(r.status().message().size() > 20);
    }
  }
}

TEST_CASE("a layer without optional keys gets their defaults") {
  const RoutingTopology t = parse(R"({"format":"moe-topology","version":1,"model_hash":"00000000000000FF",
                                      "layers":[{"n_experts":3,"k_min":1,"k_max":2}]})");
  CHECK(t.model_hash == 255);
  CHECK(t.n_classes == 1);
  CHECK(t.token_class.empty());
  REQUIRE(t.layers.size() == 1);
  CHECK(t.layers[0].allow == std::vector<uint8_t>(3, 1));
  CHECK(t.layers[0].threshold == 0);
  CHECK(t.layers[0].temperature == 1);
  CHECK(t.layers[0].redirect.empty());
}

TEST_CASE("hostile JSON is refused by path") {
  const auto document = [](const std::string& rest) {
    return R"({"format":"moe-topology","version":1,"model_hash":"0000000000000001",)" + rest + "}";
  };
  const auto layer = [&](const std::string& rest) {
    return document(R"("layers":[{"n_experts":0},{"n_experts":4,"k_min":1,"k_max":2,)" + rest + "}]");
  };
  REQUIRE(moe::topology_from_json(layer(R"("threshold":0.5)")).ok());
  std::string many = "0";
  for (int i = 0; i < 1024; ++i) many += ",0";
  struct Case {
    std::string text, message;
  };
  const Case cases[] = {
      {"", "parse error at line 1, column 1"},
      {"[", "parse error"},
      {"nonsense", "parse error"},
      {"\xff\xfe", "parse error"},
      {document(R"("layers":[])") + " {}", "parse error"},
      {"[]", "document: wanted an object, found an array of 0"},
      {"3", "document: wanted an object, found 3"},
      {"null", "document: wanted an object, found null"},
      {R"({"version":1})", "document: wanted the key \"format\", found none"},
      {R"({"format":"gguf"})", "format: wanted \"moe-topology\", found \"gguf\""},
      {R"({"format":3})", "format: wanted \"moe-topology\", found 3"},
      {R"({"format":"moe-topology"})", "document: wanted the key \"version\""},
      {R"({"format":"moe-topology","version":2})", "version: wanted an integer from 1 to 1, found 2"},
      {R"({"format":"moe-topology","version":1.0})", "version: wanted an integer from 1 to 1, found 1.0"},
      {R"({"format":"moe-topology","version":1})", "wanted the key \"model_hash\""},
      {R"({"format":"moe-topology","version":1,"model_hash":1})", "model_hash: wanted 16 hexadecimal digits, found 1"},
      {R"({"format":"moe-topology","version":1,"model_hash":"12"})", "model_hash: wanted 16 hexadecimal digits, found \"12\""},
      {R"({"format":"moe-topology","version":1,"model_hash":"0x00000000000001"})", "model_hash: wanted 16 hexadecimal digits"},
      {R"({"format":"moe-topology","version":1,"model_hash":"-000000000000001"})", "model_hash: wanted 16 hexadecimal digits"},
      {document(R"("note":"x")"), "document: wanted the key \"layers\""},
      {document(R"("layers":[],"layers":[])"), "layers: wanted each key once, found the key again"},
      {document(R"("layers":[],"layer":[])"), "document: wanted one of the keys format version"},
      {document(R"("layers":[],"note":[])"), "note: wanted a string, found an array of 0"},
      {document(R"("layers":[],"note":")" + std::string(70000, 'x') + "\""), "note: wanted at most 65536 bytes"},
      {document(R"("layers":{})"), "layers: wanted an array of at most 1024, found an object"},
      {document(R"("layers":[)" + many + "]"), "layers: wanted an array of at most 1024, found an array of 1025"},
      {document(R"("n_classes":0,"layers":[])"), "n_classes: wanted an integer from 1 to 16, found 0"},
      {document(R"("n_classes":17,"layers":[])"), "n_classes: wanted an integer from 1 to 16, found 17"},
      {document(R"("token_class":[],"layers":[])"), "token_class: wanted an array"},
      {document(R"("token_class":[3],"layers":[])"), "token_class[0]: wanted an array of 2, found 3"},
      {document(R"("token_class":[[1,0],[1,1]],"layers":[])"), "token_class[1][1]: wanted an integer from 0 to 0, found 1"},
      {document(R"("token_class":[[0,0]],"layers":[])"), "token_class[0][0]: wanted an integer from 1 to 16777216, found 0"},
      {document(R"("token_class":[[9999999999,0]],"layers":[])"), "token_class[0][0]: wanted an integer from 1 to 16777216"},
      {document(R"("token_class":[[16777216,0],[1,0]],"layers":[])"), "token_class[1][0]: wanted an integer from 1 to 0"},
      {document(R"("layers":[7])"), "layers[0]: wanted an object, found 7"},
      {document(R"("layers":[{}])"), "layers[0]: wanted the key \"n_experts\", found none"},
      {document(R"("layers":[{"n_experts":-1}])"), "layers[0].n_experts: wanted an integer from 0 to 4096, found -1"},
      {document(R"("layers":[{"n_experts":4097}])"), "layers[0].n_experts: wanted an integer from 0 to 4096, found 4097"},
      {document(R"("layers":[{"n_experts":18446744073709551615}])"), "layers[0].n_experts: wanted an integer from 0 to 4096"},
      {document(R"("layers":[{"n_experts":99999999999999999999}])"), "layers[0].n_experts: wanted an integer from 0 to 4096"},
      {document(R"("layers":[{"n_experts":"4"}])"), "layers[0].n_experts: wanted an integer from 0 to 4096, found \"4\""},
      {document(R"("layers":[{"n_experts":true}])"), "layers[0].n_experts: wanted an integer from 0 to 4096, found true"},
      {document(R"("layers":[{"n_experts":0,"k_min":1}])"), "layers[0]: wanted no other key beside \"n_experts\": 0, found 1"},
      {document(R"("layers":[{"n_experts":4}])"), "layers[0]: wanted the key \"k_min\""},
      {document(R"("layers":[{"n_experts":4,"k_min":1}])"), "layers[0]: wanted the key \"k_max\""},
      {document(R"("layers":[{"n_experts":4,"k_min":-1,"k_max":2}])"), "layers[0].k_min: wanted an integer from 0"},
      {layer(R"("k_min":2)"), "layers[1].k_min: wanted each key once"},
      {layer(R"("k":2)"), "layers[1]: wanted one of the keys n_experts k_min"},
      {layer("\"\\u00e9\\n\":2"), "found the key \"\\u00e9\\n\""},
      {layer(R"("threshold":"0.5")"), "layers[1].threshold: wanted a number, found \"0.5\""},
      {layer(R"("threshold":null)"), "layers[1].threshold: wanted a number, found null"},
      {layer(R"("threshold":NaN)"), "parse error"},
      {layer(R"("temperature":1e39)"), "number overflow parsing '1e39'"},
      {layer(R"("masked":[])"), "layers[1].masked: wanted an array of 1, found an array of 0"},
      {layer(R"("masked":[[0],[1]])"), "layers[1].masked: wanted an array of 1, found an array of 2"},
      {layer(R"("masked":[3])"), "layers[1].masked[0]: wanted an array of at most 4, found 3"},
      {layer(R"("masked":[[0,1,2,3,0]])"), "layers[1].masked[0]: wanted an array of at most 4, found an array of 5"},
      {layer(R"("masked":[[4]])"), "layers[1].masked[0][0]: wanted an integer from 0 to 3, found 4"},
      {layer(R"("masked":[[1,1]])"), "layers[1].masked[0][1]: wanted an integer from 2 to 3, found 1"},
      {layer(R"("masked":[[[[[[[[[]]]]]]]]])"), "wanted at most 8 levels of nesting, found more"},
      {layer(R"("redirect":{})"), "layers[1].redirect: wanted an array of at most 4, found an object"},
      {layer(R"("redirect":[[0]])"), "layers[1].redirect[0]: wanted an array of 2, found an array of 1"},
      {layer(R"("redirect":[[0,-1]])"), "layers[1].redirect[0][1]: wanted an integer from 0 to 3, found -1"},
      {layer(R"("redirect":[[2,0],[1,0]])"), "layers[1].redirect[1][0]: wanted an integer from 3 to 3, found 1"},
      {layer(R"("width":[1,2,3])"), "layers[1].width: wanted an array of 4, found an array of 3"},
      {layer(R"("width":[1,2,3,0])"), "layers[1].width[3]: wanted an integer from 1 to 2147483647, found 0"},
      {layer(R"("width":[1,2,3,2147483648])"), "layers[1].width[3]: wanted an integer"},
      {layer(R"("bias":[1,2,3,4,5])"), "layers[1].bias: wanted an array of 4, found an array of 5"},
      {layer(R"("bias":[1,2,[],4])"), "layers[1].bias[2]: wanted a number, found an array of 0"},
  };
  for (const Case& c : cases) {
    const auto r = moe::topology_from_json(c.text);
    CAPTURE(c.message);
    REQUIRE_FALSE(r.ok());
    CHECK(r.status().code() == moe::StatusCode::kCorrupt);
    check_contains(r.status().message(), c.message);
  }
}

TEST_CASE("deep nesting and long texts are refused without being built") {
  const auto deep = moe::topology_from_json(std::string(1000000, '['));
  REQUIRE_FALSE(deep.ok());
  check_contains(deep.status().message(), "at most 8 levels of nesting");
  const auto objects = moe::topology_from_json("{\"a\":{\"b\":[{\"c\":{\"d\":[{\"e\":{\"f\":{}}}]}}]}}");
  REQUIRE_FALSE(objects.ok());
  check_contains(objects.status().message(), "a.b[0].c.d[0].e.f: wanted at most 8 levels");
  const auto long_text = moe::topology_from_json(std::string(9 << 20, ' '));
  REQUIRE_FALSE(long_text.ok());
  check_contains(long_text.status().message(), "wanted at most 8388608 bytes, found 9437184");
}

TEST_CASE("messages about hostile text are short and printable") {
  for (const std::string& text :
       {"{\"" + std::string(100000, 'k') + "\":1}", "{\"" + std::string(100000, 'k') + "\\u0001\":[[[[[[[[[",
        "\"" + std::string(100000, 'k'), std::string("\xc3\xa9\xc3\xa9\x1b[31m")}) {
    const auto r = moe::topology_from_json(text);
    REQUIRE_FALSE(r.ok());
    const std::string& m = r.status().message();
    CHECK(m.size() < 400);
    CHECK(std::all_of(m.begin(), m.end(), [](char c) { return c >= ' ' && c <= '~'; }));
  }
}

TEST_CASE("a topology saved is the topology loaded, and errors name the file") {
  const moe::test::TempFolder folder;
  const std::string path = folder / "t.json";
  const RoutingTopology t = two_classes();
  const Status saved = moe::save_topology(t, path);
  REQUIRE_MESSAGE(saved.ok(), saved.message());
  const auto back = moe::load_topology(path);
  REQUIRE_MESSAGE(back.ok(), back.status().message());
  CHECK(*back == t);
  const auto broken = moe::load_topology(folder.write("broken.json", "{\"format\":"));
  REQUIRE_FALSE(broken.ok());
  check_contains(broken.status().message(), "broken.json: topology JSON: parse error");
  CHECK(moe::load_topology(folder / "missing.json").status().code() == moe::StatusCode::kNotFound);
}

TEST_CASE("a topology that JSON cannot hold is not written") {
  void (*const edits[])(RoutingTopology&) = {
      [](RoutingTopology& t) { t.layers[1].threshold = kNan; },
      [](RoutingTopology& t) { t.layers[1].allow.pop_back(); },
      [](RoutingTopology& t) { t.layers[1].bias = {1}; },
      [](RoutingTopology& t) { t.layers[1].n_experts = -3; },
      [](RoutingTopology& t) { t.n_classes = -1; },
      [](RoutingTopology& t) { t.layers[0].k_max = 2; },
      [](RoutingTopology& t) { t.note = "\xff"; },
  };
  const moe::test::TempFolder folder;
  for (const auto edit : edits) {
    RoutingTopology t = two_classes();
    edit(t);
    const Status s = moe::save_topology(t, folder / "never.json");
    CHECK(s.code() == moe::StatusCode::kInvalidArgument);
    check_contains(s.message(), "never.json: not written");
    CHECK(moe::load_topology(folder / "never.json").status().code() == moe::StatusCode::kNotFound);
  }
}
