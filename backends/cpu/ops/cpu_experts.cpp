// Products with the experts that tokens were routed to. Tokens are grouped by expert, so that each expert's weights are read
// once a batch; the rows of all these experts are one line that threads take chunks of. Slots with id −1 are in no
// group.
//
// Sums over a token's experts run in ascending order of expert id, whatever the batch and whoever takes the tasks: same bits.
#include <algorithm>

#include "backends/cpu/ops/expert_groups.h"
#include "backends/cpu/work_split.h"

namespace moe::cpu {
namespace {

// Outputs that a task of moe_down adds up: few enough to stay in the second-level cache while all experts pass.
constexpr int64_t kSumFloats = 65536;

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

// fn(group, first row, end row) for the rows this part takes. Rows of all active experts lie on one line, cut into chunks that
// may hold several experts or a piece of one; `limit` (E) or null cuts an expert's rows.
template <class F>
void for_expert_rows(const OpContext& c, const Groups& g, int64_t rows, const int32_t* limit, F&& fn) {
  const auto used = [&](int64_t i) { return limit ? std::min<int64_t>(rows, limit[g.active[i].expert]) : rows; };
  const auto length = [&](int64_t i) { return (used(i) + kRowGrain - 1) / kRowGrain * kRowGrain; };  // an expert begins a grain
  int64_t total = 0;
  for (int64_t i = 0; i < g.n_active; ++i) total += length(i);
  FallingChunks chunks(total, c.parts);
  int64_t i = 0, first = 0;  // the group that the chunk begins in, and where on the line that group begins
  for (Range r = chunks.at(c.take_task()); r.begin < r.end; r = chunks.at(c.take_task())) {
    while (first + length(i) <= r.begin) first += length(i++);
    for (int64_t j = i, at = first; j < g.n_active && at < r.end; at += length(j++)) {
      const int64_t begin = std::max<int64_t>(0, r.begin - at), end = std::min(used(j), r.end - at);
      if (begin < end) fn(g.active[j], begin, end);
    }
  }
}

// fn(first pair, n pairs) for each block of a group's pairs.
template <class F>
void for_pair_blocks(const Groups& g, const Groups::Group& group, F&& fn) {
  for (int64_t first = 0; first < group.count; first += kCallTokens)
    fn(g.pairs + group.begin + first, std::min<int64_t>(kCallTokens, group.count - first));
}

struct Block {
  const void* x[kCallTokens];
  float* y[kCallTokens];
};

}  // namespace

size_t scratch_moe(const Graph& g, const Node& node, int64_t max_tokens) {
  const Value& ids = g.value(node.in[1]);
  const auto pairs = static_cast<size_t>(max_tokens * ids.shape.last());
  int64_t n_experts = 0;
  for (const ValueId in : node.in)  // the stacked weights are the only static rank-3 input
    if (in != kNone && g.value(in).shape.rank == 3 && g.value(in).shape.is_static()) n_experts = g.value(in).shape[0];
  return scratch_groups(pairs, static_cast<size_t>(n_experts)) + 2 * align_up(kCallFloats * sizeof(float));
}

void run_moe_gate_up(const OpContext& c) {
  const Tensor ids = c.in(1), gate_bias = c.in(4), up_bias = c.in(5), y = c.out();
  const int64_t K = ids.shape.last(), F = y.shape.last();
  const Activations x(c.in(0), K);
  const Experts gate(c, c.in(2), x.x.dtype);
  const Experts up(c, c.has(3) ? c.in(3) : c.in(2), x.x.dtype);
  const int64_t up_base = c.has(3) ? 0 : F, n_in = gate.w.shape.last();
  const int64_t merged = gate_bias ? gate_bias.shape.last() : 0;  // 2F: the up biases lie behind the gate's
  const auto& a = c.attrs<GluAttrs>();
  const GluParams p{a.unit == GateUnit::kGeGlu, a.alpha, a.limit};
  Arena::Frame frame(c.scratch);
  const Groups groups(ids, gate.w.shape[0], c.scratch);
  float* g = c.scratch.take<float>(kCallFloats);
  float* u = c.scratch.take<float>(kCallFloats);
  Block to_gate, to_up;
  const auto add_biases = [&](int64_t e, int64_t row, int64_t n_rows, float* gates, float* ups) {
    if (gate_bias) c.kernels.add(gates, gate_bias.f32() + e * merged + row, gates, n_rows);
    if (up_bias)
      c.kernels.add(ups, up_bias.f32() + e * F + row, ups, n_rows);
    else if (merged == 2 * F)
      c.kernels.add(ups, gate_bias.f32() + e * merged + F + row, ups, n_rows);
  };
  const auto call = [&](int64_t e, int64_t row, int64_t n_rows, const int32_t* pairs, int64_t n) {
    for (int64_t i = 0; i < n; ++i) to_gate.x[i] = x.row(pairs[i]), to_gate.y[i] = g + i * n_rows, to_up.y[i] = u + i * n_rows;
    gate.dot({gate.row(e, row), gate.w.row_bytes(), n_in, n_rows, to_gate.x, n, to_gate.y});
    up.dot({up.row(e, up_base + row), up.w.row_bytes(), n_in, n_rows, to_gate.x, n, to_up.y});
    for (int64_t i = 0; i < n; ++i) {
      add_biases(e, row, n_rows, to_gate.y[i], to_up.y[i]);
      c.kernels.glu(to_gate.y[i], to_up.y[i], y.f32() + pairs[i] * F + row, n_rows, p);
    }
  };
  const int32_t* width = c.has(6) ? c.in(6).i32() : nullptr;
  for_expert_rows(c, groups, F, width, [&](const Groups::Group& group, int64_t begin, int64_t end) {
    // Channels beyond the width become 0: moe_down does not read them, but they share a scale of rounded activations.
    const bool cut = width && end == width[group.expert];
    for_pair_blocks(groups, group, [&](const int32_t* pairs, int64_t n) {
      const int64_t step = rows_of_call(n);
      for (int64_t row = begin; row < end; row += step) call(group.expert, row, std::min(step, end - row), pairs, n);
      for (int64_t i = 0; cut && i < n; ++i) std::fill(y.f32() + pairs[i] * F + end, y.f32() + pairs[i] * F + F, 0.0f);
    });
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
  float* tmp = c.scratch.take<float>(kCallFloats);
  Block block;
  const auto call = [&](int64_t e, int64_t row, int64_t n_rows, const int32_t* pairs, int64_t n) {
    const int64_t n_in = width ? std::min<int64_t>(width[e], down.w.shape.last()) : down.w.shape.last();
    for (int64_t i = 0; i < n; ++i) block.x[i] = h.row(pairs[i]), block.y[i] = tmp + i * n_rows;
    down.dot({down.row(e, row), down.w.row_bytes(), n_in, n_rows, block.x, n, block.y});
    for (int64_t i = 0; i < n; ++i) {
      if (bias) c.kernels.add(block.y[i], bias.f32() + e * D + row, block.y[i], n_rows);
      c.kernels.axpy(weights[pairs[i]], block.y[i], y.f32() + pairs[i] / K * D + row, n_rows);
    }
  };
  FallingChunks chunks(D, c.parts, kSumFloats / std::max<int64_t>(1, T) / kRowGrain * kRowGrain);
  for (Range r = chunks.at(c.take_task()); r.begin < r.end; r = chunks.at(c.take_task())) {
    const int64_t n_rows = r.end - r.begin;
    for (int64_t t = 0; t < T; ++t) std::fill_n(y.f32() + t * D + r.begin, n_rows, 0.0f);
    for (int64_t i = 0; i < groups.n_active; ++i)
      for_pair_blocks(groups, groups.active[i], [&](const int32_t* pairs, int64_t n) {
        const int64_t step = rows_of_call(n), e = groups.active[i].expert;
        for (int64_t row = r.begin; row < r.end; row += step) call(e, row, std::min(step, r.end - row), pairs, n);
      });
    for (int64_t t = 0; t < T; ++t) {
      float* to = y.f32() + t * D + r.begin;
      if (scale != 1) c.kernels.scale(to, scale, to, n_rows);
      if (residual) c.kernels.add(residual.f32() + t * D + r.begin, to, to, n_rows);
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
  for_expert_rows(c, groups, O, rows_used, [&](const Groups::Group& group, int64_t row, int64_t end) {
    const int64_t e = group.expert,
                  n_in = cols_used ? std::min<int64_t>(cols_used[e], experts.w.shape.last()) : experts.w.shape.last();
    for_pair_blocks(groups, group, [&](const int32_t* pairs, int64_t n) {
      for (int64_t i = 0; i < n; ++i) block.x[i] = x.row(pairs[i]), block.y[i] = y.f32() + pairs[i] * O + row;
      experts.dot({experts.row(e, row), experts.w.row_bytes(), n_in, end - row, block.x, n, block.y});
      for (int64_t i = 0; bias && i < n; ++i) c.kernels.add(block.y[i], bias.f32() + e * O + row, block.y[i], end - row);
    });
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
