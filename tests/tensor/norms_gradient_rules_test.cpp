// Shapes and costs of the reverse passes of norms and softmax.
#include <doctest/doctest.h>

#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

TEST_CASE("norm gradients take the rows of x and gradients like the weight") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 64}), w = f.w({16}), grad = f.state("", {16}, DType::kF32);
  const NormAttrs a{1e-5f, 16};
  CHECK(f.made(Op::kRmsNormGrad, {x, w, x, grad}, a) == "f32(T, 64)");
  CHECK(f.made(Op::kRmsNormGrad, {x, kNone, x}, a) == "f32(T, 64)");
  CHECK(f.made(Op::kLayerNormGrad, {x, w, x, grad, grad}, a) == "f32(T, 64)");
  CHECK_REFUSED(f.made(Op::kRmsNormGrad, {x, w, f.f32({kTokens, 32}), grad}, a),
                "rms_norm_grad: input dy: wanted f32(T, 64), found f32(T, 32)");
  CHECK_REFUSED(f.made(Op::kRmsNormGrad, {x, w, x, f.w({16})}, a),
                "rms_norm_grad: input grad_weight: wanted state of f32(16), found f32(16)");
  CHECK_REFUSED(f.made(Op::kLayerNormGrad, {x, w, x, grad, f.state("", {64}, DType::kF32)}, a),
                "layer_norm_grad: input grad_bias: wanted state of f32(16), found f32(64)");
  CHECK_REFUSED(f.made(Op::kRmsNormGrad, {x, w, x}, NormAttrs{1e-5f, 48}),
                "rms_norm_grad: wanted rows that are a multiple of group=48");
}

TEST_CASE("softmax_grad takes a result and its gradient") {
  OpsFixture f;
  CHECK(f.made(Op::kSoftmaxGrad, {f.f32({kTokens, 8}), f.f32({kTokens, 8})}) == "f32(T, 8)");
  CHECK_REFUSED(f.made(Op::kSoftmaxGrad, {f.f32({kTokens, 8}), f.f32({kOutputs, 8})}),
                "softmax_grad: input dy: wanted f32(T, 8), found f32(R, 8)");
}

TEST_CASE("norm gradients read and write gradients of weights once") {
  OpsFixture f;
  const ValueId x = f.f32({kTokens, 64}), w = f.w({64}), grad = f.state("", {64}, DType::kF32);
  f.op(Op::kRmsNormGrad, {x, w, x, grad}, NormAttrs{1e-5f, 64});
  const Cost c = cost(f.g, {.n_tokens = 5});
  CHECK(c.flops == doctest::Approx(5 * 64 * 11));
  CHECK(c.bytes_read == doctest::Approx(2 * 5 * 256 + 2 * 256));
  CHECK(c.bytes_written == doctest::Approx(5 * 256 + 256));
}

}  // namespace
}  // namespace moe
