// Lines are drawn by distance: a pixel is covered as far as its middle lies inside of the stroke. All segments of a line go
// into one mask, of which the most counts, so that corners and crossings are no darker than the rest.
#include "tools/canvas.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace moe::tools {
namespace {

constexpr double kStroke = 1.0 / 11;  // width of a letter's strokes by its size

bool is_finite(Point p) { return std::isfinite(p.x) && std::isfinite(p.y); }

uint8_t blended(uint8_t under, uint8_t over, double alpha) {
  return static_cast<uint8_t>(std::lround(under + (static_cast<double>(over) - under) * alpha));
}

double distance_to_segment(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
  const double t = square > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / square, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

// Share of pixel [i, i + 1) that lies in [low, high).
double overlap(int i, double low, double high) {
  return std::clamp(std::min(high, i + 1.0) - std::max(low, i + 0.0), 0.0, 1.0);
}

}  // namespace

Color mix(Color a, Color b, double t) { return {blended(a.r, b.r, t), blended(a.g, b.g, t), blended(a.b, b.b, t)}; }

Canvas::Canvas(int width, int height, Color background) : width_(width), height_(height) {
  MOE_CHECK(width >= 1 && width <= kMostSide && height >= 1 && height <= kMostSide);
  pixels_.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  for (size_t i = 0; i < pixels_.size(); i += 3)
    pixels_[i] = background.r, pixels_[i + 1] = background.g, pixels_[i + 2] = background.b;
  clip_nothing();
}

Color Canvas::at(int x, int y) const {
  MOE_CHECK(x >= 0 && x < width_ && y >= 0 && y < height_);
  const uint8_t* p = &pixels_[(static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)) * 3];
  return {p[0], p[1], p[2]};
}

void Canvas::clip_nothing() { clip_ = {0, 0, static_cast<double>(width_), static_cast<double>(height_)}; }

void Canvas::clip(const Box& box) {
  clip_nothing();
  clip_ = {std::max(clip_.left, box.left), std::max(clip_.top, box.top), std::min(clip_.right, box.right),
           std::min(clip_.bottom, box.bottom)};
}

// (x, y) lies on the canvas.
void Canvas::blend(int x, int y, Color color, double alpha) {
  uint8_t* p = &pixels_[(static_cast<size_t>(y) * static_cast<size_t>(width_) + static_cast<size_t>(x)) * 3];
  p[0] = blended(p[0], color.r, alpha), p[1] = blended(p[1], color.g, alpha), p[2] = blended(p[2], color.b, alpha);
}

void Canvas::fill(const Box& box, Color color, double alpha) {
  if (!is_finite({box.left, box.top}) || !is_finite({box.right, box.bottom})) return;
  const Box b = {std::max(box.left, clip_.left), std::max(box.top, clip_.top), std::min(box.right, clip_.right),
                 std::min(box.bottom, clip_.bottom)};
  if (b.left >= b.right || b.top >= b.bottom) return;
  for (int y = static_cast<int>(b.top); y < b.bottom; ++y) {
    const double rows = alpha * overlap(y, b.top, b.bottom);
    for (int x = static_cast<int>(b.left); x < b.right; ++x) blend(x, y, color, rows * overlap(x, b.left, b.right));
  }
}

void Canvas::frame(const Box& b, Color color) {
  fill({b.left, b.top, b.right, b.top + 1}, color);
  fill({b.left, b.bottom - 1, b.right, b.bottom}, color);
  fill({b.left, b.top + 1, b.left + 1, b.bottom - 1}, color);
  fill({b.right - 1, b.top + 1, b.right, b.bottom - 1}, color);
}

// Of the points' box, as far as it can be seen.
Canvas::Mask Canvas::mask_for(std::span<const Point> points, double margin) const {
  Box box = {clip_.right, clip_.bottom, clip_.left, clip_.top};
  for (const Point p : points) {
    if (!is_finite(p)) continue;
    box.left = std::min(box.left, p.x - margin), box.right = std::max(box.right, p.x + margin);
    box.top = std::min(box.top, p.y - margin), box.bottom = std::max(box.bottom, p.y + margin);
  }
  Mask mask;
  mask.left = static_cast<int>(std::floor(std::clamp(box.left, clip_.left, clip_.right)));
  mask.top = static_cast<int>(std::floor(std::clamp(box.top, clip_.top, clip_.bottom)));
  mask.width = std::max(0, static_cast<int>(std::ceil(std::clamp(box.right, clip_.left, clip_.right))) - mask.left);
  mask.height = std::max(0, static_cast<int>(std::ceil(std::clamp(box.bottom, clip_.top, clip_.bottom))) - mask.top);
  mask.cover.resize(static_cast<size_t>(mask.width) * static_cast<size_t>(mask.height));
  return mask;
}

