// References of attention, forward and reverse.
#include <algorithm>
#include <cmath>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

double capped(const AttentionAttrs& a, double score) {
  return a.softcap > 0 ? double{a.softcap} * std::tanh(score / double{a.softcap}) : score;
}

int64_t first_key(const AttentionAttrs& a, int64_t position) {
  return a.window > 0 ? std::max<int64_t>(0, position - a.window + 1) : 0;
}

// exp(score) over their sum; `sink` is one more score, whose weight comes last.
Doubles softmax_of(Doubles scores, const double* sink) {
  if (sink) scores.push_back(*sink);
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s);
  for (double& s : scores) s /= sum;
  return scores;
}

}  // namespace

void attention_f64(const Op64& op) {
  const auto& a = op.attrs<AttentionAttrs>();
  const Doubles &positions = op.in(5), &slots = op.in(6);
  const int64_t n_ctx = op.in_shape(3)[2];
  const auto cell = [&](size_t t, int64_t kv_head, int64_t position) {
    return (static_cast<int64_t>(slots[t]) * a.n_kv_head + kv_head) * n_ctx + position;
  };
  const auto store = [&](const Doubles& rows, Doubles& cache, int64_t n) {
    for (size_t t = 0; t < positions.size(); ++t)
      for (int64_t h = 0; h < a.n_kv_head; ++h)
        std::copy_n(rows.begin() + (static_cast<int64_t>(t) * a.n_kv_head + h) * n, n,
                    cache.begin() + cell(t, h, static_cast<int64_t>(positions[t])) * n);
  };
  const bool latent = !op.has(2);
  store(op.in(1), op.in(3), a.head_dim);
  if (!latent) store(op.in(2), op.in(4), a.v_dim);
  const Doubles &keys = op.in(3), &values = latent ? keys : op.in(4);
  const int64_t value_dim = latent ? a.head_dim : a.v_dim;
  Doubles& y = op.out();
  for (size_t t = 0; t < positions.size(); ++t)
    for (int64_t h = 0; h < a.n_head; ++h) {
      const int64_t row = static_cast<int64_t>(t) * a.n_head + h, kv = h * a.n_kv_head / a.n_head;
      const auto p = static_cast<int64_t>(positions[t]), first = first_key(a, p);
      Doubles scores;
      for (int64_t j = first; j <= p; ++j)
        scores.push_back(capped(a, double{a.scale} * dot(&op.in(0)[static_cast<size_t>(row * a.head_dim)],
                                                         &keys[static_cast<size_t>(cell(t, kv, j) * a.head_dim)], a.head_dim)));
      const Doubles weights = softmax_of(scores, op.has(7) ? &op.in(7)[static_cast<size_t>(h)] : nullptr);
      for (int64_t j = first; j <= p; ++j)
        for (int64_t i = 0; i < a.v_dim; ++i)
          y[static_cast<size_t>(row * a.v_dim + i)] +=
              weights[static_cast<size_t>(j - first)] * values[static_cast<size_t>(cell(t, kv, j) * value_dim + i)];
    }
}

// Every query against every token of its slot that it sees.
void attention_grad_f64(const Op64& op) {
  const auto& a = op.attrs<AttentionAttrs>();
  const Doubles &positions = op.in(5), &slots = op.in(6);
  const int64_t d = a.head_dim, e = a.v_dim;
  Doubles &dq = op.out(0), &dk = op.out(1), &dv = op.out(2);
  for (size_t t = 0; t < positions.size(); ++t)
    for (int64_t h = 0; h < a.n_head; ++h) {
      const int64_t row = static_cast<int64_t>(t) * a.n_head + h, kv = h * a.n_kv_head / a.n_head;
      const double *q = &op.in(0)[static_cast<size_t>(row * d)], *dy = &op.in(4)[static_cast<size_t>(row * e)];
      std::vector<size_t> seen;  // rows of k
      Doubles scores;
      for (size_t u = 0; u < positions.size(); ++u) {
        const auto p = static_cast<int64_t>(positions[t]);
        if (slots[u] != slots[t] || positions[u] > positions[t] || positions[u] < static_cast<double>(first_key(a, p)))
          continue;
        seen.push_back(u * static_cast<size_t>(a.n_kv_head) + static_cast<size_t>(kv));
        scores.push_back(capped(a, double{a.scale} * dot(q, &op.in(1)[seen.back() * static_cast<size_t>(d)], d)));
      }
      const Doubles weights = softmax_of(scores, op.has(7) ? &op.in(7)[static_cast<size_t>(h)] : nullptr);
      const double along = dot(dy, &op.in(3)[static_cast<size_t>(row * e)], e);
      if (op.has(8)) op.in(8)[static_cast<size_t>(h)] -= weights.back() * along;
      for (size_t j = 0; j < seen.size(); ++j) {
        const size_t k = seen[j] * static_cast<size_t>(d), v = seen[j] * static_cast<size_t>(e);
        const double slope = a.softcap > 0 ? 1 - scores[j] * scores[j] / (double{a.softcap} * double{a.softcap}) : 1;
        const double ds = double{a.scale} * slope * weights[j] * (dot(dy, &op.in(2)[v], e) - along);
        for (size_t i = 0; i < static_cast<size_t>(d); ++i) {
          dq[static_cast<size_t>(row * d) + i] += ds * op.in(1)[k + i];
          dk[k + i] += ds * q[i];
        }
        for (size_t i = 0; i < static_cast<size_t>(e); ++i) dv[v + i] += weights[j] * dy[i];
      }
    }
}

}  // namespace moe::test
