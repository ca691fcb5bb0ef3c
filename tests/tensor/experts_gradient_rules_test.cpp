// Shapes and costs of the reverse passes of activations, gated units and routed experts.
#include <doctest/doctest.h>

#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

constexpr double kFloat = 4;

// 8 experts of (96, 64), 2 slots a token.
struct ReverseExperts : OpsFixture {
  ValueId dy = f32({kTokens, 2, 96}), ids = i32({kTokens, 2}), experts = w({8, 96, 64}), x = f32({kTokens, 64}),
          slots = f32({kTokens, 2, 64}), widths = i32({8}), grad = state("grad", {8, 96, 64}, DType::kF32),
          grad_bias = state("grad_bias", {8, 96}, DType::kF32);

  ValueId bf16(Shape s) { return input("", s, DType::kBF16); }
  std::string dx(MoeGradAttrs a = {}) const { return made(Op::kMoeLinearDx, {dy, ids, experts, widths, widths}, a); }
  std::string dw(ValueId of, ValueId weight_grad, ValueId bias_grad, ProductGradAttrs a = {}) const {
    return made(Op::kMoeLinearDw, {dy, of, ids, widths, widths, weight_grad, bias_grad}, a);
  }
};

}  // namespace

TEST_CASE("gradients of activations have the shape of their input") {
  OpsFixture f;
  for (const Op op : {Op::kSiluGrad, Op::kGeluGrad, Op::kSigmoidGrad})
    for (const Shape& s : {Shape{kTokens, 8}, Shape{kTokens, 2, 8}, Shape{8}})
      CHECK(f.made(op, {f.f32(s), f.f32(s)}) == "f32" + to_string(s));
  CHECK_REFUSED(f.made(Op::kSiluGrad, {f.f32({kTokens, 8}), f.f32({kTokens, 9})}),
                "silu_grad: input dy: wanted f32(T, 8), found f32(T, 9)");
  const ValueId a = f.f32({kTokens, 2, 8});
  CHECK(f.made(Op::kGluGrad, {a, a, a}, GluAttrs{}) == "f32(T, 2, 8) f32(T, 2, 8)");
  CHECK_REFUSED(f.made(Op::kGluGrad, {a, a, f.f32({kTokens, 8})}, GluAttrs{}),
                "glu_grad: input dh: wanted f32(T, 2, 8), found f32(T, 8)");
}

TEST_CASE("weighted_sum_grad gives gradients of slots and of weights") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 2, 8}), ids = f.i32({kTokens, 2}), weights = f.f32({kTokens, 2});
  CHECK(f.made(Op::kWeightedSumGrad, {x, ids, weights, f.f32({kTokens, 8})}) == "f32(T, 2, 8) f32(T, 2)");
  CHECK_REFUSED(f.made(Op::kWeightedSumGrad, {x, ids, weights, x}),
                "weighted_sum_grad: input dy: wanted f32(T, 8), found f32(T, 2, 8)");
}

TEST_CASE("moe_linear_dx is of tokens or of slots, from weights of any format") {
  ReverseExperts f;
  CHECK(f.dx() == "f32(T, 64)");
  CHECK(f.dx({.slots = true}) == "f32(T, 2, 64)");
  f.experts = f.w({8, 96, 64}, DType::kQ8_0);
  CHECK(f.dx() == "f32(T, 64)");
  f.dy = f.bf16({kTokens, 2, 96});
  CHECK_REFUSED(f.dx(), "moe_linear_dx: wanted dy of f32, or of bf16 as w is");
  f.experts = f.w({8, 96, 64}, DType::kBF16);
  CHECK(f.dx() == "f32(T, 64)");
  f.experts = f.w({8, 64, 96});
  CHECK_REFUSED(f.dx(), "moe_linear_dx: input w: wanted weight(E, 96, i), found f32(8, 64, 96)");
}

TEST_CASE("moe_linear_dw adds to states of the weight's and the bias's shape, or to one of them") {
  ReverseExperts f;
  CHECK(f.dw(f.x, f.grad, f.grad_bias) == "");
  CHECK(f.dw(f.slots, f.grad, kNone) == "");
  CHECK(f.dw(f.x, kNone, f.grad_bias) == "");
  CHECK_REFUSED(f.dw(f.x, kNone, kNone), "moe_linear_dw: wanted grad or grad_bias");
  CHECK_REFUSED(f.dw(f.x, f.experts, kNone), "moe_linear_dw: input grad: wanted state of f32(E, 96, 64), found f32(8, 96, 64)");
  CHECK_REFUSED(f.dw(f.x, f.grad, kNone, {.scale = 2}), "moe_linear_dw: wanted scale 1: moe_linear has none");
  CHECK_REFUSED(f.dw(f.bf16({kTokens, 64}), f.grad, kNone), "moe_linear_dw: wanted dy and x both of f32 or both of bf16");
  f.widths = f.i32({7});
  CHECK_REFUSED(f.dw(f.x, f.grad, kNone), "moe_linear_dw: input rows_used: wanted i32(8), found i32(7)");
}

TEST_CASE("reverse products do the work of the routed slots and meet the weights of the experts used") {
  ReverseExperts f;
  f.op(Op::kMoeLinearDx, {f.dy, f.ids, f.experts}, MoeGradAttrs{.slots = true});
  f.op(Op::kMoeLinearDw, {f.dy, f.x, f.ids, kNone, kNone, f.grad, f.grad_bias}, ProductGradAttrs{});
  f.op(Op::kWeightedSumGrad, {f.slots, f.ids, f.f32({kTokens, 2}), f.x});
  const Cost dx = cost(f.g, f.g.nodes[0], {.n_tokens = 1}), dw = cost(f.g, f.g.nodes[1], {.n_tokens = 1}),
             sum = cost(f.g, f.g.nodes[2], {.n_tokens = 1});
  CHECK(dx.flops == 2 * 2 * 96 * 64);
  CHECK(dx.bytes_read == doctest::Approx(kFloat * (2 * 96 + 2 + 2 * 96 * 64)));
  CHECK(dx.bytes_written == kFloat * 2 * 64);
  CHECK(dw.flops == 2 * (2 * 96 * 64 + 96));
  CHECK(dw.bytes_written == doctest::Approx(kFloat * 2 * (96 * 64 + 96)));
  CHECK(dw.bytes_read == doctest::Approx(kFloat * (2 * 96 + 64 + 2) + dw.bytes_written));
  CHECK(sum.flops == 3 * 2 * 64);
  for (const Node& n : f.g.nodes) CHECK(cost(f.g, n, {.n_tokens = 0}).flops == 0);
}

}  // namespace moe
