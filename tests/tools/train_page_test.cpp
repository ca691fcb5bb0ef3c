#include "tools/train_page.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "core/file.h"
#include "core/rng.h"
#include "tests/temp_folder.h"
#include "tools/png_file.h"

#if __has_include(<stb/stb_image.h>)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#include <stb/stb_image.h>
#define MOE_DECODES_PNG
#endif

using namespace moe;
using namespace moe::tools;

namespace {

TrainRow event(int64_t step, std::string name) { return {.kind = TrainRowKind::kEvent, .step = step, .name = std::move(name)}; }

// A run of some steps with everything that a page draws.
std::vector<TrainRow> run_of(int n_steps, int n_layers = 2, int n_experts = 4) {
  Rng rng(1);
  std::vector<TrainRow> rows = {event(0, "start")};
  for (int step = 1; step <= n_steps; ++step) {
    const double t = static_cast<double>(step) / n_steps;
    rows.push_back({.step = step,
                    .tokens = 1000.0 * step,
                    .loss = 2 + 6 * std::exp(-8 * t) + 0.1 * rng.normal(),
                    .narrow_loss = 2.2 + 6 * std::exp(-8 * t),
                    .rate = 1e-3 * (1 - t),
                    .grad_norm = 1 + 0.1 * rng.normal()});
    if (step % 10 != 0 && step != n_steps) continue;
    for (const char* name : {"all", "all@width=0.5", "code"})
      rows.push_back({.kind = TrainRowKind::kValid, .step = step, .loss = 2.1 + 6 * std::exp(-8 * t), .name = name});
    for (int layer = 0; layer < n_layers; ++layer) {
      TrainRow row = {.kind = TrainRowKind::kUsage, .step = step, .layer = layer, .value = 0.2};
      row.values.assign(static_cast<size_t>(n_experts), 1.0 / n_experts);
      rows.push_back(row);
    }
    rows.push_back(event(step, "checkpoint"));
  }
  return rows;
}

bool has(const Canvas& c, Color color) {
  for (int y = 0; y < c.height(); ++y) {
    for (int x = 0; x < c.width(); ++x) {
      if (c.at(x, y) == color) return true;
    }
  }
  return false;
}

// Pixels of a line along the page's margins: nothing may run over them.
bool margin_is_clean(const Canvas& c) {
  for (int y = 0; y < c.height(); ++y) {
    if (!(c.at(0, y) == ink::kPaper) || !(c.at(c.width() - 1, y) == ink::kPaper)) return false;
  }
  for (int x = 0; x < c.width(); ++x) {
    if (!(c.at(x, 0) == ink::kPaper) || !(c.at(x, c.height() - 1) == ink::kPaper)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a log becomes curves in the order of steps") {
  std::vector<TrainRow> rows = run_of(20);
  std::swap(rows[1], rows[5]);
  const RunCurves c = curves_of(rows);
  REQUIRE(c.loss.size() == 20);
  for (size_t i = 0; i < 20; ++i) CHECK(c.loss[i].x == static_cast<double>(i + 1));
  REQUIRE(c.valid.size() == 3);
  CHECK(c.valid[1].name == "all@width=0.5");
  CHECK(c.valid[1].points.size() == 2);
  CHECK(c.variation.size() == 2);
  CHECK(c.usage.n_layers() == 2);
  CHECK(c.events.size() == 3);
  CHECK(c.steps.low == 0);
  CHECK(c.steps.high == 20);
}

TEST_CASE("a page can be drawn of any number of rows at any size") {
  for (const int n_steps : {0, 1, 2, 37, 20000}) {
    const RunCurves curves = curves_of(run_of(n_steps));
    for (const auto& [width, height] : {std::pair(1600, 0), std::pair(kLeastWidth, kLeastHeight), std::pair(900, 3000)}) {
      const Canvas page = draw_train_page(curves, {.title = "run", .width = width, .height = height});
      CHECK(page.width() == width);
      if (height > 0) CHECK(page.height() == height);
      CHECK(margin_is_clean(page));
      CHECK(has(page, ink::kPanel));
    }
  }
}

TEST_CASE("numbers that no training has do not stop a page") {
  const double inf = std::numeric_limits<double>::infinity();
  std::vector<TrainRow> rows = run_of(30);
  const double odd[] = {inf, -inf, 1e300, -1e300, 1e29, kAbsent, 0, -0.0, 5e-324};
  for (size_t i = 0; i < std::size(odd); ++i) {
    TrainRow& row = rows[3 + i];
    row.loss = row.narrow_loss = row.rate = row.grad_norm = odd[i];
    rows.push_back(
        {.kind = TrainRowKind::kUsage, .step = 40, .layer = static_cast<int>(i), .value = odd[i], .values = {odd[i]}});
    rows.push_back({.kind = TrainRowKind::kValid, .step = 40, .loss = odd[i], .name = "odd"});
  }
  rows.push_back({.step = std::numeric_limits<int64_t>::max(), .loss = 1});
  rows.push_back(event(std::numeric_limits<int64_t>::max(), "no such event"));
  rows.push_back({.kind = TrainRowKind::kUsage, .step = 41, .layer = std::numeric_limits<int>::max(), .values = {1}});
  const Canvas page = draw_train_page(curves_of(rows), {.title = "\xFF\n odd"});
  CHECK(margin_is_clean(page));
}

TEST_CASE("more names, layers and events than fit are left out and the page stays a page") {
  std::vector<TrainRow> rows = run_of(10);
  for (int i = 0; i < 3000; ++i) {
    rows.push_back({.kind = TrainRowKind::kValid, .step = 10, .loss = 2, .name = "corpus " + std::to_string(i)});
    rows.push_back({.kind = TrainRowKind::kUsage, .step = 10, .layer = i, .value = 0.1, .values = {0.5, 0.5}});
    rows.push_back(event(10, "event " + std::to_string(i)));
  }
  const RunCurves curves = curves_of(rows);
  CHECK(curves.n_valid_left_out > 2900);
  const Canvas page = draw_train_page(curves, {.title = std::string(5000, 'x')});
  CHECK(page.height() < 2000);
  CHECK(margin_is_clean(page));
}

TEST_CASE("the colour of expert use is white when fair, red above, blue below, the end for a dead one") {
  const Color fair = usage_color(1), over = usage_color(3), under = usage_color(1.0 / 3);
  CHECK(fair.r == fair.b);
  CHECK(over.r > over.b + 50);
  CHECK(under.b > under.r + 50);
  CHECK(usage_color(0) == usage_color(0.25));
  CHECK(usage_color(100) == usage_color(4));
  CHECK_FALSE(usage_color(0) == usage_color(0.5));
}

TEST_CASE("a heat map shows who is used, from the step after the row before to the row") {
  UsageMap map;
  map.add(0, {10, {1, 0}});
  map.add(0, {20, {0.5, 0.5}});
  Canvas c(200, 100, ink::kPaper);
  map.draw(c, {100, 40, 200, 80}, {0, 25}, "use");
  CHECK(c.at(120, 45) == usage_color(2));  // the first expert had all until step 10
  CHECK(c.at(120, 75) == usage_color(0));
  CHECK(c.at(160, 45) == usage_color(1));
  CHECK(c.at(190, 45) == ink::kPanel);  // nothing is known after the last row
}

TEST_CASE("a page is written as a PNG that decodes to the same pixels") {
  const test::TempFolder folder;
  const std::string path = folder / "page.png";
  const Canvas page = draw_train_page(curves_of(run_of(50)), {.title = "run", .width = 800});
  const Status written = write_png(page, path);
  if (!can_write_png()) {
    CHECK(written.code() == StatusCode::kUnsupported);
    CHECK(written.message().find("libstb-dev") != std::string::npos);
    return;
  }
  REQUIRE(written.ok());
#ifdef MOE_DECODES_PNG
  int width = 0, height = 0, channels = 0;
  uint8_t* pixels = stbi_load(path.c_str(), &width, &height, &channels, 3);
  REQUIRE(pixels);
  CHECK(width == 800);
  CHECK(height == page.height());
  CHECK(std::equal(page.pixels().begin(), page.pixels().end(), pixels));
  stbi_image_free(pixels);
#endif
  CHECK_FALSE(write_png(page, folder / "no/such/page.png").ok());
}
