// cross_entropy and its gradient on the CPU backend, on every instruction set and with 1 to 3 threads, against the references
// in double precision.
#include <doctest/doctest.h>

#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

// A head of V rows, and rows of outputs to meet it: some without a target, some without a weight.
struct Rows {
  int64_t n, d, V;
  Shape shape(int64_t width) const { return {kOutputs, width}; }

  OpArgument x(int64_t width, uint64_t seed) const {
    return floats(shape(width), normals(static_cast<size_t>(n * width), seed));
  }
  OpArgument w(int64_t width, uint64_t seed, DType dtype = DType::kF32) const {
    return weights({V, width}, normals(static_cast<size_t>(V * width), seed, 0.3f), dtype);
  }
  OpArgument targets() const {
    std::vector<int32_t> ids;
    for (int64_t r = 0; r < n; ++r) ids.push_back(r % 7 == 3 ? -1 : static_cast<int32_t>(r * r * 5 % V));
    return ints({kOutputs}, ids);
  }
  OpArgument row_weight() const {
    std::vector<float> v = normals(static_cast<size_t>(n), 77);
    for (size_t r = 4; r < v.size(); r += 5) v[r] = 0;
    return floats({kOutputs}, v);
  }
  OpArgument grad() const { return gradient({V, d}, normals(static_cast<size_t>(V * d), 78)); }
};

OpArgument mixture(float alpha, float temperature) { return floats({4}, {alpha, temperature, 0, 0}); }

constexpr CrossEntropyAttrs kPlain{};
constexpr CrossEntropyAttrs kCapped{.logit_scale = 0.7f, .softcap = 5, .teacher_logit_scale = 1.3f, .teacher_softcap = 4};

// All inputs of the gradient, with a teacher of another width.
std::vector<OpArgument> distilled(const Rows& r, DType student = DType::kF32, DType teacher = DType::kF32) {
  return {r.x(r.d, 1), r.w(r.d, 2, student), r.targets(),         r.row_weight(),
          r.x(32, 3),  r.w(32, 4, teacher),  mixture(0.4f, 2.5f), r.grad()};
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("cross_entropy of rows with and without a target") {
  for_each_run([](const OpRun& run) {
    const Rows r{run.n_outputs, 37, 101};
    for (const CrossEntropyAttrs& a : {kPlain, kCapped})
      check_against_f64(Op::kCrossEntropy, {r.x(r.d, 1), r.w(r.d, 2), r.targets()}, a, run, 2e-6);
  });
}

TEST_CASE("cross_entropy_grad without a teacher, with and without a gradient of the head") {
  for_each_run([](const OpRun& run) {
    const Rows r{run.n_outputs, 37, 101};
    const std::vector<OpArgument> rows = {r.x(r.d, 1), r.w(r.d, 2), r.targets(), r.row_weight()};
    check_against_f64(Op::kCrossEntropyGrad, rows, kCapped, run, 2e-6);
    std::vector<OpArgument> all = rows;
    all.insert(all.end(), {absent(), absent(), absent(), r.grad()});
    check_against_f64(Op::kCrossEntropyGrad, all, kPlain, run, 2e-6);
  });
}

TEST_CASE("cross_entropy_grad with a teacher whose rows have another width") {
  for_each_run([](const OpRun& run) {
    const Rows r{run.n_outputs, 37, 101};
    for (const CrossEntropyAttrs& a : {kPlain, kCapped}) check_against_f64(Op::kCrossEntropyGrad, distilled(r), a, run, 4e-6);
  });
}

TEST_CASE("cross_entropy_grad of more rows than a chunk and more words than are decoded at a time") {
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 3}) {
      CAPTURE(isa);
      CAPTURE(threads);
      const OpRun run{isa, threads, true, false, 1, 611};
      const Rows r{run.n_outputs, 32, 1031};
      for (const auto& [student, teacher] :
           {std::pair{DType::kF32, DType::kF32}, {DType::kBF16, DType::kQ8_0}, {DType::kQ8_0, DType::kBF16}})
        check_against_f64(Op::kCrossEntropyGrad, distilled(r, student, teacher), kPlain, run, 1e-5);
    }
}

TEST_CASE("a head of bfloat16 is met by rows and gradients that are rounded to it, where the processor multiplies such pairs") {
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 3}) {
      CAPTURE(isa);
      CAPTURE(threads);
      const OpRun run{isa, threads, false, false, 1, 70};
      const Rows r{run.n_outputs, 37, 101};
      check_against_f64(Op::kCrossEntropyGrad, distilled(r, DType::kBF16, DType::kBF16), kPlain, run, 1e-2);
    }
}

TEST_CASE("rows without a target make no loss, and what they hold is not looked at") {
  for (const int threads : {1, 2}) {
    const OpRun run{"", threads, true, false, 1, 3};
    const Rows r{3, 8, 20};
    std::vector<OpArgument> in = {r.x(8, 1), r.w(8, 2), ints({kOutputs}, {-1, -1, -1}), r.row_weight(), absent(), absent(),
                                  absent(),  r.grad()};
    std::fill(in[0].bytes.begin(), in[0].bytes.end(), std::byte{0xff});  // NaN
    const std::vector<float> before = in[7].floats();
    for (const std::vector<float>& out : run_op(Op::kCrossEntropyGrad, in, kPlain, run))
      for (const float v : out) CHECK(v == 0);
    CHECK(in[7].floats() == before);
  }
}

TEST_SUITE_END();

}  // namespace moe
