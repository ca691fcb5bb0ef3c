#include "tensor/graph.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

// tokens → embed → rms_norm → linear with residual → logits
struct Small : GraphFixture {
  Small() {
    g.name = "small";
    const ValueId tokens = input("tokens", {kTokens}, DType::kI32);
    const ValueId table = weight("token_embd.weight", {100, 64}, DType::kQ8_0);
    const ValueId norm = weight("blk.0.norm.weight", {64});
    const ValueId w = weight("blk.0.ffn.weight", {64, 64}, DType::kQ4_0);
    x = op(Op::kEmbed, {table, tokens});
    g.value(x).name = "embed";
    y = op(Op::kRmsNorm, {x, norm}, NormAttrs{1e-5f, 64}, 0);
    z = op(Op::kLinear, {y, w, kNone, x}, ScaleAttrs{0.5f}, 0);
    output(z, "hidden");
  }
  ValueId x, y, z;
};

std::string error_of(const Graph& g) { return g.validate().message(); }

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_CASE("row i of the op table defines op i") {
  for (int i = 0; i < kNumOps; ++i) {
    const OpDef& def = op_def(static_cast<Op>(i));
    CHECK(static_cast<int>(def.op) == i);
    CHECK(std::string(def.name) == op_name(static_cast<Op>(i)));
    CHECK(!def.inputs.empty());
    const auto is_gradient = [](std::string_view input) { return input.starts_with("grad"); };
    CHECK((!def.outputs.empty() || std::any_of(def.inputs.begin(), def.inputs.end(), is_gradient)));
    CHECK(static_cast<bool>(def.infer));
    CHECK(static_cast<bool>(def.cost));
  }
}

TEST_CASE("the dump of a small graph is this text") {
  const Small s;
  CHECK(dump(s.g) ==
        "# small: 3 ops, 3 weights, 9360 bytes\n"
        "%4 embed:f32(T, 64) = embed(token_embd.weight:q8_0(100, 64), tokens:i32(T))\n"
        "%5:f32(T, 64) = rms_norm(%4, blk.0.norm.weight:f32(64)) {eps=1e-05, group=64}\n"
        "%6 hidden:f32(T, 64) = linear(%5, blk.0.ffn.weight:q4_0(64, 64), -, %4) {scale=0.5} !\n");
}

TEST_CASE("the dump with costs starts its lines with FLOPs, bytes read and bytes written") {
  const Small s;
  const RunShape run{.n_tokens = 2};
  CHECK(dump(s.g, &run) ==
        "# small: 3 ops, 3 weights, 9360 bytes\n"
        "     flops       read    written\n"
        " 1.715e+04       4240       1536  all\n"
        "         0        144        512  %4 embed:f32(T, 64) = embed(token_embd.weight:q8_0(100, 64), tokens:i32(T))\n"
        "       512        768        512  %5:f32(T, 64) = rms_norm(%4, blk.0.norm.weight:f32(64)) {eps=1e-05, group=64}\n"
        " 1.664e+04       3328        512  %6 hidden:f32(T, 64) = linear(%5, blk.0.ffn.weight:q4_0(64, 64), -, %4) {scale=0.5} "
        "!\n");
}

TEST_CASE("outputs of an op that makes several are named and listed") {
  GraphFixture f;
  std::vector<ValueId> in = f.routing_tables(8);
  in.insert(in.begin(), {f.input("logits", {kTokens, 8}), kNone});
  f.op(Op::kRoute, in, RouteAttrs{.n_experts = 8, .k_capacity = 2});
  CHECK(contains(dump(f.g), "%6 ids:i32(T, 2), %7 weights:f32(T, 2) = route(logits:f32(T, 8), -, params:f32(8), "));
}

TEST_CASE("a value is found by its name") {
  const Small s;
  CHECK(s.g.find("hidden") == s.z);
  CHECK(s.g.find("nothing") == kNone);
  CHECK(s.g.find("") == kNone);
}

TEST_CASE("a graph made by add_node is valid") {
  const Small s;
  CHECK(error_of(s.g) == "");
}

