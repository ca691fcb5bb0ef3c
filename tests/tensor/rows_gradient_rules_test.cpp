// Shapes and costs of what route, mul and the movers of data are reversed with.
#include <doctest/doctest.h>

#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

struct ReverseRules : OpsFixture {
  ValueId x = input("x", {kTokens, 12}), slots = input("slots", {kTokens, 2, 12}),
          rows = input("rows", {kOutputs}, DType::kI32);
};

}  // namespace

TEST_CASE("row_dot, place, sum_groups and scatter_rows keep rows or make those of tokens") {
  ReverseRules f;
  CHECK(f.made(Op::kRowDot, {f.x, f.x}) == "f32(T, 1)");
  CHECK(f.made(Op::kRowDot, {f.slots, f.slots}) == "f32(T, 2, 1)");
  CHECK(starts_with(f.made(Op::kRowDot, {f.x, f.slots}), "row_dot: input b 'slots': wanted f32(T, 12)"));
  CHECK(f.made(Op::kPlace, {f.x}, PlaceAttrs{3, 1, 5, 6}) == "f32(T, 18)");
  CHECK(f.made(Op::kPlace, {f.slots}, PlaceAttrs{1, 0, 12, 12}) == "f32(T, 2, 12)");
  CHECK(starts_with(f.made(Op::kPlace, {f.x}, PlaceAttrs{3, 1, 4, 6}), "place: input dy 'x': wanted f32(…, 9)"));
  CHECK(
      starts_with(f.made(Op::kPlace, {f.x}, PlaceAttrs{3, 1, 5, 4}), "place: wanted groups > 0 and 0 <= begin < end <= width"));
  CHECK(f.made(Op::kSumGroups, {f.x}, GroupAttrs{.groups = 4}) == "f32(T, 3)");
  CHECK(starts_with(f.made(Op::kSumGroups, {f.x}, GroupAttrs{.groups = 5}), "sum_groups: wanted rows of 5 equal parts"));
  CHECK(starts_with(f.made(Op::kSumGroups, {f.x}, GroupAttrs{.groups = 0}), "sum_groups: wanted rows of 0 equal parts"));
  CHECK(f.made(Op::kScatterRows, {f.input("dy", {kOutputs, 12}), f.rows}) == "f32(T, 12)");
  CHECK(starts_with(f.made(Op::kScatterRows, {f.x, f.rows}), "scatter_rows: input rows 'rows': wanted i32(T), found i32(R)"));
}

TEST_CASE("route_grad takes what route takes and makes") {
  ReverseRules f;
  const RouteAttrs a{.n_experts = 12, .k_capacity = 2};
  std::vector<ValueId> in = f.routing_tables(12);
  in.insert(in.begin(), {f.x, kNone});
  const ValueId balance = f.input("balance", {4});
  in.push_back(balance);
  CHECK(f.made(Op::kRoute, in, a) == "i32(T, 2) f32(T, 2)");
  in.back() = f.input("ids", {kTokens, 2}, DType::kI32);
  const ValueId weights = f.input("weights", {kTokens, 2});
  in.push_back(weights);
  CHECK(f.made(Op::kRouteGrad, in, a) == "f32(T, 12) f32(4)");
  in.insert(in.end(), {weights, balance});
  CHECK(f.made(Op::kRouteGrad, in, a) == "f32(T, 12) f32(4)");
  in.back() = weights;
  CHECK(starts_with(f.made(Op::kRouteGrad, in, a), "route_grad: input balance 'weights': wanted f32(4), found f32(T, 2)"));
  in[0] = f.slots;
  CHECK(starts_with(f.made(Op::kRouteGrad, in, a), "route_grad: input logits 'slots': wanted f32(N, 12)"));
}

TEST_CASE("movers cost bytes alone, sums an operation an element") {
  ReverseRules f;
  f.op(Op::kRowDot, {f.x, f.x});
  f.op(Op::kPlace, {f.x}, PlaceAttrs{3, 1, 5, 6});
  f.op(Op::kSumGroups, {f.x}, GroupAttrs{.groups = 4});
  f.op(Op::kScatterRows, {f.input("dy", {kOutputs, 12}), f.rows});
  const RunShape run{.n_tokens = 5, .n_outputs = 2};
  const double flops[] = {2 * 5 * 12, 0, 5 * 12, 2 * 12}, read[] = {2 * 5 * 48, 5 * 48, 5 * 48, 2 * 48 + 2 * 4};
  const double written[] = {5 * 4, 5 * 72, 5 * 12, 5 * 48};
  for (size_t i = 0; i < 4; ++i) {
    const Cost c = cost(f.g, f.g.nodes[i], run);
    CHECK(c.flops == doctest::Approx(flops[i]));
    CHECK(c.bytes_read == doctest::Approx(read[i]));
    CHECK(c.bytes_written == doctest::Approx(written[i]));
  }
}

}  // namespace moe
