// Drivers of ops whose rows do not depend on each other: each part takes a run of rows.
#include <cmath>
#include <cstring>
#include <numbers>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

int64_t row_count(const Tensor& t) { return t.shape.elements() / t.shape.last(); }

// fn(row of x, row of out, n) on this part's rows of a float32 input.
template <class F>
void for_rows(const OpContext& c, F&& fn) {
  const Tensor x = c.in(0), y = c.out();
  const int64_t n = x.shape.last(), m = y.shape.last();
  const Range r = c.my_range(row_count(x));
  for (int64_t i = r.begin; i < r.end; ++i) fn(x.f32() + i * n, y.f32() + i * m, n);
}

// fn(a, b, out, n) where b has a's shape, is one row for all, or one number a row.
template <class F>
void for_row_pairs(const OpContext& c, F&& fn) {
  const Tensor a = c.in(0), b = c.in(1), y = c.out();
  const int64_t n = a.shape.last();
  const bool one_row = b.shape.rank == 1;
  const Range r = c.my_range(row_count(a));
  for (int64_t i = r.begin; i < r.end; ++i)
    fn(a.f32() + i * n, b.f32() + (one_row ? 0 : i * b.shape.last()), y.f32() + i * n, n);
}

}  // namespace

void run_embed(const OpContext& c) {
  const Tensor table = c.in(0), ids = c.in(1), y = c.out();
  const int64_t n = table.shape.last();
  const auto decode = c.kernels.decode[static_cast<size_t>(table.dtype)];
  const Range r = c.my_range(y.shape[0]);
  for (int64_t i = r.begin; i < r.end; ++i) {
    const int32_t id = ids.i32()[i];
    MOE_CHECK(id >= 0 && id < table.shape[0]);
    decode(static_cast<const std::byte*>(table.data) + static_cast<size_t>(id) * table.row_bytes(), y.f32() + i * n, n);
  }
}

void run_rms_norm(const OpContext& c) {
  const auto& a = c.attrs<NormAttrs>();
  const float* w = c.has(1) ? c.in(1).f32() : nullptr;
  for_rows(c, [&](const float* x, float* y, int64_t n) {
    for (int64_t g = 0; g < n; g += a.group) c.kernels.rms_norm(x + g, w, a.eps, y + g, a.group);
  });
}

void run_layer_norm(const OpContext& c) {
  const auto& a = c.attrs<NormAttrs>();
  const float* w = c.in(1).f32();
  const float* b = c.has(2) ? c.in(2).f32() : nullptr;
  for_rows(c, [&](const float* x, float* y, int64_t n) {
    for (int64_t g = 0; g < n; g += a.group) c.kernels.layer_norm(x + g, w, b, a.eps, y + g, a.group);
  });
}

// YaRN (arXiv 2309.00071 §3.2, appendix A.2): dimension i turns original_ctx · θ_i / 2π times over the trained context; those
// that turn more than beta_fast keep their frequency, those below beta_slow are interpolated, in between a linear ramp over i.
void run_rope_table(const OpContext& c) {
  const auto& a = c.attrs<RopeTableAttrs>();
  const Tensor positions = c.in(0), y = c.out();
  const float* factors = c.has(1) ? c.in(1).f32() : nullptr;
  const int64_t half = a.dims / 2;
  const auto correction_dim = [&](double turns) {
    const double ratio = static_cast<double>(a.original_ctx) / (turns * 2 * std::numbers::pi);
    return static_cast<double>(a.dims) * std::log(ratio) / (2 * std::log(static_cast<double>(a.base)));
  };
  double low = 0, high = 0;
  if (a.ext_factor != 0) {
    low = std::max(0.0, std::floor(correction_dim(a.beta_fast)));
    high = std::min(static_cast<double>(a.dims - 1), std::ceil(correction_dim(a.beta_slow)));
  }
  const Range r = c.my_range(y.shape[0]);
  for (int64_t i = 0; i < half; ++i) {
    const double plain = std::pow(static_cast<double>(a.base), -2.0 * static_cast<double>(i) / static_cast<double>(a.dims)) /
                         (factors ? static_cast<double>(factors[i]) : 1.0);
    const double interpolated = plain * static_cast<double>(a.freq_scale);
    double theta = interpolated;
    if (a.ext_factor != 0) {
      const double ramp = (static_cast<double>(i) - low) / std::max(0.001, high - low);
      const double keep = (1 - std::min(1.0, std::max(0.0, ramp))) * static_cast<double>(a.ext_factor);
      theta = interpolated * (1 - keep) + plain * keep;
    }
    for (int64_t t = r.begin; t < r.end; ++t) {
      const double angle = theta * positions.i32()[t];
      y.f32()[t * a.dims + i] = static_cast<float>(std::cos(angle)) * a.attn_factor;
      y.f32()[t * a.dims + half + i] = static_cast<float>(std::sin(angle)) * a.attn_factor;
    }
  }
}

size_t scratch_rope(const Graph&, const Node& node, int64_t) {
  const auto& a = std::get<RopeAttrs>(node.attrs);
  return a.inverse ? align_up(static_cast<size_t>(a.dims / 2) * sizeof(float)) : 0;
}