TEST_CASE("add_node throws BugError naming the graph when a shape is wrong") {
  Small s;
  const ValueId w = s.weight("wide", {64, 128});
  CHECK_THROWS_WITH_AS(
      s.op(Op::kLinear, {s.y, w}, ScaleAttrs{}),
      "small: linear: input w 'wide': wanted weight(o, 64), found f32(64, 128); inputs: x f32(T, 64), w f32(64, 128)",
      BugError);
}

TEST_CASE("add_node appends nothing when it throws") {
  Small s;
  const size_t n_values = s.g.values.size(), n_nodes = s.g.nodes.size();
  CHECK_THROWS_AS(s.op(Op::kSilu, {s.g.find("tokens")}), BugError);
  CHECK(s.g.values.size() == n_values);
  CHECK(s.g.nodes.size() == n_nodes);
}

TEST_CASE("validate names the node that reads a value before it is written") {
  Small s;
  std::swap(s.g.nodes[1], s.g.nodes[2]);
  CHECK(error_of(s.g) == "node 1 (linear): reads %5 before it is written");
}

TEST_CASE("validate names a value with two writers") {
  Small s;
  s.g.nodes.push_back(s.g.nodes[1]);
  CHECK(error_of(s.g) == "node 3 (rms_norm): output %5 has a writer already");
}

TEST_CASE("validate shows the shape a value has and the one its op makes") {
  Small s;
  s.g.value(s.z).shape = {kTokens, 32};
  CHECK(error_of(s.g) == "node 2 (linear): output %6: wanted f32(T, 64), found f32(T, 32)");
}

TEST_CASE("validate refuses what no op can be given") {
  Small s;
  Node& linear = s.g.nodes[2];
  SUBCASE("attributes of another op") {
    linear.attrs = NormAttrs{};
    CHECK(error_of(s.g) == "node 2 (linear): linear: wanted ScaleAttrs, found NormAttrs");
  }
  SUBCASE("too few inputs") {
    linear.in.pop_back();
    CHECK(error_of(s.g) == "node 2 (linear): linear: wanted 4 inputs, found 3");
  }
  SUBCASE("an absent input that must be there") {
    linear.in[1] = kNone;
    CHECK(error_of(s.g) == "node 2 (linear): linear: input w is absent");
  }
  SUBCASE("ids of values that do not exist") {
    linear.in[1] = 99;
    CHECK(error_of(s.g) == "node 2 (linear): linear: input w is value 99 of 7");
    linear.in[1] = -5;
    CHECK(contains(error_of(s.g), "input w is value -5 of 7"));
  }
  SUBCASE("an output that does not exist") {
    linear.out[0] = 7;
    CHECK(error_of(s.g) == "node 2 (linear): output 7 is no value of the graph");
  }
  SUBCASE("too many outputs") {
    linear.out.push_back(s.y);
    CHECK(error_of(s.g) == "node 2 (linear): wanted 1 outputs, found 2");
  }
  SUBCASE("an output that is an input") {
    const ValueId in = s.input("in", {kTokens, 64});
    s.g.nodes[2].out[0] = in;
    CHECK(error_of(s.g) == "node 2 (linear): output %7 is not a temp");
  }
  SUBCASE("an op that does not exist") {
    linear.op = static_cast<Op>(kNumOps);
    CHECK(contains(error_of(s.g), "there is no op " + std::to_string(kNumOps)));
  }
}

TEST_CASE("validate refuses values that no backend could hold") {
  Small s;
  SUBCASE("a symbolic extent inside") {
    s.input("odd", {4, kTokens});
    CHECK(error_of(s.g) == "value 'odd' f32(4, T): only the outermost extent may be T or R");
  }
  SUBCASE("a weight of unknown size") {
    s.weight("odd", {kTokens, 4});
    CHECK(error_of(s.g) == "value 'odd' f32(T, 4): weights and states have fixed extents");
  }
  SUBCASE("a weight with half a block a row") {
    s.weight("odd", {4, 48}, DType::kQ8_0);
    CHECK(error_of(s.g) == "value 'odd' q8_0(4, 48): rows must be a multiple of 32 elements");
  }
  SUBCASE("an output that nobody makes") {
    s.g.nodes.pop_back();
    CHECK(error_of(s.g) == "output %6 'hidden' has no writer");
  }
  SUBCASE("an input marked as output") {
    s.g.value(s.g.find("tokens")).output = true;
    CHECK(contains(error_of(s.g), "only what a node makes can be an output"));
  }
}

