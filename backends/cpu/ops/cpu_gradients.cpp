// Drivers of reverse passes that are no products: rows that move, activations, weighted_sum.
#include <algorithm>

#include "backends/cpu/op_context.h"

namespace moe::cpu {

// Each part owns a run of the table's rows and looks for their ids among all tokens: a row's sum has one order.
void run_embed_dw(const OpContext& c) {
  const Tensor dy = c.in(0), ids = c.in(1), grad = c.in(2);
  const int64_t d = dy.shape.last();
  const Range mine = c.my_range(grad.shape[0]);
  for (int64_t t = 0; t < ids.shape[0]; ++t) {
    const int32_t id = ids.i32()[t];
    MOE_CHECK(id >= 0 && id < grad.shape[0]);
    if (id >= mine.begin && id < mine.end) c.kernels.add(grad.f32() + id * d, dy.f32() + t * d, grad.f32() + id * d, d);
  }
}

void run_row_dot(const OpContext& c) {
  const Tensor a = c.in(0), b = c.in(1), y = c.out();
  const int64_t n = a.shape.last();
  const DotFn dot = dot_for(c.kernels, DType::kF32, DType::kF32);
  const Range r = c.my_range(y.shape.elements());
  for (int64_t i = r.begin; i < r.end; ++i) {
    const void* x = b.f32() + i * n;
    float* to = y.f32() + i;
    dot({a.f32() + i * n, static_cast<size_t>(n) * sizeof(float), n, 1, &x, 1, &to});
  }
}

void run_place(const OpContext& c) {
  const auto& a = c.attrs<PlaceAttrs>();
  const Tensor dy = c.in(0), y = c.out();
  const int64_t kept = a.end - a.begin;
  const Range r = c.my_range(y.shape.elements() / a.width);
  for (int64_t i = r.begin; i < r.end; ++i) {
    float* to = std::fill_n(y.f32() + i * a.width, a.begin, 0.0f);
    to = std::copy_n(dy.f32() + i * kept, kept, to);
    std::fill_n(to, a.width - a.end, 0.0f);
  }
}

void run_sum_groups(const OpContext& c) {
  const Tensor x = c.in(0), y = c.out();
  const int64_t groups = c.attrs<GroupAttrs>().groups, n = y.shape.last();
  const Range r = c.my_range(y.shape.elements() / n);
  for (int64_t i = r.begin; i < r.end; ++i) {
    const float* from = x.f32() + i * groups * n;
    float* to = y.f32() + i * n;
    std::copy_n(from, n, to);
    for (int64_t g = 1; g < groups; ++g) c.kernels.add(to, from + g * n, to, n);
  }
}

// As embed_dw, over zeros.
void run_scatter_rows(const OpContext& c) {
  const Tensor dy = c.in(0), rows = c.in(1), y = c.out();
  const int64_t n = dy.shape.last();
  const Range mine = c.my_range(y.shape[0]);
  std::fill(y.f32() + mine.begin * n, y.f32() + mine.end * n, 0.0f);
  for (int64_t i = 0; i < rows.shape[0]; ++i) {
    const int32_t row = rows.i32()[i];
    MOE_CHECK(row >= 0 && row < y.shape[0]);
    if (row >= mine.begin && row < mine.end) c.kernels.add(y.f32() + row * n, dy.f32() + i * n, y.f32() + row * n, n);
  }
}

namespace {

// fn(x, dy, dx, n) on this part's rows.
void run_activation_grad(const OpContext& c, void (*fn)(const float*, const float*, float*, int64_t)) {
  const Tensor x = c.in(0), dy = c.in(1), dx = c.out();
  const int64_t n = x.shape.last();
  const Range r = c.my_range(x.shape.elements() / n);
  fn(x.f32() + r.begin * n, dy.f32() + r.begin * n, dx.f32() + r.begin * n, (r.end - r.begin) * n);
}

}  // namespace

void run_silu_grad(const OpContext& c) { run_activation_grad(c, c.kernels.silu_grad); }
void run_gelu_grad(const OpContext& c) { run_activation_grad(c, c.kernels.gelu_grad); }
void run_sigmoid_grad(const OpContext& c) { run_activation_grad(c, c.kernels.sigmoid_grad); }

void run_glu_grad(const OpContext& c) {
  const auto& a = c.attrs<GluAttrs>();
  const GluParams p{a.unit == GateUnit::kGeGlu, a.alpha, a.limit};
  const Tensor gate = c.in(0);
  const int64_t n = gate.shape.last();
  const Range r = c.my_range(gate.shape.elements() / n);
  const int64_t first = r.begin * n;
  c.kernels.glu_grad({gate.f32() + first, c.in(1).f32() + first, c.in(2).f32() + first, c.out(0).f32() + first,
                      c.out(1).f32() + first, (r.end - r.begin) * n, p});
}

void run_weighted_sum_grad(const OpContext& c) {
  const Tensor x = c.in(0), ids = c.in(1), weights = c.in(2), dy = c.in(3), dx = c.out(0), dweights = c.out(1);
  const int64_t K = ids.shape.last(), n = dy.shape.last();
  const DotFn dot = dot_for(c.kernels, DType::kF32, DType::kF32);
  const Range r = c.my_range(dy.shape[0]);
  for (int64_t slot = r.begin * K; slot < r.end * K; ++slot) {
    float *row = dx.f32() + slot * n, *weight = dweights.f32() + slot;
    if (ids.i32()[slot] < 0) {
      std::fill_n(row, n, 0.0f), *weight = 0;
      continue;
    }
    const void* from = dy.f32() + slot / K * n;
    c.kernels.scale(static_cast<const float*>(from), weights.f32()[slot], row, n);
    dot({x.f32() + slot * n, x.row_bytes(), n, 1, &from, 1, &weight});
  }
}

}  // namespace moe::cpu
