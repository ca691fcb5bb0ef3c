#include "evolution/repair.h"

#include <algorithm>
#include <string>

#include "evolution/masks.h"

namespace moe {
namespace {

using Shape = RoutingShape::Layer;

// One draft under repair. Steps that look at single layers edit only those that need it.
class Repair {
 public:
  Repair(GenomeDraft& draft, const SearchSpace& space, Rng& rng) : d_(draft), s_(space), c_(space.constraints()), rng_(rng) {}

  bool run() {
    for (const int i : s_.routed()) numbers(i);
    const bool k_fits = active();
    for (const int i : s_.routed()) masks(i);
    const bool kept_fits = kept();
    for (const int i : s_.routed()) widths(i), redirects(i);
    return k_fits && kept_fits;
  }

 private:
  const LayerGene& layer(int i) const { return std::as_const(d_).layer(i); }

  void numbers(int i) {
    const LayerGene& g = layer(i);
    const bool skipped = g.skipped() && s_.may_skip(i);
    const int own = std::clamp(s_.shape(i).k, s_.k_low(i), s_.k_high(i));
    const int k_max = skipped ? 0 : g.skipped() ? own : std::clamp(g.k_max, s_.k_low(i), s_.k_high(i));
    const int k_min = skipped ? 0 : g.skipped() ? own : std::clamp(g.k_min, 1, k_max);
    const float threshold = std::clamp(g.threshold, 0.0f, 1.0f);
    const float temperature = std::clamp(g.temperature, c_.temperature_low, c_.temperature_high);
    if (k_max != g.k_max || k_min != g.k_min || threshold != g.threshold || temperature != g.temperature) {
      LayerGene& e = d_.edit(i);
      e.k_max = k_max, e.k_min = k_min, e.threshold = threshold, e.temperature = temperature;
    }
    const auto too_much = [&](const LayerGene::Bias& b) { return !(b.value >= -c_.bias_high && b.value <= c_.bias_high); };
    if (std::none_of(g.bias.begin(), g.bias.end(), too_much)) return;
    LayerGene& e = d_.edit(i);
    for (LayerGene::Bias& b : e.bias) b.value = std::clamp(b.value, -c_.bias_high, c_.bias_high);
    std::erase_if(e.bias, [](const LayerGene::Bias& b) { return b.value == 0; });
  }

  // A layer in proportion to what it has left to give; −1: none has.
  template <class F>
  int draw_layer(F&& room_of) {
    std::vector<int64_t> room;
    int64_t all = 0;
    for (const int i : s_.routed()) {
      room.push_back(layer(i).skipped() ? 0 : std::max<int64_t>(0, room_of(i)));
      all += room.back();
    }
    if (all == 0) return -1;
    auto n = static_cast<int64_t>(rng_.below(static_cast<uint64_t>(all)));
    size_t at = 0;
    while (n >= room[at]) n -= room[at++];
    return s_.routed()[at];
  }

  bool active() {
    if (!c_.active) return true;
    int64_t total = 0;
    for (const int i : s_.routed()) total += layer(i).k_max;
    for (; total > c_.active->high; --total) {
      const int i = draw_layer([&](int l) { return layer(l).k_max - s_.k_low(l); });
      if (i < 0) return false;
      LayerGene& g = d_.edit(i);
      g.k_min = std::min(g.k_min, --g.k_max);
    }
    for (; total < c_.active->low; ++total) {
      const int i = draw_layer([&](int l) { return s_.k_high(l) - layer(l).k_max; });
      if (i < 0) return false;
      LayerGene& g = d_.edit(i);
      g.k_min += g.k_min == g.k_max;  // a fixed k stays one
      ++g.k_max;
    }
    return true;
  }

  void masks(int i) {
    const Bits protect = s_.protect(i);
    for (int c = 0; c < layer(i).n_classes; ++c) {
      if (!covers(layer(i).row(c), protect)) {
        const std::span<uint64_t> row = d_.edit(i).row(c);
        for (size_t w = 0; w < row.size(); ++w) row[w] |= protect[w];
      }
      if (guaranteed(layer(i).row(c), s_.shape(i)) < layer(i).k_max)
        fill_class(d_.edit(i), c, layer(i).k_max, s_.shape(i), s_.saliency(i), rng_);
    }
    while (!layer(i).skipped() && layer(i).n_kept() < c_.kept_low)
      if (!grow(i)) break;
  }

  int floor_of(int i) const { return std::max({c_.kept_low, layer(i).k_max, count_bits(s_.protect(i))}); }

  // One expert fewer in layer i. Those that cannot go are tried once.
  bool shrink(int i) {
    std::vector<uint64_t> candidates = without(layer(i).kept(), s_.protect(i));
    while (count_bits(candidates) > 0) {
      const int e = pick(candidates, s_.saliency(i), Prefer::kUnmissed, rng_);
      if (remove_expert(d_.edit(i), e, s_.shape(i), s_.saliency(i), rng_)) return true;
      set_bit(candidates, e, false);
    }
    return false;
  }

  bool grow(int i) {
    std::vector<uint64_t> candidates = without(everyone(layer(i).n_experts), layer(i).kept());
    while (count_bits(candidates) > 0) {
      const int e = pick(candidates, s_.saliency(i), Prefer::kMissed, rng_);
      if (add_expert(d_.edit(i), e, s_.shape(i))) return true;
      set_bit(candidates, e, false);
    }
    return false;
  }

