// References of ops on elements.
#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {

void add_f64(const Op64& op) {
  const Doubles &a = op.in(0), &b = op.in(1);
  Doubles& y = op.out();
  for (size_t i = 0; i < a.size(); ++i) y[i] = a[i] + b[i % b.size()];
}

void scale_f64(const Op64& op) {
  const Doubles& x = op.in(0);
  Doubles& y = op.out();
  for (size_t i = 0; i < x.size(); ++i) y[i] = double{op.attrs<ScaleAttrs>().scale} * x[i];
}

}  // namespace moe::test
