// Shapes, formats and costs of linear_dx and linear_dw, and the graph that linear's gradient makes.
#include <doctest/doctest.h>

#include "tensor/autodiff.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

struct Reverse : GraphFixture {
  ValueId dy = input("dy", {kTokens, 32}), x = input("x", {kTokens, 64}), w = weight("w", {32, 64});
  ValueId grad = state("grad", {32, 64}, DType::kF32), grad_bias = state("grad_bias", {32}, DType::kF32);

  // "f32(T, 64)" of what the op makes, or why it makes nothing.
  std::string made(Op op, std::vector<ValueId> in, Attrs attrs) const {
    in.resize(op_def(op).inputs.size(), kNone);
    std::vector<Value> out;
    const Status s = infer_outputs(g, Node{op, std::move(in), {}, attrs}, out);
    if (!s.ok()) return s.message().substr(0, s.message().find(';'));
    return out.empty() ? "nothing" : traits(out[0].dtype).name + to_string(out[0].shape);
  }
};

void check_cost(const Cost& c, double flops, double read, double written) {
  CHECK(c.flops == doctest::Approx(flops));
  CHECK(c.bytes_read == doctest::Approx(read));
  CHECK(c.bytes_written == doctest::Approx(written));
}

}  // namespace

TEST_CASE("linear_dx takes weights of any format, and rounded gradients where the weight is bfloat16") {
  Reverse f;
  const ValueId q8 = f.weight("q8", {32, 64}, DType::kQ8_0), half = f.weight("half", {32, 64}, DType::kBF16);
  const ValueId rounded = f.input("rounded", {kTokens, 32}, DType::kBF16);
  for (const ValueId w : {f.w, q8, half}) CHECK(f.made(Op::kLinearDx, {f.dy, w}, ScaleAttrs{}) == "f32(T, 64)");
  CHECK(f.made(Op::kLinearDx, {f.input("o", {kOutputs, 32}), f.w}, ScaleAttrs{}) == "f32(R, 64)");
  CHECK(f.made(Op::kLinearDx, {rounded, half}, ScaleAttrs{}) == "f32(T, 64)");
  CHECK(f.made(Op::kLinearDx, {rounded, q8}, ScaleAttrs{}) == "linear_dx: wanted dy of f32, or of bf16 as w is");
  CHECK(f.made(Op::kLinearDx, {f.x, f.w}, ScaleAttrs{}) == "linear_dx: input w 'w': wanted weight(64, i), found f32(32, 64)");
}

TEST_CASE("linear_dw adds to states alone, of a weight or of a bias or of both") {
  Reverse f;
  const ProductGradAttrs a;
  const ValueId dy16 = f.input("dy16", {kTokens, 32}, DType::kBF16), x16 = f.input("x16", {kTokens, 64}, DType::kBF16);
  CHECK(f.made(Op::kLinearDw, {f.dy, f.x, f.grad, f.grad_bias}, a) == "nothing");
  CHECK(f.made(Op::kLinearDw, {f.dy, f.x, f.grad}, a) == "nothing");
  CHECK(f.made(Op::kLinearDw, {f.dy, f.x, kNone, f.grad_bias}, a) == "nothing");
  CHECK(f.made(Op::kLinearDw, {dy16, x16, f.grad}, a) == "nothing");
  CHECK(f.made(Op::kLinearDw, {f.dy, f.x}, a) == "linear_dw: wanted grad or grad_bias");
  CHECK(f.made(Op::kLinearDw, {dy16, f.x, f.grad}, a) == "linear_dw: wanted dy and x both of f32 or both of bf16");
  CHECK(f.made(Op::kLinearDw, {f.dy, f.x, f.w}, a) ==
        "linear_dw: input grad 'w': wanted state of f32(32, 64), found f32(32, 64)");
  CHECK(f.made(Op::kLinearDw, {f.x, f.dy, f.grad}, a) ==
        "linear_dw: input grad 'grad': wanted state of f32(64, 32), found f32(32, 64)");
  CHECK(f.made(Op::kLinearDw, {f.dy, f.input("o", {kOutputs, 64}), f.grad}, a) ==
        "linear_dw: input x 'o': wanted f32|bf16|a8(T, i), found f32(R, 64)");
}

TEST_CASE("the reverse of a linear costs twice the linear, and reads and writes what it adds to") {
  Reverse f;
  const RunShape run{.n_tokens = 5};
  f.op(Op::kLinearDx, {f.dy, f.weight("q8", {32, 64}, DType::kQ8_0)}, ScaleAttrs{});
  f.op(Op::kLinearDw, {f.dy, f.x, f.grad}, ProductGradAttrs{});
  f.op(Op::kLinearDw, {f.dy, f.x, f.grad, f.grad_bias}, ProductGradAttrs{2});
  const double dy = 5 * 32 * 4, x = 5 * 64 * 4, grad = 32 * 64 * 4, bias = 32 * 4;
  check_cost(cost(f.g, f.g.nodes[0], run), 2 * 5 * 32 * 64, dy + 32 * 68, x);
  check_cost(cost(f.g, f.g.nodes[1], run), 2 * 5 * 32 * 64, dy + x + grad, grad);
  check_cost(cost(f.g, f.g.nodes[2], run), 2 * 5 * 32 * 64 + 32 * 64 + 5 * 32 + 32, dy + x + grad + bias, grad + bias);
}

TEST_CASE("linear's gradient makes only what somebody wants, and lets products of bfloat16 weights be rounded") {
  GraphFixture f;
  const ValueId x = f.input("x", {kTokens, 64}), first = f.weight("first", {32, 64}, DType::kBF16);
  const ValueId h = f.op(Op::kLinear, {x, first}, ScaleAttrs{0.5f});
  const ValueId y = f.op(Op::kLinear, {h, f.weight("second", {8, 32}), f.weight("bias", {8})}, ScaleAttrs{}, 3);
  const size_t n_forward = f.g.nodes.size();
  const GradientSeed seeds[] = {{y, f.input("dy", {kTokens, 8})}};
  const auto made = differentiate(f.g, seeds, [](const Value&) { return true; });
  REQUIRE_MESSAGE(made.ok(), made.status().message());
  REQUIRE(f.g.nodes.size() == n_forward + 3);
  const Node *dx = &f.g.nodes[n_forward], *dw2 = dx + 1, *dw1 = dx + 2;
  CHECK(dx->op == Op::kLinearDx);
  CHECK(dx->layer == 3);
  CHECK(std::get<ProductGradAttrs>(dw2->attrs).round == DType::kF32);
  CHECK(dw2->in[3] != kNone);
  CHECK(dw1->in[1] == x);
  CHECK(dw1->in[3] == kNone);
  CHECK(std::get<ProductGradAttrs>(dw1->attrs).round == DType::kBF16);
  CHECK(std::get<ProductGradAttrs>(dw1->attrs).scale == 0.5f);
  CHECK(f.g.value(dw1->in[2]).name == "grad.first");
  CHECK(f.g.value(dw1->in[2]).dtype == DType::kF32);
}

}  // namespace moe
