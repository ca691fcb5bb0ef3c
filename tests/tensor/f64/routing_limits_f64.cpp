// References of drop_experts and limit_experts.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/rng.h"
#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

uint32_t draw(double seed, int64_t layer, size_t token, size_t word, uint64_t high) {
  const uint64_t key = (static_cast<uint64_t>(layer) << 32) + std::bit_cast<uint32_t>(static_cast<float>(seed));
  return philox4x32(key, token, high).v[word];
}

struct Limits {
  explicit Limits(const Op64& op)
      : logits(op.in(1)), allow(op.in(2)), token_class(op.in(3)), E(static_cast<size_t>(op.in_last(1))), taken(E) {}
  const Doubles &logits, &allow, &token_class;
  size_t E;
  std::vector<size_t> taken;
};

// Ascending ids that the row of ids of token t can take one more of.
std::vector<size_t> candidates(const Limits& l, size_t room, size_t t, const Doubles& row) {
  std::vector<size_t> found;
  for (size_t e = 0; e < l.E; ++e)
    if (l.taken[e] < room && l.allow[static_cast<size_t>(l.token_class[t]) * l.E + e] != 0 &&
        l.logits[t * l.E + e] > double{kDroppedLogit} && std::count(row.begin(), row.end(), static_cast<double>(e)) == 0)
      found.push_back(e);
  return found;
}

}  // namespace

void drop_experts_f64(const Op64& op) {
  const auto& a = op.attrs<DropAttrs>();
  const Doubles &logits = op.in(0), &drop = op.in(1);
  const auto E = static_cast<size_t>(op.in_last(0));
  Doubles& y = op.out();
  y = logits;
  for (size_t t = 0; t < logits.size() / E; ++t) {
    std::vector<std::pair<double, size_t>> falling;  // −draw and expert, of those allowed
    for (size_t e = 0; e < E; ++e)
      if (op.in(2)[static_cast<size_t>(op.in(3)[t]) * E + e] != 0)
        falling.emplace_back(-static_cast<double>(draw(drop[1], a.layer, t, e % 4, e / 4) >> 8) / 16777216, e);
    std::sort(falling.begin(), falling.end());
    for (size_t i = static_cast<size_t>(a.keep); i < falling.size(); ++i)
      if (-falling[i].first < drop[0]) y[t * E + falling[i].second] = double{kDroppedLogit};
  }
}

void limit_experts_f64(const Op64& op) {
  const Doubles &ids = op.in(0), &capacity = op.in(4);
  const auto K = static_cast<size_t>(op.in_last(0)), T = ids.size() / K;
  Doubles& y = op.out();
  y = ids;
  if (!(capacity[0] > 0)) return;
  Limits l(op);
  const auto in_use = static_cast<float>(std::count_if(ids.begin(), ids.end(), [](double id) { return id >= 0; }));
  const float share = static_cast<float>(capacity[0]) * in_use / static_cast<float>(l.E);
  const auto room = static_cast<size_t>(std::min(std::ceil(share), in_use));
  std::vector<std::pair<size_t, size_t>> over;  // token, slot
  for (size_t s = 0; s < K; ++s)
    for (size_t t = 0; t < T; ++t) {
      double& id = y[t * K + s];
      if (id < 0) continue;
      size_t& taken = l.taken[static_cast<size_t>(id)];
      if (taken < room)
        ++taken;
      else
        id = -1, over.emplace_back(t, s);
    }
  if (capacity[1] != 1 && capacity[1] != 2) return;
  for (const auto& [t, s] : over) {
    const auto row = y.begin() + static_cast<std::ptrdiff_t>(t * K);
    const std::vector<size_t> open = candidates(l, room, t, Doubles(row, row + static_cast<std::ptrdiff_t>(K)));
    if (open.empty()) continue;
    const double* x = &l.logits[t * l.E];
    const uint64_t r = draw(capacity[2], op.attrs<LimitAttrs>().layer, t, 0, (uint64_t{1} << 32) + s);
    const size_t e = capacity[1] == 1
                         ? open[static_cast<size_t>(r * open.size() / 4294967296u)]
                         : *std::max_element(open.begin(), open.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
    y[t * K + s] = static_cast<double>(e), ++l.taken[e];
  }
}

}  // namespace moe::test
