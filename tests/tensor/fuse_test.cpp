#include "tensor/fuse.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

bool supports_all(const Graph&, const Node&) { return true; }

std::vector<Op> ops(const Graph& g) {
  std::vector<Op> list;
  for (const Node& n : g.nodes) list.push_back(n.op);
  return list;
}

std::string ops_text(const Graph& g) {
  std::string text;
  for (const Op op : ops(g)) text += (text.empty() ? "" : " ") + std::string(op_name(op));
  return text;
}

// A value as one formula over the graph's inputs, the same for all graphs that compute the same by the same steps: residual and
// scale of a product become operations of their own, and operands of a sum are sorted.
class Formula {
 public:
  explicit Formula(const Graph& g) : g_(g), maker_(g.values.size()) {
    for (const Node& n : g.nodes)
      for (const ValueId id : n.out) maker_[static_cast<size_t>(id)] = &n;
  }

  std::string of(ValueId id) const {
    if (id == kNone) return "-";
    const Node* n = maker_[static_cast<size_t>(id)];
    if (!n) return g_.value(id).name;
    switch (n->op) {
      case Op::kAdd:
        return sum(of(n->in[0]), of(n->in[1]));
      case Op::kScale:
        return scaled(*n, of(n->in[0]));
      case Op::kLinear: {
        const std::string y = scaled(*n, call("linear", {n->in[0], n->in[1], n->in[2]}, ""));
        return n->in[3] == kNone ? y : sum(y, of(n->in[3]));
      }
      default:
        return call(op_name(n->op), n->in,
                    attrs(*n) + "#" + std::to_string(std::find(n->out.begin(), n->out.end(), id) - n->out.begin()));
    }
  }

 private:
  std::string call(const std::string& name, const std::vector<ValueId>& in, const std::string& tail) const {
    std::string text = name + "(";
    for (const ValueId id : in) text += of(id) + ";";
    return text + ")" + tail;
  }
  static std::string sum(std::string a, std::string b) {
    if (b < a) std::swap(a, b);
    return "(" + a + " + " + b + ")";
  }
  static std::string scaled(const Node& n, const std::string& y) {
    return std::get<ScaleAttrs>(n.attrs).scale == 1 ? y : attrs(n) + "*" + y;
  }
  static std::string attrs(const Node& n) {
    std::string text = "{";
    std::visit(
        [&](const auto& a) {
          a.fields([&](const char* name, auto v) { text += name + ("=" + std::to_string(static_cast<double>(v))) + " "; });
        },
        n.attrs);
    return text + "}";
  }
  const Graph& g_;
  std::vector<const Node*> maker_;
};

std::string formulas(const Graph& g) {
  std::string text;
  for (size_t i = 0; i < g.values.size(); ++i)
    if (g.values[i].output) text += Formula(g).of(static_cast<ValueId>(i)) + "\n";
  return text;
}

// Fuses, and checks what holds for every fusion: the result is valid, and expanding it computes what the graph computed.
Graph fused(const Graph& g) {
  REQUIRE(g.validate().message() == "");
  Graph f = fuse(g, supports_all);
  CHECK(f.validate().message() == "");
  const Graph simple = expand_fused(f, nullptr, nullptr);
  CHECK(simple.validate().message() == "");
  CHECK(formulas(simple) == formulas(g));
  return f;
}

constexpr int64_t kDim = 64, kFf = 96, kExperts = 8, kSlots = 2;

// The parts of an expert layer, to be wired by each test. Routing is an input: patterns do not look at it.
struct MoeLayer : GraphFixture {
  ValueId x = input("x", {kTokens, kDim});
  ValueId ids = input("ids", {kTokens, kSlots}, DType::kI32), weights = input("weights", {kTokens, kSlots});
  ValueId width = input("width", {kExperts}, DType::kI32);
  ValueId w_gate = weight("gate", {kExperts, kFf, kDim}), w_up = weight("up", {kExperts, kFf, kDim});
  ValueId w_merged = weight("gate_up", {kExperts, 2 * kFf, kDim}), merged_bias = weight("gate_up.bias", {kExperts, 2 * kFf});
  ValueId w_down = weight("down", {kExperts, kDim, kFf}), down_bias = weight("down.bias", {kExperts, kDim});

