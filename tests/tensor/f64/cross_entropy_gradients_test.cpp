// The gradient of the head's loss against differences in double precision.
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>

#include "core/rng.h"
#include "tests/tensor/f64/gradient_check.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

constexpr int64_t kVocabulary = 11, kWidth = 6, kTeacherWidth = 4, kRows = 5;

Doubles normals64(int64_t n, uint64_t seed) {
  Rng rng(seed);
  Doubles v(static_cast<size_t>(n));
  for (double& x : v) x = double{rng.normal()};
  return v;
}

// Rows of outputs with a weight and a target each, and a teacher whose rows are wider or narrower.
struct LossOfRows : GraphFixture {
  Values64 values;
  RunShape run{.n_tokens = 1, .n_outputs = kRows};
  ValueId x, w, targets;

  LossOfRows() {
    x = input("x", {kOutputs, kWidth}), w = weight("w", {kVocabulary, kWidth});
    targets = input("targets", {kOutputs}, DType::kI32);
    values[x] = normals64(kRows * kWidth, 1), values[w] = normals64(kVocabulary * kWidth, 2);
    values[targets] = {3, -1, 10, 0, 3};
  }

  struct Distilled {
    ValueId row_weight, grad, loss, kl, dx;
  };
  Distilled distilled(double alpha, double temperature, const CrossEntropyAttrs& a) {
    const ValueId row_weight = input("row_weight", {kOutputs}), grad = state("grad", {kVocabulary, kWidth}, DType::kF32);
    const ValueId teacher_x = input("teacher_x", {kOutputs, kTeacherWidth}), mix = input("mix", {4});
    const ValueId teacher_w = weight("teacher_w", {kVocabulary, kTeacherWidth});
    values[row_weight] = {0.5, 2, -1, 0, 1.5}, values[mix] = {alpha, temperature, 0, 0};
    values[teacher_x] = normals64(kRows * kTeacherWidth, 3), values[teacher_w] = normals64(kVocabulary * kTeacherWidth, 4);
    values[grad] = Doubles(kVocabulary * kWidth, 0.0);
    op(Op::kCrossEntropyGrad, {x, w, targets, row_weight, teacher_x, teacher_w, mix, grad}, a);
    const std::vector<ValueId>& out = g.nodes.back().out;
    return {row_weight, grad, out[0], out[1], out[2]};
  }
};

// L as tensor/ops/cross_entropy_op.cpp has it, of what the op itself reports.
double objective(const LossOfRows& f, const LossOfRows::Distilled& d, Values64 values, double alpha, double temperature) {
  run_f64(f.g, f.run, values);
  double sum = 0;
  for (size_t r = 0; r < kRows; ++r)
    sum += values[d.row_weight][r] * ((1 - alpha) * values[d.loss][r] + alpha * temperature * temperature * values[d.kl][r]);
  return sum;
}

void check_differences(const LossOfRows& f, const LossOfRows::Distilled& d, double alpha, double temperature) {
  Values64 plain = f.values;
  run_f64(f.g, f.run, plain);
  const std::pair<ValueId, ValueId> of_and_gradient[] = {{f.x, d.dx}, {f.w, d.grad}};
  for (const auto& [of, gradient] : of_and_gradient)
    for (size_t i = 0; i < f.values.at(of).size(); ++i) {
      constexpr double kStep = 1e-5;
      Values64 above = f.values, below = f.values;
      above[of][i] += kStep, below[of][i] -= kStep;
      const double wanted =
          (objective(f, d, std::move(above), alpha, temperature) - objective(f, d, std::move(below), alpha, temperature)) /
          (2 * kStep);
      CHECK(plain[gradient][i] == doctest::Approx(wanted).epsilon(1e-6).scale(1e-1));
    }
}

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE("cross_entropy: of hidden rows and of the head, plain and with scale and softcap") {
  for (const CrossEntropyAttrs& a : {CrossEntropyAttrs{}, CrossEntropyAttrs{.logit_scale = 0.5f, .softcap = 3}}) {
    GraphFixture f;
    Values64 values;
    const ValueId table = f.weight("x", {7, kWidth}), w = f.weight("w", {kVocabulary, kWidth});
    const ValueId ids = f.input("ids", {kTokens}, DType::kI32), targets = f.input("targets", {kTokens}, DType::kI32);
    values[ids] = {6, 1, 0, 1, 3}, values[targets] = {3, -1, 10, 0, 3};
    const ValueId loss = f.op(Op::kCrossEntropy, {f.op(Op::kEmbed, {table, ids}), w, targets}, a);
    check_gradients({f.g, loss, RunShape{.n_tokens = 5}, values});
  }
}

TEST_CASE("cross_entropy_grad: the mixture of a target's loss and a teacher's distribution") {
  for (const double alpha : {0.0, 0.3, 1.0})
    for (const double temperature : {1.0, 2.5}) {
      LossOfRows f;
      const auto d = f.distilled(alpha, temperature,
                                 {.logit_scale = 0.5f, .softcap = 3, .teacher_logit_scale = 1.5f, .teacher_softcap = 4});
      check_differences(f, d, alpha, temperature);
    }
}

TEST_CASE("a student that is its teacher is as far from it as nothing") {
  LossOfRows f;
  const auto d = f.distilled(1, 2, {});
  Values64 values = f.values;
  const ValueId teacher_x = f.g.find("teacher_x"), teacher_w = f.g.find("teacher_w");
  for (size_t r = 0; r < kRows; ++r)  // the teacher's rows are the first columns of the student's
    for (size_t i = 0; i < kWidth; ++i) {
      double& x = values[f.x][r * kWidth + i];
      if (i < kTeacherWidth)
        values[teacher_x][r * kTeacherWidth + i] = x;
      else
        x = 0;
    }
  for (size_t v = 0; v < kVocabulary; ++v)
    for (size_t i = 0; i < kTeacherWidth; ++i) values[teacher_w][v * kTeacherWidth + i] = values[f.w][v * kWidth + i];
  run_f64(f.g, f.run, values);
  for (const double kl : values[d.kl]) CHECK(std::fabs(kl) < 1e-12);
  for (const double v : values[d.dx]) CHECK(std::fabs(v) < 1e-12);
  CHECK(values[d.loss][0] > 0);
}

TEST_SUITE_END();

}  // namespace moe
