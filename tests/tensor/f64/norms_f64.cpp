// References of norms and softmax, forward and reverse.
#include <cmath>

#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

// A group of a row, normalised: u = r · (x − mean), with mean 0 for rms_norm.
struct Normalised {
  Normalised(const Op64& op, size_t begin, bool centered) {
    const auto& a = op.attrs<NormAttrs>();
    const Doubles& x = op.in(0);
    const auto n = static_cast<double>(a.group);
    double mean = 0, squares = 0;
    for (size_t i = 0; i < static_cast<size_t>(a.group); ++i) mean += centered ? x[begin + i] / n : 0;
    for (size_t i = 0; i < static_cast<size_t>(a.group); ++i) u.push_back(x[begin + i] - mean);
    for (const double v : u) squares += v * v / n;
    r = 1 / std::sqrt(squares + double{a.eps});
    for (double& v : u) v *= r;
  }
  Doubles u;
  double r;
};

void norm(const Op64& op, bool centered) {
  const auto group = static_cast<size_t>(op.attrs<NormAttrs>().group);
  Doubles& y = op.out();
  for (size_t g = 0; g < y.size(); g += group) {
    const Normalised s(op, g, centered);
    for (size_t i = 0; i < group; ++i) y[g + i] = s.u[i] * (op.has(1) ? op.in(1)[i] : 1) + (op.has(2) ? op.in(2)[i] : 0);
  }
}

void norm_grad(const Op64& op, bool centered) {
  const auto group = static_cast<size_t>(op.attrs<NormAttrs>().group);
  const auto n = static_cast<double>(group);
  const Doubles& dy = op.in(2);
  Doubles& dx = op.out();
  for (size_t g = 0; g < dx.size(); g += group) {
    const Normalised s(op, g, centered);
    Doubles du(group);
    double along = 0, common = 0;
    for (size_t i = 0; i < group; ++i) {
      du[i] = dy[g + i] * (op.has(1) ? op.in(1)[i] : 1);
      along += du[i] * s.u[i] / n, common += centered ? du[i] / n : 0;
      if (op.has(3)) op.in(3)[i] += dy[g + i] * s.u[i];
      if (op.has(4)) op.in(4)[i] += dy[g + i];
    }
    for (size_t i = 0; i < group; ++i) dx[g + i] = s.r * (du[i] - s.u[i] * along - common);
  }
}

}  // namespace

void rms_norm_f64(const Op64& op) { norm(op, false); }
void rms_norm_grad_f64(const Op64& op) { norm_grad(op, false); }
void layer_norm_f64(const Op64& op) { norm(op, true); }
void layer_norm_grad_f64(const Op64& op) { norm_grad(op, true); }

void softmax_f64(const Op64& op) {
  const auto n = static_cast<size_t>(op.in_last(0));
  const Doubles& x = op.in(0);
  Doubles& y = op.out();
  for (size_t row = 0; row < y.size(); row += n) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += std::exp(x[row + i]);
    for (size_t i = 0; i < n; ++i) y[row + i] = std::exp(x[row + i]) / sum;
  }
}

void softmax_grad_f64(const Op64& op) {
  const auto n = static_cast<size_t>(op.in_last(0));
  const Doubles &y = op.in(0), &dy = op.in(1);
  Doubles& dx = op.out();
  for (size_t row = 0; row < dx.size(); row += n) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += y[row + i] * dy[row + i];
    for (size_t i = 0; i < n; ++i) dx[row + i] = y[row + i] * (dy[row + i] - sum);
  }
}

}  // namespace moe::test