  ValueId split_hidden(ValueId rows_used) {
    const ValueId gate = op(Op::kMoeLinear, {x, ids, w_gate, kNone, rows_used});
    const ValueId up = op(Op::kMoeLinear, {x, ids, w_up, kNone, rows_used});
    return op(Op::kGlu, {gate, up}, GluAttrs{});
  }
  ValueId merged_hidden(ValueId rows_used = kNone) {
    const ValueId both = op(Op::kMoeLinear, {x, ids, w_merged, merged_bias, rows_used});
    const ValueId gate = op(Op::kSlice, {both}, GroupAttrs{.begin = 0, .end = kFf});
    const ValueId up = op(Op::kSlice, {both}, GroupAttrs{.begin = kFf, .end = 2 * kFf});
    return op(Op::kGlu, {gate, up}, GluAttrs{.alpha = 1.702f, .limit = 7});
  }
  ValueId down(ValueId h, ValueId cols_used) {
    return op(Op::kWeightedSum, {op(Op::kMoeLinear, {h, ids, w_down, down_bias, kNone, cols_used}), ids, weights});
  }
};

struct Dense : GraphFixture {
  ValueId x = input("x", {kTokens, kDim});
  ValueId w = weight("w", {kDim, kDim}), bias = weight("bias", {kDim});
  ValueId w_gate = weight("gate", {kFf, kDim}), w_up = weight("up", {kFf, kDim}), w_merged = weight("gate_up", {2 * kFf, kDim});

  ValueId linear(ValueId weight, ValueId b = kNone) { return op(Op::kLinear, {x, weight, b}, ScaleAttrs{}); }
};

TEST_CASE("an expert layer of simple ops becomes moe_gate_up and moe_down with residual and scale") {
  MoeLayer m;
  const ValueId y = m.op(Op::kScale, {m.down(m.split_hidden(m.width), m.width)}, ScaleAttrs{0.25f});
  m.output(m.op(Op::kAdd, {m.x, y}), "out");
  const Graph f = fused(m.g);
  CHECK(ops_text(f) == "moe_gate_up moe_down");
  const ValueId h = f.nodes[0].out[0];
  CHECK(f.nodes[0].in == std::vector<ValueId>{m.x, m.ids, m.w_gate, m.w_up, kNone, kNone, m.width});
  CHECK(f.nodes[1].in == std::vector<ValueId>{h, m.ids, m.weights, m.w_down, m.down_bias, m.width, m.x});
  CHECK(std::get<ScaleAttrs>(f.nodes[1].attrs).scale == 0.25f);
  CHECK(f.nodes[1].out[0] == m.g.find("out"));
}

TEST_CASE("a merged gate takes its width from the reader of the hidden rows") {
  MoeLayer m;
  m.output(m.down(m.merged_hidden(), m.width));
  const Graph f = fused(m.g);
  CHECK(ops_text(f) == "moe_gate_up moe_down");
  CHECK(f.nodes[0].in == std::vector<ValueId>{m.x, m.ids, m.w_merged, kNone, m.merged_bias, kNone, m.width});
  CHECK(std::get<GluAttrs>(f.nodes[0].attrs).limit == 7);
}

TEST_CASE("an expert layer without widths fuses without widths") {
  MoeLayer m;
  m.output(m.down(m.split_hidden(kNone), kNone));
  const Graph f = fused(m.g);
  CHECK(ops_text(f) == "moe_gate_up moe_down");
  CHECK(f.nodes[0].in[6] == kNone);
  CHECK(f.nodes[1].in[5] == kNone);
}

TEST_CASE("moe_gate_up stays simple where somebody could see the channels it leaves unwritten") {
  MoeLayer m;
  SUBCASE("the hidden rows are an output") {
    const ValueId h = m.split_hidden(m.width);
    m.output(h), m.output(m.down(h, m.width));
  }
  SUBCASE("another op reads the hidden rows") {
    const ValueId h = m.split_hidden(m.width);
    m.output(m.op(Op::kSilu, {h})), m.output(m.down(h, m.width));
  }
  SUBCASE("the down projection reads all columns") { m.output(m.down(m.split_hidden(m.width), kNone)); }
  SUBCASE("the down projection has another width") {
    m.output(m.down(m.split_hidden(m.width), m.input("other", {kExperts}, DType::kI32)));
  }
  SUBCASE("the down projection routes by other ids") {
    const ValueId h = m.split_hidden(m.width);
    m.ids = m.input("other ids", {kTokens, kSlots}, DType::kI32);
    m.output(m.down(h, m.width));
  }
  SUBCASE("rows_used of a merged gate counts other rows than a width does") {
    m.output(m.down(m.merged_hidden(m.width), m.width));
  }
  const Graph f = fused(m.g);
  CHECK(std::count_if(f.nodes.begin(), f.nodes.end(), [](const Node& n) { return n.op == Op::kMoeGateUp; }) == 0);
  CHECK(std::count_if(f.nodes.begin(), f.nodes.end(), [](const Node& n) { return n.op == Op::kMoeDown; }) == 1);
}

