// Router dropout and the capacity of experts. Draws are functions of where they are used, so that who computes them does not
// count.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "backends/cpu/op_context.h"
#include "core/rng.h"

namespace moe::cpu {
namespace {

uint64_t key_of(int64_t layer, float seed) { return static_cast<uint64_t>(layer) << 32 | std::bit_cast<uint32_t>(seed); }

// --- drop_experts ---

struct Dropout {
  float p;
  uint64_t key;
  int64_t keep;
};

// draws (E), in [0, 1)
void draw_row(uint64_t key, int64_t row, float* draws, int64_t E) {
  Philox4 block{};
  for (int64_t e = 0; e < E; ++e) {
    if (e % 4 == 0) block = philox4x32(key, static_cast<uint64_t>(row), static_cast<uint64_t>(e / 4));
    draws[e] = static_cast<float>(block.v[e % 4] >> 8) * 0x1p-24f;
  }
}

// allow, draws, from, to (E); draws are used up
void drop_row(const Dropout& d, const int8_t* allow, float* draws, const float* from, float* to, int64_t E) {
  int64_t stay = 0;
  for (int64_t e = 0; e < E; ++e) {
    const bool dropped = allow[e] && draws[e] < d.p;
    to[e] = dropped ? kDroppedLogit : from[e];
    stay += allow[e] && !dropped;
  }
  // Those that stay have larger draws than all others: the largest of the others come next.
  for (; stay < d.keep; ++stay) {
    int64_t best = -1;
    for (int64_t e = 0; e < E; ++e)
      if (allow[e] && draws[e] < d.p && (best < 0 || draws[e] > draws[best])) best = e;
    if (best < 0) return;  // fewer are allowed
    to[best] = from[best], draws[best] = std::numeric_limits<float>::infinity();
  }
}

// --- limit_experts ---

class Limiter {
 public:
  explicit Limiter(const OpContext& c)
      : ids_(c.in(0).i32()),
        logits_(c.in(1).f32()),
        allow_(c.in(2).i8()),
        token_class_(c.in(3).i32()),
        T_(c.in(0).shape[0]),
        K_(c.in(0).shape[1]),
        E_(c.in(1).shape[1]),
        overflow_(c.in(4).f32()[1]),
        key_(key_of(c.attrs<LimitAttrs>().layer, c.in(4).f32()[2])),
        to_(c.out().i32()),
        taken_(c.scratch.take<int64_t>(static_cast<size_t>(E_))) {
    int64_t slots = 0;
    for (int64_t i = 0; i < T_ * K_; ++i) {
      MOE_CHECK(ids_[i] >= -1 && ids_[i] < E_);
      slots += ids_[i] >= 0;
    }
    const auto all = static_cast<float>(slots);
    room_ = static_cast<int64_t>(std::min(all, std::ceil(c.in(4).f32()[0] * all / static_cast<float>(E_))));
  }

  void run() {
    std::fill_n(taken_, E_, 0);
    for (int64_t s = 0; s < K_; ++s)
      for (int64_t t = 0; t < T_; ++t) place(t * K_ + s);
    if (overflow_ != static_cast<float>(Overflow::kRandom) && overflow_ != static_cast<float>(Overflow::kNext)) return;
    for (int64_t s = 0; s < K_; ++s)
      for (int64_t t = 0; t < T_; ++t)
        if (to_[t * K_ + s] < 0 && ids_[t * K_ + s] >= 0) place_elsewhere(t, s);
  }

 private:
  void place(int64_t slot) {
    const int32_t e = ids_[slot];
    const bool fits = e >= 0 && taken_[e] < room_;
    to_[slot] = fits ? e : -1;
    if (fits) ++taken_[e];
  }

  void place_elsewhere(int64_t t, int64_t s) {
    const int64_t e = overflow_ == static_cast<float>(Overflow::kNext) ? next(t) : random(t, s);
    to_[t * K_ + s] = static_cast<int32_t>(e);
    if (e >= 0) ++taken_[e];
  }

  bool candidate(int64_t t, int64_t e) const {
    const int32_t* used = to_ + t * K_;
    return taken_[e] < room_ && allow_[token_class_[t] * E_ + e] && logits_[t * E_ + e] > kDroppedLogit &&
           std::find(used, used + K_, static_cast<int32_t>(e)) == used + K_;
  }

  int64_t next(int64_t t) const {
    const float* x = logits_ + t * E_;
    int64_t best = -1;
    for (int64_t e = 0; e < E_; ++e)
      if ((best < 0 || x[e] > x[best]) && candidate(t, e)) best = e;
    return best;
  }

  int64_t random(int64_t t, int64_t s) const {
    uint64_t n = 0;
    for (int64_t e = 0; e < E_; ++e) n += candidate(t, e);
    if (n == 0) return -1;
    const uint32_t r = philox4x32(key_, static_cast<uint64_t>(t), uint64_t{1} << 32 | static_cast<uint64_t>(s)).v[0];
    uint64_t skip = r * n >> 32;
    int64_t e = 0;
    while (!candidate(t, e) || skip-- > 0) ++e;
    return e;
  }

  const int32_t* ids_;          // (T, K)
  const float* logits_;         // (T, E)
  const int8_t* allow_;         // (C, E)
  const int32_t* token_class_;  // (T)
  const int64_t T_, K_, E_;
  const float overflow_;
  const uint64_t key_;
  int64_t room_;    // slots of an expert
  int32_t* to_;     // (T, K)
  int64_t* taken_;  // (E) slots so far
};

}  // namespace

size_t scratch_drop_experts(const Graph& g, const Node& node, int64_t) {
  return align_up(static_cast<size_t>(g.value(node.in[0]).shape.last()) * sizeof(float));
}

void run_drop_experts(const OpContext& c) {
  const Tensor logits = c.in(0), y = c.out();
  const int64_t E = logits.shape[1];
  const auto& a = c.attrs<DropAttrs>();
  const Dropout d{c.in(1).f32()[0], key_of(a.layer, c.in(1).f32()[1]), a.keep};
  Arena::Frame frame(c.scratch);
  float* draws = c.scratch.take<float>(static_cast<size_t>(E));
  const Range mine = c.my_range(logits.shape[0]);
  if (!(d.p > 0)) {
    std::copy(logits.f32() + mine.begin * E, logits.f32() + mine.end * E, y.f32() + mine.begin * E);
    return;
  }
  for (int64_t t = mine.begin; t < mine.end; ++t) {
    draw_row(d.key, t, draws, E);
    drop_row(d, c.in(2).i8() + c.in(3).i32()[t] * E, draws, logits.f32() + t * E, y.f32() + t * E, E);
  }
}

size_t scratch_limit_experts(const Graph& g, const Node& node, int64_t) {
  return align_up(static_cast<size_t>(g.value(node.in[1]).shape.last()) * sizeof(int64_t));
}

// One thread does it all: who comes first decides, and a slot takes but a few nanoseconds.
void run_limit_experts(const OpContext& c) {
  if (c.part != 0) return;
  const Tensor ids = c.in(0);
  if (!(c.in(4).f32()[0] > 0)) {
    std::copy_n(ids.i32(), ids.shape.elements(), c.out().i32());
    return;
  }
  Arena::Frame frame(c.scratch);
  Limiter(c).run();
}

}  // namespace moe::cpu
