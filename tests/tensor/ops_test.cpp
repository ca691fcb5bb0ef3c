#include <doctest/doctest.h>

#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

TEST_CASE("embed looks rows up in a table of any storage format") {
  OpsFixture f;
  CHECK(f.made(Op::kEmbed, {f.w({100, 64}, DType::kQ4_0), f.i32({kTokens})}) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kEmbed, {f.w({100, 64}), f.f32({kTokens})}), "embed: input ids: wanted i32(N), found f32(T)");
  CHECK_REFUSED(f.made(Op::kEmbed, {f.i32({100, 64}), f.i32({kTokens})}),
                "embed: input table: wanted weight(V, d), found i32(100, 64)");
}

TEST_CASE("linear multiplies rows of tokens, of outputs and of a fixed number") {
  OpsFixture f;
  const ValueId w = f.w({32, 64}, DType::kQ8_0), bias = f.w({32});
  for (const int64_t rows : {kTokens, kOutputs, int64_t{7}}) {
    const std::string y = "f32" + to_string(Shape{rows, 32});
    CHECK(f.made(Op::kLinear, {f.f32({rows, 64}), w, bias, f.f32({rows, 32})}, ScaleAttrs{}) == y);
    CHECK(f.made(Op::kLinear, {f.a8({rows, 64}), w}, ScaleAttrs{}) == y);
  }
  const ValueId x = f.f32({kTokens, 64});
  CHECK_REFUSED(f.made(Op::kLinear, {f.f32({kTokens, 48}), w}, ScaleAttrs{}),
                "linear: input w: wanted weight(o, 48), found q8_0(32, 64)");
  CHECK_REFUSED(f.made(Op::kLinear, {x, w, f.w({64})}, ScaleAttrs{}), "linear: input bias: wanted f32(32), found f32(64)");
  CHECK_REFUSED(f.made(Op::kLinear, {x, w, bias, f.f32({kOutputs, 32})}, ScaleAttrs{}),
                "linear: input residual: wanted f32(T, 32), found f32(R, 32)");
  CHECK_REFUSED(f.made(Op::kLinear, {f.i32({kTokens, 64}), w}, ScaleAttrs{}),
                "linear: input x: wanted f32|bf16|a8(N, i), found i32(T, 64)");
  CHECK_REFUSED(f.made(Op::kLinear, {f.f32({kTokens, 2, 64}), w}, ScaleAttrs{}),
                "linear: input x: wanted f32|bf16|a8(N, i), found f32(T, 2, 64)");
}

TEST_CASE("head_linear uses some rows of each head's block, or their transpose") {
  OpsFixture f;
  const ValueId w = f.w({4 * 48, 16});  // 4 heads, blocks of 48 rows: 32 for keys, 16 for values
  const HeadLinearAttrs keys{.heads = 4, .block = 48, .row_begin = 0, .rows = 32, .transposed = true};
  const HeadLinearAttrs values{.heads = 4, .block = 48, .row_begin = 32, .rows = 16};
  CHECK(f.made(Op::kHeadLinear, {f.f32({kTokens, 4 * 32}), w}, keys) == "f32(T, 64)");
  CHECK(f.made(Op::kHeadLinear, {f.f32({kTokens, 4 * 16}), w}, values) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kHeadLinear, {f.f32({kTokens, 4 * 16}), w}, keys),
                "head_linear: input x: wanted f32|bf16|a8(N, 128), found f32(T, 64)");
  CHECK_REFUSED(
      f.made(Op::kHeadLinear, {f.f32({kTokens, 64}), w}, HeadLinearAttrs{.heads = 4, .block = 48, .row_begin = 40, .rows = 16}),
      "head_linear: wanted heads > 0 and rows");
  CHECK_REFUSED(f.made(Op::kHeadLinear, {f.f32({kTokens, 64}), w}, HeadLinearAttrs{}), "head_linear: wanted heads > 0");
}