  // All classes get the same mask, of as few experts as will do: where groups are limited and classes differ, none may be able
  // to go alone.
  void compact(int i) {
    const LayerGene& g = layer(i);
    if (g.skipped()) return;
    const Bits protect = s_.protect(i);
    const std::vector<uint64_t> before = g.kept();
    std::vector<uint64_t> mask(protect.begin(), protect.end());
    while (guaranteed(mask, s_.shape(i)) < g.k_max || count_bits(mask) < c_.kept_low) {
      const std::vector<uint64_t> candidates = next_to_add(mask, s_.shape(i)), there = both(candidates, before);
      const bool any_there = count_bits(there) > 0;
      if (!any_there && count_bits(candidates) == 0) return;
      set_bit(mask, pick(any_there ? there : candidates, s_.saliency(i), Prefer::kMissed, rng_), true);
    }
    if (count_bits(mask) >= count_bits(before)) return;
    LayerGene& e = d_.edit(i);
    for (int c = 0; c < e.n_classes; ++c) std::copy(mask.begin(), mask.end(), e.row(c).begin());
    drop_stale_redirects(e, s_.shape(i));
  }

  bool kept() {
    if (!c_.kept || to_range()) return true;
    // Too many, and none may go alone: layers are made as small as they can be, and grow from there.
    int64_t total = 0;
    for (const int i : s_.routed()) total += layer(i).n_kept();
    if (total < c_.kept->low) return false;
    for (const int i : s_.routed()) compact(i);
    return to_range();
  }

  bool to_range() {
    std::vector<int64_t> now(static_cast<size_t>(d_.n_layers()), 0);
    int64_t total = 0;
    for (const int i : s_.routed()) total += now[static_cast<size_t>(i)] = layer(i).n_kept();
    std::vector<bool> stuck(now.size(), false);
    const bool too_many = total > c_.kept->high;
    while (total < c_.kept->low || total > c_.kept->high) {
      const int i = draw_layer([&](int l) {
        const auto at = static_cast<size_t>(l);
        if (stuck[at]) return int64_t{0};
        return too_many ? now[at] - floor_of(l) : s_.shape(l).n_experts - now[at];
      });
      if (i < 0) return false;
      const bool done = too_many ? shrink(i) : grow(i);
      const int step = too_many ? -1 : 1;
      if (done)
        total += step, now[static_cast<size_t>(i)] += step;
      else
        stuck[static_cast<size_t>(i)] = true;
    }
    return true;
  }

  void widths(int i) {
    if (layer(i).narrow.empty()) return;
    for (int e = 0; e < layer(i).n_experts; ++e) {
      const int wanted = s_.width_setting(i, layer(i).quarters(e));
      if (wanted != layer(i).quarters(e)) d_.edit(i).set_quarters(e, wanted);
    }
  }

  void redirects(int i) {
    if (layer(i).redirect.empty()) return;
    LayerGene mended = layer(i);
    if (drop_stale_redirects(mended, s_.shape(i))) d_.edit(i) = std::move(mended);
  }

  GenomeDraft& d_;
  const SearchSpace& s_;
  const Constraints& c_;
  Rng& rng_;
};

Status violated(const std::string& what, int64_t wanted_low, int64_t wanted_high, int64_t found) {
  return Status::InvalidArgument("genome: " + what + ": wanted " + std::to_string(wanted_low) + " to " +
                                 std::to_string(wanted_high) + ", found " + std::to_string(found));
}

Status satisfies_layer(const LayerGene& g, int i, const SearchSpace& s) {
  const std::string where = "layer " + std::to_string(i) + ": ";
  const Constraints& c = s.constraints();
  if (g.skipped()) return s.may_skip(i) ? Status::Ok() : violated(where + "k_max", s.k_low(i), s.k_high(i), 0);
  if (g.k_max < s.k_low(i) || g.k_max > s.k_high(i)) return violated(where + "k_max", s.k_low(i), s.k_high(i), g.k_max);
  if (g.n_kept() < c.kept_low) return violated(where + "experts kept", c.kept_low, g.n_experts, g.n_kept());
  for (int k = 0; k < g.n_classes; ++k) {
    if (!covers(g.row(k), s.protect(i)))
      return violated(where + "protected experts that are masked", 0, 0, count_bits(without(s.protect(i), g.row(k))));
    if (count_bits(g.row(k)) < g.k_max)
      return violated(where + "experts of a class", g.k_max, g.n_experts, count_bits(g.row(k)));
  }
  for (int e = 0; e < g.n_experts && !g.narrow.empty(); ++e)
    if (g.quarters(e) < c.narrowest) return violated(where + "quarters of a width", c.narrowest, kQuarters, g.quarters(e));
  return Status::Ok();
}

}  // namespace

GenomeTotals totals_of(const GenomeDraft& draft, const SearchSpace& space) {
  GenomeTotals t;
  for (const int i : space.routed()) t.kept += draft.layer(i).n_kept(), t.active += draft.layer(i).k_max;
  return t;
}

bool repair(GenomeDraft& draft, const SearchSpace& space, Rng& rng) { return Repair(draft, space, rng).run(); }

Status satisfies(const Genome& genome, const SearchSpace& space) {
  MOE_TRY(validate(topology_of(genome, space.shape()), space.shape()));
  const Constraints& c = space.constraints();
  if (genome.classes->value.n_classes > c.classes) return violated("classes", 1, c.classes, genome.classes->value.n_classes);
  for (const int i : space.routed()) MOE_TRY(satisfies_layer(genome.layers[static_cast<size_t>(i)]->value, i, space));
  const GenomeTotals t = totals_of(GenomeDraft(genome), space);
  const auto outside = [](const std::optional<IntRange>& r, int64_t n) { return r && (n < r->low || n > r->high); };
  if (outside(c.kept, t.kept)) return violated("experts kept", c.kept->low, c.kept->high, t.kept);
  if (outside(c.active, t.active)) return violated("sum of k_max", c.active->low, c.active->high, t.active);
  return Status::Ok();
}

}  // namespace moe
