#include "models/carving.h"

#include <algorithm>
#include <numeric>

namespace moe {
namespace {

using Shape = RoutingShape::Layer;

size_t index(int i) { return static_cast<size_t>(i); }

bool runs(const LayerRouting& r, int e) {  // for some class; whom a redirect leads to is allowed there too
  for (size_t i = index(e); i < r.allow.size(); i += index(r.n_experts))
    if (r.allow[i]) return true;
  return false;
}

bool may_be_chosen(const LayerRouting& r, int e) { return runs(r, e) || (!r.redirect.empty() && r.redirect[index(e)] >= 0); }

int width_of(const LayerRouting& r, const Shape& shape, int e) { return r.width.empty() ? shape.d_ff : r.width[index(e)]; }

// --- Groups of group-limited routing ---

struct Groups {
  int n = 1, topk = 1;
  bool drop_empty = false;  // those without an expert that may be chosen
};

int chosen_in_group(const LayerRouting& r, int first, int length) {
  int n = 0;
  for (int e = first; e < first + length; ++e) n += may_be_chosen(r, e);
  return n;
}

// The file states one number of groups for all layers.
Groups groups_left(const RoutingTopology& t, const RoutingShape& shape) {
  Groups all;
  int most = 0, least = 0;
  for (size_t i = 0; i < t.layers.size(); ++i) {
    const Shape& s = shape.layers[i];
    if (t.layers[i].k_max == 0) continue;
    all.n = s.n_group, all.topk = s.topk_group;
    const int length = s.n_experts / s.n_group;
    int left = 0;
    for (int g = 0; g < s.n_group; ++g) left += chosen_in_group(t.layers[i], g * length, length) > 0;
    most = std::max(most, left), least = least == 0 ? left : std::min(least, left);
  }
  if (most == 0 || most != least) return all;
  return {most, std::min(all.topk, most), true};
}

// Rows that stay, ascending. Short groups are filled up with the first of their rows that nobody may choose.
std::vector<int32_t> rows_left(const LayerRouting& r, const Shape& shape, const Groups& groups) {
  const int length = shape.n_experts / shape.n_group;
  int longest = 0;
  for (int g = 0; g < shape.n_group; ++g) longest = std::max(longest, chosen_in_group(r, g * length, length));
  std::vector<int32_t> rows;
  for (int g = 0; g < shape.n_group; ++g) {
    const int chosen = chosen_in_group(r, g * length, length);
    if (groups.drop_empty && chosen == 0) continue;
    int spare = groups.n > 1 ? longest - chosen : 0;
    for (int e = g * length; e < (g + 1) * length; ++e)
      if (may_be_chosen(r, e) || spare-- > 0) rows.push_back(e);
  }
  return rows;
}

// --- One layer ---

CarvedLayer carve_layer(const LayerRouting& r, const Shape& shape, const Groups& groups) {
  CarvedLayer c;
  c.rows = rows_left(r, shape, groups);
  for (const int32_t e : c.rows) {
    const bool stays = runs(r, e);
    c.layout.place.push_back(stays ? static_cast<int32_t>(c.experts.size()) : -1);
    if (!stays) continue;
    c.experts.push_back(shape.place.empty() ? e : shape.place[index(e)]);
    c.layout.d_ff = std::max(c.layout.d_ff, width_of(r, shape, e));
  }
  c.layout.n = static_cast<int>(c.experts.size()), c.layout.rows = static_cast<int>(c.rows.size());
  if (c.layout.n == c.layout.rows) c.layout.place.clear();
  return c;
}

// Every number that an empty vector would stand for too.
template <class T>
void clear_neutral(std::vector<T>& values, T neutral) {
  if (std::all_of(values.begin(), values.end(), [&](T v) { return v == neutral; })) values.clear();
}

LayerRouting carve_routing(const LayerRouting& r, const CarvedLayer& c, const Shape& shape, int n_classes) {
  LayerRouting to;
  to.n_experts = c.layout.rows;
  to.k_min = r.threshold > 0 ? r.k_min : r.k_max, to.k_max = r.k_max;
  to.threshold = to.k_min < to.k_max ? r.threshold : 0;
  to.temperature = r.temperature;
  for (int k = 0; k < n_classes; ++k)
    for (const int32_t e : c.rows) to.allow.push_back(r.allow[index(k) * index(r.n_experts) + index(e)]);
  std::vector<int32_t> row_of(index(r.n_experts), -1);
  for (size_t i = 0; i < c.rows.size(); ++i) row_of[index(c.rows[i])] = static_cast<int32_t>(i);
  for (const int32_t e : c.rows) {
    if (!r.bias.empty()) to.bias.push_back(r.bias[index(e)]);
    const int32_t target = r.redirect.empty() ? -1 : r.redirect[index(e)];
    to.redirect.push_back(target < 0 ? -1 : row_of[index(target)]);
    to.width.push_back(runs(r, e) ? width_of(r, shape, e) : c.layout.d_ff);
  }
  clear_neutral(to.bias, 0.0f), clear_neutral(to.redirect, -1), clear_neutral(to.width, c.layout.d_ff);
  return to;
}

// Classes whose masks are the same in every layer need not be told apart.
void merge_equal_classes(RoutingTopology& t) {
  for (const LayerRouting& r : t.layers)
    for (size_t i = index(r.n_experts); i < r.allow.size(); ++i)
      if (r.allow[i] != r.allow[i - index(r.n_experts)]) return;
  t.n_classes = 1;
  t.token_class.clear();
  for (LayerRouting& r : t.layers) r.allow.resize(index(r.n_experts));
}

}  // namespace

Carving carve(const RoutingTopology& t, const RoutingShape& shape) {
  const Groups groups = groups_left(t, shape);
  Carving c;
  c.shape.n_vocab = shape.n_vocab;
  c.topology.n_classes = t.n_classes, c.topology.token_class = t.token_class, c.topology.note = t.note;
  for (size_t i = 0; i < t.layers.size(); ++i) {
    c.layers.emplace_back(), c.shape.layers.emplace_back(), c.topology.layers.emplace_back();
    const LayerRouting& r = t.layers[i];
    const Shape& s = shape.layers[i];
    if (r.k_max == 0) continue;  // dense, or skipped and so left without routed experts
    CarvedLayer& layer = c.layers.back();
    layer = carve_layer(r, s, groups);
    c.shape.layers.back() = {layer.layout.rows, r.k_max,     layer.layout.d_ff, s.width_step,
                             groups.n,          groups.topk, layer.layout.place};
    c.topology.layers.back() = carve_routing(r, layer, s, t.n_classes);
  }
  merge_equal_classes(c.topology);
  clear_neutral(c.topology.token_class, uint8_t{0});
  return c;
}

}  // namespace moe
