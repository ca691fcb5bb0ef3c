// The attention op against a plain softmax over decoded caches: grouped queries, windows, sinks, soft-capping, latent values,
// cache formats, contexts around the borders of its chunks, several sequences.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/backends/cpu/op_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;
using Doubles = std::vector<double>;

struct Shape4 {
  AttentionAttrs a;
  int64_t n_slots = 1, n_ctx = 16;
  DType k = DType::kF32, v = DType::kF32;
  bool latent = false, sinks = false;
};

size_t cell(const Shape4& s, int64_t slot, int64_t head, int64_t position, int64_t dim) {
  return static_cast<size_t>(((slot * s.a.n_kv_head + head) * s.n_ctx + position) * dim);
}

// The caches before the run hold random rows; those of the batch's own positions are overwritten by it.
struct Inputs {
  std::vector<OpArgument> arguments;
  std::vector<int32_t> positions, slots;
};

Inputs make_inputs(const Shape4& s, std::vector<int32_t> positions, std::vector<int32_t> slots) {
  const AttentionAttrs& a = s.a;
  const auto T = static_cast<int64_t>(positions.size());
  const auto cache = [&](DType type, int64_t dim, uint64_t seed) {
    OpArgument c = weights({s.n_slots, a.n_kv_head, s.n_ctx, dim},
                           normals(static_cast<size_t>(s.n_slots * a.n_kv_head * s.n_ctx * dim), seed), type);
    c.kind = ValueKind::kState;
    return c;
  };
  const auto rows = [&](int64_t n, uint64_t seed) { return floats({kTokens, n}, normals(static_cast<size_t>(T * n), seed)); };
  Inputs in;
  in.arguments = {rows(a.n_head * a.head_dim, 1),
                  rows(a.n_kv_head * a.head_dim, 2),
                  s.latent ? absent() : rows(a.n_kv_head * a.v_dim, 3),
                  cache(s.k, a.head_dim, 4),
                  s.latent ? absent() : cache(s.v, a.v_dim, 5),
                  ints({kTokens}, positions),
                  ints({kTokens}, slots),
                  s.sinks ? weights({a.n_head}, normals(static_cast<size_t>(a.n_head), 6)) : absent()};
  in.positions = std::move(positions), in.slots = std::move(slots);
  return in;
}

// From the caches as the run has left them.
Doubles plain_attention(const Shape4& s, const Inputs& in) {
  const AttentionAttrs& a = s.a;
  const std::vector<float> q = in.arguments[0].floats(), keys = in.arguments[3].floats();
  const std::vector<float> values = s.latent ? keys : in.arguments[4].floats();
  const int64_t value_dim = s.latent ? a.head_dim : a.v_dim;
  const std::vector<float> sinks = s.sinks ? in.arguments[7].floats() : std::vector<float>();
  Doubles y;
  for (size_t t = 0; t < in.positions.size(); ++t)
    for (int64_t h = 0; h < a.n_head; ++h) {
      const int64_t kv = h * a.n_kv_head / a.n_head;
      const int64_t last = in.positions[t], first = a.window > 0 ? std::max<int64_t>(0, last - a.window + 1) : 0;
      Doubles scores;
      double top = s.sinks ? sinks[static_cast<size_t>(h)] : -1e30;
      for (int64_t j = first; j <= last; ++j) {
        double score = 0;
        for (int64_t i = 0; i < a.head_dim; ++i)
          score += double{q[(t * static_cast<size_t>(a.n_head) + static_cast<size_t>(h)) * static_cast<size_t>(a.head_dim) +
                            static_cast<size_t>(i)]} *
                   keys[cell(s, in.slots[t], kv, j, a.head_dim) + static_cast<size_t>(i)];
        score *= a.scale;
        if (a.softcap > 0) score = a.softcap * std::tanh(score / a.softcap);
        scores.push_back(score), top = std::max(top, score);
      }
      double sum = s.sinks ? std::exp(sinks[static_cast<size_t>(h)] - top) : 0;
      Doubles out(static_cast<size_t>(a.v_dim), 0);
      for (int64_t j = first; j <= last; ++j) {
        const double p = std::exp(scores[static_cast<size_t>(j - first)] - top);
        sum += p;
        for (size_t i = 0; i < out.size(); ++i) out[i] += p * values[cell(s, in.slots[t], kv, j, value_dim) + i];
      }
      for (const double x : out) y.push_back(x / sum);
    }
  return y;
}

void check(const Shape4& s, const std::vector<int32_t>& positions, const std::vector<int32_t>& slots, const std::string& isa) {
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    Inputs in = make_inputs(s, positions, slots);
    const std::vector<float> given = in.arguments[1].floats();
    const OpRun run{isa, threads, true, false, static_cast<int64_t>(positions.size()), 1};
    const std::vector<float> found = run_op(Op::kAttention, in.arguments, s.a, run)[0];
    CHECK(worst_error(found, plain_attention(s, in)) < 1e-5);
    if (first.empty()) first = found;
    CHECK(same_bits(found, first));
    // The new keys are stored where they belong.
    const std::vector<float> keys = in.arguments[3].floats();
    const float stored = keys[cell(s, slots.back(), s.a.n_kv_head - 1, positions.back(), s.a.head_dim)];
    const float wanted = given[given.size() - static_cast<size_t>(s.a.head_dim)];
    CHECK(stored == doctest::Approx(wanted).epsilon(s.k == DType::kF32 ? 1e-7 : s.k == DType::kF16 ? 1e-3 : 0.05));
  }
}

std::vector<int32_t> run_of(int first, int n) {
  std::vector<int32_t> p;
  for (int i = 0; i < n; ++i) p.push_back(first + i);
  return p;
}

Shape4 shape(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t v_dim, int64_t n_ctx) {
  Shape4 s;
  s.a.n_head = heads, s.a.n_kv_head = kv_heads, s.a.head_dim = head_dim, s.a.v_dim = v_dim;
  s.a.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  s.n_ctx = n_ctx;
  return s;
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
        Shape4 s = shape(4, 2, 64, 32, 48);
        s.k = s.v = type;
        if (variant == 1) s.a.window = 7;
        if (variant == 2) s.sinks = true;
        if (variant == 3) s.a.softcap = 1.5f;
        if (variant == 4) s.latent = true, s.sinks = true, s.a.window = 5, s.a.n_kv_head = 1;
        for (const int n : {1, 4, 20}) check(s, run_of(17, n), std::vector<int32_t>(static_cast<size_t>(n), 0), isa);
      }
}

TEST_CASE("contexts around the borders of chunks are met whole, with and without a window") {
  for (const std::string& isa : runnable_isas())
    for (const int length : {127, 128, 129, 255, 256, 257, 300})
      for (const int64_t window : {0, 1, 100, 128, 200}) {
        CAPTURE(isa);
        CAPTURE(length);
        CAPTURE(window);
        Shape4 s = shape(2, 1, 8, 8, 300);
        s.a.window = window, s.sinks = length % 2;
        check(s, {length - 1}, {0}, isa);
        check(s, run_of(length - 12, 12), std::vector<int32_t>(12, 0), isa);
      }
}

TEST_CASE("sequences in one batch see their own keys only") {
  for (const std::string& isa : runnable_isas()) {
    Shape4 s = shape(4, 2, 16, 16, 40);
    s.n_slots = 3;
    check(s, {5, 20, 0}, {2, 0, 1}, isa);
    check(s, {5, 20, 6, 21, 0, 1, 2, 7}, {2, 0, 2, 0, 1, 1, 1, 2}, isa);
  }
}

TEST_SUITE_END();

}  // namespace moe
