// Shapes and costs of cross_entropy and its gradient.
#include <doctest/doctest.h>

#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

struct LossRules : OpsFixture {
  ValueId x = input("x", {kOutputs, 64}), targets = input("targets", {kOutputs}, DType::kI32),
          row_weight = input("row_weight", {kOutputs}), mix = input("mix", {4}), teacher_x = input("teacher_x", {kOutputs, 32});
  ValueId w = weight("w", {100, 64}), teacher_w = weight("teacher_w", {100, 32}, DType::kQ8_0);
  ValueId grad = state("grad", {100, 64}, DType::kF32);

  std::string made(Op op, std::vector<ValueId> in, const CrossEntropyAttrs& a = {}) const {
    return OpsFixture::made(op, std::move(in), a);
  }
};

}  // namespace

TEST_CASE("cross_entropy makes a number a row, its gradient also a divergence and a row") {
  LossRules f;
  CHECK(f.made(Op::kCrossEntropy, {f.x, f.w, f.targets}) == "f32(R)");
  CHECK(f.made(Op::kCrossEntropy, {f.x, f.weight("b", {100, 64}, DType::kBF16), f.targets}) == "f32(R)");
  CHECK(f.made(Op::kCrossEntropy, {f.x, f.teacher_w, f.targets}).find("wanted weight(V, 64), found q8_0(100, 32)") !=
        std::string::npos);
  const Op op = Op::kCrossEntropyGrad;
  CHECK(f.made(op, {f.x, f.w, f.targets, f.row_weight}) == "f32(R) f32(R) f32(R, 64)");
  CHECK(f.made(op, {f.x, f.w, f.targets, f.row_weight, f.teacher_x, f.teacher_w, f.mix, f.grad}) == "f32(R) f32(R) f32(R, 64)");
}

TEST_CASE("cross_entropy_grad wants all of a teacher, its vocabulary, and a gradient that is a state") {
  LossRules f;
  const auto made = [&](ValueId teacher_x, ValueId teacher_w, ValueId mix, ValueId grad) {
    return f.made(Op::kCrossEntropyGrad, {f.x, f.w, f.targets, f.row_weight, teacher_x, teacher_w, mix, grad});
  };
  const std::string all = "cross_entropy_grad: wanted teacher_x, teacher_w and mix, or none of them";
  CHECK(starts_with(made(f.teacher_x, kNone, f.mix, kNone), all));
  CHECK(starts_with(made(kNone, f.teacher_w, f.mix, kNone), all));
  CHECK(starts_with(made(f.teacher_x, f.teacher_w, kNone, kNone), all));
  CHECK(made(f.teacher_x, f.weight("t", {99, 32}), f.mix, kNone).find("wanted weight(100, 32), found f32(99, 32)") !=
        std::string::npos);
  CHECK(made(kNone, kNone, kNone, f.w).find("wanted state of f32(100, 64)") != std::string::npos);
  CHECK(starts_with(f.made(Op::kCrossEntropy, {f.x, f.w, f.targets}, {.softcap = -1}), "cross_entropy: wanted softcap >= 0"));
  CHECK(starts_with(f.made(Op::kCrossEntropy, {f.x, f.w, f.targets}, {.round = DType::kF16}),
                    "cross_entropy: wanted round to be f32 or bf16"));
}

TEST_CASE("cross_entropy_grad costs a product of the head for the logits, one for dx and one for its own gradient") {
  LossRules f;
  f.op(Op::kCrossEntropy, {f.x, f.w, f.targets}, CrossEntropyAttrs{});
  f.op(Op::kCrossEntropyGrad, {f.x, f.w, f.targets, f.row_weight}, CrossEntropyAttrs{});
  f.op(Op::kCrossEntropyGrad, {f.x, f.w, f.targets, f.row_weight, kNone, kNone, kNone, f.grad}, CrossEntropyAttrs{});
  f.op(Op::kCrossEntropyGrad, {f.x, f.w, f.targets, f.row_weight, f.teacher_x, f.teacher_w, f.mix, f.grad},
       CrossEntropyAttrs{});
  const RunShape run{.n_outputs = 3};
  const auto flops = [&](size_t i) { return cost(f.g, f.g.nodes[i], run).flops; };
  CHECK(flops(0) == doctest::Approx(3 * 100 * (2 * 64 + 5)));
  CHECK(flops(1) == doctest::Approx(3 * 100 * (4 * 64 + 10)));
  CHECK(flops(2) == doctest::Approx(3 * 100 * (6 * 64 + 10)));
  CHECK(flops(3) == doctest::Approx(3 * 100 * (6 * 64 + 2 * 32 + 20)));
  const Cost all = cost(f.g, f.g.nodes[2], run);
  CHECK(all.bytes_read == doctest::Approx(4 * (3 * 64 + 100 * 64 + 3 + 3 + 100 * 64)));
  CHECK(all.bytes_written == doctest::Approx(4 * (3 + 3 + 3 * 64 + 100 * 64)));
}

}  // namespace moe