TEST_CASE("norms work on groups that divide the row") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 64}), row = f.w({64}), head = f.w({16});
  CHECK(f.made(Op::kRmsNorm, {x, row}, NormAttrs{1e-5f, 64}) == "f32(T, 64)");
  CHECK(f.made(Op::kRmsNorm, {x, head}, NormAttrs{1e-5f, 16}) == "f32(T, 64)");
  CHECK(f.made(Op::kRmsNorm, {x}, NormAttrs{1e-5f, 16}) == "f32(T, 64)");
  CHECK(f.made(Op::kLayerNorm, {x, row, row}, NormAttrs{1e-5f, 64}) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kRmsNorm, {x, row}, NormAttrs{1e-5f, 16}), "rms_norm: input weight: wanted f32(16), found f32(64)");
  CHECK_REFUSED(f.made(Op::kLayerNorm, {x, row, head}, NormAttrs{1e-5f, 64}),
                "layer_norm: input bias: wanted f32(64), found f32(16)");
  CHECK_REFUSED(f.made(Op::kRmsNorm, {x}, NormAttrs{1e-5f, 48}),
                "rms_norm: wanted rows that are a multiple of group=48; inputs: x f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kRmsNorm, {x}, NormAttrs{}), "rms_norm: wanted rows that are a multiple of group=0");
}

TEST_CASE("rope turns part of each head by a table made once") {
  OpsFixture f;
  const ValueId positions = f.i32({kTokens}), x = f.f32({kTokens, 4 * 16}), table = f.f32({kTokens, 8});
  CHECK(f.made(Op::kRopeTable, {positions, f.w({4})}, RopeTableAttrs{.dims = 8}) == "f32(T, 8)");
  CHECK(f.made(Op::kRope, {x, table}, RopeAttrs{.head_dim = 16, .offset = 8, .dims = 8}) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kRopeTable, {positions, f.w({8})}, RopeTableAttrs{.dims = 8}),
                "rope_table: input freq_factors: wanted f32(4), found f32(8)");
  CHECK_REFUSED(f.made(Op::kRopeTable, {positions}, RopeTableAttrs{.dims = 7}), "rope_table: wanted an even number");
  CHECK_REFUSED(f.made(Op::kRopeTable, {positions}, RopeTableAttrs{.dims = 8, .ext_factor = 1}),
                "rope_table: wanted original_ctx > 0");
  CHECK_REFUSED(f.made(Op::kRope, {x, table}, RopeAttrs{.head_dim = 16, .offset = 12, .dims = 8}),
                "rope: wanted an even number of rotated elements inside of the head: [12, 20) of 16");
  CHECK_REFUSED(f.made(Op::kRope, {x, table}, RopeAttrs{.head_dim = 16, .dims = 16}),
                "rope: input table: wanted f32(T, 16), found f32(T, 8)");
  CHECK_REFUSED(f.made(Op::kRope, {x, table}, RopeAttrs{.head_dim = 24, .dims = 8}),
                "rope: wanted rows of whole heads of 24; inputs: x f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kRope, {x, table}, RopeAttrs{}), "rope: wanted an even number");
}

struct AttentionFixture : OpsFixture {
  AttentionAttrs a{.n_head = 4, .n_kv_head = 2, .head_dim = 64, .v_dim = 32};
  ValueId q = f32({kTokens, 4 * 64}), k = f32({kTokens, 2 * 64}), v = f32({kTokens, 2 * 32});
  ValueId cache_k = state("", {1, 2, 128, 64}), cache_v = state("", {1, 2, 128, 32});
  ValueId positions = i32({kTokens}), slots = i32({kTokens}), sinks = w({4});
  std::string attention() { return made(Op::kAttention, {q, k, v, cache_k, cache_v, positions, slots, sinks}, a); }
};

TEST_CASE("attention makes n_head rows of v_dim and takes caches of f32, f16 and q8_0") {
  AttentionFixture f;
  for (const DType t : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    f.g.value(f.cache_k).dtype = f.g.value(f.cache_v).dtype = t;
    CHECK(f.attention() == "f32(T, 128)");
  }
  f.sinks = kNone;
  CHECK(f.attention() == "f32(T, 128)");
}

TEST_CASE("latent attention takes its values from the keys") {
  AttentionFixture f;
  f.a = {.n_head = 4, .n_kv_head = 1, .head_dim = 64, .v_dim = 32};
  f.k = f.f32({kTokens, 64}), f.cache_k = f.state("", {1, 1, 128, 64}), f.v = f.cache_v = kNone;
  CHECK(f.attention() == "f32(T, 128)");
  f.a.v_dim = 96;
  CHECK_REFUSED(f.attention(), "attention: wanted v_dim <= head_dim");
}

