#include "models/routing.h"

#include <doctest/doctest.h>
#include <algorithm>
#include <limits>

namespace {

using moe::LayerRouting;
using moe::RoutingShape;
using moe::RoutingTopology;
using moe::Status;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// Layer 0 dense, layer 1 plain, layer 2 group-limited: 4 groups of 4, of which 2 win.
RoutingShape shape_of_three() {
  RoutingShape s;
  s.model_hash = 0x00c0ffee12345678;
  s.n_vocab = 10;
  s.layers = {{0, 0, 0, 1}, {8, 2, 256, 32}, {16, 4, 128, 1, 4, 2}};
  return s;
}

// Class 1 of two classes may not use experts 1 and 5 of layer 1.
RoutingTopology two_classes() {
  RoutingTopology t = moe::full_topology(shape_of_three());
  t.n_classes = 2;
  t.token_class = {0, 0, 0, 1, 1, 1, 1, 0, 0, 1};
  for (LayerRouting& r : t.layers) r.allow.assign(2 * static_cast<size_t>(r.n_experts), 1);
  t.layers[1].allow[8 + 1] = t.layers[1].allow[8 + 5] = 0;
  return t;
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("the full topology is valid and allows everything at the model's own k") {
  const RoutingShape shape = shape_of_three();
  const RoutingTopology t = moe::full_topology(shape);
  const Status s = moe::validate(t, shape);
  CHECK_MESSAGE(s.ok(), s.message());
  CHECK(t.model_hash == shape.model_hash);
  REQUIRE(t.layers.size() == 3);
  CHECK(t.layers[0] == LayerRouting{});
  CHECK(t.layers[1].allow == std::vector<uint8_t>(8, 1));
  CHECK(t.layers[1].k_min == 2);
  CHECK(t.layers[1].k_max == 2);
  CHECK(t.layers[2].k_max == 4);
}

TEST_CASE("masks per class, redirects, widths and biases within the rules are valid") {
  const RoutingShape shape = shape_of_three();
  RoutingTopology t = two_classes();
  t.layers[1].redirect = {-1, 4, -1, -1, -1, -1, -1, -1};
  t.layers[1].width = {32, 64, 96, 128, 160, 192, 224, 256};
  t.layers[1].bias.assign(8, -1.5f);
  t.layers[1].threshold = 1;
  t.layers[1].k_min = 1;
  const Status s = moe::validate(t, shape);
  CHECK_MESSAGE(s.ok(), s.message());
}

TEST_CASE("a layer with k of 0 is skipped: valid, nothing kept, and edits of k and threshold leave it so") {
  const RoutingShape shape = shape_of_three();
  RoutingTopology t = two_classes();
  t.layers[1].k_min = t.layers[1].k_max = 0;
  CHECK(moe::validate(t, shape).ok());
  const auto summary = moe::summarize(t, shape);
  CHECK(summary.layers[0].kept == 0);
  CHECK(summary.layers[0].bytes == 0);
  CHECK(summary.layers[0].flops_high == 0);
  CHECK(summary.total.kept == 16);
  for (const RoutingTopology& edited : {moe::with_k(t, shape, 3), moe::with_threshold(t, 0.5f)}) {
    CHECK(moe::validate(edited, shape).ok());
    CHECK(edited.layers[1].k_max == 0);
  }
  const auto back = moe::topology_from_json(moe::to_json(t));
  REQUIRE(back.ok());
  CHECK(*back == t);
}

TEST_CASE("every violation is refused by name") {
  struct Case {
    const char* message;
    void (*edit)(RoutingTopology&);
  };
  const Case cases[] = {
      {"model_hash: wanted 00c0ffee12345678 (this model), found 0000000000000007 (another model)",
       [](RoutingTopology& t) { t.model_hash = 7; }},
      {"layers: wanted 3, found 2", [](RoutingTopology& t) { t.layers.pop_back(); }},
      {"n_classes: wanted 1 to 16, found 0", [](RoutingTopology& t) { t.n_classes = 0; }},
      {"n_classes: wanted 1 to 16, found 17", [](RoutingTopology& t) { t.n_classes = 17; }},
      {"token_class: wanted none or 10 entries (the vocabulary), found 9",
       [](RoutingTopology& t) { t.token_class.pop_back(); }},
      {"token_class[4]: wanted 0 to 1, found 2", [](RoutingTopology& t) { t.token_class[4] = 2; }},
      {"layer 0: n_experts: wanted 0, the layer is dense, found 3", [](RoutingTopology& t) { t.layers[0].n_experts = 3; }},
      {"layer 0: n_experts: wanted a dense layer without any other field", [](RoutingTopology& t) { t.layers[0].k_max = 1; }},
      {"layer 1: n_experts: wanted 8, found 7", [](RoutingTopology& t) { t.layers[1].n_experts = 7; }},
      {"layer 1: n_experts: wanted 8, found 0", [](RoutingTopology& t) { t.layers[1] = LayerRouting{}; }},
      {"layer 1: n_experts: wanted 8, found -1", [](RoutingTopology& t) { t.layers[1].n_experts = -1; }},
      {"layer 1: allow: wanted 2 x 8 entries, found 8", [](RoutingTopology& t) { t.layers[1].allow.resize(8); }},
      {"layer 1: allow[3]: wanted 0 or 1, found 2", [](RoutingTopology& t) { t.layers[1].allow[3] = 2; }},
      {"layer 1: bias: wanted none or 8 entries, found 1", [](RoutingTopology& t) { t.layers[1].bias.resize(1); }},
      {"layer 1: width: wanted none or 8 entries, found 9", [](RoutingTopology& t) { t.layers[1].width.resize(9); }},
      {"layer 1: redirect: wanted none or 8 entries, found 7", [](RoutingTopology& t) { t.layers[1].redirect.resize(7); }},
      {"layer 1: k_max: wanted at least 1, or k_min = k_max = 0 to skip the layer, found -1",
       [](RoutingTopology& t) { t.layers[1].k_max = -1; }},
      {"layer 1: k_max: wanted at least 1, or k_min = k_max = 0 to skip the layer, found 0",
       [](RoutingTopology& t) { t.layers[1].k_max = 0; }},
      {"layer 1: k_min: wanted at least 1, found 0", [](RoutingTopology& t) { t.layers[1].k_min = 0; }},
      {"layer 1: k_min: wanted at most k_max = 2, found 3", [](RoutingTopology& t) { t.layers[1].k_min = 3; }},
      {"layer 2: threshold: wanted 0 to 1, found nan", [](RoutingTopology& t) { t.layers[2].threshold = kNan; }},
      {"layer 2: threshold: wanted 0 to 1, found -0.5", [](RoutingTopology& t) { t.layers[2].threshold = -0.5f; }},
      {"layer 2: threshold: wanted 0 to 1, found 1.5", [](RoutingTopology& t) { t.layers[2].threshold = 1.5f; }},
      {"layer 1: temperature: wanted finite and above 0, found 0", [](RoutingTopology& t) { t.layers[1].temperature = 0; }},
      {"layer 1: temperature: wanted finite and above 0, found -1", [](RoutingTopology& t) { t.layers[1].temperature = -1; }},
      {"layer 1: temperature: wanted finite and above 0, found inf",
       [](RoutingTopology& t) { t.layers[1].temperature = kInf; }},
      {"layer 1: temperature: wanted finite and above 0, found nan",
       [](RoutingTopology& t) { t.layers[1].temperature = kNan; }},
      {"layer 1: bias[6]: wanted a finite number, found inf",
       [](RoutingTopology& t) { t.layers[1].bias.resize(8), t.layers[1].bias[6] = kInf; }},
      {"layer 1: width[2]: wanted 1 to d_ff = 256, found 0",
       [](RoutingTopology& t) { t.layers[1].width.assign(8, 32), t.layers[1].width[2] = 0; }},
      {"layer 1: width[2]: wanted 1 to d_ff = 256, found 288",
       [](RoutingTopology& t) { t.layers[1].width.assign(8, 32), t.layers[1].width[2] = 288; }},
      {"layer 1: width[7]: wanted a multiple of 32 (block of the weights' format), found 33",
       [](RoutingTopology& t) { t.layers[1].width.assign(8, 32), t.layers[1].width[7] = 33; }},
      {"layer 1: redirect[1]: wanted another expert, found the expert itself",
       [](RoutingTopology& t) { t.layers[1].redirect.assign(8, -1), t.layers[1].redirect[1] = 1; }},
      {"layer 1: redirect[1]: wanted -1 to 7, found 8",
       [](RoutingTopology& t) { t.layers[1].redirect.assign(8, -1), t.layers[1].redirect[1] = 8; }},
      {"layer 1: redirect[1]: wanted -1 to 7, found -2",
       [](RoutingTopology& t) { t.layers[1].redirect.assign(8, -1), t.layers[1].redirect[1] = -2; }},
      {"layer 1: redirect[1]: wanted an expert that class 1 may use, found 5, which is masked there",
       [](RoutingTopology& t) { t.layers[1].redirect.assign(8, -1), t.layers[1].redirect[1] = 5; }},
      {"layer 1: redirect[0]: wanted -1, since every class may use expert 0, found 2",
       [](RoutingTopology& t) { t.layers[1].redirect.assign(8, -1), t.layers[1].redirect[0] = 2; }},
      {"layer 1: class 1: wanted at least k_max = 2 usable experts, found 1",
       [](RoutingTopology& t) { std::fill(t.layers[1].allow.begin() + 8, t.layers[1].allow.end() - 1, uint8_t{0}); }},
      {"layer 1: class 0: wanted at least k_max = 9 usable experts, found 8",
       [](RoutingTopology& t) { t.layers[1].k_max = 9; }},
      {"layer 2: class 0: wanted at least k_max = 9 usable experts, found 8 in the 2 of 4 groups that hold the fewest",
       [](RoutingTopology& t) { t.layers[2].k_max = 9; }},
  };
  const RoutingShape shape = shape_of_three();
  REQUIRE(moe::validate(two_classes(), shape).ok());
  for (const Case& c : cases) {
    CAPTURE(c.message);
    RoutingTopology t = two_classes();
    c.edit(t);
    const Status s = moe::validate(t, shape);
    REQUIRE_FALSE(s.ok());
    CHECK(s.code() == moe::StatusCode::kInvalidArgument);
    check_contains(s.message(), c.message);
  }
}

TEST_CASE("masked experts with a redirect count as usable, others do not") {
  const RoutingShape shape = shape_of_three();
  RoutingTopology t = moe::full_topology(shape);
  LayerRouting& r = t.layers[1];
  r.allow = {1, 0, 0, 0, 0, 0, 0, 0};
  CHECK_FALSE(moe::validate(t, shape).ok());
  r.redirect = {-1, -1, 0, -1, -1, -1, -1, -1};
  CHECK(moe::validate(t, shape).ok());
}

TEST_CASE("group-limited routing needs k_max experts in the winners that hold the fewest, empty groups aside") {
  const RoutingShape shape = shape_of_three();
  RoutingTopology t = moe::full_topology(shape);
  std::vector<uint8_t>& allow = t.layers[2].allow;  // 4 groups of 4, 2 win, k is 4
  std::fill(allow.begin(), allow.begin() + 4, uint8_t{0});
  CHECK(moe::validate(t, shape).ok());  // 0 4 4 4
  std::fill(allow.begin() + 4, allow.begin() + 12, uint8_t{0});
  CHECK(moe::validate(t, shape).ok());  // 0 0 0 4
  allow[0] = 1, allow[4] = 1;
  const Status s = moe::validate(t, shape);  // 1 1 0 4: the winners may be the two single ones
  REQUIRE_FALSE(s.ok());
  check_contains(s.message(), "found 2 in the 2 of 4 groups");
}

TEST_CASE("the hash follows what routes and nothing else") {
  const RoutingTopology base = two_classes();
  const uint64_t h = moe::hash(base);
  RoutingTopology same = base;
  same.note = "other words";
  same.layers[1].redirect.assign(8, -1);
  same.layers[1].bias.assign(8, 0.0f);
  same.layers[1].bias[2] = -0.0f;
  CHECK(moe::hash(same) == h);
  void (*const edits[])(RoutingTopology&) = {
      [](RoutingTopology& t) { t.model_hash ^= 1; },
      [](RoutingTopology& t) { t.n_classes = 3; },
      [](RoutingTopology& t) { t.token_class[0] = 1; },
      [](RoutingTopology& t) { t.token_class.clear(); },
      [](RoutingTopology& t) { t.layers.pop_back(); },
      [](RoutingTopology& t) { std::swap(t.layers[1], t.layers[2]); },
      [](RoutingTopology& t) { std::swap(t.layers[1].allow[9], t.layers[1].allow[10]); },
      [](RoutingTopology& t) { t.layers[1].k_min = 1; },
      [](RoutingTopology& t) { t.layers[1].k_max = 3; },
      [](RoutingTopology& t) { t.layers[1].threshold = 0.125f; },
      [](RoutingTopology& t) { t.layers[1].temperature = 2; },
      [](RoutingTopology& t) { t.layers[1].bias.assign(8, 1.0f); },
      [](RoutingTopology& t) { t.layers[1].width.assign(8, 32); },
      [](RoutingTopology& t) { t.layers[1].redirect = {-1, 2, -1, -1, -1, -1, -1, -1}; },
  };
  std::vector<uint64_t> seen = {h};
  for (const auto edit : edits) {
    RoutingTopology t = base;
    edit(t);
    seen.push_back(moe::hash(t));
  }
  std::sort(seen.begin(), seen.end());
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
  CHECK(moe::hash_to_hex(0x0123456789abcdef) == "0123456789abcdef");
}

TEST_CASE("the hash of a topology is this number on every platform") {
  CHECK(moe::hash_to_hex(moe::hash(two_classes())) == "41e9a79e78b61479");
}

TEST_CASE("with_k sets every layer's k, capped at its experts, and keeps a lower k_min of dynamic layers") {
  const RoutingShape shape = shape_of_three();
  const RoutingTopology full = moe::full_topology(shape);
  const RoutingTopology six = moe::with_k(full, shape, 6);
  CHECK(six.layers[0] == LayerRouting{});
  CHECK(six.layers[1].k_min == 6);
  CHECK(six.layers[1].k_max == 6);
  CHECK(moe::validate(six, shape).ok());
  const RoutingTopology ten = moe::with_k(full, shape, 10);
  CHECK(ten.layers[1].k_max == 8);
  CHECK(ten.layers[2].k_max == 10);
  check_contains(moe::validate(moe::with_k(full, shape, 17), shape).message(), "layer 1: class 0: wanted at least k_max = 17");
  check_contains(moe::validate(moe::with_k(full, shape, 0), shape).message(),
                 "k_max: wanted at least 1, or k_min = k_max = 0 to skip the layer, found 0");
  const RoutingTopology dynamic = moe::with_k(moe::with_threshold(full, 0.5f), shape, 3);
  CHECK(dynamic.layers[1].k_min == 1);
  CHECK(dynamic.layers[1].k_max == 3);
}

TEST_CASE("with_threshold lets every routed layer go down to one expert") {
  const RoutingShape shape = shape_of_three();
  const RoutingTopology t = moe::with_threshold(moe::full_topology(shape), 0.25f);
  CHECK(t.layers[0] == LayerRouting{});
  CHECK(t.layers[2].threshold == 0.25f);
  CHECK(t.layers[2].k_min == 1);
  CHECK(t.layers[2].k_max == 4);
  CHECK(moe::validate(t, shape).ok());
}

TEST_CASE("with_width rounds up to the block of the format and never above d_ff") {
  const RoutingShape shape = shape_of_three();  // d_ff 256 by 32, and 128 by 1
  const RoutingTopology full = moe::full_topology(shape);
  struct Case {
    double fraction;
    int first, second;
  };
  for (const Case& c :
       {Case{0.5, 128, 64}, Case{0.51, 160, 66}, Case{1e-9, 32, 1}, Case{0.99, 256, 127}, Case{0.125, 32, 16}}) {
    CAPTURE(c.fraction);
    const RoutingTopology t = moe::with_width(full, shape, c.fraction);
    CHECK(t.layers[0] == LayerRouting{});
    CHECK(t.layers[1].width == std::vector<int32_t>(8, c.first));
    CHECK(t.layers[2].width == std::vector<int32_t>(16, c.second));
    CHECK(moe::validate(t, shape).ok());
  }
  RoutingShape third = shape;
  third.layers[2].d_ff = 30;  // 0.1 · 30 is 3.0000000000000004 in double
  CHECK(moe::with_width(full, third, 0.1).layers[2].width[0] == 3);
  CHECK(moe::with_width(moe::with_width(full, shape, 0.5), shape, 1) == full);
  for (double bad : {0.0, -1.0, double(kNan)}) {
    check_contains(moe::validate(moe::with_width(full, shape, bad), shape).message(),
                   "width[0]: wanted 1 to d_ff = 256, found 0");
  }
}

TEST_CASE("the summary of the full topology saves nothing") {
  const RoutingShape shape = shape_of_three();
  const moe::TopologySummary s = moe::summarize(moe::full_topology(shape), shape);
  REQUIRE(s.layers.size() == 2);
  CHECK(s.layers[0].index == 1);
  CHECK(s.layers[0].kept == 8);
  CHECK(s.total.kept == 24);
  CHECK(s.total.n_experts == 24);
  CHECK(s.total.k_low == 3);
  for (const auto& l : {s.layers[0], s.layers[1], s.total}) {
    CHECK(l.width == 1);
    CHECK(l.flops_low == 1);
    CHECK(l.flops_high == 1);
    CHECK(l.bytes == 1);
  }
}

TEST_CASE("the summary counts kept experts, widths, FLOPs and bytes") {
  const RoutingShape shape = shape_of_three();
  RoutingTopology t = two_classes();
  LayerRouting& r = t.layers[1];
  r.allow[0] = r.allow[8] = 0;  // expert 0 is out for both classes, 1 and 5 for one only
  r.width.assign(8, 128);
  r.width[7] = 256;
  r.k_min = 1, r.threshold = 0.5f;
  const moe::TopologySummary s = moe::summarize(t, shape);
  const auto& l = s.layers[0];
  CHECK(l.kept == 7);
  CHECK(l.k_low == 1);
  CHECK(l.k_high == 2);
  CHECK(l.width == doctest::Approx(8.0 / 14));              // six halves and a whole over seven
  CHECK(l.flops_low == doctest::Approx(4.0 / 14));          // one of two experts
  CHECK(l.flops_high == doctest::Approx(8.0 / 14));         //
  CHECK(l.bytes == doctest::Approx(4.0 / 8));               // six halves and a whole over eight
  CHECK(s.total.kept == 23);                                // layer 2 is whole: k · d_ff = 4 · 128, n · d_ff = 16 · 128,
  CHECK(s.total.flops_high == doctest::Approx(11.0 / 14));  // as many as layer 1's 2 · 256
  CHECK(s.total.bytes == doctest::Approx(0.75));            // and 8 · 256
  CHECK(s.total.k_low == 2.5);
}

TEST_CASE("a model without MoE layers has an empty summary") {
  RoutingShape shape;
  shape.layers.resize(2);
  const RoutingTopology t = moe::full_topology(shape);
  CHECK(moe::validate(t, shape).ok());
  CHECK(moe::summarize(t, shape).layers.empty());
  CHECK(moe::summarize(t, shape).total.bytes == 1);
}

TEST_CASE("diff lists what changed and is empty for topologies that route alike") {
  const RoutingTopology a = two_classes();
  RoutingTopology b = a;
  b.note = "n";
  b.layers[1].redirect.assign(8, -1);
  b.layers[1].bias.assign(8, 0.0f);
  CHECK(moe::diff(a, b).empty());
  b.token_class[0] = 1;
  b.layers[1].allow[8 + 1] = 1;
  for (size_t e : {2u, 4u, 5u, 6u}) b.layers[1].allow[e] = 0;
  b.layers[1].threshold = 0.1f;
  b.layers[2].k_max = 3;
  b.layers[2].width.assign(16, 128);
  std::fill(b.layers[2].width.begin() + 1, b.layers[2].width.end(), 0);
  b.layers[1].redirect[2] = 3;
  b.layers[1].bias[7] = -0.5f;
  CHECK(moe::diff(a, b) ==
        "token_class of 1 token\n"
        "layer 1: threshold 0 -> 0.1\n"
        "layer 1: class 0: masked 2, 4-6\n"
        "layer 1: class 1: allowed 1\n"
        "layer 1: bias of expert 7 0 -> -0.5\n"
        "layer 1: redirect of expert 2 none -> 3\n"
        "layer 2: k_max 4 -> 3\n"
        "layer 2: width of expert 0 all -> 128\n");
  b = a;
  b.layers.pop_back();
  b.model_hash = 1;
  CHECK(moe::diff(a, b) == "model_hash 00c0ffee12345678 -> 0000000000000001\nlayers 3 -> 2\n");
}
