// route_grad on the CPU backend, on every instruction set and with 1 to 3 threads, against the reference in double precision.
#include <doctest/doctest.h>

#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"

namespace moe {
namespace {

using namespace test;

// Two classes of tokens, one expert closed to both with another in its place, one closed to the second class.
std::vector<OpArgument> route_arguments(const RouteAttrs& a, int64_t n_tokens, std::vector<float> params) {
  const int64_t E = a.n_experts;
  std::vector<int8_t> allow(static_cast<size_t>(2 * E), 1);
  std::vector<int32_t> classes, redirect(static_cast<size_t>(E), -1);
  for (int64_t t = 0; t < n_tokens; ++t) classes.push_back(static_cast<int32_t>(t % 3 == 1));
  if (E > 3) allow[3] = allow[static_cast<size_t>(E) + 3] = 0, redirect[3] = 2, allow[static_cast<size_t>(E)] = 0;
  params.resize(8);
  return {floats({kTokens, E}, normals(static_cast<size_t>(n_tokens * E), 1)),
          weights({E}, normals(static_cast<size_t>(E), 2, 0.3f)),
          floats({8}, params),
          bytes({2, E}, allow),
          ints({kTokens}, classes),
          floats({E}, normals(static_cast<size_t>(E), 3, 0.1f)),
          ints({E}, redirect)};
}

void check_route_grad(const RouteAttrs& a, const std::vector<float>& params, const OpRun& run) {
  std::vector<OpArgument> in = route_arguments(a, run.n_tokens, params);
  const auto forward = run_op(Op::kRoute, in, a, run);
  const std::vector<int32_t> ids(forward[0].begin(), forward[0].end());
  in.push_back(ints({kTokens, a.k_capacity}, ids));
  in.push_back(floats({kTokens, a.k_capacity}, forward[1]));
  in.push_back(floats({kTokens, a.k_capacity}, normals(ids.size(), 4)));
  in.push_back(floats({4}, {0.5f, 0.25f, 0, 0}));
  check_against_f64(Op::kRouteGrad, in, a, run, 4e-6);
  in[9] = absent();
  check_against_f64(Op::kRouteGrad, in, a, run, 4e-6);
  in[10] = absent();
  const std::vector<std::vector<float>> nothing = run_op(Op::kRouteGrad, in, a, run);
  for (const float d : nothing[0]) CHECK(d == 0);
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("route_grad for every gating, normalized or not, with a threshold, masks and redirects") {
  for_each_run([](const OpRun& run) {
    for (const Gating gating : {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected})
      for (const bool normalize : {false, true}) {
        const RouteAttrs a{.n_experts = 12, .k_capacity = 4, .gating = gating, .normalize = normalize, .scale = 1.5f};
        check_route_grad(a, {1, 4, 0.35f, 0.8f}, run);
        check_route_grad(a, {3, 3, 0, 1}, run);
      }
  });
}

TEST_CASE("route_grad of one expert, of one slot, and of groups") {
  for_each_run([](const OpRun& run) {
    check_route_grad({.n_experts = 1, .k_capacity = 1}, {1, 1, 0, 1}, run);
    check_route_grad({.n_experts = 37, .k_capacity = 1, .gating = Gating::kSigmoid}, {1, 1, 0, 1}, run);
    check_route_grad({.n_experts = 16, .k_capacity = 3, .gating = Gating::kSigmoid, .n_group = 4, .topk_group = 2},
                     {2, 3, 0.5f, 1}, run);
  });
}

TEST_CASE("tokens that may use no expert get no gradient") {
  const RouteAttrs a{.n_experts = 4, .k_capacity = 2};
  const OpRun run{"", 2, true, false, 3, 1};
  std::vector<OpArgument> in = route_arguments(a, 3, {2, 2, 0, 1});
  in[3] = bytes({2, 4}, std::vector<int8_t>(8, 0));
  in[6] = ints({4}, {-1, -1, -1, -1});
  in.insert(in.end(), {ints({kTokens, 2}, std::vector<int32_t>(6, -1)), floats({kTokens, 2}, std::vector<float>(6, 0)),
                       floats({kTokens, 2}, normals(6, 4)), floats({4}, {1, 1, 0, 0})});
  for (const std::vector<float>& out : run_op(Op::kRouteGrad, in, a, run))
    for (const float v : out) CHECK(v == 0);
}

TEST_SUITE_END();

}  // namespace moe