TEST_CASE("attention refuses what does not fit together") {
  AttentionFixture f;
  SUBCASE("keys") {
    f.k = f.f32({kTokens, 64});
    CHECK_REFUSED(f.attention(), "attention: input k: wanted f32(T, 128), found f32(T, 64)");
  }
  SUBCASE("cache of another number of heads") {
    f.cache_k = f.state("", {1, 4, 128, 64});
    CHECK_REFUSED(f.attention(), "attention: input cache_k: wanted f32|f16|q8_0(s, 2, c, 64), found f16(1, 4, 128, 64)");
  }
  SUBCASE("caches of two lengths") {
    f.cache_v = f.state("", {1, 2, 64, 32});
    CHECK_REFUSED(f.attention(), "attention: input cache_v: wanted f32|f16|q8_0(1, 2, 128, 32), found f16(1, 2, 64, 32)");
  }
  SUBCASE("cache of another format") {
    f.cache_k = f.state("", {1, 2, 128, 64}, DType::kBF16);
    CHECK_REFUSED(f.attention(), "attention: input cache_k: wanted f32|f16|q8_0(s, 2, c, 64), found bf16(1, 2, 128, 64)");
  }
  SUBCASE("cache that does not survive the run") {
    f.cache_v = f.input("", {1, 2, 128, 32}, DType::kF16);
    CHECK_REFUSED(f.attention(), "attention: wanted caches that are states");
  }
  SUBCASE("blocks that do not divide a head") {
    f.a = {.n_head = 4, .n_kv_head = 1, .head_dim = 64, .v_dim = 48};
    f.k = f.f32({kTokens, 64}), f.cache_k = f.state("", {1, 1, 128, 64}, DType::kQ8_0), f.v = f.cache_v = kNone;
    CHECK_REFUSED(f.attention(), "attention: wanted head_dim and v_dim to be multiples of 32 in a cache of q8_0");
  }
  SUBCASE("values without a cache for them") {
    f.cache_v = kNone;
    CHECK_REFUSED(f.attention(), "attention: wanted v and cache_v, or neither");
  }
  SUBCASE("heads") {
    f.a.n_kv_head = 3;
    CHECK_REFUSED(f.attention(), "attention: wanted n_head to be a multiple of n_kv_head");
  }
  SUBCASE("sinks") {
    f.sinks = f.w({2});
    CHECK_REFUSED(f.attention(), "attention: input sinks: wanted f32(4), found f32(2)");
  }
}

TEST_CASE("elementwise ops keep the shape of their rows, of any rank") {
  OpsFixture f;
  for (const Shape& s : {Shape{kTokens, 64}, Shape{kTokens, 2, 64}, Shape{64}}) {
    const std::string same = "f32" + to_string(s);
    for (const Op op : {Op::kSilu, Op::kGelu, Op::kSigmoid}) CHECK(f.made(op, {f.f32(s)}) == same);
    for (const Op op : {Op::kAdd, Op::kMul}) CHECK(f.made(op, {f.f32(s), f.f32(s)}) == same);
    CHECK(f.made(Op::kScale, {f.f32(s)}, ScaleAttrs{2}) == same);
    CHECK(f.made(Op::kGlu, {f.f32(s), f.f32(s)}, GluAttrs{}) == same);
    CHECK(f.made(Op::kQuantizeAct, {f.f32(s)}, QuantizeActAttrs{DType::kA8}) == "a8" + to_string(s));
    CHECK(f.made(Op::kQuantizeAct, {f.f32(s)}, QuantizeActAttrs{DType::kBF16}) == "bf16" + to_string(s));
  }
  CHECK(f.made(Op::kSoftmax, {f.f32({kTokens, 8})}) == "f32(T, 8)");
  CHECK_REFUSED(f.made(Op::kSilu, {f.i32({kTokens, 8})}), "silu: input x: wanted f32(…), found i32(T, 8)");
  CHECK_REFUSED(f.made(Op::kGlu, {f.f32({kTokens, 8}), f.f32({kTokens, 9})}, GluAttrs{}),
                "glu: input up: wanted f32(T, 8), found f32(T, 9)");
  CHECK_REFUSED(f.made(Op::kQuantizeAct, {f.f32({kTokens, 48})}, QuantizeActAttrs{DType::kA8}),
                "quantize_act: wanted rows that are a multiple of 32");
  CHECK(f.made(Op::kQuantizeAct, {f.f32({kTokens, 33})}, QuantizeActAttrs{DType::kBF16}) == "bf16(T, 33)");
  CHECK_REFUSED(f.made(Op::kQuantizeAct, {f.f32({kTokens, 64})}, QuantizeActAttrs{DType::kQ8_0}),
                "quantize_act: wanted a8 or bf16, not q8_0");
}

