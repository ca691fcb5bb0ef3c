#include "tools/canvas.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

using namespace moe::tools;

namespace {

constexpr Color kWhite{255, 255, 255}, kBlack{0, 0, 0}, kRed{255, 0, 0};

// How much ink is in a box of pixels: 1 for a black pixel.
double ink(const Canvas& c, int left, int top, int right, int bottom) {
  double sum = 0;
  for (int y = top; y < bottom; ++y) {
    for (int x = left; x < right; ++x) sum += 1 - c.at(x, y).g / 255.0;
  }
  return sum;
}
double ink(const Canvas& c) { return ink(c, 0, 0, c.width(), c.height()); }

}  // namespace

TEST_CASE("a rectangle covers its pixels, and edges inside of a pixel in part") {
  Canvas c(10, 10, kWhite);
  c.fill({2, 3, 5, 6}, kRed);
  CHECK(c.at(2, 3) == kRed);
  CHECK(c.at(4, 5) == kRed);
  CHECK(c.at(5, 5) == kWhite);
  CHECK(c.at(2, 2) == kWhite);
  c.fill({7.25, 7.5, 8, 8}, kBlack);
  CHECK(ink(c, 7, 7, 8, 8) == doctest::Approx(0.375).epsilon(0.01));
  c.fill({0, 0, 1, 1}, kBlack, 0.25);
  CHECK(ink(c, 0, 0, 1, 1) == doctest::Approx(0.25).epsilon(0.01));
}

TEST_CASE("a frame is one pixel wide and lies inside") {
  Canvas c(8, 8, kWhite);
  c.frame({1, 1, 7, 7}, kBlack);
  CHECK(ink(c) == doctest::Approx(20));
  CHECK(c.at(1, 1) == kBlack);
  CHECK(c.at(6, 6) == kBlack);
  CHECK(c.at(2, 2) == kWhite);
}

TEST_CASE("the ink of a line is its length times its width, whatever its direction") {
  for (const double angle : {0.0, 0.3, 0.8, 1.2, 1.5708}) {
    for (const double width : {1.0, 2.5, 6.0}) {
      Canvas c(100, 100, kWhite);
      const Point a = {20.5, 20.5}, b = {a.x + 60 * std::cos(angle), a.y + 60 * std::sin(angle)};
      const Point points[] = {a, b};
      c.line(points, width, kBlack);
      const double round_ends = 3.14159 / 4 * width * width;
      CHECK(ink(c) == doctest::Approx(60 * width + round_ends).epsilon(0.06));
    }
  }
}

TEST_CASE("a line is no darker where it crosses itself, and has gaps where a number is none") {
  Canvas c(20, 20, kWhite);
  const Point cross[] = {{2, 10.5}, {18, 10.5}, {18, 2}, {10.5, 2}, {10.5, 18}};
  c.line(cross, 1, kBlack, 0.5);
  CHECK(c.at(10, 10) == c.at(5, 10));
  CHECK(ink(c, 5, 10, 6, 11) == doctest::Approx(0.5).epsilon(0.02));

  Canvas gap(20, 20, kWhite);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Point broken[] = {{1, 5.5}, {5, 5.5}, {nan, nan}, {15, 5.5}, {19, 5.5}};
  gap.line(broken, 1, kBlack);
  CHECK(ink(gap, 3, 5, 4, 6) > 0.9);
  CHECK(ink(gap, 7, 0, 13, 20) == 0);
  CHECK(ink(gap, 17, 5, 18, 6) > 0.9);
}

TEST_CASE("nothing is drawn outside of the clip, nor of the canvas") {
  Canvas c(30, 30, kWhite);
  c.clip({10, 10, 20, 20});
  const Point points[] = {{-1e6, -1e6}, {1e6, 1e6}, {1e6, 15}, {-1e6, 15}};
  c.line(points, 3, kBlack);
  c.fill({-5, 12, 500, 13}, kBlack);
  c.dot({10, 10}, 5, kBlack);
  c.text({15, 15}, "wide text", {.size = 40, .align = Align::kCenter});
  CHECK(ink(c, 10, 10, 20, 20) > 20);
  CHECK(ink(c) == ink(c, 10, 10, 20, 20));
  c.clip_nothing();
  c.fill({-10, -10, 1, 1}, kBlack);
  CHECK(c.at(0, 0) == kBlack);
}

TEST_CASE("what is not a number draws nothing") {
  Canvas c(10, 10, kWhite);
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const double bad : {nan, inf, -inf}) {
    const Point points[] = {{bad, 1}, {5, bad}, {bad, bad}};
    c.line(points, 2, kBlack);
    c.fill({bad, 0, 5, 5}, kBlack);
    c.fill({0, 0, 5, bad}, kBlack);
    c.dot({bad, 5}, 3, kBlack);
    c.text({5, bad}, "x", {});
  }
  CHECK(ink(c) == 0);
}

TEST_CASE("every printable character has its own shape and stays in its line") {
  std::string all;
  for (char ch = '!'; ch <= '~'; ++ch) all += ch;
  std::vector<std::vector<uint8_t>> shapes;
  for (const char ch : all) {
    Canvas c(48, 48, kWhite);
    c.text({12, 24}, std::string(1, ch), {.size = 24});
    INFO(ch);
    CHECK(ink(c) > 2);
    CHECK(ink(c, 0, 0, 48, 13) == 0);
    CHECK(ink(c, 0, 40, 48, 48) == 0);
    const double end = 12 + Canvas::text_width(std::string(1, ch), 24);
    CHECK(ink(c, static_cast<int>(std::ceil(end)) + 1, 0, 48, 48) == 0);
    shapes.push_back(c.pixels());
  }
  for (size_t i = 0; i < shapes.size(); ++i) {
    for (size_t j = 0; j < i; ++j) CHECK_MESSAGE(shapes[i] != shapes[j], all[i], " and ", all[j]);
  }
}

TEST_CASE("text begins, is centred or ends at its point, and turns") {
  const auto span = [](const TextStyle& style, bool vertical) {
    Canvas c(200, 200, kWhite);
    c.text({100, 100}, "HHHH", style);
    int first = 200, last = 0;
    for (int i = 0; i < 200; ++i) {
      const double dark = vertical ? ink(c, 0, i, 200, i + 1) : ink(c, i, 0, i + 1, 200);
      if (dark > 0.5) first = std::min(first, i), last = std::max(last, i);
    }
    return std::pair(first, last);
  };
  const double width = Canvas::text_width("HHHH", 20);
  CHECK(span({.size = 20}, false).first == doctest::Approx(100).epsilon(0.02));
  CHECK(span({.size = 20, .align = Align::kEnd}, false).first == doctest::Approx(100 - width).epsilon(0.04));
  CHECK(span({.size = 20, .align = Align::kCenter}, false).first == doctest::Approx(100 - width / 2).epsilon(0.03));
  CHECK(span({.size = 20, .vertical = true}, true).second == doctest::Approx(100).epsilon(0.02));
  CHECK(span({.size = 20, .vertical = true}, true).first == doctest::Approx(100 - width).epsilon(0.1));
}

TEST_CASE("characters without a shape are drawn as question marks") {
  Canvas a(60, 30, kWhite), b(60, 30, kWhite);
  a.text({5, 15}, "\xC3\xBC\n", {.size = 20});
  b.text({5, 15}, "???", {.size = 20});
  CHECK(a.pixels() == b.pixels());
}
