// Shapes and costs of sum_squares and adamw.
#include <doctest/doctest.h>

#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

struct UpdateRules : GraphFixture {
  ValueId f32(Shape s) { return state("", s, DType::kF32); }

  // "f32(1)", "" of an op that makes nothing, or why it is refused.
  std::string made(Op op, std::vector<ValueId> in) const {
    std::vector<Value> out;
    const Status s = infer_outputs(g, Node{op, std::move(in), {}, NoAttrs{}}, out);
    if (!s.ok()) return s.message().substr(0, s.message().find(';'));
    return out.empty() ? "" : traits(out[0].dtype).name + to_string(out[0].shape);
  }
};

}  // namespace

TEST_CASE("sum_squares makes one number of a state of any shape") {
  UpdateRules f;
  for (const Shape& s : {Shape{7}, Shape{2, 3}, Shape{2, 3, 4}}) CHECK(f.made(Op::kSumSquares, {f.f32(s)}) == "f32(1)");
  CHECK(f.made(Op::kSumSquares, {f.input("x", {2, 3})}) == "sum_squares: input x 'x': wanted state of f32(…), found f32(2, 3)");
  CHECK(f.made(Op::kSumSquares, {f.f32({kTokens, 3})}) == "sum_squares: wanted a fixed number of elements");
}

TEST_CASE("adamw updates states of one shape") {
  UpdateRules f;
  const ValueId s = f.f32({2, 3}), hyper = f.input("hyper", {8});
  const ValueId copy = f.state("", {2, 3}, DType::kBF16);
  CHECK(f.made(Op::kAdamW, {s, s, s, s, kNone, hyper}) == "");
  CHECK(f.made(Op::kAdamW, {s, s, s, s, copy, hyper}) == "");
  CHECK(f.made(Op::kAdamW, {s, s, f.f32({3, 2}), s, kNone, hyper}).find("adamw: input m: wanted state of f32") == 0);
  CHECK(f.made(Op::kAdamW, {s, s, s, s, f.f32({2, 3}), hyper}).find("adamw: input copy: wanted state of bf16") == 0);
  CHECK(f.made(Op::kAdamW, {s, s, s, s, f.weight("", {2, 3}, DType::kBF16), hyper}).find("adamw: input copy: wanted") == 0);
  CHECK(f.made(Op::kAdamW, {s, s, s, s, kNone, f.input("hyper", {7})}) ==
        "adamw: input hyper 'hyper': wanted f32(8), found f32(7)");
}

TEST_CASE("an update reads and writes every state once") {
  UpdateRules f;
  const ValueId s = f.f32({10, 10}), hyper = f.input("hyper", {8}), copy = f.state("", {10, 10}, DType::kBF16);
  f.op(Op::kAdamW, {s, s, s, s, copy, hyper});
  f.op(Op::kSumSquares, {s});
  const Cost update = cost(f.g, f.g.nodes[0], {}), squares = cost(f.g, f.g.nodes[1], {});
  CHECK(update.bytes_read == 4 * 400 + 32);
  CHECK(update.bytes_written == 3 * 400 + 200);
  CHECK(update.flops == 1500);
  CHECK(squares.bytes_read == 400);
  CHECK(squares.bytes_written == 4);
  CHECK(squares.flops == 200);
}

}  // namespace moe
