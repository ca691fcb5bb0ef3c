// The reverse pass of attention on the CPU backend, on every instruction set, with 1 to 3 threads, against the reference in
// double precision.
#include <doctest/doctest.h>

#include <algorithm>

#include "backends/cpu/cpu_backend.h"
#include "tests/backends/cpu/op_reference.h"
#include "tests/models/model_fixture.h"
#include "tests/tensor/graph_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Batch {
  const char* name;
  std::vector<int32_t> positions, slots;
};

// Sequences of these lengths, one after another, or token by token in turn.
Batch batch_of(const char* name, const std::vector<int32_t>& lengths, bool in_turn) {
  Batch b{name, {}, {}};
  const auto push = [&](int32_t position, size_t slot) {
    b.positions.push_back(position), b.slots.push_back(static_cast<int32_t>(slot * 3));
  };
  const int32_t longest = *std::max_element(lengths.begin(), lengths.end());
  for (int32_t p = 0; in_turn && p < longest; ++p)
    for (size_t s = 0; s < lengths.size(); ++s)
      if (p < lengths[s]) push(p, s);
  for (size_t s = 0; !in_turn && s < lengths.size(); ++s)
    for (int32_t p = 0; p < lengths[s]; ++p) push(p, s);
  return b;
}

void check_gradients_of(const AttentionAttrs& a, const Batch& b, bool sinks) {
  CAPTURE(b.name);
  const auto T = static_cast<int64_t>(b.positions.size());
  const auto rows = [&](int64_t n, uint64_t seed) { return floats({kTokens, n}, normals(static_cast<size_t>(T * n), seed)); };
  const auto heads = static_cast<size_t>(a.n_head);
  const std::vector<OpArgument> arguments = {rows(a.n_head * a.head_dim, 1),
                                             rows(a.n_kv_head * a.head_dim, 2),
                                             rows(a.n_kv_head * a.v_dim, 3),
                                             rows(a.n_head * a.v_dim, 4),
                                             rows(a.n_head * a.v_dim, 5),
                                             ints({kTokens}, b.positions),
                                             ints({kTokens}, b.slots),
                                             sinks ? weights({a.n_head}, normals(heads, 6)) : absent(),
                                             sinks ? gradient({a.n_head}, normals(heads, 7)) : absent()};
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 2, 3}) {
      CAPTURE(isa);
      CAPTURE(threads);
      check_against_f64(Op::kAttentionGrad, arguments, a, {isa, threads, true, false, T, 1}, 1e-5);
    }
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("attention_grad: sequences apart and in turn, shorter and longer than a block of queries") {
  const AttentionAttrs a{.n_head = 3, .n_kv_head = 3, .head_dim = 20, .v_dim = 20, .scale = 0.22f};
  check_gradients_of(a, batch_of("one token", {1}, false), false);
  check_gradients_of(a, batch_of("three tokens of three", {1, 1, 1}, false), false);
  check_gradients_of(a, batch_of("apart", {5, 1, 61, 17}, false), false);
  check_gradients_of(a, batch_of("in turn", {9, 58, 3}, true), false);
  Batch backwards = batch_of("backwards", {7, 4}, false);
  std::reverse(backwards.positions.begin(), backwards.positions.end());
  std::reverse(backwards.slots.begin(), backwards.slots.end());
  check_gradients_of(a, backwards, false);
}

TEST_CASE("attention_grad: heads that share keys, values of another width, windows, softcaps and sinks") {
  const Batch b = batch_of("in turn", {33, 6, 70}, true);
  const AttentionAttrs plain{.n_head = 6, .n_kv_head = 2, .head_dim = 19, .v_dim = 7, .scale = 0.25f};
  AttentionAttrs a = plain;
  check_gradients_of(a, b, false);
  check_gradients_of(a, b, true);
  a.window = 9;
  check_gradients_of(a, b, false);
  a.window = 1;
  check_gradients_of(a, b, true);
  a = plain, a.softcap = 1.5f;
  check_gradients_of(a, b, false);
  a.window = 24, a.n_kv_head = 1;
  check_gradients_of(a, b, true);
}

TEST_CASE("attention_grad adds up sinks of more sequences than it has shares") {
  const AttentionAttrs a{.n_head = 2, .n_kv_head = 1, .head_dim = 4, .v_dim = 4, .scale = 0.5f};
  check_gradients_of(a, batch_of("150 sequences", std::vector<int32_t>(150, 2), true), true);
}

TEST_CASE("a query far from its sink, or far below it, has gradients without NaN") {
  const AttentionAttrs a{.n_head = 2, .n_kv_head = 1, .head_dim = 4, .v_dim = 4, .scale = 0.5f};
  const auto rows = [](int64_t n, uint64_t seed) { return floats({kTokens, n}, normals(static_cast<size_t>(3 * n), seed)); };
  check_against_f64(Op::kAttentionGrad,
                    {rows(8, 1), rows(4, 2), rows(4, 3), rows(8, 4), rows(8, 5), ints({kTokens}, {0, 1, 2}),
                     ints({kTokens}, {0, 0, 0}), weights({2}, {60, -60}), gradient({2}, {1, 2})},
                    a, {"", 2, true, false, 3, 1}, 1e-5);
}

TEST_CASE("attention_grad refuses a run that leaves out positions") {
  GraphFixture f;
  std::vector<float> ones(8, 1.0f);
  std::vector<int32_t> positions = {0, 2}, slots = {5, 5};
  const ValueId x = f.input("x", {kTokens, 4}), p = f.input("p", {kTokens}, DType::kI32),
                s = f.input("s", {kTokens}, DType::kI32);
  f.output(
      f.op(Op::kAttentionGrad, {x, x, x, x, x, p, s}, AttentionAttrs{.n_head = 1, .n_kv_head = 1, .head_dim = 4, .v_dim = 4}));
  BackendOptions options;
  options.n_threads = 2;
  auto backend = create_cpu_backend(options);
  REQUIRE(backend.ok());
  auto executable = (*backend)->compile(f.g, {2, 1});
  REQUIRE(executable.ok());
  REQUIRE((*executable)->bind(x, {ones.data(), DType::kF32, {2, 4}}).ok());
  REQUIRE((*executable)->bind(p, {positions.data(), DType::kI32, {2}}).ok());
  REQUIRE((*executable)->bind(s, {slots.data(), DType::kI32, {2}}).ok());
  RunShape run;
  run.n_tokens = 2, run.n_outputs = 1;
  CHECK((*executable)->run(run).code() == StatusCode::kInternal);
  positions[1] = 1;
  CHECK((*executable)->run(run).ok());
}

TEST_SUITE_END();

}  // namespace moe