TEST_CASE("add takes one row for all rows; mul also one number a row") {
  OpsFixture f;
  const ValueId a = f.f32({kTokens, 64}), row = f.f32({64}), number = f.f32({kTokens, 1});
  CHECK(f.made(Op::kAdd, {a, row}) == "f32(T, 64)");
  CHECK(f.made(Op::kMul, {a, row}) == "f32(T, 64)");
  CHECK(f.made(Op::kMul, {a, number}) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kAdd, {a, number}), "add: input b: wanted f32(T, 64), found f32(T, 1)");
  CHECK_REFUSED(f.made(Op::kAdd, {a, f.f32({32})}), "add: input b: wanted f32(64), found f32(32)");
  CHECK_REFUSED(f.made(Op::kMul, {a, f.f32({kOutputs, 1})}), "mul: input b: wanted f32(T, 1), found f32(R, 1)");
}

TEST_CASE("slice and concat work inside of groups") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 4 * 24});
  CHECK(f.made(Op::kSlice, {x}, GroupAttrs{.groups = 4, .begin = 16, .end = 24}) == "f32(T, 32)");
  CHECK(f.made(Op::kSlice, {f.f32({kTokens, 2, 10})}, GroupAttrs{.begin = 0, .end = 5}) == "f32(T, 2, 5)");
  CHECK(f.made(Op::kConcat, {x, f.f32({kTokens, 32})}, GroupAttrs{.groups = 4}) == "f32(T, 128)");
  CHECK(f.made(Op::kConcat, {x, f.f32({kTokens, 8})}, GroupAttrs{.groups = 4, .shared = true}) == "f32(T, 128)");
  CHECK_REFUSED(f.made(Op::kSlice, {x}, GroupAttrs{.groups = 4, .begin = 16, .end = 25}),
                "slice: wanted columns [16, 25) of 4 equal parts");
  CHECK_REFUSED(f.made(Op::kSlice, {x}, GroupAttrs{.groups = 5, .begin = 0, .end = 1}),
                "slice: wanted columns [0, 1) of 5 equal parts");
  CHECK_REFUSED(f.made(Op::kSlice, {x}, GroupAttrs{.groups = 0, .begin = 0, .end = 1}), "slice: wanted groups > 0");
  CHECK_REFUSED(f.made(Op::kSlice, {x}, GroupAttrs{}), "slice: wanted groups > 0 and 0 <= begin < end");
  CHECK_REFUSED(f.made(Op::kConcat, {x, f.f32({kTokens, 7})}, GroupAttrs{.groups = 4}), "concat: wanted rows of 4 equal parts");
  CHECK_REFUSED(f.made(Op::kConcat, {x, f.f32({kOutputs, 8})}, GroupAttrs{}),
                "concat: input b: wanted f32(T, m), found f32(R, 8)");
}

TEST_CASE("select_rows turns rows of tokens into rows of outputs") {
  OpsFixture f;
  CHECK(f.made(Op::kSelectRows, {f.f32({kTokens, 64}), f.i32({kOutputs})}) == "f32(R, 64)");
  CHECK_REFUSED(f.made(Op::kSelectRows, {f.f32({kTokens, 64}), f.f32({kOutputs})}),
                "select_rows: input rows: wanted i32(M), found f32(R)");
}

