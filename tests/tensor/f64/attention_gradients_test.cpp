// The gradient matrix: attention.
#include <doctest/doctest.h>

#include "tensor/autodiff.h"
#include "tests/tensor/f64/token_rows.h"

namespace moe {
namespace {

using namespace test;

// Two sequences, of 3 and 2 tokens, whose tokens alternate and whose second one is stored backwards.
struct Attended : TokenRows {
  AttentionAttrs a{.n_head = 4, .n_kv_head = 2, .head_dim = 3, .v_dim = 2, .scale = 0.6f};
  ValueId sinks = kNone;

  ValueId attention() {
    const ValueId cache_k = state("cache_k", {2, a.n_kv_head, 4, a.head_dim}, DType::kF32),
                  cache_v = state("cache_v", {2, a.n_kv_head, 4, a.v_dim}, DType::kF32),
                  positions = input("positions", {kTokens}, DType::kI32), slots = input("slots", {kTokens}, DType::kI32);
    values[positions] = {0, 1, 1, 0, 2}, values[slots] = {0, 1, 0, 1, 0};
    values[cache_k] = Doubles(static_cast<size_t>(8 * a.n_kv_head * a.head_dim));
    values[cache_v] = Doubles(static_cast<size_t>(8 * a.n_kv_head * a.v_dim));
    return op(Op::kAttention,
              {rows(a.n_head * a.head_dim, "q"), rows(a.n_kv_head * a.head_dim, "k"), rows(a.n_kv_head * a.v_dim, "v"), cache_k,
               cache_v, positions, slots, sinks},
              a);
  }
};

}  // namespace

TEST_SUITE_BEGIN("gradients");

TEST_CASE_FIXTURE(Attended, "attention: heads that share keys, windows, softcaps and sinks, of sequences side by side") {
  SUBCASE("plain") {}
  SUBCASE("a key head each") { a.n_kv_head = 4; }
  SUBCASE("window") { a.window = 2; }
  SUBCASE("softcap") { a.softcap = 0.8f; }
  SUBCASE("sinks") { sinks = weight("sinks", {4}); }
  SUBCASE("all of it") { a.window = 2, a.softcap = 1.5f, sinks = weight("sinks", {4}); }
  check(attention());
}

TEST_CASE_FIXTURE(Attended, "latent attention has no gradient, and an error says so") {
  a = {.n_head = 2, .n_kv_head = 1, .head_dim = 4, .v_dim = 2};
  const ValueId positions = input("positions", {kTokens}, DType::kI32), slots = input("slots", {kTokens}, DType::kI32);
  const ValueId y =
      op(Op::kAttention,
         {rows(8, "q"), rows(4, "k"), kNone, state("cache", {1, 1, 8, 4}, DType::kF32), kNone, positions, slots}, a);
  const GradientSeed seeds[] = {{y, input("dy", {kTokens, 4})}};
  const auto result = differentiate(g, seeds, [](const Value&) { return true; });
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == StatusCode::kUnsupported);
  CHECK(result.status().message().find("of latent attention") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace moe
