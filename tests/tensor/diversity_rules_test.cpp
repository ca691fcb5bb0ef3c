// Shapes and cost of diversity_grad, and its graph over the parameters of a model.
#include "tensor/optim.h"
#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

struct DiversityRules : OpsFixture {
  ValueId stack(Shape s) { return state("", s, DType::kF32); }
};

}  // namespace

TEST_CASE("diversity_grad makes one number of a stack of matrices") {
  DiversityRules f;
  const ValueId w = f.stack({4, 6, 5}), strength = f.f32({1});
  CHECK(f.made(Op::kDiversityGrad, {w, kNone, strength}) == "f32(1)");
  CHECK(f.made(Op::kDiversityGrad, {w, f.stack({4, 6, 5}), strength}) == "f32(1)");
  CHECK_REFUSED(f.made(Op::kDiversityGrad, {w, f.stack({4, 5, 6}), strength}), "diversity_grad: input grad");
  CHECK_REFUSED(f.made(Op::kDiversityGrad, {f.stack({6, 5}), kNone, strength}), "diversity_grad: input w");
  CHECK_REFUSED(f.made(Op::kDiversityGrad, {f.w({4, 6, 5}), kNone, strength}), "diversity_grad: input w");
  CHECK_REFUSED(f.made(Op::kDiversityGrad, {w, kNone, f.f32({2})}), "diversity_grad: input strength");
}

TEST_CASE("the gradient of diversity costs a second product, which reads the weights again") {
  DiversityRules f;
  const ValueId w = f.stack({4, 6, 5}), grad = f.stack({4, 6, 5}), strength = f.f32({1});
  f.op(Op::kDiversityGrad, {w, kNone, strength});
  f.op(Op::kDiversityGrad, {w, grad, strength});
  const Cost loss = cost(f.g, f.g.nodes[0], {}), both = cost(f.g, f.g.nodes[1], {});
  CHECK(loss.flops == 2 * 4 * 4 * 30);
  CHECK(loss.bytes_read == 480 + 4);
  CHECK(loss.bytes_written == 4);
  CHECK(both.flops == 2 * loss.flops);
  CHECK(both.bytes_read == 3 * 480 + 4);
  CHECK(both.bytes_written == 480 + 4);
}

TEST_CASE("the diversity graph is over stacks of matrices only, all with one strength") {
  const std::vector<Parameter> p = {
      {"norm", {8}, 1, false, false}, {"up", {4, 6, 5}, 1, true, false}, {"head", {9, 8}, 1, true, false}, {"down", {4, 5, 6}}};
  const DiversityGraph d = build_diversity_graph(p);
  REQUIRE(d.graph.validate().ok());
  REQUIRE(d.experts.size() == 2);
  REQUIRE(d.graph.nodes.size() == 2);
  CHECK(d.experts[0].parameter == 1);
  CHECK(d.experts[1].parameter == 3);
  for (size_t i = 0; i < 2; ++i) {
    const DiversityGraph::Experts& e = d.experts[i];
    CHECK(d.graph.nodes[i].in == std::vector<ValueId>{e.w, e.grad, d.strength});
    CHECK(d.graph.value(e.w).name == p[e.parameter].name);
    CHECK(d.graph.value(e.grad).shape == p[e.parameter].shape);
    CHECK(d.graph.value(e.loss).output);
  }
  const DiversityGraph none = build_diversity_graph(std::span(p).first(1));
  CHECK(none.graph.nodes.empty());
  CHECK(none.graph.validate().ok());
}

}  // namespace moe