TEST_CASE("rows that nobody reads need not be made: gate and up take the narrower width of their reader") {
  MoeLayer m;
  m.output(m.down(m.split_hidden(kNone), m.width));
  const Graph f = fuse(m.g, supports_all);
  CHECK(f.validate().message() == "");
  CHECK(ops_text(f) == "moe_gate_up moe_down");
  CHECK(f.nodes[0].in[6] == m.width);
}

TEST_CASE("the two patterns of an expert layer do not need each other") {
  MoeLayer m;
  m.output(m.down(m.split_hidden(m.width), m.width));
  const auto only = [](Op op) { return [op](const Graph&, const Node& n) { return n.op == op; }; };
  CHECK(ops_text(fuse(m.g, only(Op::kMoeGateUp))) == "moe_gate_up moe_linear weighted_sum");
  CHECK(ops_text(fuse(m.g, only(Op::kMoeDown))) == "moe_linear moe_linear glu moe_down");
}

TEST_CASE("a backend that supports no fused op gets the graph as it is") {
  MoeLayer m;
  m.output(m.op(Op::kAdd, {m.x, m.down(m.merged_hidden(), m.width)}));
  CHECK(dump(fuse(m.g, [](const Graph&, const Node&) { return false; })) == dump(m.g));
}

TEST_CASE("two linears of the same rows and a glu become linear_glu") {
  Dense d;
  d.output(d.op(Op::kGlu, {d.linear(d.w_gate), d.linear(d.w_up)}, GluAttrs{GateUnit::kGeGlu}));
  const Graph f = fused(d.g);
  CHECK(ops_text(f) == "linear_glu");
  CHECK(f.nodes[0].in == std::vector<ValueId>{d.x, d.w_gate, d.w_up, kNone, kNone});
  CHECK(std::get<GluAttrs>(f.nodes[0].attrs).unit == GateUnit::kGeGlu);
}

TEST_CASE("a merged linear, its halves and a glu become linear_glu") {
  Dense d;
  const ValueId b = d.weight("gate_up.bias", {2 * kFf}), both = d.linear(d.w_merged, b);
  const auto half = [&](int64_t begin) { return d.op(Op::kSlice, {both}, GroupAttrs{.begin = begin, .end = begin + kFf}); };
  const ValueId first = half(0), second = half(kFf);
  SUBCASE("gate first") {
    d.output(d.op(Op::kGlu, {first, second}, GluAttrs{}));
    const Graph f = fused(d.g);
    CHECK(ops_text(f) == "linear_glu");
    CHECK(f.nodes[0].in == std::vector<ValueId>{d.x, d.w_merged, kNone, b, kNone});
  }
  SUBCASE("but not up first") {
    d.output(d.op(Op::kGlu, {second, first}, GluAttrs{}));
    CHECK(ops_text(fused(d.g)) == "linear slice slice glu");
  }
  SUBCASE("but not with a third reader of the product") {
    d.output(d.op(Op::kGlu, {first, second}, GluAttrs{}));
    d.output(d.op(Op::kSilu, {both}));
    CHECK(ops_text(fused(d.g)) == "linear slice slice glu silu");
  }
}

TEST_CASE("a glu of linears stays simple") {
  Dense d;
  SUBCASE("when they read different rows") {
    const ValueId gate = d.linear(d.w_gate);
    d.x = d.input("z", {kTokens, kDim});
    d.output(d.op(Op::kGlu, {gate, d.linear(d.w_up)}, GluAttrs{}));
  }
  SUBCASE("when it is one linear twice") {
    const ValueId gate = d.linear(d.w_gate);
    d.output(d.op(Op::kGlu, {gate, gate}, GluAttrs{}));
  }
  SUBCASE("when one is an output") {
    const ValueId gate = d.linear(d.w_gate);
    d.output(gate), d.output(d.op(Op::kGlu, {gate, d.linear(d.w_up)}, GluAttrs{}));
  }
  SUBCASE("when one is scaled") {
    const ValueId gate = d.op(Op::kScale, {d.linear(d.w_gate)}, ScaleAttrs{2});
    d.output(d.op(Op::kGlu, {gate, d.linear(d.w_up)}, GluAttrs{}));
  }
  const Graph f = fused(d.g);
  CHECK(std::count_if(f.nodes.begin(), f.nodes.end(), [](const Node& n) { return n.op == Op::kLinearGlu; }) == 0);
}

