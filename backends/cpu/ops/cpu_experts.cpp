// Products with the experts that tokens were routed to. Tokens are grouped by expert, so that each expert's weights are read
// once a batch; the work is a flat list of (expert, row chunk) that threads take one after another. Slots with id −1 are in no
// group.
//
// Sums over a token's experts run in ascending order of expert id, whatever the batch and whoever takes the tasks: same bits.
#include <algorithm>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr int64_t kTokenBlock = 64;
constexpr int64_t kRowChunk = 64;

// Which (token, slot) pairs go to each expert, in ascending order of token. Every part builds its own copy: it costs a few
// microseconds, a barrier more.
struct Groups {
  Groups(const Tensor& ids, int64_t n_experts, Arena& scratch) {
    const int64_t n = ids.shape.elements();
    int32_t* end = scratch.take<int32_t>(static_cast<size_t>(n_experts));
    pairs = scratch.take<int32_t>(static_cast<size_t>(n));
    active = scratch.take<Group>(static_cast<size_t>(std::min(n, n_experts)));
    std::fill(end, end + n_experts, 0);
    for (int64_t i = 0; i < n; ++i) {
      const int32_t e = ids.i32()[i];
      MOE_CHECK(e < n_experts);
      if (e >= 0) ++end[e];
    }
    int32_t total = 0;
    for (int64_t e = 0; e < n_experts; ++e) {
      if (!end[e]) continue;
      active[n_active++] = {static_cast<int32_t>(e), total, end[e]};
      total += end[e];
      end[e] = total - end[e];
    }
    for (int64_t i = 0; i < n; ++i)
      if (const int32_t e = ids.i32()[i]; e >= 0) pairs[end[e]++] = static_cast<int32_t>(i);
  }
  struct Group {
    int32_t expert, begin, count;
  };
  int32_t* pairs;  // token · K + slot
  Group* active;
  int64_t n_active = 0;
};

// The stacked matrices (E, rows, n_in) of one projection.
struct Experts {
  Experts(const OpContext& c, const Tensor& stacked, DType activation)
      : w(stacked), dot(dot_for(c.kernels, stacked.dtype, activation)) {}
  const std::byte* row(int64_t expert, int64_t r) const {
    return static_cast<const std::byte*>(w.data) + static_cast<size_t>(expert * w.shape[1] + r) * w.row_bytes();
  }
  Tensor w;
  DotFn dot;
};

// Activation rows by pair: of the token for (T, n), of the slot for (T, K, n).
struct Activations {
  Activations(const Tensor& rows, int64_t k) : x(rows), stride(rows.row_bytes()), divisor(rows.shape.rank == 2 ? k : 1) {}
  const void* row(int32_t pair) const {
    return static_cast<const std::byte*>(x.data) + static_cast<size_t>(pair / divisor) * stride;
  }
  Tensor x;
  size_t stride;
  int64_t divisor;
};

// Row chunks of one projection, small enough that every part gets several.
int64_t chunk_rows(int64_t rows, int64_t n_active, int parts) {
  int64_t chunk = kRowChunk;
  while (chunk > 16 && n_active * ((rows + chunk - 1) / chunk) < 8 * parts) chunk /= 2;
  return chunk;
}

// fn(group, first row, end of the used rows, end row) for each task this part takes; `limit` (E) or null says how many rows of
// an expert are used.
template <class F>
void for_expert_chunks(const OpContext& c, const Groups& g, int64_t rows, const int32_t* limit, F&& fn) {
  const int64_t chunk = chunk_rows(rows, g.n_active, c.parts), per_expert = (rows + chunk - 1) / chunk;
  for (int64_t task = c.take_task(); task < g.n_active * per_expert; task = c.take_task()) {
    const Groups::Group& group = g.active[task / per_expert];
    const int64_t used = limit ? std::min<int64_t>(rows, limit[group.expert]) : rows;
    const int64_t begin = task % per_expert * chunk, end = std::min(begin + chunk, rows);
    fn(group, begin, std::clamp(used, begin, end), end);
  }
}

struct Block {
  const void* x[kTokenBlock];
  float* y[kTokenBlock];
};

}  // namespace

