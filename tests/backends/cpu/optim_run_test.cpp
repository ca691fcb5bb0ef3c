// The graphs of tensor/optim.h on the CPU backend: ten steps of AdamW with groups, clipping and copies against the same in
// double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "backends/cpu/cpu_backend.h"
#include "core/half.h"
#include "tensor/optim.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Memory {  // of one parameter
  std::vector<float> w, grad, m, v;
  std::vector<uint16_t> copy;
};

const std::vector<Parameter> kParameters = {
    {"matrix", {40, 50}, 1, true, true}, {"norm", {33}, 1, false, false}, {"experts", {3, 150, 100}, 0.1f, true, false}};
constexpr double kLimit = 20, kScale = 0.5;
constexpr int kSteps = 10;
const RateSchedule kSchedule{.peak = 0.01f, .warmup_steps = 3, .total_steps = kSteps};

std::vector<float> gradient_of(const Parameter& p, int step) {  // some steps are clipped, some are not
  return normals(static_cast<size_t>(p.shape.elements()), uint64_t{100} + static_cast<uint64_t>(step), step % 3 ? 0.05f : 3.0f);
}

// All parameters after kSteps on the backend.
std::vector<Memory> train(int n_threads) {
  BackendOptions options;
  options.n_threads = n_threads;
  auto backend = create_cpu_backend(options);
  REQUIRE(backend.ok());
  const NormGraph norm = build_norm_graph(kParameters);
  const UpdateGraph update = build_update_graph(kParameters);
  auto measure = (*backend)->compile(norm.graph, {1, 1});
  auto apply = (*backend)->compile(update.graph, {1, 1});
  REQUIRE(measure.ok());
  REQUIRE(apply.ok());

  std::vector<Memory> memory(kParameters.size());
  for (size_t i = 0; i < memory.size(); ++i) {
    const Shape& s = kParameters[i].shape;
    const auto n = static_cast<size_t>(s.elements());
    Memory& p = memory[i];
    p.w = normals(n, i), p.grad.resize(n), p.m.resize(n), p.v.resize(n), p.copy.resize(n);
    const UpdateGraph::States& states = update.states[i];
    REQUIRE((*measure)->bind(norm.grads[i], {p.grad.data(), DType::kF32, s}).ok());
    REQUIRE((*apply)->bind(states.w, {p.w.data(), DType::kF32, s}).ok());
    REQUIRE((*apply)->bind(states.grad, {p.grad.data(), DType::kF32, s}).ok());
    REQUIRE((*apply)->bind(states.m, {p.m.data(), DType::kF32, s}).ok());
    REQUIRE((*apply)->bind(states.v, {p.v.data(), DType::kF32, s}).ok());
    if (states.copy != kNone) REQUIRE((*apply)->bind(states.copy, {p.copy.data(), DType::kBF16, s}).ok());
  }
  std::vector<std::array<float, 8>> hyper(update.groups.size());
  for (size_t g = 0; g < hyper.size(); ++g)
    REQUIRE((*apply)->bind(update.groups[g].hyper, {hyper[g].data(), DType::kF32, {8}}).ok());

  for (int step = 0; step < kSteps; ++step) {
    for (size_t i = 0; i < memory.size(); ++i) {
      const std::vector<float> grad = gradient_of(kParameters[i], step);
      std::copy(grad.begin(), grad.end(), memory[i].grad.begin());
    }
    REQUIRE((*measure)->run(RunShape{}).ok());
    std::vector<float> sums;
    for (const ValueId id : norm.sums) sums.push_back((*measure)->read(id)->f32()[0]);
    const auto total = global_norm(kParameters, sums);
    REQUIRE(total.ok());
    for (size_t g = 0; g < hyper.size(); ++g)
      hyper[g] = hyper_numbers({}, update.groups[g], kSchedule.rate_at(step), clipped_scale(*total, kScale, kLimit), step + 1);
    REQUIRE((*apply)->run(RunShape{}).ok());
  }
  return memory;
}

std::vector<std::vector<double>> wanted() {
  const AdamW a;
  std::vector<std::vector<double>> w, m, v;
  for (size_t i = 0; i < kParameters.size(); ++i) {
    const std::vector<float> first = normals(static_cast<size_t>(kParameters[i].shape.elements()), i);
    w.emplace_back(first.begin(), first.end());
    m.emplace_back(first.size()), v.emplace_back(first.size());
  }
  for (int step = 0; step < kSteps; ++step) {
    double squares = 0;
    for (const Parameter& p : kParameters)
      for (const float g : gradient_of(p, step)) squares += double{g} * g;
    const double scale = std::min(kScale, kLimit / std::sqrt(squares));
    for (size_t i = 0; i < kParameters.size(); ++i) {
      const std::vector<float> grad = gradient_of(kParameters[i], step);
      const double rate = kSchedule.rate_at(step) * kParameters[i].rate;
      const double decay = kParameters[i].decay ? a.weight_decay : 0;
      for (size_t j = 0; j < grad.size(); ++j) {
        const double g = scale * grad[j];
        m[i][j] = a.beta1 * m[i][j] + (1 - a.beta1) * g;
        v[i][j] = a.beta2 * v[i][j] + (1 - a.beta2) * g * g;
        const double m_hat = m[i][j] / (1 - std::pow(a.beta1, step + 1)), v_hat = v[i][j] / (1 - std::pow(a.beta2, step + 1));
        w[i][j] -= rate * (m_hat / (std::sqrt(v_hat) + a.eps) + decay * w[i][j]);
      }
    }
  }
  return w;
}

}  // namespace

TEST_CASE("ten steps of AdamW are those of double precision, for any number of threads") {
  const std::vector<std::vector<double>> w = wanted();
  const std::vector<Memory> alone = train(1);
  for (const int threads : {1, 2, 3}) {
    const std::vector<Memory> found = train(threads);
    for (size_t i = 0; i < kParameters.size(); ++i) {
      CAPTURE(kParameters[i].name);
      CHECK(worst_error(found[i].w, w[i]) < 1e-6);
      CHECK(same_bits(found[i].w, alone[i].w));
      CHECK(same_bits(found[i].m, alone[i].m));
      CHECK(same_bits(found[i].v, alone[i].v));
    }
    size_t different = 0;
    for (size_t j = 0; j < found[0].w.size(); ++j) different += found[0].copy[j] != f32_to_bf16(found[0].w[j]);
    CHECK(different == 0);
  }
}

}  // namespace moe