TEST_CASE("route makes k_capacity ids and weights a token") {
  OpsFixture f;
  const RouteAttrs a{.n_experts = 8, .k_capacity = 3, .n_group = 4, .topk_group = 2};
  std::vector<ValueId> in = f.routing_tables(8);
  in.insert(in.begin(), {f.f32({kTokens, 8}), f.w({8})});
  const auto with = [&](auto&& change) {
    RouteAttrs b = a;
    change(b);
    return f.made(Op::kRoute, in, b);
  };
  CHECK(f.made(Op::kRoute, in, a) == "i32(T, 3) f32(T, 3)");
  CHECK_REFUSED(with([](RouteAttrs& b) { b.k_capacity = 9; }), "route: wanted 0 < k_capacity <= n_experts");
  CHECK_REFUSED(with([](RouteAttrs& b) { b.n_group = 3; }), "route: wanted n_experts to be a multiple of n_group");
  CHECK_REFUSED(with([](RouteAttrs& b) { b.n_group = 0; }), "route: wanted n_experts to be a multiple of n_group");
  CHECK_REFUSED(with([](RouteAttrs& b) { b.topk_group = 5; }), "route: wanted 0 < topk_group <= n_group");
  CHECK_REFUSED(with([](RouteAttrs& b) { b.group_top = 3; }), "route: wanted group_top to be 1 or 2");
  CHECK_REFUSED(with([](RouteAttrs& b) { b.n_experts = 16; }), "route: input logits: wanted f32(N, 16), found f32(T, 8)");
  in.insert(in.end(), {kNone, f.input("", {7}, DType::kI32)});
  CHECK_REFUSED(f.made(Op::kRoute, in, a), "route: input place: wanted i32(8), found i32(7)");
  in.back() = f.input("", {8}, DType::kI32);
  CHECK(f.made(Op::kRoute, in, a) == "i32(T, 3) f32(T, 3)");
  in.resize(in.size() - 2);
  in[3] = f.input("", {1, 8}, DType::kI32);
  CHECK_REFUSED(f.made(Op::kRoute, in, a), "route: input allow: wanted i8(C, 8), found i32(1, 8)");
  in[3] = kNone;
  CHECK_REFUSED(f.made(Op::kRoute, in, a), "route: input allow is absent");
}

struct ExpertFixture : OpsFixture {  // 8 experts of 64 inputs and 96 hidden channels, 2 slots
  ValueId x = f32({kTokens, 64}), h = f32({kTokens, 2, 96}), ids = i32({kTokens, 2}), weights = f32({kTokens, 2}),
          width = i32({8});
  ValueId gate = w({8, 96, 64}), up = w({8, 96, 64}, DType::kQ4_0), merged = w({8, 192, 64}), down = w({8, 64, 96});
};

TEST_CASE("moe_linear meets the rows of tokens or of their slots") {
  ExpertFixture f;
  CHECK(f.made(Op::kMoeLinear, {f.x, f.ids, f.up, f.w({8, 96}), f.width}) == "f32(T, 2, 96)");
  CHECK(f.made(Op::kMoeLinear, {f.h, f.ids, f.down, kNone, kNone, f.width}) == "f32(T, 2, 64)");
  CHECK(f.made(Op::kMoeLinear, {f.a8({kTokens, 2, 96}), f.ids, f.down}) == "f32(T, 2, 64)");
  CHECK_REFUSED(f.made(Op::kMoeLinear, {f.x, f.ids, f.down}),
                "moe_linear: input w: wanted weight(E, o, 64), found f32(8, 64, 96)");
  CHECK_REFUSED(f.made(Op::kMoeLinear, {f.f32({kTokens, 3, 96}), f.ids, f.down}),
                "moe_linear: input ids: wanted i32(T, 3), found i32(T, 2)");
  CHECK_REFUSED(f.made(Op::kMoeLinear, {f.x, f.ids, f.gate, kNone, f.i32({9})}),
                "moe_linear: input rows_used: wanted i32(8), found i32(9)");
}

TEST_CASE("weighted_sum folds the slots") {
  ExpertFixture f;
  CHECK(f.made(Op::kWeightedSum, {f.h, f.ids, f.weights}) == "f32(T, 96)");
  CHECK_REFUSED(f.made(Op::kWeightedSum, {f.h, f.ids, f.f32({kTokens, 3})}),
                "weighted_sum: input weights: wanted f32(T, 2), found f32(T, 3)");
}