size_t scratch_moe(const Graph& g, const Node& node, int64_t max_tokens) {
  const Value& ids = g.value(node.in[1]);
  const auto pairs = static_cast<size_t>(max_tokens * ids.shape.last());
  int64_t n_experts = 0;
  for (const ValueId in : node.in)  // the stacked weights are the only static rank-3 input
    if (in != kNone && g.value(in).shape.rank == 3 && g.value(in).shape.is_static()) n_experts = g.value(in).shape[0];
  const auto experts = static_cast<size_t>(n_experts);
  return align_up(experts * sizeof(int32_t)) + align_up(pairs * sizeof(int32_t)) +
         align_up(std::min(pairs, experts) * sizeof(Groups::Group)) + 2 * align_up(kTokenBlock * kRowChunk * sizeof(float));
}

void run_moe_gate_up(const OpContext& c) {
  const Tensor ids = c.in(1), gate_bias = c.in(4), up_bias = c.in(5), y = c.out();
  const int64_t K = ids.shape.last(), F = y.shape.last();
  const Activations x(c.in(0), K);
  const Experts gate(c, c.in(2), x.x.dtype);
  const Experts up(c, c.has(3) ? c.in(3) : c.in(2), x.x.dtype);
  const int64_t up_base = c.has(3) ? 0 : F, n_in = gate.w.shape.last();
  const auto& a = c.attrs<GluAttrs>();
  const GluParams p{a.unit == GateUnit::kGeGlu, a.alpha, a.limit};
  Arena::Frame frame(c.scratch);
  const Groups groups(ids, gate.w.shape[0], c.scratch);
  float* g = c.scratch.take<float>(kTokenBlock * kRowChunk);
  float* u = c.scratch.take<float>(kTokenBlock * kRowChunk);
  Block to_gate, to_up;
  for_expert_chunks(c, groups, F, c.has(6) ? c.in(6).i32() : nullptr,
                    [&](const Groups::Group& group, int64_t row, int64_t used, int64_t end) {
                      const int64_t n_rows = used - row, e = group.expert;
                      for (int64_t i = 0; used < end && i < group.count; ++i)
                        std::fill_n(y.f32() + groups.pairs[group.begin + i] * F + used, end - used, 0.0f);
                      if (n_rows == 0) return;
                      for (int64_t first = 0; first < group.count; first += kTokenBlock) {
                        const int64_t n = std::min<int64_t>(kTokenBlock, group.count - first);
                        const int32_t* pairs = groups.pairs + group.begin + first;
                        for (int64_t i = 0; i < n; ++i)
                          to_gate.x[i] = x.row(pairs[i]), to_gate.y[i] = g + i * kRowChunk, to_up.y[i] = u + i * kRowChunk;
                        gate.dot({gate.row(e, row), gate.w.row_bytes(), n_in, n_rows, to_gate.x, n, to_gate.y});
                        up.dot({up.row(e, up_base + row), up.w.row_bytes(), n_in, n_rows, to_gate.x, n, to_up.y});
                        for (int64_t i = 0; i < n; ++i) {
                          const int64_t merged = gate_bias ? gate_bias.shape.last() : 0;
                          if (gate_bias) c.kernels.add(to_gate.y[i], gate_bias.f32() + e * merged + row, to_gate.y[i], n_rows);
                          if (up_bias)
                            c.kernels.add(to_up.y[i], up_bias.f32() + e * F + row, to_up.y[i], n_rows);
                          else if (merged == 2 * F)
                            c.kernels.add(to_up.y[i], gate_bias.f32() + e * merged + F + row, to_up.y[i], n_rows);
                          c.kernels.glu(to_gate.y[i], to_up.y[i], y.f32() + pairs[i] * F + row, n_rows, p);
                        }
                      }
                    });
}

