#include "tools/chart.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "tools/common.h"

namespace moe::tools {

bool can_draw(double x) { return std::fabs(x) <= kMostValue; }

void Range::add(double x) {
  if (can_draw(x)) low = std::min(low, x), high = std::max(high, x);
}

Range padded(const Range& range, double share) {
  if (range.empty()) return {0, 1};
  const double size = std::max(std::fabs(range.low), std::fabs(range.high));
  // Ticks of numbers that differ only in their last digits would be equal.
  const double least = std::max(1e-9 * size, size == 0 ? 1 : 1e-30);
  const double pad = std::max(share * range.length(), range.length() < least ? std::max(least, 0.05 * size) : 0);
  return {range.low - pad, range.high + pad};
}

Range robust_range(const std::vector<Point>& points) {
  std::vector<double> values;
  for (const Point p : points) {
    if (can_draw(p.y)) values.push_back(p.y);
  }
  std::sort(values.begin(), values.end());
  Range range;
  if (values.empty()) return range;
  const size_t cut = values.size() / 200;
  range.add(values[cut]), range.add(values[values.size() - 1 - cut]);
  return range;
}

double tick_step(double length, int most) {
  const double least = length / std::max(1, most);
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

std::vector<double> ticks_of(const Range& range, double step) {
  constexpr int kMost = 200;
  std::vector<double> ticks;
  const double first = std::ceil(range.low / step - 1e-9);
  for (int i = 0; i < kMost && (first + i) * step <= range.high + 1e-9 * step; ++i) ticks.push_back((first + i) * step);
  return ticks;
}

std::string tick_text(double value, double step) {
  struct Unit {
    double size;
    const char* name;
  };
  constexpr double kLong = 1e7;
  constexpr Unit kUnits[] = {{1e12, " T"}, {1e9, " B"}, {1e6, " M"}};
  if (std::fabs(value) < step / 2) return "0";
  const double size = std::max(std::fabs(value), step);
  if (size >= 1e15 || size < 1e-3) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
  }
  for (const Unit& unit : kUnits) {
    // By the step, so that one axis has one unit; by the number where that would be long.
    if (20 * step < unit.size && (size < kLong || size < unit.size)) continue;
    const int digits = static_cast<int>(std::clamp(std::ceil(-std::log10(step / unit.size) - 1e-9), 0.0, 6.0));
    return format_fixed(value / unit.size, digits) + unit.name;
  }
  if (step >= 1) return format_grouped(std::llround(value));
  return format_fixed(value, static_cast<int>(std::clamp(std::ceil(-std::log10(step) - 1e-9), 0.0, 9.0)));
}

std::string cut_to_width(const std::string& text, double size, double width) {
  if (Canvas::text_width(text, size) <= width) return text;
  std::string cut = text.substr(0, 1000);
  while (!cut.empty() && Canvas::text_width(cut + "...", size) > width) cut.pop_back();
  return cut + "...";
}

void draw_title(Canvas& canvas, const Box& plot, const std::string& title, double room) {
  canvas.text({plot.left, plot.top - 12}, cut_to_width(title, kTitleSize, room),
              {.size = kTitleSize, .color = ink::kText, .weight = 1.3});
}

void draw_side_label(Canvas& canvas, Point end, const std::string& text) {
  canvas.text(end, cut_to_width(text, kTextSize, end.x - 4), {.size = kTextSize, .color = ink::kFaint, .align = Align::kEnd});
}

std::vector<Point> thinned(const std::vector<Point>& pixels) {
  std::vector<Point> out;
  for (size_t i = 0; i < pixels.size();) {
    const double column = std::floor(pixels[i].x);
    size_t low = i, high = i, end = i + 1;
    const bool gap = !std::isfinite(pixels[i].y);
    for (; !gap && end < pixels.size() && std::floor(pixels[end].x) == column && std::isfinite(pixels[end].y); ++end) {
      if (pixels[end].y < pixels[low].y) low = end;
      if (pixels[end].y > pixels[high].y) high = end;
    }
    size_t kept[] = {i, std::min(low, high), std::max(low, high), end - 1};
    for (size_t* k = kept; k != std::end(kept); ++k) {
      if (k == kept || *k != k[-1]) out.push_back(pixels[*k]);
    }
    i = end;
  }
  return out;
}

// Sums over a window come from sums within blocks of its length, forwards and backwards: a window is the end of one block and
// the start of the next. Running sums over all points would lose their digits for good at the first spike.
std::vector<Point> smoothed(const std::vector<Point>& points, size_t window) {
  std::vector<Point> kept;
  std::copy_if(points.begin(), points.end(), std::back_inserter(kept), [](Point p) { return can_draw(p.y); });
  const size_t n = kept.size(), half = window / 2, block = 2 * half + 1;
  std::vector<double> forwards(n), backwards(n);
  for (size_t i = 0; i < n; ++i) forwards[i] = kept[i].y + (i % block == 0 ? 0 : forwards[i - 1]);
  for (size_t i = n; i-- > 0;) backwards[i] = kept[i].y + (i + 1 == n || (i + 1) % block == 0 ? 0 : backwards[i + 1]);
  std::vector<Point> out = kept;
  for (size_t i = 0; i < n; ++i) {
    // Where a run begins it falls too fast for a mean of one side; where it ends one side is better than noise.
    const size_t before = std::min(half, i), after = std::min(before, n - 1 - i), first = i - before, last = i + after;
    double sum = 0;
    if (after < half)
      for (size_t j = first; j <= last; ++j) sum += kept[j].y;
    else
      sum = first % block == 0 ? forwards[last] : backwards[first] + forwards[last];
    out[i].y = sum / static_cast<double>(last - first + 1);
  }
  return out;
}

// --- Axes ---

namespace {

constexpr double kGap = std::numeric_limits<double>::quiet_NaN();

// As many ticks as have room for their labels.
double fitting_step(const Range& range, double pixels) {
  for (int most = static_cast<int>(pixels / 60);; --most) {
    const double step = std::max(1.0, tick_step(range.length(), most));  // steps of training are whole
    double widest = 0;
    for (const double tick : ticks_of(range, step))
      widest = std::max(widest, Canvas::text_width(tick_text(tick, step), kTextSize));
    if (most <= 1 || step >= range.length() || widest + 20 <= step / range.length() * pixels) return step;
  }
}

}  // namespace

void Axes::draw_x_labels(Canvas& canvas, bool grid) const {
  const double step = fitting_step(x_, plot_.width());
  for (const double tick : ticks_of(x_, step)) {
    const double x = std::round(column(tick));
    if (grid) canvas.fill({x, plot_.top, x + 1, plot_.bottom}, ink::kGrid);
    canvas.fill({x, plot_.bottom, x + 1, plot_.bottom + 5}, ink::kFrame);
    const std::string text = tick_text(tick, step);
    const double half = Canvas::text_width(text, kTextSize) / 2;
    const double middle = std::min(x + 0.5, canvas.width() - 4 - half);
    canvas.text({middle, plot_.bottom + 15}, text, {.size = kTextSize, .color = ink::kFaint, .align = Align::kCenter});
  }
}

void Axes::draw(Canvas& canvas, const std::string& title) const {
  canvas.fill(plot_, ink::kPanel);
  const double step = tick_step(y_.length(), std::max(1, static_cast<int>(plot_.height() / 30)));
  for (const double tick : ticks_of(y_, step)) {
    const double y = std::min(std::round(row(tick)), plot_.bottom - 1);
    canvas.fill({plot_.left, y, plot_.right, y + 1}, ink::kGrid);
    draw_side_label(canvas, {plot_.left - 8, y + 0.5}, tick_text(tick, step));
  }
  draw_x_labels(canvas, true);
  canvas.frame(plot_, ink::kFrame);
  draw_title(canvas, plot_, title, plot_.width());
}

void Axes::line(Canvas& canvas, const std::vector<Point>& points, double width, Color color, double alpha) const {
  constexpr size_t kFew = 40;
  const double far = plot_.height() * 100;  // what is far outside must not make endless lines
  std::vector<Point> pixels;
  pixels.reserve(points.size());
  for (const Point p : points)
    pixels.push_back({column(p.x), can_draw(p.y) ? std::clamp(row(p.y), plot_.top - far, plot_.bottom + far) : kGap});
  canvas.clip(plot_);
  canvas.line(thinned(pixels), width, color, alpha);
  canvas.clip_nothing();
  if (points.size() <= kFew) dots(canvas, points, width, color);
}

void Axes::dots(Canvas& canvas, const std::vector<Point>& points, double radius, Color color) const {
  std::vector<Point> pixels;
  for (const Point p : points) {
    const Point at = {column(p.x), row(p.y)};
    if (can_draw(p.y) && at.y >= plot_.top && at.y <= plot_.bottom) pixels.push_back(at);
  }
  for (const Point p : thinned(pixels)) canvas.dot(p, radius, color);
}

// --- Legends ---

namespace {

constexpr double kMark = 22, kBetween = 18, kMostLabel = 240;

std::string label_of(const LegendItem& item) { return cut_to_width(item.label, kTextSize, kMostLabel); }
double item_width(const LegendItem& item) { return kMark + 6 + Canvas::text_width(label_of(item), kTextSize) + kBetween; }

// Which items go into which row, from the first one on.
std::vector<std::vector<size_t>> rows_of(const std::vector<LegendItem>& items, double width) {
  std::vector<std::vector<size_t>> rows(1);
  double used = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const double wanted = item_width(items[i]);
    if (used > 0 && used + wanted > width) rows.emplace_back(), used = 0;
    rows.back().push_back(i), used += wanted;
  }
  return rows;
}

void draw_mark(Canvas& canvas, Point left, const LegendItem& item) {
  const Point line[] = {left, {left.x + kMark, left.y}};
  if (item.mark == LegendItem::Mark::kEvent) {
    canvas.fill({left.x + kMark / 2 - 1, left.y - 8, left.x + kMark / 2 + 1, left.y + 8}, item.color);
    return;
  }
  canvas.line(line, item.mark == LegendItem::Mark::kLine ? 3 : 1.5, item.color);
  if (item.mark == LegendItem::Mark::kDots) canvas.dot({left.x + kMark / 2, left.y}, 4, item.color);
}

}  // namespace

int legend_rows(const std::vector<LegendItem>& items, double width, int most) {
  return std::min(most, static_cast<int>(rows_of(items, width).size()));
}

void draw_legend(Canvas& canvas, const Box& box, const std::vector<LegendItem>& items) {
  std::vector<LegendItem> shown = items;
  const auto most = static_cast<size_t>(std::max(1.0, std::floor(box.height() / kLegendRow)));
  auto rows = rows_of(shown, box.width());
  for (size_t left_out = 1; rows.size() > most; ++left_out) {  // until "and N more" fits too
    if (left_out + 1 > items.size()) return;
    shown.assign(items.begin(), items.end() - static_cast<std::ptrdiff_t>(left_out));
    shown.push_back({.label = "and " + std::to_string(left_out) + " more", .color = ink::kFaint});
    rows = rows_of(shown, box.width());
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    double x = box.left;
    const double y = box.top + (static_cast<double>(r) + 0.5) * kLegendRow;
    for (const size_t i : rows[r]) {
      draw_mark(canvas, {x, y}, shown[i]);
      canvas.text({x + kMark + 6, y}, label_of(shown[i]), {.size = kTextSize, .color = ink::kText});
      x += item_width(shown[i]);
    }
  }
}

}  // namespace moe::tools