TEST_CASE("linear_glu and moe_gate_up take gate and up apart or merged") {
  ExpertFixture f;
  const ValueId w = f.w({96, 64}), both = f.w({192, 64});
  CHECK(f.made(Op::kLinearGlu, {f.x, w, w, f.w({96}), f.w({96})}, GluAttrs{}) == "f32(T, 96)");
  CHECK(f.made(Op::kLinearGlu, {f.x, both, kNone, f.w({192})}, GluAttrs{}) == "f32(T, 96)");
  CHECK_REFUSED(f.made(Op::kLinearGlu, {f.x, both, w}, GluAttrs{}),
                "linear_glu: input up: wanted weight(192, 64), found f32(96, 64)");
  CHECK_REFUSED(f.made(Op::kLinearGlu, {f.x, f.w({95, 64})}, GluAttrs{}), "linear_glu: wanted an even number of rows");
  CHECK_REFUSED(f.made(Op::kLinearGlu, {f.x, both, kNone, kNone, f.w({96})}, GluAttrs{}), "linear_glu: wanted no up_bias");

  CHECK(f.made(Op::kMoeGateUp, {f.x, f.ids, f.gate, f.up, f.w({8, 96}), f.w({8, 96}), f.width}, GluAttrs{}) == "f32(T, 2, 96)");
  CHECK(f.made(Op::kMoeGateUp, {f.x, f.ids, f.merged, kNone, f.w({8, 192}), kNone, f.width}, GluAttrs{}) == "f32(T, 2, 96)");
  CHECK_REFUSED(f.made(Op::kMoeGateUp, {f.x, f.ids, f.gate, f.down}, GluAttrs{}),
                "moe_gate_up: input up: wanted weight(8, 96, 64), found f32(8, 64, 96)");
  CHECK_REFUSED(f.made(Op::kMoeGateUp, {f.h, f.ids, f.gate}, GluAttrs{}),
                "moe_gate_up: input x: wanted f32|bf16|a8(N, d), found f32(T, 2, 96)");
}

TEST_CASE("moe_down makes rows of tokens of the rows of slots") {
  ExpertFixture f;
  CHECK(f.made(Op::kMoeDown, {f.h, f.ids, f.weights, f.down, f.w({8, 64}), f.width, f.x}, ScaleAttrs{}) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kMoeDown, {f.h, f.ids, f.weights, f.gate}, ScaleAttrs{}),
                "moe_down: input w: wanted weight(E, d, 96), found f32(8, 96, 64)");
  CHECK_REFUSED(f.made(Op::kMoeDown, {f.h, f.ids, f.weights, f.down, kNone, kNone, f.f32({kTokens, 96})}, ScaleAttrs{}),
                "moe_down: input residual: wanted f32(T, 64), found f32(T, 96)");
}

TEST_CASE("an error names the layer and every input of the node") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 64}), w = f.weight("blk.3.up", {32, 48});
  std::vector<Value> out;
  const Status s = infer_outputs(f.g, Node{Op::kLinear, {x, w, kNone, kNone}, {}, ScaleAttrs{}, 3}, out);
  CHECK(s.message() ==
        "linear: input w 'blk.3.up': wanted weight(o, 64), found f32(32, 48); inputs: x f32(T, 64), w f32(32, 48); layer 3");
  CHECK(s.code() == StatusCode::kInvalidArgument);
}

void check_cost(const Cost& c, double flops, double read, double written) {
  CHECK(c.flops == doctest::Approx(flops));
  CHECK(c.bytes_read == doctest::Approx(read));
  CHECK(c.bytes_written == doctest::Approx(written));
}

TEST_CASE("a linear reads its weight at its format's size once, whatever the number of tokens") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), w = f.weight("w", {32, 64}, DType::kQ8_0), b = f.weight("b", {32});
  f.op(Op::kLinear, {x, w}, ScaleAttrs{});
  f.op(Op::kLinear, {x, w, b, f.input("r", {kTokens, 32})}, ScaleAttrs{2});
  check_cost(cost(f.g, f.g.nodes[0], {.n_tokens = 5}), 2 * 5 * 32 * 64, 5 * 64 * 4 + 32 * 68, 5 * 32 * 4);
  check_cost(cost(f.g, f.g.nodes[1], {.n_tokens = 5}), 5 * 32 * (2 * 64 + 3), 5 * 64 * 4 + 32 * 68 + 32 * 4 + 5 * 32 * 4,
             5 * 32 * 4);
}

TEST_CASE("embed and select_rows read the rows that they look up") {
  GraphFixture f;
  const ValueId x = f.op(Op::kEmbed, {f.weight("table", {1000, 64}, DType::kF16), f.input("ids", {kTokens}, DType::kI32)});
  f.op(Op::kSelectRows, {x, f.input("rows", {kOutputs}, DType::kI32)});
  const RunShape run{.n_tokens = 5, .n_outputs = 2};
  check_cost(cost(f.g, f.g.nodes[0], run), 0, 5 * 128 + 5 * 4, 5 * 256);
  check_cost(cost(f.g, f.g.nodes[1], run), 0, 2 * 256 + 2 * 4, 2 * 256);
}

