// References of the movers of data, of mul, and of what they are reversed with.
#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {

void mul_f64(const Op64& op) {
  const Doubles &a = op.in(0), &b = op.in(1);
  Doubles& y = op.out();
  const bool one_a_row = op.in_shape(1).rank > 1 && op.in_last(1) == 1;
  const size_t n = one_a_row ? static_cast<size_t>(op.in_last(0)) : 1;
  for (size_t i = 0; i < a.size(); ++i) y[i] = a[i] * b[i / n % b.size()];
}

void slice_f64(const Op64& op) {
  const auto& a = op.attrs<GroupAttrs>();
  const auto part = static_cast<size_t>(op.in_last(0) / a.groups), begin = static_cast<size_t>(a.begin);
  const size_t kept = static_cast<size_t>(a.end) - begin;
  Doubles& y = op.out();
  for (size_t i = 0; i < y.size(); ++i) y[i] = op.in(0)[i / kept * part + begin + i % kept];
}

void concat_f64(const Op64& op) {
  const auto& a = op.attrs<GroupAttrs>();
  const auto groups = static_cast<size_t>(a.groups), n = static_cast<size_t>(op.in_last(0)) / groups;
  const size_t m = static_cast<size_t>(op.in_last(1)) / (a.shared ? 1 : groups);
  Doubles& y = op.out();
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t part = i / (n + m), column = i % (n + m);
    const size_t of_b = a.shared ? part / groups : part;
    y[i] = column < n ? op.in(0)[part * n + column] : op.in(1)[of_b * m + column - n];
  }
}

void select_rows_f64(const Op64& op) {
  const auto n = static_cast<size_t>(op.in_last(0));
  Doubles& y = op.out();
  for (size_t i = 0; i < y.size(); ++i) y[i] = op.in(0)[static_cast<size_t>(op.in(1)[i / n]) * n + i % n];
}

void row_dot_f64(const Op64& op) {
  const auto n = static_cast<size_t>(op.in_last(0));
  Doubles& y = op.out();
  for (size_t i = 0; i < op.in(0).size(); ++i) y[i / n] += op.in(0)[i] * op.in(1)[i];
}

void place_f64(const Op64& op) {
  const auto& a = op.attrs<PlaceAttrs>();
  const auto kept = static_cast<size_t>(a.end - a.begin), width = static_cast<size_t>(a.width);
  Doubles& y = op.out();
  for (size_t i = 0; i < op.in(0).size(); ++i) y[i / kept * width + static_cast<size_t>(a.begin) + i % kept] = op.in(0)[i];
}

void sum_groups_f64(const Op64& op) {
  const auto groups = static_cast<size_t>(op.attrs<GroupAttrs>().groups), n = static_cast<size_t>(op.in_last(0)) / groups;
  Doubles& y = op.out();
  for (size_t i = 0; i < op.in(0).size(); ++i) y[i / (groups * n) * n + i % n] += op.in(0)[i];
}

void scatter_rows_f64(const Op64& op) {
  const auto n = static_cast<size_t>(op.in_last(0));
  Doubles& y = op.out();
  for (size_t i = 0; i < op.in(0).size(); ++i) y[static_cast<size_t>(op.in(1)[i / n]) * n + i % n] += op.in(0)[i];
}

}  // namespace moe::test
