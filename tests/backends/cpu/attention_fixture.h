// An attention op with random caches, and what it should give: a plain softmax in double over the decoded caches.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/backends/cpu/op_fixture.h"

namespace moe::test {

struct AttentionCase {
  AttentionAttrs a;
  int64_t n_slots = 1, n_ctx = 16;
  DType k = DType::kF32, v = DType::kF32;
  bool latent = false, sinks = false;
};

inline size_t cell(const AttentionCase& s, int64_t slot, int64_t head, int64_t position, int64_t dim) {
  return static_cast<size_t>(((slot * s.a.n_kv_head + head) * s.n_ctx + position) * dim);
}

// The caches before the run hold random rows; those of the batch's own positions are overwritten by it.
struct AttentionInputs {
  std::vector<OpArgument> arguments;
  std::vector<int32_t> positions, slots;
};

inline AttentionInputs make_inputs(const AttentionCase& s, std::vector<int32_t> positions, std::vector<int32_t> slots) {
  const AttentionAttrs& a = s.a;
  const auto T = static_cast<int64_t>(positions.size());
  const auto cache = [&](DType type, int64_t dim, uint64_t seed) {
    OpArgument c = weights({s.n_slots, a.n_kv_head, s.n_ctx, dim},
                           normals(static_cast<size_t>(s.n_slots * a.n_kv_head * s.n_ctx * dim), seed), type);
    c.kind = ValueKind::kState;
    return c;
  };
  const auto rows = [&](int64_t n, uint64_t seed) { return floats({kTokens, n}, normals(static_cast<size_t>(T * n), seed)); };
  AttentionInputs in;
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
inline std::vector<double> plain_attention(const AttentionCase& s, const AttentionInputs& in) {
  const AttentionAttrs& a = s.a;
  const std::vector<float> q = in.arguments[0].floats(), keys = in.arguments[3].floats();
  const std::vector<float> values = s.latent ? keys : in.arguments[4].floats();
  const int64_t value_dim = s.latent ? a.head_dim : a.v_dim;
  const std::vector<float> sinks = s.sinks ? in.arguments[7].floats() : std::vector<float>();
  std::vector<double> y;
  for (size_t t = 0; t < in.positions.size(); ++t)
    for (int64_t h = 0; h < a.n_head; ++h) {
      const int64_t kv = h * a.n_kv_head / a.n_head;
      const int64_t last = in.positions[t], first = a.window > 0 ? std::max<int64_t>(0, last - a.window + 1) : 0;
      std::vector<double> scores;
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
      std::vector<double> out(static_cast<size_t>(a.v_dim), 0);
      for (int64_t j = first; j <= last; ++j) {
        const double p = std::exp(scores[static_cast<size_t>(j - first)] - top);
        sum += p;
        for (size_t i = 0; i < out.size(); ++i) out[i] += p * values[cell(s, in.slots[t], kv, j, value_dim) + i];
      }
      for (const double x : out) y.push_back(x / sum);
    }
  return y;
}

inline std::vector<int32_t> run_of(int first, int n) {
  std::vector<int32_t> p(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) p[static_cast<size_t>(i)] = first + i;
  return p;
}

inline AttentionCase shape(int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t v_dim, int64_t n_ctx) {
  AttentionCase s;
  s.a.n_head = heads, s.a.n_kv_head = kv_heads, s.a.head_dim = head_dim, s.a.v_dim = v_dim;
  s.a.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  s.n_ctx = n_ctx;
  return s;
}

}  // namespace moe::test