TEST_CASE("head_linear reads the rows of its blocks that it uses") {
  GraphFixture f;
  const ValueId w = f.weight("w", {4 * 48, 16}), x = f.input("x", {kTokens, 4 * 16});
  f.op(Op::kHeadLinear, {x, w}, HeadLinearAttrs{.heads = 4, .block = 48, .row_begin = 32, .rows = 16});
  check_cost(cost(f.g, {.n_tokens = 3}), 3 * 2 * 4 * 16 * 16, 3 * 64 * 4 + 4 * 16 * 16 * 4, 3 * 64 * 4);
}

TEST_CASE("attention meets kv_length keys, or as many as its window shows") {
  GraphFixture f;
  const ValueId q = f.input("q", {kTokens, 4 * 64}), k = f.input("k", {kTokens, 2 * 64}), v = f.input("v", {kTokens, 2 * 32});
  const ValueId positions = f.input("p", {kTokens}, DType::kI32), slots = f.input("s", {kTokens}, DType::kI32);
  const ValueId cache_k = f.state("ck", {1, 2, 4096, 64}), cache_v = f.state("cv", {1, 2, 4096, 32});
  AttentionAttrs a{.n_head = 4, .n_kv_head = 2, .head_dim = 64, .v_dim = 32};
  const std::vector<ValueId> in = {q, k, v, cache_k, cache_v, positions, slots};
  f.op(Op::kAttention, in, a);
  a.window = 100;
  f.op(Op::kAttention, in, a);
  const RunShape run{.n_tokens = 3, .kv_length = 1000};
  const double inputs = 3 * (256 + 128 + 64 + 1 + 1) * 4, row = 2 * (64 + 32) * 2, per_key = 2 * (64 + 32) + 4;
  check_cost(cost(f.g, f.g.nodes[0], run), 3 * 4 * 1000 * per_key, inputs + 1000 * row, 3 * 128 * 4 + 3 * row);
  check_cost(cost(f.g, f.g.nodes[1], run), 3 * 4 * 100 * per_key, inputs + 102 * row, 3 * 128 * 4 + 3 * row);
}

// A layer with 8 experts of 64 → 96 → 64 in q8_0, 2 of them a token: what one token costs is counted by hand.
struct PricedExperts : GraphFixture {
  ValueId x = input("x", {kTokens, 64}), ids = input("ids", {kTokens, 2}, DType::kI32),
          weights = input("weights", {kTokens, 2});
  ValueId gate = weight("gate", {8, 96, 64}, DType::kQ8_0), up = weight("up", {8, 96, 64}, DType::kQ8_0);
  ValueId down = weight("down", {8, 64, 96}, DType::kQ8_0), bias = weight("bias", {8, 64});
  static constexpr double kGateBytes = 96 * 68, kDownBytes = 64 * 102, kBiasBytes = 64 * 4;  // of one expert
  PricedExperts() {
    const ValueId h = op(Op::kMoeGateUp, {x, ids, gate, up}, GluAttrs{});
    output(op(Op::kMoeDown, {h, ids, weights, down, bias, kNone, x}, ScaleAttrs{}));
  }
};

TEST_CASE("one token of an expert layer costs the experts it uses") {
  const PricedExperts f;
  check_cost(cost(f.g, f.g.nodes[0], {.n_tokens = 1}), 2 * 96 * (4 * 64 + 5), 64 * 4 + 2 * 4 + 2 * 2 * f.kGateBytes,
             2 * 96 * 4);
  check_cost(cost(f.g, f.g.nodes[1], {.n_tokens = 1}), 2 * 64 * (2 * 96 + 3) + 64,
             2 * 96 * 4 + 2 * 4 + 2 * 4 + 2 * (f.kDownBytes + f.kBiasBytes) + 64 * 4, 64 * 4);
  Cost sum = cost(f.g, f.g.nodes[0], {});
  sum += cost(f.g, f.g.nodes[1], {});
  check_cost(cost(f.g, {}), sum.flops, sum.bytes_read, sum.bytes_written);
}

