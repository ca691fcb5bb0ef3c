// Dense products. Each part takes runs of output rows, so every weight byte is read by one thread, once per block of tokens.
#include <algorithm>

#include "backends/cpu/op_context.h"
#include "backends/cpu/work_split.h"

namespace moe::cpu {
namespace {

const std::byte* weight_row(const Tensor& w, int64_t row) {
  return static_cast<const std::byte*>(w.data) + static_cast<size_t>(row) * w.row_bytes();
}

// block(token0, n, row0, n_rows) for every block of the chunks of n_out rows that this part takes.
template <class F>
void for_blocks(const OpContext& c, int64_t n_out, int64_t n_tokens, F&& block) {
  const int64_t step = rows_of_call(std::min(n_tokens, kCallTokens));
  FallingChunks chunks(n_out, c.parts);
  for (Range r = chunks.at(c.take_task()); r.begin < r.end; r = chunks.at(c.take_task()))
    for (int64_t row = r.begin; row < r.end; row += step)
      for (int64_t t = 0; t < n_tokens; t += kCallTokens)
        block(t, std::min(kCallTokens, n_tokens - t), row, std::min(step, r.end - row));
}

struct TokenRows {
  const void* x[kCallTokens];
  float* y[kCallTokens];
};

// Points x at rows [t, t+n) of the activations.
void point_x(TokenRows& rows, const Tensor& x, int64_t t, int64_t n) {
  const size_t stride = x.row_bytes();
  for (int64_t i = 0; i < n; ++i) rows.x[i] = static_cast<const std::byte*>(x.data) + static_cast<size_t>(t + i) * stride;
}

}  // namespace

size_t scratch_linear(const Graph&, const Node&, int64_t) { return 2 * align_up(kCallFloats * sizeof(float)); }

void run_linear(const OpContext& c) {
  const Tensor x = c.in(0), w = c.in(1), bias = c.in(2), residual = c.in(3), y = c.out();
  const int64_t n_out = w.shape[0], n_in = w.shape[1];
  const float scale = c.attrs<ScaleAttrs>().scale;
  const DotFn dot = dot_for(c.kernels, w.dtype, x.dtype);
  TokenRows rows;
  for_blocks(c, n_out, x.shape[0], [&](int64_t t, int64_t n, int64_t row, int64_t n_rows) {
    point_x(rows, x, t, n);
    for (int64_t i = 0; i < n; ++i) rows.y[i] = y.f32() + (t + i) * n_out + row;
    dot({weight_row(w, row), w.row_bytes(), n_in, n_rows, rows.x, n, rows.y});
    for (int64_t i = 0; i < n; ++i) {
      float* to = rows.y[i];
      if (bias) c.kernels.add(to, bias.f32() + row, to, n_rows);
      if (scale != 1) c.kernels.scale(to, scale, to, n_rows);
      if (residual) c.kernels.add(residual.f32() + (t + i) * n_out + row, to, to, n_rows);
    }
  });
}

void run_linear_glu(const OpContext& c) {
  const Tensor x = c.in(0), gate = c.in(1), up = c.in(2), gate_bias = c.in(3), up_bias = c.in(4), y = c.out();
  const auto& a = c.attrs<GluAttrs>();
  const GluParams p{a.unit == GateUnit::kGeGlu, a.alpha, a.limit};
  const int64_t n_out = y.shape.last(), n_in = gate.shape[1];
  const Tensor& up_rows = up ? up : gate;  // a merged tensor holds the up rows behind the gate rows
  const int64_t up_base = up ? 0 : n_out;
  const Tensor& up_bias_rows = up ? up_bias : gate_bias;  // likewise
  const float* up_biases = up_bias_rows ? up_bias_rows.f32() + up_base : nullptr;
  const DotFn dot_gate = dot_for(c.kernels, gate.dtype, x.dtype), dot_up = dot_for(c.kernels, up_rows.dtype, x.dtype);
  Arena::Frame frame(c.scratch);
  float* g = c.scratch.take<float>(kCallFloats);
  float* u = c.scratch.take<float>(kCallFloats);
  TokenRows to_gate, to_up;
  for_blocks(c, n_out, x.shape[0], [&](int64_t t, int64_t n, int64_t row, int64_t n_rows) {
    point_x(to_gate, x, t, n);
    for (int64_t i = 0; i < n; ++i) to_gate.y[i] = g + i * n_rows, to_up.y[i] = u + i * n_rows;
    dot_gate({weight_row(gate, row), gate.row_bytes(), n_in, n_rows, to_gate.x, n, to_gate.y});
    dot_up({weight_row(up_rows, up_base + row), up_rows.row_bytes(), n_in, n_rows, to_gate.x, n, to_up.y});
    for (int64_t i = 0; i < n; ++i) {
      if (gate_bias) c.kernels.add(to_gate.y[i], gate_bias.f32() + row, to_gate.y[i], n_rows);
      if (up_biases) c.kernels.add(to_up.y[i], up_biases + row, to_up.y[i], n_rows);
      c.kernels.glu(to_gate.y[i], to_up.y[i], y.f32() + (t + i) * n_out + row, n_rows, p);
    }
  });
}

// Parts own whole heads of one token each; heads are small (a few hundred rows).
void run_head_linear(const OpContext& c) {
  const Tensor x = c.in(0), w = c.in(1), y = c.out();
  const auto& a = c.attrs<HeadLinearAttrs>();
  const int64_t x_head = x.shape.last() / a.heads, y_head = y.shape.last() / a.heads, stored = w.shape.last();
  const DotFn dot = c.kernels.dot_f32[static_cast<size_t>(w.dtype)];
  const AccumulateFn accumulate = c.kernels.accumulate[static_cast<size_t>(w.dtype)];
  const Range r = c.my_range(a.heads);
  for (int64_t h = r.begin; h < r.end; ++h) {
    const std::byte* rows = weight_row(w, h * a.block + a.row_begin);
    for (int64_t t = 0; t < x.shape[0]; ++t) {
      const float* from = x.f32() + t * x.shape.last() + h * x_head;
      float* to = y.f32() + t * y.shape.last() + h * y_head;
      if (a.transposed) {
        std::fill(to, to + y_head, 0.0f);
        accumulate({rows, w.row_bytes(), stored, a.rows, from, to});
      } else {
        const void* x_row = from;
        dot({rows, w.row_bytes(), stored, a.rows, &x_row, 1, &to});
      }
    }
  }
}

}  // namespace moe::cpu