TEST_CASE("a temp without writer and reader does not make a graph invalid") {
  Small s;
  s.value(ValueKind::kTemp, "left over by a rewrite", {kTokens, 3}, DType::kF32);
  CHECK(error_of(s.g) == "");
}

TEST_CASE("expanding a fused op keeps id, name and output mark of its result") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), w = f.weight("gate_up", {96, 64});
  const ValueId h = f.op(Op::kLinearGlu, {x, w}, GluAttrs{}, 3);
  f.output(h, "h");
  const Graph simple = expand_fused(f.g, nullptr, nullptr);
  CHECK(error_of(simple) == "");
  CHECK(dump(simple) ==
        "# graph: 4 ops, 1 weights, 24576 bytes\n"
        "%3:f32(T, 96) = linear(x:f32(T, 64), gate_up:f32(96, 64)) {scale=1}\n"
        "%4:f32(T, 48) = slice(%3) {groups=1, begin=0, end=48, shared=false}\n"
        "%5:f32(T, 48) = slice(%3) {groups=1, begin=48, end=96, shared=false}\n"
        "%2 h:f32(T, 48) = glu(%4, %5) {unit=0, alpha=1, limit=0} !\n");
  for (const Node& n : simple.nodes) CHECK(n.layer == 3);
}

TEST_CASE("expand_fused leaves the nodes that are to be kept") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), w = f.weight("gate_up", {96, 64});
  f.op(Op::kLinearGlu, {x, w}, GluAttrs{}, 0);
  f.op(Op::kLinearGlu, {x, w}, GluAttrs{}, 1);
  const auto keep = [](const Graph&, const Node& n, void* layer) { return n.layer == *static_cast<int*>(layer); };
  int kept = 1;
  const Graph mixed = expand_fused(f.g, keep, &kept);
  CHECK(error_of(mixed) == "");
  CHECK(mixed.nodes.size() == 5);
  CHECK(mixed.nodes.back().op == Op::kLinearGlu);
}

TEST_CASE("a cut graph makes its outputs from what it is given, and nothing else") {
  const Small s;
  const ValueId tokens = s.g.find("tokens"), norm = s.g.find("blk.0.norm.weight");

  const ValueId from[] = {s.x}, to[] = {s.z};
  const Graph tail = cut(s.g, from, to);
  CHECK(tail.nodes.size() == 2);
  CHECK(tail.nodes[0].op == Op::kRmsNorm);
  CHECK(tail.value(s.x).kind == ValueKind::kInput);
  CHECK(tail.value(s.x).name == "embed");
  CHECK(tail.value(s.z).output);
  CHECK(tail.value(tokens).kind == ValueKind::kTemp);  // nobody reads it: no memory, nothing to bind
  CHECK(tail.value(norm).kind == ValueKind::kWeight);
  CHECK(tail.validate().ok());

  const ValueId normed[] = {s.y};
  const Graph head = cut(s.g, {}, normed);
  CHECK(head.nodes.size() == 2);
  CHECK(head.nodes[0].op == Op::kEmbed);
  CHECK(head.value(s.y).output);
  CHECK(!head.value(s.z).output);
  CHECK(head.value(tokens).kind == ValueKind::kInput);
  CHECK(head.validate().ok());

  const ValueId both[] = {s.x, s.y};
  CHECK(cut(s.g, both, to).nodes.size() == 1);
  CHECK(cut(s.g, both, normed).nodes.empty());
}

}  // namespace
}  // namespace moe
