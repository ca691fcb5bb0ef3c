// Drivers of ops that stream all parameters: sum_squares, adamw.
#include <algorithm>
#include <cmath>

#include "backends/cpu/op_context.h"

namespace moe::cpu {
namespace {

constexpr int64_t kBlock = 16384;    // elements whose squares one thread sums
constexpr int64_t kCacheLine = 16;   // elements; where adamw may be cut, so that threads write lines of their own
constexpr int64_t kAloneBlocks = 2;  // what is shorter costs less than meeting twice

int64_t block_count(const Shape& s) { return (s.elements() + kBlock - 1) / kBlock; }

double sum_of_block(const OpContext& c, const Tensor& x, int64_t block) {
  const int64_t begin = block * kBlock;
  return c.kernels.sum_squares(x.f32() + begin, std::min(kBlock, x.shape.elements() - begin));
}

}  // namespace

// Sums of blocks are added up in their order by one thread, whoever made them. Short tensors are left to one thread: another
// one from node to node.
void run_sum_squares(const OpContext& c) {
  const Tensor x = c.in(0), y = c.out();
  const int64_t n = block_count(x.shape);
  const bool alone = n <= kAloneBlocks || c.parts == 1;
  const int who = alone ? static_cast<int>(c.index % static_cast<size_t>(c.parts)) : 0;
  auto* sums = reinterpret_cast<double*>(c.shared);
  if (!alone) {
    c.barrier();  // the op before is done with the shared memory
    const Range mine = c.my_range(n);
    for (int64_t b = mine.begin; b < mine.end; ++b) sums[b] = sum_of_block(c, x, b);
    c.barrier();
  }
  if (c.part != who) return;
  double total = 0;
  for (int64_t b = 0; b < n; ++b) total += alone ? sum_of_block(c, x, b) : sums[b];
  y.f32()[0] = static_cast<float>(total);
}

size_t shared_sum_squares(const Graph& g, const Node& n, int) {
  return static_cast<size_t>(block_count(g.value(n.in[0]).shape)) * sizeof(double);
}

void run_adamw(const OpContext& c) {
  const Tensor w = c.in(0), copy = c.in(4);
  const float* h = c.in(5).f32();
  const Range mine = c.my_range(w.shape.elements(), kCacheLine);
  AdamWArgs a{};
  a.grad = c.in(1).f32() + mine.begin, a.w = w.f32() + mine.begin;
  a.m = c.in(2).f32() + mine.begin, a.v = c.in(3).f32() + mine.begin;
  a.copy = copy ? static_cast<uint16_t*>(copy.data) + mine.begin : nullptr;
  a.n = mine.end - mine.begin;
  a.grad_scale = h[5], a.beta1 = h[1], a.beta2 = h[2], a.rest1 = 1 - h[1], a.rest2 = 1 - h[2];
  a.rate = h[0] / h[6], a.root_scale = 1 / std::sqrt(h[7]), a.eps = h[3], a.decay = h[0] * h[4];
  c.kernels.adamw(a);
}

}  // namespace moe::cpu
