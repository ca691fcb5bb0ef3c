#include "tools/bench_work.h"

#include <algorithm>

namespace moe::tools {
namespace {

// Where a node's multiplications count: by the format of its weights; those of attention by what its queries are rounded to.
double BenchWork::*macs_of(const Graph& g, const Node& n) {
  if (n.op == Op::kAttention) return g.value(n.in[0]).dtype == DType::kBF16 ? &BenchWork::bf16_macs : &BenchWork::f32_macs;
  const auto has_weight = [&](auto&& is_wanted) {
    return std::any_of(n.in.begin(), n.in.end(), [&](ValueId id) {
      return id != kNone && g.value(id).kind == ValueKind::kWeight && is_wanted(g.value(id).dtype);
    });
  };
  if (has_weight([](DType t) { return traits(t).block_elements > 1; })) return &BenchWork::int8_macs;
  return has_weight([](DType t) { return t == DType::kBF16; }) ? &BenchWork::bf16_macs : &BenchWork::f32_macs;
}

// Batch by batch; a query meets half of its own batch on the average.
Cost prompt_cost(const Graph& g, const Node& node, const BenchTest& test, RunShape run) {
  Cost sum;
  for (int done = 0; done < test.n_prompt;) {
    const int n = std::min(test.n_batch, test.n_prompt - done);
    run.n_tokens = n, run.n_outputs = done + n == test.n_prompt;
    run.kv_length = test.n_depth + done + (n + 1) / 2;
    sum += cost(g, node, run);
    done += n;
  }
  return sum;
}

// One step in the middle of the test. A run is priced as one sequence whose queries share the keys; those of the other
// sequences come on top: what one token's run costs more with keys than without.
Cost step_cost(const Graph& g, const Node& node, const BenchTest& test, RunShape run) {
  run.kv_length = test.n_depth + (test.n_gen + 1) / 2;
  run.n_tokens = run.n_outputs = test.n_seqs;
  Cost c = cost(g, node, run);
  run.n_tokens = run.n_outputs = 1;
  RunShape no_keys = run;
  no_keys.kv_length = 0;
  c.bytes_read += (test.n_seqs - 1) * (cost(g, node, run).bytes_read - cost(g, node, no_keys).bytes_read);
  return c;
}

}  // namespace

std::string BenchTest::name() const {
  std::string text = n_prompt > 0 ? "pp" + std::to_string(n_prompt) : "tg" + std::to_string(n_gen);
  if (n_seqs > 1) text += " x" + std::to_string(n_seqs);
  if (n_depth > 0) text += " @ d" + std::to_string(n_depth);
  return text;
}

BenchWork& BenchWork::add(const BenchWork& o, double times) {
  bytes_read += times * o.bytes_read;
  int8_macs += times * o.int8_macs, bf16_macs += times * o.bf16_macs, f32_macs += times * o.f32_macs;
  return *this;
}

BenchWork work_of(const Graph& g, const Node& node, const BenchTest& test, double k_mean, bool exact) {
  BenchWork work;
  RunShape run;
  run.k_mean = k_mean;
  const auto add = [&](const Cost& c, double times) {
    work.bytes_read += times * c.bytes_read;
    work.*(exact ? &BenchWork::f32_macs : macs_of(g, node)) += times * c.flops / 2;
  };
  if (test.n_prompt > 0) add(prompt_cost(g, node, test, run), 1);
  if (test.n_gen > 0) add(step_cost(g, node, test, run), test.n_gen);
  return work;
}

BenchWork work_of(const Graph& g, const BenchTest& test, double k_mean, bool exact) {
  BenchWork sum;
  for (const Node& n : g.nodes) sum.add(work_of(g, n, test, k_mean, exact));
  return sum;
}

double share_of_peak(const BenchWork& w, const cpu::Ceilings& c, double seconds) {
  return (w.int8_macs / c.int8 + w.bf16_macs / (c.bf16 > 0 ? c.bf16 : c.f32) + w.f32_macs / c.f32) / seconds;
}

}  // namespace moe::tools