TEST_CASE("linear takes over scale and residual, on either side of the sum") {
  Dense d;
  const ValueId y = d.op(Op::kScale, {d.linear(d.w, d.bias)}, ScaleAttrs{3});
  SUBCASE("right") { d.output(d.op(Op::kAdd, {d.x, y})); }
  SUBCASE("left") { d.output(d.op(Op::kAdd, {y, d.x})); }
  const Graph f = fused(d.g);
  CHECK(ops_text(f) == "linear");
  CHECK(f.nodes[0].in == std::vector<ValueId>{d.x, d.w, d.bias, d.x});
  CHECK(std::get<ScaleAttrs>(f.nodes[0].attrs).scale == 3);
}

TEST_CASE("a linear takes one residual; the next sum stays") {
  Dense d;
  const ValueId z = d.input("z", {kTokens, kDim});
  d.output(d.op(Op::kAdd, {z, d.op(Op::kAdd, {d.x, d.linear(d.w)})}));
  CHECK(ops_text(fused(d.g)) == "linear add");
}

TEST_CASE("of two linears in a sum, one takes the other as its residual") {
  Dense d;
  const ValueId a = d.linear(d.w), b = d.linear(d.w, d.bias);
  d.output(d.op(Op::kAdd, {a, b}));
  const Graph f = fused(d.g);
  CHECK(ops_text(f) == "linear linear");
  CHECK(f.nodes[1].in[3] == a);
}

TEST_CASE("what would round differently or reach beyond the pattern is left alone") {
  Dense d;
  SUBCASE("a second scale") {
    d.output(d.op(Op::kScale, {d.op(Op::kScale, {d.linear(d.w)}, ScaleAttrs{3})}, ScaleAttrs{5}));
    CHECK(ops_text(fused(d.g)) == "linear scale");
  }
  SUBCASE("a scale after the residual") {
    d.output(d.op(Op::kScale, {d.op(Op::kAdd, {d.x, d.linear(d.w)})}, ScaleAttrs{5}));
    CHECK(ops_text(fused(d.g)) == "linear scale");
  }
  SUBCASE("a row that is added to all") {
    d.output(d.op(Op::kAdd, {d.linear(d.w), d.bias}));
    CHECK(ops_text(fused(d.g)) == "linear add");
  }
  SUBCASE("a product that is doubled") {
    const ValueId y = d.linear(d.w);
    d.output(d.op(Op::kAdd, {y, y}));
    CHECK(ops_text(fused(d.g)) == "linear add");
  }
  SUBCASE("a product with a second reader") {
    const ValueId y = d.linear(d.w);
    d.output(d.op(Op::kAdd, {d.x, y})), d.output(d.op(Op::kSilu, {y}));
    CHECK(ops_text(fused(d.g)) == "linear add silu");
  }
  SUBCASE("a product that is an output") {
    const ValueId y = d.linear(d.w);
    d.output(y), d.output(d.op(Op::kAdd, {d.x, y}));
    CHECK(ops_text(fused(d.g)) == "linear add");
  }
}

TEST_CASE("nodes that nothing reads are dropped, writes to caches are not") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 32}), positions = f.input("positions", {kTokens}, DType::kI32);
  const ValueId slots = f.input("slots", {kTokens}, DType::kI32);
  const ValueId k = f.state("k", {1, 1, 16, 32}), v = f.state("v", {1, 1, 16, 32});
  const ValueId q = f.op(Op::kSilu, {x});
  f.op(Op::kGelu, {f.op(Op::kGelu, {x})});
  f.op(Op::kAttention, {q, x, x, k, v, positions, slots}, AttentionAttrs{1, 1, 32, 32});
  f.output(f.op(Op::kSigmoid, {x}));
  CHECK(ops_text(fused(f.g)) == "silu attention sigmoid");
}

TEST_CASE("ids and names of inputs, states and outputs survive") {
  MoeLayer m;
  m.output(m.op(Op::kAdd, {m.x, m.down(m.merged_hidden(), m.width)}), "out");
  const Graph f = fused(m.g);
  REQUIRE(f.values.size() == m.g.values.size());
  for (size_t i = 0; i < f.values.size(); ++i) {
    CHECK(f.values[i].name == m.g.values[i].name);
    CHECK(f.values[i].output == m.g.values[i].output);
  }
}

}  // namespace
}  // namespace moe