void run_rope(const OpContext& c) {
  const auto& a = c.attrs<RopeAttrs>();
  Arena::Frame frame(c.scratch);
  float* negated = a.inverse ? c.scratch.take<float>(static_cast<size_t>(a.dims / 2)) : nullptr;
  const Tensor x = c.in(0), table = c.in(1), y = c.out();
  const int64_t n = x.shape.last(), half = a.dims / 2;
  const auto rotate = a.style == RopeStyle::kInterleaved ? c.kernels.rope_interleaved : c.kernels.rope_half_split;
  const Range r = c.my_range(x.shape[0]);
  for (int64_t t = r.begin; t < r.end; ++t) {
    const float* from = x.f32() + t * n;
    float* to = y.f32() + t * n;
    const float* cos = table.f32() + t * a.dims;
    const float* sin = cos + half;
    if (a.inverse) {
      c.kernels.scale(sin, -1, negated, half);
      sin = negated;
    }
    if (a.dims != a.head_dim) std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
    for (int64_t h = a.offset; h < n; h += a.head_dim) rotate(from + h, cos, sin, to + h, half);
  }
}

void run_softmax(const OpContext& c) { for_rows(c, c.kernels.softmax); }
void run_silu(const OpContext& c) { for_rows(c, c.kernels.silu); }
void run_gelu(const OpContext& c) { for_rows(c, c.kernels.gelu); }
void run_sigmoid(const OpContext& c) { for_rows(c, c.kernels.sigmoid); }

void run_scale(const OpContext& c) {
  const float factor = c.attrs<ScaleAttrs>().scale;
  for_rows(c, [&](const float* x, float* y, int64_t n) { c.kernels.scale(x, factor, y, n); });
}

void run_glu(const OpContext& c) {
  const auto& a = c.attrs<GluAttrs>();
  const GluParams p{a.unit == GateUnit::kGeGlu, a.alpha, a.limit};
  for_row_pairs(c, [&](const float* g, const float* u, float* y, int64_t n) { c.kernels.glu(g, u, y, n, p); });
}

void run_add(const OpContext& c) { for_row_pairs(c, c.kernels.add); }

void run_mul(const OpContext& c) {
  if (const Tensor b = c.in(1); b.shape.rank > 1 && b.shape.last() == 1 && c.in(0).shape.last() != 1) {
    for_row_pairs(c, [&](const float* x, const float* s, float* y, int64_t n) { c.kernels.scale(x, *s, y, n); });
    return;
  }
  for_row_pairs(c, c.kernels.mul);
}

void run_slice(const OpContext& c) {
  const auto& a = c.attrs<GroupAttrs>();
  const int64_t width = a.end - a.begin;
  for_rows(c, [&](const float* x, float* y, int64_t n) {
    const int64_t part = n / a.groups;
    for (int64_t g = 0; g < a.groups; ++g)
      std::memcpy(y + g * width, x + g * part + a.begin, static_cast<size_t>(width) * sizeof(float));
  });
}

void run_concat(const OpContext& c) {
  const auto& a = c.attrs<GroupAttrs>();
  const Tensor x = c.in(0), z = c.in(1), y = c.out();
  const int64_t n = x.shape.last() / a.groups, m = y.shape.last() / a.groups - n;
  const int64_t z_step = z.shape.last() == m ? 0 : m;  // one part shared by all groups, or one each
  const Range r = c.my_range(row_count(x));
  for (int64_t t = r.begin; t < r.end; ++t)
    for (int64_t g = 0; g < a.groups; ++g) {
      float* to = y.f32() + t * y.shape.last() + g * (n + m);
      std::memcpy(to, x.f32() + t * x.shape.last() + g * n, static_cast<size_t>(n) * sizeof(float));
      std::memcpy(to + n, z.f32() + t * z.shape.last() + g * z_step, static_cast<size_t>(m) * sizeof(float));
    }
}

void run_select_rows(const OpContext& c) {
  const Tensor x = c.in(0), rows = c.in(1), y = c.out();
  const int64_t n = x.shape.last();
  const Range r = c.my_range(y.shape[0]);
  for (int64_t i = r.begin; i < r.end; ++i) {
    const int32_t row = rows.i32()[i];
    MOE_CHECK(row >= 0 && row < x.shape[0]);
    std::memcpy(y.f32() + i * n, x.f32() + row * n, static_cast<size_t>(n) * sizeof(float));
  }
}

void run_quantize_act(const OpContext& c) {
  const Tensor x = c.in(0), y = c.out();
  const int64_t n = x.shape.last();
  const auto round = c.attrs<QuantizeActAttrs>().to == DType::kA8 ? c.kernels.quantize_a8 : c.kernels.encode_bf16;
  const Range r = c.my_range(row_count(x));
  for (int64_t i = r.begin; i < r.end; ++i)
    round(x.f32() + i * n, static_cast<std::byte*>(y.data) + static_cast<size_t>(i) * y.row_bytes(), n);
}

}  // namespace moe::cpu
