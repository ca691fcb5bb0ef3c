// The attention op against a plain softmax over decoded caches: grouped queries, windows, sinks, soft-capping, latent values,
// cache formats, contexts around the borders of its chunks and segments, several sequences.
#include <doctest/doctest.h>

#include "tests/backends/cpu/attention_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

// Products of bfloat16 round queries, keys, weights and values to 2^-9 of themselves; what they were is random here.
constexpr double kExactError = 1e-5, kRoundedError = 1e-2;

void check(const AttentionCase& s, const std::vector<int32_t>& positions, const std::vector<int32_t>& slots,
           const std::string& isa, bool exact = true) {
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    AttentionInputs in = make_inputs(s, positions, slots);
    const std::vector<float> given = in.arguments[1].floats();
    const OpRun run{isa, threads, exact, false, static_cast<int64_t>(positions.size()), 1};
    const std::vector<float> found = run_op(Op::kAttention, in.arguments, s.a, run)[0];
    if (first.empty()) {
      first = found;
      CHECK(worst_error(found, plain_attention(s, in)) < (exact ? kExactError : kRoundedError));
    }
    CHECK(same_bits(found, first));
    // The new keys are stored where they belong.
    const std::vector<float> keys = in.arguments[3].floats();
    const float stored = keys[cell(s, slots.back(), s.a.n_kv_head - 1, positions.back(), s.a.head_dim)];
    const float wanted = given[given.size() - static_cast<size_t>(s.a.head_dim)];
    CHECK(stored == doctest::Approx(wanted).epsilon(s.k == DType::kF32 ? 1e-7 : s.k == DType::kF16 ? 1e-3 : 0.05));
  }
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("attention is a softmax over the visible keys for every grouping of heads") {
  struct Heads {
    int64_t q, kv;
  };
  for (const std::string& isa : runnable_isas())
    for (const Heads h : {Heads{4, 4}, Heads{6, 2}, Heads{8, 1}, Heads{40, 1}, Heads{3, 3}})
      for (const int n : {1, 3, 5, 40}) {
        CAPTURE(isa);
        CAPTURE(h.q);
        CAPTURE(n);
        check(shape(h.q, h.kv, 20, 12, 64), run_of(9, n), std::vector<int32_t>(static_cast<size_t>(n), 0), isa);
      }
}

TEST_CASE("attention over every cache format, with window, sinks, soft-capping and values from the keys") {
  for (const std::string& isa : runnable_isas())
    for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0})
      for (const int variant : {0, 1, 2, 3, 4}) {
        CAPTURE(isa);
        CAPTURE(traits(type).name);
        CAPTURE(variant);
        AttentionCase s = shape(4, 2, 64, 32, 48);
        s.k = s.v = type;
        if (variant == 1) s.a.window = 7;
        if (variant == 2) s.sinks = true;
        if (variant == 3) s.a.softcap = 1.5f;
        if (variant == 4) s.latent = true, s.sinks = true, s.a.window = 5, s.a.n_kv_head = 1;
        for (const int n : {1, 4, 20}) check(s, run_of(17, n), std::vector<int32_t>(static_cast<size_t>(n), 0), isa);
      }
}

TEST_CASE("attention of heads of all sizes and groups, exact or rounded, over contexts of several segments") {
  struct Sizes {
    int64_t heads, kv_heads, head_dim, v_dim;
    bool latent;
  };
  const Sizes sizes[] = {{3, 3, 64, 64, false},   {6, 2, 80, 80, false},   {8, 1, 96, 96, false},  {16, 2, 128, 128, false},
                         {3, 1, 192, 128, false}, {2, 2, 256, 256, false}, {24, 1, 576, 512, true}};
  for (const std::string& isa : runnable_isas())
    for (const Sizes& m : sizes)
      for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0})
        for (const bool exact : {true, false}) {
          if (m.head_dim % traits(type).block_elements || (isa == "scalar" && m.latent)) continue;
          CAPTURE(isa);
          CAPTURE(m.head_dim);
          CAPTURE(traits(type).name);
          CAPTURE(exact);
          AttentionCase s = shape(m.heads, m.kv_heads, m.head_dim, m.v_dim, 530);
          s.k = s.v = type, s.latent = m.latent, s.sinks = m.heads == 8;
          if (m.heads == 6) s.a.window = 300;
          if (m.heads == 16) s.a.softcap = 3;
          check(s, {static_cast<int32_t>(s.n_ctx - 1)}, {0}, isa, exact);
          if (!m.latent) check(s, run_of(508, 7), std::vector<int32_t>(7, 0), isa, exact);
        }
}

TEST_CASE("contexts around the borders of chunks are met whole, with and without a window") {
  for (const std::string& isa : runnable_isas())
    for (const int length : {127, 128, 129, 255, 256, 257, 300})
      for (const int64_t window : {0, 1, 100, 128, 200}) {
        CAPTURE(isa);
        CAPTURE(length);
        CAPTURE(window);
        AttentionCase s = shape(2, 1, 8, 8, 300);
        s.a.window = window, s.sinks = length % 2;
        check(s, {length - 1}, {0}, isa);
        check(s, run_of(length - 12, 12), std::vector<int32_t>(12, 0), isa);
      }
}

TEST_CASE("sequences in one batch see their own keys only") {
  for (const std::string& isa : runnable_isas()) {
    AttentionCase s = shape(4, 2, 16, 16, 40);
    s.n_slots = 3;
    check(s, {5, 20, 0}, {2, 0, 1}, isa);
    check(s, {5, 20, 6, 21, 0, 1, 2, 7}, {2, 0, 2, 0, 1, 1, 1, 2}, isa);
  }
}

TEST_SUITE_END();

}  // namespace moe
