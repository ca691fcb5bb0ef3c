// diversity_grad on the CPU backend, on every instruction set and with 1 to 3 threads, against the reference in double
// precision.
#include <doctest/doctest.h>

#include <algorithm>

#include "backends/cpu/cpu_backend.h"
#include "tensor/optim.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

// Experts that share a direction, so that there is something to drive apart.
std::vector<OpArgument> diversity_arguments(const Shape& s, float strength) {
  const auto n = static_cast<size_t>(s.row_elements()), E = static_cast<size_t>(s[0]);
  const std::vector<float> own = normals(E * n, 1), common = normals(n, 2);
  std::vector<float> w(E * n);
  for (size_t i = 0; i < w.size(); ++i) w[i] = own[i] + common[i % n];
  return {gradient(s, w), gradient(s, normals(w.size(), 3, 1e-3f)), floats({1}, {strength})};
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("diversity_grad of few and many experts, of small matrices and such as take several blocks") {
  for_each_isa_and_threads([](const OpRun& run) {
    for (const Shape& s :
         {Shape{1, 4, 5}, Shape{2, 1, 3}, Shape{3, 5, 7}, Shape{16, 24, 40}, Shape{2, 200, 701}, Shape{200, 3, 11}}) {
      std::vector<OpArgument> a = diversity_arguments(s, 0.5f);
      check_against_f64(Op::kDiversityGrad, a, NoAttrs{}, run, 2e-6);
      a[1] = absent();
      check_against_f64(Op::kDiversityGrad, a, NoAttrs{}, run, 2e-6);
    }
  });
}

TEST_CASE("diversity_grad leaves experts of zeros as they are, and all gradients where its strength is 0") {
  for_each_isa_and_threads([](const OpRun& run) {
    const Shape s{4, 6, 5};
    std::vector<OpArgument> a = diversity_arguments(s, 2);
    std::vector<float> w = a[0].floats();
    std::fill_n(w.begin() + 30, 30, 0.0f);
    a[0] = gradient(s, w);
    check_against_f64(Op::kDiversityGrad, a, NoAttrs{}, run, 2e-6);
    const std::vector<float> before = a[1].floats();
    run_op(Op::kDiversityGrad, a, NoAttrs{}, run);
    const std::vector<float> after = a[1].floats();
    for (size_t i = 0; i < after.size(); ++i) CHECK((after[i] == before[i]) == (i / 30 == 1));
    a[2] = floats({1}, {0});
    run_op(Op::kDiversityGrad, a, NoAttrs{}, run);
    CHECK(same_bits(a[1].floats(), after));
  });
}

TEST_SUITE_END();

TEST_CASE("equal experts cost 1, experts without a common direction nothing") {
  const Shape s{3, 1, 3};
  std::vector<OpArgument> equal = {gradient(s, {1, 2, 2, 2, 4, 4, 3, 6, 6}), absent(), floats({1}, {1})};
  CHECK(run_op(Op::kDiversityGrad, equal, NoAttrs{}, {})[0][0] == doctest::Approx(1));
  std::vector<OpArgument> apart = {gradient(s, {1, 0, 0, 0, 2, 0, 0, 0, 3}), absent(), floats({1}, {1})};
  CHECK(run_op(Op::kDiversityGrad, apart, NoAttrs{}, {})[0][0] == 0);
}

TEST_CASE("steps against the gradient of the diversity graph drive the experts of every matrix apart") {
  const std::vector<Parameter> p = {{"up", {6, 10, 8}}, {"norm", {8}}, {"down", {6, 8, 10}}};
  const DiversityGraph d = build_diversity_graph(p);
  BackendOptions options;
  options.n_threads = 2;
  auto backend = create_cpu_backend(options);
  REQUIRE(backend.ok());
  auto executable = (*backend)->compile(d.graph, {1, 1});
  REQUIRE(executable.ok());
  std::vector<std::vector<float>> w, grad;
  float strength = 1;
  REQUIRE((*executable)->bind(d.strength, {&strength, DType::kF32, {1}}).ok());
  for (const DiversityGraph::Experts& e : d.experts) {
    const Shape& s = p[e.parameter].shape;
    w.push_back(diversity_arguments(s, 1)[0].floats()), grad.emplace_back(w.back().size());
    REQUIRE((*executable)->bind(e.w, {w.back().data(), DType::kF32, s}).ok());
    REQUIRE((*executable)->bind(e.grad, {grad.back().data(), DType::kF32, s}).ok());
  }
  std::vector<float> last(d.experts.size(), 1);
  for (int step = 0; step < 20; ++step) {
    for (std::vector<float>& g : grad) std::fill(g.begin(), g.end(), 0.0f);
    REQUIRE((*executable)->run(RunShape{}).ok());
    for (size_t i = 0; i < d.experts.size(); ++i) {
      const float loss = (*executable)->read(d.experts[i].loss)->f32()[0];
      CHECK(loss < last[i]);
      last[i] = loss;
      for (size_t j = 0; j < w[i].size(); ++j) w[i][j] -= 20 * grad[i][j];
    }
  }
  for (const float loss : last) CHECK(loss < 0.05f);
}

}  // namespace moe
