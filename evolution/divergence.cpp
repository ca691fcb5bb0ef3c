// With q = softmax(z):  KL(p ‖ q) = Σ p ln p − Σ p z + Σ p · ln Σ e^z.  Of each row one pass over p and z with one exponential
// a token of the vocabulary. Sums are double in a fixed order; e^x is a polynomial in float that compilers turn into vectors
// (1e-7 relative), the same on every platform since no product is fused with a sum here.
#include "evolution/divergence.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "core/check.h"
#include "core/mathx.h"

namespace moe {
namespace {

constexpr size_t kLanes = 16;

// Four numbers at once, in the compilers' own vectors: an x86-64 or ARMv8 register.
using F4 = float __attribute__((vector_size(16)));
using U4 = uint32_t __attribute__((vector_size(16)));

inline F4 load4(const float* x) {
  F4 v;
  std::memcpy(&v, x, sizeof v);
  return v;
}

// e^x for x ≤ 0, below −87 as there. x = n ln 2 + r; the coefficients are Cephes' expf.
inline F4 exp_below(F4 x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer in the lowest bits
  x = x < -87.0f ? F4{} - 87.0f : x;
  const F4 shifted = x * 1.44269504f + kMagic, n = shifted - kMagic;
  const F4 r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  F4 y = 1.9875691500e-4f * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  U4 bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;
  F4 power;
  std::memcpy(&power, &bits, sizeof power);
  return y * power;
}

float largest(const float* z, size_t n) {
  float lane[kLanes];
  std::fill(lane, lane + kLanes, z[0]);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) lane[j] = z[i + j] > lane[j] ? z[i + j] : lane[j];
  float top = *std::max_element(lane, lane + kLanes);
  for (; i < n; ++i) top = std::max(top, z[i]);
  return top;
}

double total(const double (&lane)[kLanes]) {
  double sum = 0;
  for (const double v : lane) sum += v;
  return sum;
}

// Σ e^(z − top); the powers go to `out` where it is not null.
double sum_exp(const float* z, size_t n, float top, float* out) {
  double lane[kLanes] = {};
  float e[kLanes];
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t m = std::min(kLanes, n - i);
    float rest[kLanes];
    const float* from = z + i;
    if (m < kLanes) {
      std::fill(rest, rest + kLanes, top), std::copy(from, from + m, rest);
      from = rest;
    }
    for (size_t j = 0; j < kLanes; j += 4) {
      const F4 v = exp_below(load4(from + j) - top);
      std::memcpy(e + j, &v, sizeof v);
    }
    for (size_t j = 0; j < m; ++j) lane[j] += static_cast<double>(e[j]);
    if (out) std::copy(e, e + m, out + i);
  }
  return total(lane);
}

double dot(const float* p, const float* z, size_t n) {
  double lane[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) lane[j] += static_cast<double>(p[i + j]) * static_cast<double>(z[i + j]);
  for (; i < n; ++i) lane[0] += static_cast<double>(p[i]) * static_cast<double>(z[i]);
  return total(lane);
}

double sum_of(const float* p, size_t n) {
  double lane[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) lane[j] += static_cast<double>(p[i + j]);
  for (; i < n; ++i) lane[0] += static_cast<double>(p[i]);
  return total(lane);
}

// Rows 0 … R − 1 over the threads; false of any: not a distribution.
template <class F>
Status for_rows(size_t R, ThreadPool& pool, F&& row) {
  std::vector<uint8_t> ok(R, 1);
  auto work = [&](int thread) {
    const Range mine = split_range(static_cast<int64_t>(R), thread, pool.size());
    for (int64_t r = mine.begin; r < mine.end; ++r) ok[static_cast<size_t>(r)] = row(static_cast<size_t>(r));
  };
  pool.run(work);
  const auto bad = std::find(ok.begin(), ok.end(), 0);
  if (bad == ok.end()) return Status::Ok();
  return Status::Corrupt("row " + std::to_string(bad - ok.begin()) + ": the logits make no distribution");
}

}  // namespace

Status teach(std::span<const float> logits, int n_vocab, ThreadPool& pool, TeacherRows& rows) {
  const auto V = static_cast<size_t>(n_vocab), R = logits.size() / V;
  rows.p.resize(R * V), rows.mass.resize(R), rows.entropy.resize(R);
  return for_rows(R, pool, [&](size_t r) {
    const float* z = logits.data() + r * V;
    float* p = rows.p.data() + r * V;
    const float top = largest(z, V);
    const double sum = sum_exp(z, V, top, p), lse = static_cast<double>(top) + mathx::log(sum);
    const auto scale = static_cast<float>(1 / sum);
    for (size_t i = 0; i < V; ++i) p[i] *= scale;
    rows.mass[r] = sum_of(p, V);
    rows.entropy[r] = lse * rows.mass[r] - dot(p, z, V);
    return std::isfinite(rows.entropy[r]);
  });
}

Status score_rows(std::span<const float> logits, int n_vocab, const TeacherRows* teacher, std::span<const Token> targets,
                  ThreadPool& pool, std::span<RowScore> scores) {
  const auto V = static_cast<size_t>(n_vocab), R = scores.size();
  MOE_CHECK(logits.size() == R * V && targets.size() == R && (!teacher || teacher->mass.size() == R));
  return for_rows(R, pool, [&](size_t r) {
    const float* z = logits.data() + r * V;
    const float top = largest(z, V);
    const double lse = static_cast<double>(top) + mathx::log(sum_exp(z, V, top, nullptr));
    scores[r].nll = lse - static_cast<double>(z[targets[r]]);
    scores[r].kl = 0;
    if (teacher) scores[r].kl = (lse * teacher->mass[r] - dot(teacher->p.data() + r * V, z, V)) - teacher->entropy[r];
    return std::isfinite(lse) && std::isfinite(scores[r].kl);
  });
}

}  // namespace moe
