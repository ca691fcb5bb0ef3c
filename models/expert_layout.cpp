#include "models/expert_layout.h"

#include <algorithm>
#include <string>

namespace moe {
namespace {

constexpr int kMostExperts = 65536, kMostWidth = 1 << 24;
constexpr const char *kCount = "moe.experts.count", *kWidth = "moe.experts.width", *kRows = "moe.experts.rows",
                     *kPlace = "moe.experts.place";

Status bad(const Metadata& m, const char* key, const std::string& wanted, const std::string& found) {
  return Status::Corrupt(m.source() + ": key '" + key + "': wanted " + wanted + ", found " + found);
}

std::string in_layer(size_t i, int64_t value) { return std::to_string(value) + " in layer " + std::to_string(i); }

// One number a layer, 0 to `most`; empty where the key is absent.
Result<std::vector<int32_t>> numbers(const Metadata& m, const char* key, int n_layer, int most) {
  if (!m.has(key)) return std::vector<int32_t>{};
  MOE_ASSIGN(std::vector<int32_t> all, m.get_array<int32_t>(key));
  if (all.size() != static_cast<size_t>(n_layer))
    return bad(m, key, "one number for each of " + std::to_string(n_layer) + " layers", std::to_string(all.size()));
  for (size_t i = 0; i < all.size(); ++i)
    if (all[i] < 0 || all[i] > most) return bad(m, key, "0 to " + std::to_string(most), in_layer(i, all[i]));
  return all;
}

// The rows that have weights must name 0, 1, … in this order.
Status check_places(const Metadata& m, size_t layer, const LayerExperts& experts) {
  int32_t next = 0;
  for (const int32_t p : experts.place) {
    if (p == -1) continue;
    if (p != next) return bad(m, kPlace, std::to_string(next) + " next", in_layer(layer, p));
    ++next;
  }
  if (next == experts.n) return Status::Ok();
  return bad(m, kPlace, "places of " + std::to_string(experts.n) + " experts", in_layer(layer, next));
}

Status read_places(const Metadata& m, std::vector<LayerExperts>& layers) {
  int64_t wanted = 0;
  for (const LayerExperts& l : layers) wanted += l.rows;
  MOE_ASSIGN(const std::vector<int32_t> all, m.get_array<int32_t>(kPlace));
  if (static_cast<int64_t>(all.size()) != wanted)
    return bad(m, kPlace, "one place for each of " + std::to_string(wanted) + " rows", std::to_string(all.size()));
  auto from = all.begin();
  for (size_t i = 0; i < layers.size(); ++i) {
    LayerExperts& l = layers[i];
    l.place.assign(from, from + l.rows);
    from += l.rows;
    MOE_TRY(check_places(m, i, l));
    if (l.rows == l.n) l.place.clear();
  }
  return Status::Ok();
}

}  // namespace

Result<std::vector<LayerExperts>> read_expert_layout(const Metadata& m, int n_layer, int n_expert) {
  std::vector<LayerExperts> layers;
  MOE_ASSIGN(const std::vector<int32_t> counts, numbers(m, kCount, n_layer, kMostExperts));
  MOE_ASSIGN(const std::vector<int32_t> widths, numbers(m, kWidth, n_layer, kMostWidth));
  MOE_ASSIGN(const std::vector<int32_t> rows, numbers(m, kRows, n_layer, kMostExperts));
  if (rows.empty() == m.has(kPlace))
    return bad(m, kPlace, std::string("it beside '") + kRows + "', both or neither", "one of them");
  if (counts.empty() && widths.empty() && rows.empty()) return layers;
  if (n_expert == 0) return bad(m, counts.empty() ? kWidth : kCount, "a model with experts", "a dense one");
  layers.resize(static_cast<size_t>(n_layer));
  for (size_t i = 0; i < layers.size(); ++i) {
    LayerExperts& l = layers[i];
    l.n = counts.empty() ? n_expert : counts[i];
    l.rows = rows.empty() ? l.n : rows[i];
    l.d_ff = widths.empty() ? 0 : widths[i];
    if (l.n > n_expert) return bad(m, kCount, "at most expert_count = " + std::to_string(n_expert), in_layer(i, l.n));
    if (l.rows < l.n) return bad(m, kRows, "at least the experts, " + std::to_string(l.n), in_layer(i, l.rows));
  }
  if (!rows.empty()) MOE_TRY(read_places(m, layers));
  return layers;
}

bool write_expert_layout(const std::vector<LayerExperts>& layers, int n_dense, int n_expert, int d_ff_expert, Metadata& m) {
  for (const char* key : {kCount, kWidth, kRows, kPlace}) m.remove(key);
  std::vector<uint32_t> counts, widths, rows;
  std::vector<int32_t> places;
  bool other_counts = false, other_widths = false, other_rows = false;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LayerExperts& l = layers[i];
    counts.push_back(static_cast<uint32_t>(l.n)), rows.push_back(static_cast<uint32_t>(l.rows));
    widths.push_back(static_cast<uint32_t>(l.n > 0 ? l.d_ff : 0));
    for (int32_t r = 0; r < l.rows; ++r) places.push_back(l.place.empty() ? r : l.place[static_cast<size_t>(r)]);
    other_counts |= l.n != (i < static_cast<size_t>(n_dense) ? 0 : n_expert);
    other_widths |= l.n > 0 && l.d_ff != 0 && l.d_ff != d_ff_expert;
    other_rows |= !l.place.empty();
  }
  if (other_counts || other_rows) m.set(kCount, counts);
  if (other_widths) m.set(kWidth, widths);
  if (other_rows) m.set(kRows, rows), m.set(kPlace, places);
  return other_counts || other_widths || other_rows;
}

}  // namespace moe
