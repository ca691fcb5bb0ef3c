#include "tools/chart.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace moe::tools;

namespace {
constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();
}

TEST_CASE("ticks are 1, 2 or 5 times a power of ten, and no more than asked for") {
  for (double length = 1e-12; length < 1e15; length *= 1.7) {
    for (const int most : {1, 2, 5, 12}) {
      const double step = tick_step(length, most);
      CHECK(length / step <= most * (1 + 1e-6));
      CHECK(length / step > most / 2.6);
      const double mantissa = step / std::pow(10, std::floor(std::log10(step) + 1e-9));
      CHECK((std::fabs(mantissa - 1) < 1e-6 || std::fabs(mantissa - 2) < 1e-6 || std::fabs(mantissa - 5) < 1e-6));
    }
  }
  CHECK(ticks_of({0.1, 1.05}, 0.5) == std::vector<double>{0.5, 1});
  CHECK(ticks_of({-1, 1}, 1) == std::vector<double>{-1, 0, 1});
  CHECK(ticks_of({1e15, 1e15 + 1e12}, 1e-9).size() <= 200);  // steps that vanish beside the numbers
}

TEST_CASE("labels of ticks are as short as their step allows") {
  CHECK(tick_text(0, 0.5) == "0");
  CHECK(tick_text(2.5, 0.5) == "2.5");
  CHECK(tick_text(3, 0.5) == "3.0");
  CHECK(tick_text(-0.25, 0.05) == "-0.25");
  CHECK(tick_text(12000, 1000) == "12,000");
  CHECK(tick_text(1e6, 50000) == "1.00 M");
  CHECK(tick_text(950000, 50000) == "0.95 M");
  CHECK(tick_text(2.5e9, 5e8) == "2.5 B");
  CHECK(tick_text(3e-4, 1e-4) == "0.0003");
  CHECK(tick_text(2e-5, 1e-5) == "2e-05");
  CHECK(tick_text(1e20, 1e19) == "1e+20");
}

TEST_CASE("ranges leave out what cannot be drawn, and padded ones always have a length") {
  Range r;
  for (const double x : {kNan, kInf, -kInf, 1e31, -1e300}) r.add(x);
  CHECK(r.empty());
  CHECK(padded(r, 0.1).length() == 1);
  r.add(3);
  CHECK(padded(r, 0).low < 3);
  CHECK(padded(r, 0).high > 3);
  r.add(5);
  CHECK(padded(r, 0.5).low == 2);
  CHECK(padded(r, 0.5).high == 6);
  for (const double x : {0.0, 1e30, -1e30, 1e-300, 4e15}) {
    const Range p = padded({x, x}, 0);
    CHECK(p.length() > 0);
    CHECK(std::isfinite(p.length()));
  }
}

TEST_CASE("a few spikes do not widen a robust range") {
  std::vector<Point> points;
  for (int i = 0; i < 1000; ++i) points.push_back({static_cast<double>(i), i % 300 == 7 ? 1e6 : 1 + 0.001 * i});
  const Range r = robust_range(points);
  CHECK(r.low >= 1);
  CHECK(r.high < 2.1);
  CHECK(robust_range({{0, 5}, {1, 6}}).high == 6);
  CHECK(robust_range({{0, kNan}}).empty());
}

TEST_CASE("a line of many points is thinned to four a column without losing its ends or extremes") {
  std::vector<Point> points;
  double low = kInf, high = -kInf;
  for (int i = 0; i < 100000; ++i) {
    const double y = std::sin(i * 0.37) * (1 + (i * 7919) % 100);
    points.push_back({i / 1000.0, y});
    low = std::min(low, y), high = std::max(high, y);
  }
  const std::vector<Point> thin = thinned(points);
  CHECK(thin.size() <= 400);
  double thin_low = kInf, thin_high = -kInf;
  for (size_t i = 0; i < thin.size(); ++i) {
    thin_low = std::min(thin_low, thin[i].y), thin_high = std::max(thin_high, thin[i].y);
    if (i > 0) REQUIRE(thin[i].x > thin[i - 1].x);
  }
  CHECK(thin_low == low);
  CHECK(thin_high == high);
  CHECK(thin.front().y == points.front().y);
  CHECK(thin.back().y == points.back().y);
}