TEST_CASE("many tokens read the distinct experts that they are expected to meet") {
  const PricedExperts f;
  const auto experts = [&](int64_t tokens) {
    const Cost c = cost(f.g, f.g.nodes[0], {.n_tokens = tokens});
    return (c.bytes_read - static_cast<double>(tokens) * (64 * 4 + 2 * 4)) / (2 * f.kGateBytes);
  };
  CHECK(experts(1) == doctest::Approx(2));
  CHECK(experts(2) == doctest::Approx(8 * (1 - 0.75 * 0.75)));
  CHECK(experts(3) == doctest::Approx(8 * (1 - 0.75 * 0.75 * 0.75)));
  CHECK(experts(1000) == doctest::Approx(8));
  CHECK(experts(1000) <= 8);
}

TEST_CASE("slots without an expert do not count: k_mean replaces the route's own k") {
  const PricedExperts f;
  const RunShape full{.n_tokens = 4, .k_mean = 2}, half{.n_tokens = 4, .k_mean = 1}, more{.n_tokens = 4, .k_mean = 5};
  for (const Node& n : f.g.nodes) {
    CHECK(cost(f.g, n, full).flops == cost(f.g, n, {.n_tokens = 4}).flops);
    CHECK(cost(f.g, n, more).flops == cost(f.g, n, full).flops);
  }
  CHECK(cost(f.g, f.g.nodes[0], half).flops == doctest::Approx(cost(f.g, f.g.nodes[0], full).flops / 2));
  CHECK(cost(f.g, f.g.nodes[0], half).bytes_written == doctest::Approx(4 * 96 * 4));
  CHECK(cost(f.g, f.g.nodes[1], half).bytes_read < cost(f.g, f.g.nodes[1], full).bytes_read);
}

TEST_CASE("fused and simple parts do the same arithmetic") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), ids = f.input("ids", {kTokens, 2}, DType::kI32),
                weights = f.input("weights", {kTokens, 2});
  const ValueId merged = f.weight("gate_up", {8, 192, 64}), down = f.weight("down", {8, 64, 96});
  const ValueId h = f.op(Op::kMoeGateUp, {x, ids, merged, kNone, f.weight("b", {8, 192})}, GluAttrs{});
  const ValueId y = f.op(Op::kMoeDown, {h, ids, weights, down, kNone, kNone, x}, ScaleAttrs{0.5f});
  f.output(f.op(Op::kLinearGlu, {y, f.weight("g", {96, 64}), f.weight("u", {96, 64})}, GluAttrs{}));
  const RunShape run{.n_tokens = 3};
  CHECK(cost(f.g, run).flops == doctest::Approx(cost(expand_fused(f.g, nullptr, nullptr), run).flops));
}

TEST_CASE("every op has a cost that is not negative and, but for the movers of data, some arithmetic") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 64}), positions = f.i32({kTokens});
  const ValueId table = f.op(Op::kRopeTable, {positions}, RopeTableAttrs{.dims = 16});
  std::vector<ValueId> route_in = f.routing_tables(64);
  route_in.insert(route_in.begin(), {x, kNone});
  f.op(Op::kRope, {x, table}, RopeAttrs{.head_dim = 32, .dims = 16});
  f.op(Op::kRmsNorm, {x}, NormAttrs{.group = 64});
  f.op(Op::kLayerNorm, {x, f.w({64})}, NormAttrs{.group = 64});
  f.op(Op::kRoute, route_in, RouteAttrs{.n_experts = 64, .k_capacity = 4});
  for (const Op op : {Op::kSoftmax, Op::kSilu, Op::kGelu, Op::kSigmoid}) f.op(op, {x});
  f.op(Op::kQuantizeAct, {x}, QuantizeActAttrs{});
  f.op(Op::kScale, {x}, ScaleAttrs{2});
  f.op(Op::kGlu, {x, x}, GluAttrs{});
  f.op(Op::kAdd, {x, x}), f.op(Op::kMul, {x, x});
  f.op(Op::kSlice, {x}, GroupAttrs{.begin = 0, .end = 8}), f.op(Op::kConcat, {x, x}, GroupAttrs{});
  for (const Node& n : f.g.nodes) {
    CAPTURE(op_name(n.op));
    const Cost c = cost(f.g, n, {.n_tokens = 3});
    CHECK((c.flops > 0) == (n.op != Op::kSlice && n.op != Op::kConcat));
    CHECK(c.bytes_read > 0);
    CHECK(c.bytes_written > 0);
    const Cost none = cost(f.g, n, {.n_tokens = 0});
    CHECK(none.flops == 0);
    CHECK(none.bytes_written == 0);
  }
}

}  // namespace
}  // namespace moe