void run_moe_down(const OpContext& c) {
  const Tensor ids = c.in(1), bias = c.in(4), residual = c.in(6), y = c.out();
  const float* weights = c.in(2).f32();
  const int32_t* width = c.has(5) ? c.in(5).i32() : nullptr;
  const int64_t K = ids.shape.last(), D = y.shape.last(), T = y.shape[0];
  const Activations h(c.in(0), K);
  const Experts down(c, c.in(3), h.x.dtype);
  const float scale = c.attrs<ScaleAttrs>().scale;
  Arena::Frame frame(c.scratch);
  const Groups groups(ids, down.w.shape[0], c.scratch);
  float* tmp = c.scratch.take<float>(kTokenBlock * kRowChunk);
  Block block;
  const int64_t chunk = chunk_rows(D, 1, c.parts), n_tasks = (D + chunk - 1) / chunk;
  for (int64_t task = c.take_task(); task < n_tasks; task = c.take_task()) {
    const int64_t row = task * chunk, n_rows = std::min(chunk, D - row);
    for (int64_t t = 0; t < T; ++t) std::fill_n(y.f32() + t * D + row, n_rows, 0.0f);
    for (int64_t i = 0; i < groups.n_active; ++i) {
      const Groups::Group& group = groups.active[i];
      const int64_t n_in = width ? std::min<int64_t>(width[group.expert], down.w.shape.last()) : down.w.shape.last();
      for (int64_t first = 0; first < group.count; first += kTokenBlock) {
        const int64_t n = std::min<int64_t>(kTokenBlock, group.count - first);
        const int32_t* pairs = groups.pairs + group.begin + first;
        for (int64_t j = 0; j < n; ++j) block.x[j] = h.row(pairs[j]), block.y[j] = tmp + j * kRowChunk;
        down.dot({down.row(group.expert, row), down.w.row_bytes(), n_in, n_rows, block.x, n, block.y});
        for (int64_t j = 0; j < n; ++j) {
          if (bias) c.kernels.add(block.y[j], bias.f32() + group.expert * D + row, block.y[j], n_rows);
          c.kernels.axpy(weights[pairs[j]], block.y[j], y.f32() + pairs[j] / K * D + row, n_rows);
        }
      }
    }
    for (int64_t t = 0; t < T; ++t) {
      float* to = y.f32() + t * D + row;
      if (residual) {
        const float* from = residual.f32() + t * D + row;
        for (int64_t j = 0; j < n_rows; ++j) to[j] = from[j] + scale * to[j];
      } else if (scale != 1) {
        c.kernels.scale(to, scale, to, n_rows);
      }
    }
  }
}

// Every output is written: rows beyond rows_used and slots without an expert become 0.
void run_moe_linear(const OpContext& c) {
  const Tensor ids = c.in(1), bias = c.in(3), y = c.out();
  const int32_t* rows_used = c.has(4) ? c.in(4).i32() : nullptr;
  const int32_t* cols_used = c.has(5) ? c.in(5).i32() : nullptr;
  const int64_t K = ids.shape.last(), O = y.shape.last(), n_pairs = ids.shape.elements();
  const Activations x(c.in(0), K);
  const Experts experts(c, c.in(2), x.x.dtype);
  const Range mine = c.my_range(n_pairs);
  std::fill(y.f32() + mine.begin * O, y.f32() + mine.end * O, 0.0f);
  c.barrier();
  Arena::Frame frame(c.scratch);
  const Groups groups(ids, experts.w.shape[0], c.scratch);
  Block block;
  for_expert_chunks(c, groups, O, rows_used, [&](const Groups::Group& group, int64_t row, int64_t end, int64_t) {
    if (row == end) return;
    const int64_t e = group.expert,
                  n_in = cols_used ? std::min<int64_t>(cols_used[e], experts.w.shape.last()) : experts.w.shape.last();
    for (int64_t first = 0; first < group.count; first += kTokenBlock) {
      const int64_t n = std::min<int64_t>(kTokenBlock, group.count - first);
      const int32_t* pairs = groups.pairs + group.begin + first;
      for (int64_t i = 0; i < n; ++i) block.x[i] = x.row(pairs[i]), block.y[i] = y.f32() + pairs[i] * O + row;
      experts.dot({experts.row(e, row), experts.w.row_bytes(), n_in, end - row, block.x, n, block.y});
      for (int64_t i = 0; bias && i < n; ++i) c.kernels.add(block.y[i], bias.f32() + e * O + row, block.y[i], end - row);
    }
  });
}

// In ascending order of expert id, as moe_down sums.
void run_weighted_sum(const OpContext& c) {
  const Tensor x = c.in(0), ids = c.in(1), weights = c.in(2), y = c.out();
  const int64_t K = ids.shape.last(), n = y.shape.last();
  const Range r = c.my_range(y.shape[0]);
  for (int64_t t = r.begin; t < r.end; ++t) {
    float* to = y.f32() + t * n;
    std::fill_n(to, n, 0.0f);
    const int32_t* id = ids.i32() + t * K;
    for (int32_t last = -1;;) {
      int64_t next = -1;
      for (int64_t s = 0; s < K; ++s)
        if (id[s] > last && (next < 0 || id[s] < id[next])) next = s;
      if (next < 0) break;
      last = id[next];
      c.kernels.axpy(weights.f32()[t * K + next], x.f32() + (t * K + next) * n, to, n);
    }
  }
}

}  // namespace moe::cpu