TEST_CASE("thinning keeps few points, and gaps") {
  const std::vector<Point> points = {{0.1, 1}, {1.5, 2}, {1.6, kNan}, {1.7, 5}, {2.5, 1}};
  const std::vector<Point> thin = thinned(points);
  REQUIRE(thin.size() == points.size());
  for (size_t i = 0; i < thin.size(); ++i) CHECK(thin[i].x == points[i].x);
  CHECK(thinned({}).empty());
}

TEST_CASE("smoothing keeps a straight line's inside, averages noise and forgets a spike") {
  std::vector<Point> line, noise;
  for (int i = 0; i < 200; ++i) {
    line.push_back({static_cast<double>(i), 2.0 * i});
    noise.push_back({static_cast<double>(i), i % 2 ? 1.0 : 3.0});
  }
  const std::vector<Point> straight = smoothed(line, 10);
  for (size_t i = 0; i < 190; ++i) CHECK(straight[i].y == doctest::Approx(line[i].y));
  const std::vector<Point> flat = smoothed(noise, 40);
  for (size_t i = 40; i < 160; ++i) CHECK(flat[i].y == doctest::Approx(2).epsilon(0.02));
  noise[20].y = 1e25, noise[21].y = kNan;
  const std::vector<Point> after = smoothed(noise, 10);
  CHECK(after.size() == 199);  // without the one that is none
  CHECK(after[150].y == doctest::Approx(2).epsilon(0.1));
}

TEST_CASE("axes put the ends of their ranges at the edges of the plot") {
  const Axes axes({10, 20, 110, 220}, {0, 50}, {1, 3});
  CHECK(axes.column(0) == 10);
  CHECK(axes.column(50) == 110);
  CHECK(axes.row(1) == 220);
  CHECK(axes.row(3) == 20);
}

TEST_CASE("a line of an axis stays inside of the plot") {
  Canvas c(100, 100, ink::kPaper);
  const Axes axes({20, 20, 80, 80}, {0, 10}, {0, 1});
  axes.line(c, {{0, 0.5}, {2, 1e29}, {4, -1e29}, {6, kNan}, {8, kInf}, {10, 0.5}}, 3, {0, 0, 0});
  for (int i = 0; i < 100; ++i) {
    for (const int edge : {0, 18, 81, 99}) {
      CHECK(c.at(i, edge) == ink::kPaper);
    }
  }
  bool drawn = false;
  for (int x = 20; x < 80; ++x) drawn = drawn || c.at(x, 50) != ink::kPaper;
  CHECK(drawn);
}

TEST_CASE("a legend needs the rows that it fills, and says what it leaves out") {
  std::vector<LegendItem> items(12, {.label = "a corpus of text", .color = {200, 0, 0}});
  const int rows = legend_rows(items, 400, 100);
  CHECK(rows == 6);
  CHECK(legend_rows(items, 400, 3) == 3);
  CHECK(legend_rows({}, 400, 3) == 1);
  Canvas whole(400, 200, ink::kPaper), cut(400, 200, ink::kPaper);
  draw_legend(whole, {0, 0, 400, 6 * kLegendRow}, items);
  draw_legend(cut, {0, 0, 400, 2 * kLegendRow}, items);
  CHECK(whole.pixels() != cut.pixels());
  for (int x = 0; x < 400; ++x) CHECK(cut.at(x, static_cast<int>(2 * kLegendRow) + 4) == ink::kPaper);
  items.assign(2, {.label = std::string(100000, 'w'), .color = {}});
  CHECK(legend_rows(items, 400, 9) == 2);  // long labels are cut
}

TEST_CASE("text is cut to the width that there is") {
  CHECK(cut_to_width("short", 15, 200) == "short");
  const std::string cut = cut_to_width(std::string(500, 'x'), 15, 100);
  CHECK(cut.ends_with("x..."));
  CHECK(Canvas::text_width(cut, 15) <= 100);
}