void Canvas::cover_segment(Mask& mask, Point a, Point b, double radius) {
  const double reach = radius + 0.5, right = mask.left + mask.width, bottom = mask.top + mask.height;
  const auto first = [](double low, double from, double to) { return static_cast<int>(std::floor(std::clamp(low, from, to))); };
  const int x0 = first(std::min(a.x, b.x) - reach, mask.left, right),
            x1 = first(std::max(a.x, b.x) + reach + 1, mask.left, right);
  const int y0 = first(std::min(a.y, b.y) - reach, mask.top, bottom),
            y1 = first(std::max(a.y, b.y) + reach + 1, mask.top, bottom);
  for (int y = y0; y < y1; ++y) {
    float* row = &mask.cover[static_cast<size_t>(y - mask.top) * static_cast<size_t>(mask.width)];
    for (int x = x0; x < x1; ++x) {
      const double cover = reach - distance_to_segment({x + 0.5, y + 0.5}, a, b);
      if (cover > 0) row[x - mask.left] = std::max(row[x - mask.left], static_cast<float>(std::min({cover, 1.0, 2 * radius})));
    }
  }
}

void Canvas::blend(const Mask& mask, Color color, double alpha) {
  const float* cover = mask.cover.data();
  for (int y = mask.top; y < mask.top + mask.height; ++y) {
    for (int x = mask.left; x < mask.left + mask.width; ++x, ++cover) {
      if (*cover > 0)
        blend(x, y, color, alpha * *cover * overlap(x, clip_.left, clip_.right) * overlap(y, clip_.top, clip_.bottom));
    }
  }
}

void Canvas::line(std::span<const Point> points, double width, Color color, double alpha) {
  Mask mask = mask_for(points, width / 2 + 1);
  for (size_t i = 0; i + 1 < points.size(); ++i) {
    if (is_finite(points[i]) && is_finite(points[i + 1])) cover_segment(mask, points[i], points[i + 1], width / 2);
  }
  blend(mask, color, alpha);
}

void Canvas::dot(Point center, double radius, Color color) {
  if (!is_finite(center)) return;
  Mask mask = mask_for({&center, 1}, radius + 1);
  cover_segment(mask, center, center, radius);
  blend(mask, color, 1);
}

double Canvas::text_width(std::string_view ascii, double size) {
  double units = 0;
  for (const char c : ascii) units += glyph_of(c).advance;
  return units * size / kGlyphUnits;
}

void Canvas::text(Point at, std::string_view ascii, const TextStyle& style) {
  if (!is_finite(at)) return;
  const double scale = style.size / kGlyphUnits, width = text_width(ascii, style.size);
  const double shift = style.align == Align::kBegin ? 0 : style.align == Align::kCenter ? width / 2 : width;
  double pen = -shift;
  // (along, down) of the unturned text, from `at`; letters are centred on their 12 units above the baseline.
  const auto place = [&](double along, double down) -> Point {
    return style.vertical ? Point{at.x + down, at.y - along} : Point{at.x + along, at.y + down};
  };
  const double half = style.size;
  const Point corners[] = {place(-shift - half, -half), place(width - shift + half, half)};
  Mask mask = mask_for(corners, 1);
  const double radius = std::max(1.0, style.size * kStroke) * style.weight / 2;
  for (const char c : ascii) {
    const Glyph& glyph = glyph_of(c);
    const auto unit = [](char digit) { return digit - 'a'; };
    const auto point = [&](size_t i) {
      return place(pen + unit(glyph.strokes[i]) * scale, (unit(glyph.strokes[i + 1]) - 6) * scale);
    };
    for (size_t i = 0; i + 1 < glyph.strokes.size(); i += 2) {
      if (glyph.strokes[i] == ' ') ++i;
      const bool goes_on = i + 3 < glyph.strokes.size() && glyph.strokes[i + 2] != ' ';
      const bool alone = (i == 0 || glyph.strokes[i - 1] == ' ') && !goes_on;
      if (goes_on || alone) cover_segment(mask, point(i), point(goes_on ? i + 2 : i), radius);
    }
    pen += glyph.advance * scale;
  }
  blend(mask, style.color, 1);
}

}  // namespace moe::tools
