// What charts are made of: ranges, axes with ticks of 1, 2 and 5, lines of any number of points, legends.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "tools/canvas.h"

namespace moe::tools {

// Greater numbers are errors of who wrote them, and are not drawn.
inline constexpr double kMostValue = 1e30;
bool can_draw(double x);

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double x);  // widens it; what cannot be drawn is left out
  bool empty() const { return !(low <= high); }
  double length() const { return high - low; }
};
// Wider by that share of its length at both ends; wide enough for an axis even if it was empty or a single number.
Range padded(const Range& range, double share);
// Of y, without the 0.5 % of the points at either end: a few spikes do not flatten the rest.
Range robust_range(const std::vector<Point>& points);

// The smallest of 1, 2 and 5 times a power of ten that makes at most `most` steps of the length.
double tick_step(double length, int most);
std::vector<double> ticks_of(const Range& range, double step);
std::string tick_text(double value, double step);  // "0.25", "12,000", "1.5 M"
// Left of a panel; ends there, and begins on the page.
void draw_side_label(Canvas& canvas, Point end, const std::string& text);

// At most four points a pixel column, between which a line looks the same: first, lowest, highest, last. Points are pixels, x
// ascending; one that is not finite makes a gap.
std::vector<Point> thinned(const std::vector<Point>& pixels);
// Means over `window` points around each; what cannot be drawn is left out.
std::vector<Point> smoothed(const std::vector<Point>& points, size_t window);

// Colours of a page.
namespace ink {
inline constexpr Color kPaper{255, 255, 255}, kPanel{248, 249, 251}, kGrid{226, 229, 234}, kFrame{176, 182, 190};
inline constexpr Color kText{40, 44, 52}, kFaint{112, 119, 130};
}  // namespace ink
inline constexpr double kTextSize = 15, kTitleSize = 16;

// The text, or as much of it as fits and "...".
std::string cut_to_width(const std::string& text, double size, double width);
// Above a panel, in the room from its left edge on.
void draw_title(Canvas& canvas, const Box& plot, const std::string& title, double room);

// A panel: data in `x` and `y` is drawn in `plot`, its labels left of it and below it.
class Axes {
 public:
  static constexpr double kLeft = 74, kBelow = 26;  // what labels need

  Axes(const Box& plot, const Range& x, const Range& y) : plot_(plot), x_(x), y_(y) {}

  const Box& plot() const { return plot_; }
  double column(double x) const { return plot_.left + (x - x_.low) / x_.length() * plot_.width(); }
  double row(double y) const { return plot_.bottom - (y - y_.low) / y_.length() * plot_.height(); }

  void draw(Canvas& canvas, const std::string& title) const;  // panel, grid, labels
  void draw_x_labels(Canvas& canvas, bool grid) const;
  // Sorted by x. Few points are dotted as well, so that one alone can be seen.
  void line(Canvas& canvas, const std::vector<Point>& points, double width, Color color, double alpha = 1) const;
  void dots(Canvas& canvas, const std::vector<Point>& points, double radius, Color color) const;

 private:
  Box plot_;
  Range x_, y_;
};

struct LegendItem {
  std::string label;
  Color color = {};
  enum class Mark : uint8_t { kLine, kDots, kEvent } mark = Mark::kLine;
};
// Lines of text that the items need, at most `most`.
int legend_rows(const std::vector<LegendItem>& items, double width, int most);
// As many rows as fit into the box; says how many items did not.
void draw_legend(Canvas& canvas, const Box& box, const std::vector<LegendItem>& items);
inline constexpr double kLegendRow = 22;

}  // namespace moe::tools
