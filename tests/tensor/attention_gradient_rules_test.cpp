// Shapes and costs of the reverse pass of attention.
#include <doctest/doctest.h>

#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

struct AttentionGradFixture : OpsFixture {
  AttentionAttrs a{.n_head = 4, .n_kv_head = 2, .head_dim = 64, .v_dim = 32};
  ValueId q = f32({kTokens, 4 * 64}), k = f32({kTokens, 2 * 64}), v = f32({kTokens, 2 * 32}), y = f32({kTokens, 4 * 32});
  ValueId positions = i32({kTokens}), slots = i32({kTokens}), sinks = w({4}), grad_sinks = state("", {4}, DType::kF32);
  std::vector<ValueId> inputs() { return {q, k, v, y, y, positions, slots, sinks, grad_sinks}; }
  std::string gradients() { return made(Op::kAttentionGrad, inputs(), a); }
};

TEST_CASE("attention_grad makes gradients of queries, keys and values") {
  AttentionGradFixture f;
  CHECK(f.gradients() == "f32(T, 256) f32(T, 128) f32(T, 64)");
  f.grad_sinks = kNone;
  CHECK(f.gradients() == "f32(T, 256) f32(T, 128) f32(T, 64)");
  f.sinks = kNone;
  CHECK(f.gradients() == "f32(T, 256) f32(T, 128) f32(T, 64)");
}

TEST_CASE("attention_grad refuses what does not fit together") {
  AttentionGradFixture f;
  SUBCASE("keys") {
    f.k = f.f32({kTokens, 64});
    CHECK_REFUSED(f.gradients(), "attention_grad: input k: wanted f32(T, 128), found f32(T, 64)");
  }
  SUBCASE("results") {
    f.y = f.f32({kTokens, 256});
    CHECK_REFUSED(f.gradients(), "attention_grad: input y: wanted f32(T, 128), found f32(T, 256)");
  }
  SUBCASE("values of another number of tokens") {
    f.v = f.f32({kOutputs, 64});
    CHECK_REFUSED(f.gradients(), "attention_grad: input v: wanted f32(T, 64), found f32(R, 64)");
  }
  SUBCASE("a gradient without sinks") {
    f.sinks = kNone;
    CHECK_REFUSED(f.gradients(), "attention_grad: wanted sinks where grad_sinks is");
  }
  SUBCASE("a gradient that is no state") {
    f.grad_sinks = f.w({4});
    CHECK_REFUSED(f.gradients(), "attention_grad: input grad_sinks: wanted state of f32(4), found f32(4)");
  }
  SUBCASE("heads") {
    f.a.n_kv_head = 3;
    CHECK_REFUSED(f.gradients(), "attention_grad: wanted n_head to be a multiple of n_kv_head");
  }
}

TEST_CASE("attention_grad costs five products with the keys that a query meets") {
  AttentionGradFixture f;
  f.op(Op::kAttentionGrad, f.inputs(), f.a);
  f.a.window = 100, f.a.softcap = 2;
  f.op(Op::kAttentionGrad, f.inputs(), f.a);
  const RunShape run{.n_tokens = 3, .kv_length = 1000};
  const double per_key = 2 * (3 * 64 + 2 * 32) + 5;
  const Cost all = cost(f.g, f.g.nodes[0], run);
  CHECK(all.flops == doctest::Approx(3 * 4 * 1000 * per_key));
  CHECK(all.bytes_read == doctest::Approx(3 * 4 * (256 + 128 + 64 + 128 + 128 + 1 + 1) + 2 * 16));
  CHECK(all.bytes_written == doctest::Approx(3 * 4 * (256 + 128 + 64) + 16));
  CHECK(cost(f.g, f.g.nodes[1], run).flops == doctest::Approx(3 * 4 * 100 * (per_key + 5)));
}

}  // namespace
}  // namespace moe
