#include "tools/usage_map.h"

#include <algorithm>
#include <cmath>

namespace moe::tools {
namespace {

constexpr double kEndOctaves = 2;  // a quarter and four times the fair share have the colours of the ends
constexpr Color kUnder{27, 92, 168}, kBelow{121, 176, 216}, kFair{247, 247, 247}, kAbove{240, 145, 104}, kOver{176, 22, 42};
constexpr double kGapOfBands = 3, kScaleWidth = 270;

// Experts [first, end) that lie in pixel row i of n; at least one.
std::pair<size_t, size_t> experts_in(int i, int n, size_t n_experts) {
  const auto at = [&](int row) { return static_cast<size_t>(static_cast<double>(row) / n * static_cast<double>(n_experts)); };
  const size_t first = std::min(at(i), n_experts - 1);
  return {first, std::max(first + 1, std::min(at(i + 1), n_experts))};
}

void draw_scale(Canvas& canvas, Point right) {
  constexpr int kBar = 120;
  const double left = right.x - kBar;
  canvas.text({left - 12, right.y - 10}, "share / fair share", {.size = kTextSize, .color = ink::kFaint, .align = Align::kEnd});
  for (int x = 0; x < kBar; ++x) {
    const double octaves = (2.0 * x / kBar - 1) * kEndOctaves;
    canvas.fill({left + x, right.y - 16, left + x + 1, right.y - 5}, usage_color(std::exp2(octaves)));
  }
  canvas.frame({left, right.y - 16, right.x, right.y - 5}, ink::kFrame);
  const char* const labels[] = {"1/4", "1/2", "1", "2", "4"};
  for (int i = 0; i < 5; ++i)
    canvas.text({left + kBar * i / 4.0, right.y + 4}, labels[i],
                {.size = kTextSize - 2, .color = ink::kFaint, .align = Align::kCenter});
}

}  // namespace

Color usage_color(double ratio) {
  if (std::isnan(ratio)) return ink::kPanel;
  const double t = std::clamp(std::log2(std::max(ratio, 1e-9)) / kEndOctaves, -1.0, 1.0);
  const double half = std::fabs(t) * 2;
  const Color middle = t < 0 ? kBelow : kAbove, end = t < 0 ? kUnder : kOver;
  return half <= 1 ? mix(kFair, middle, half) : mix(middle, end, half - 1);
}

void UsageMap::add(int layer, UsageRow row) {
  Rows& rows = layers_[layer];
  if (!rows.empty() && rows.back().shares.size() != row.shares.size()) rows.clear();
  rows.push_back(std::move(row));
}

double UsageMap::wanted_height() const {
  constexpr double kLeastBand = 28, kRowPixels = 4, kMostHeight = 900;
  double height = 0;
  for (const auto& [layer, rows] : layers_)
    height += std::max(kLeastBand, kRowPixels * static_cast<double>(rows.back().shares.size())) + kGapOfBands;
  return std::min(height, kMostHeight);
}

// A row speaks for the steps since the one before it: a column takes the mean of the rows that end in it, or else the next one.
void UsageMap::draw_band(Canvas& canvas, const Box& band, const Range& steps, const Rows& rows) const {
  const size_t n_experts = rows.back().shares.size();
  const int width = static_cast<int>(band.width()), height = std::max(1, static_cast<int>(band.height()));
  const auto step_at = [&](int x) { return steps.low + steps.length() * x / width; };
  std::vector<double> mean(n_experts);
  size_t next = 0;
  while (next < rows.size() && rows[next].step < step_at(0)) ++next;
  for (int x = 0; x < width && next < rows.size(); ++x) {
    size_t end = next;
    while (end < rows.size() && rows[end].step < step_at(x + 1)) ++end;
    const size_t first = next, last = std::max(end, next + 1);
    std::fill(mean.begin(), mean.end(), 0);
    for (size_t r = first; r < last; ++r) {
      for (size_t e = 0; e < n_experts; ++e) mean[e] += rows[r].shares[e];
    }
    const double fair = static_cast<double>(n_experts) / static_cast<double>(last - first);
    for (int y = 0; y < height; ++y) {
      const auto [e0, e1] = experts_in(y, height, n_experts);
      double share = 0;
      for (size_t e = e0; e < e1; ++e) share += mean[e];
      canvas.fill({band.left + x, band.top + y, band.left + x + 1, std::min(band.top + y + 1, band.bottom)},
                  usage_color(share * fair / static_cast<double>(e1 - e0)));
    }
    next = end;
  }
}

void UsageMap::draw(Canvas& canvas, const Box& plot, const Range& steps, const std::string& title) const {
  const auto most = static_cast<size_t>(std::max(1.0, plot.height() / 2));  // bands of two pixels at least
  const size_t n = std::min(layers_.size(), most);
  const double pitch = plot.height() / static_cast<double>(n), gap = pitch >= 8 ? kGapOfBands : 0;
  const auto labels_apart = static_cast<size_t>(std::ceil(kTextSize / pitch));
  const std::string left_out = n < layers_.size() ? " (the first " + std::to_string(n) + " layers)" : "";
  draw_title(canvas, plot, title + left_out, plot.width() - kScaleWidth);
  draw_scale(canvas, {plot.right, plot.top - 14});
  canvas.fill(plot, ink::kPanel);
  size_t i = 0;
  for (auto layer = layers_.begin(); i < n; ++layer, ++i) {
    const double top = std::round(plot.top + static_cast<double>(i) * pitch);
    const double bottom = std::round(plot.top + static_cast<double>(i + 1) * pitch);
    draw_band(canvas, {plot.left, top, plot.right, i + 1 < n ? bottom - gap : bottom}, steps, layer->second);
    if (i + 1 < n) canvas.fill({plot.left, bottom - gap, plot.right, bottom}, ink::kPaper);
    if (i % labels_apart == 0)
      draw_side_label(canvas, {plot.left - 8, (top + bottom - gap) / 2}, "layer " + std::to_string(layer->first));
  }
}

}  // namespace moe::tools
