// A picture to draw charts on: 8-bit RGB, anti-aliased lines, rectangles and text in a font of strokes, so that letters of any
// size need nothing but lines. canvas_font.cpp has the letters.
//
// Coordinates are pixels from the upper left corner; the middle of the first pixel is (0.5, 0.5).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace moe::tools {

struct Color {
  uint8_t r = 0, g = 0, b = 0;
  bool operator==(const Color&) const = default;
};
// t of the way from a to b, 0 to 1.
Color mix(Color a, Color b, double t);

struct Point {
  double x = 0, y = 0;
};

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

// Where text lies to its point: begins, is centred or ends there. Vertical text is read from below.
enum class Align : uint8_t { kBegin, kCenter, kEnd };
struct TextStyle {
  double size = 14;  // pixels from line to line
  Color color = {};
  Align align = Align::kBegin;
  bool vertical = false;
  double weight = 1;  // of the strokes; 1.6 is bold
};

class Canvas {
 public:
  // 1 to kMostSide pixels each.
  static constexpr int kMostSide = 16384;
  Canvas(int width, int height, Color background);

  int width() const { return width_; }
  int height() const { return height_; }
  const std::vector<uint8_t>& pixels() const { return pixels_; }  // (height, width, 3)
  Color at(int x, int y) const;

  // Nothing is drawn outside of the box until the next call.
  void clip(const Box& box);
  void clip_nothing();

  // `alpha` is 0 to 1 in all that draws. What is not finite is not drawn.
  void fill(const Box& box, Color color, double alpha = 1);
  void frame(const Box& box, Color color);  // one pixel wide, inside of the box
  // A line through the points with round ends and corners; where it crosses itself it is no darker.
  void line(std::span<const Point> points, double width, Color color, double alpha = 1);
  void dot(Point center, double radius, Color color);
  // Characters other than printable ASCII are drawn as '?'. `at` is the middle of the text's height.
  void text(Point at, std::string_view ascii, const TextStyle& style);
  static double text_width(std::string_view ascii, double size);

 private:
  // How much of each pixel of a rectangle is covered, 0 to 1.
  struct Mask {
    int left = 0, top = 0, width = 0, height = 0;
    std::vector<float> cover;  // (height, width)
  };
  Mask mask_for(std::span<const Point> points, double margin) const;
  static void cover_segment(Mask& mask, Point a, Point b, double radius);
  void blend(const Mask& mask, Color color, double alpha);
  void blend(int x, int y, Color color, double alpha);

  int width_, height_;
  Box clip_;
  std::vector<uint8_t> pixels_;
};

// A letter: strokes through points of a grid 12 units high from top to baseline, 16 to the lowest descender.
struct Glyph {
  double advance = 0;        // to the next letter, in units
  std::string_view strokes;  // of pairs of characters x y, a = 0, b = 1 …; blanks between strokes
};
inline constexpr double kGlyphUnits = 18;  // of a line of text
const Glyph& glyph_of(char c);

}  // namespace moe::tools
