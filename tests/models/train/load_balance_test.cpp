#include "models/train/load_balance.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/rng.h"

namespace moe {
namespace {

using Uses = std::vector<uint32_t>;

// Uses of one step of 256 tokens that take the 2 best of 8 experts by score + bias. The router likes some experts more.
Uses step(const std::vector<float>& bias, Rng& rng) {
  const size_t n = bias.size();
  std::vector<int32_t> ids;
  for (int t = 0; t < 256; ++t) {
    std::vector<std::pair<float, int32_t>> order;
    for (size_t e = 0; e < n; ++e) {
      const float logit = rng.normal() + 0.4f * static_cast<float>(e);
      order.push_back({1 / (1 + std::exp(-logit)) + bias[e], static_cast<int32_t>(e)});
    }
    std::partial_sort(order.begin(), order.begin() + 2, order.end(), std::greater<>());
    ids.push_back(order[0].second), ids.push_back(order[1].second);
  }
  Uses uses(n);
  count_uses(ids, uses);
  return uses;
}

}  // namespace

TEST_CASE("uses count the slots of each expert, not the empty ones") {
  Uses uses = {10, 0, 0};
  count_uses(std::vector<int32_t>{0, 2, -1, 2, -1, 0}, uses);
  CHECK(uses == Uses{12, 0, 2});
  CHECK_THROWS_AS(count_uses(std::vector<int32_t>{3}, uses), BugError);
}

TEST_CASE("a bias moves by the speed towards the mean, and stays at the mean") {
  std::vector<float> bias = {1, 2, 3, 4};
  update_selection_bias(Uses{10, 2, 6, 6}, 0.5f, bias);
  CHECK(bias == std::vector<float>{0.5f, 2.5f, 3, 4});
  update_selection_bias(Uses{0, 0, 0, 0}, 0.5f, bias);
  CHECK(bias == std::vector<float>{0.5f, 2.5f, 3, 4});
  std::vector<float> third = {0, 0, 0};  // a mean of 1/3
  update_selection_bias(Uses{1, 0, 0}, 1, third);
  CHECK(third == std::vector<float>{-1, 1, 1});
}

TEST_CASE("biases even out a router that prefers some experts") {
  std::vector<float> bias(8, 0.0f);
  Rng rng(3);
  UsageMonitor before({8}, {.window = 50}), after({8}, {.window = 50});
  for (int i = 0; i < 1500; ++i) {
    const Uses uses = step(bias, rng);
    if (i < 50) before.add(0, uses);
    after.add(0, uses);
    update_selection_bias(uses, kBiasSpeed, bias);
  }
  CHECK(before.usage(0).variation > 0.6);
  CHECK_FALSE(before.usage(0).over.empty());
  CHECK(after.usage(0).variation < 0.1);
  CHECK(after.usage(0).over.empty());
  CHECK(after.usage(0).under.empty());
}

TEST_CASE("usage of a layer is that of the last steps of the window") {
  UsageMonitor m({2, 0, 3}, {.window = 2});
  CHECK(m.n_layers() == 3);
  CHECK(m.usage(0).steps == 0);
  CHECK(m.usage(0).share == std::vector<double>{0, 0});
  CHECK(m.usage(1).uses.empty());
  m.add(0, Uses{100, 0});
  CHECK(m.usage(0).entropy == 0);
  CHECK(m.usage(0).variation == 1);
  m.add(0, Uses{1, 1}), m.add(0, Uses{2, 4});
  const LayerUsage u = m.usage(0);
  CHECK(u.steps == 2);
  CHECK(u.uses == std::vector<uint64_t>{3, 5});
  CHECK(u.share == std::vector<double>{0.375, 0.625});
  CHECK(u.variation == doctest::Approx(0.25));
  CHECK(u.entropy == doctest::Approx(-(0.375 * std::log2(0.375) + 0.625 * std::log2(0.625))));
  CHECK(m.usage(2).steps == 0);
}

TEST_CASE("even use has no variation and full entropy") {
  UsageMonitor m({4, 1}, {});
  m.add(0, Uses{7, 7, 7, 7}), m.add(1, Uses{9});
  for (const size_t layer : {0, 1}) {
    CHECK(m.usage(layer).variation == 0);
    CHECK(m.usage(layer).entropy == doctest::Approx(1));
    CHECK(m.usage(layer).over.empty());
    CHECK(m.usage(layer).under.empty());
  }
}

// Utilisation 0.7 · uses / mean, told above 1.0 and below 0.4: from 1.43 and up to 0.57 times the mean.
TEST_CASE("experts further than the threshold from the target utilisation are over or under") {
  UsageMonitor m({6}, {});
  m.add(0, Uses{100, 142, 144, 100, 56, 58});
  CHECK(m.usage(0).over == std::vector<int>{2});
  CHECK(m.usage(0).under == std::vector<int>{4});
}

TEST_CASE("a restored monitor goes on as the saved one") {
  for (const int steps : {0, 1, 3, 4, 9}) {
    UsageMonitor a({3, 0, 2}, {.window = 4}), b = a;
    const auto add = [](UsageMonitor& m, int i) {
      const auto n = static_cast<uint32_t>(i);
      m.add(0, Uses{n, 2 * n, 7}), m.add(1, Uses{}), m.add(2, Uses{1, n * n});
    };
    for (int i = 0; i < steps; ++i) add(a, i);
    b.add(0, Uses{5, 5, 5});
    REQUIRE(b.restore(a.save()).ok());
    for (int i = steps; i < steps + 6; ++i) {
      CHECK(a.save() == b.save());
      for (const size_t layer : {0, 1, 2}) CHECK(a.usage(layer).uses == b.usage(layer).uses);
      add(a, i), add(b, i);
    }
  }
}

TEST_CASE("a monitor refuses what it cannot have saved, and stays as it was") {
  UsageMonitor m({3, 2}, {.window = 4});
  m.add(0, Uses{1, 2, 3}), m.add(1, Uses{4, 5});
  const Uses good = m.save();
  CHECK(good == Uses{1, 1, 2, 3, 1, 4, 5});
  for (size_t n = 0; n < good.size(); ++n) {
    const Uses prefix(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK(m.restore(prefix).code() == StatusCode::kCorrupt);
  }
  Uses longer = good;
  longer.push_back(0);
  CHECK(m.restore(longer).message() == "usage: wanted 2 layers, found 1 numbers more");
  Uses huge = good;
  huge[0] = 0xffffffffu;
  CHECK(m.restore(huge).message() == "usage of layer 0: wanted at most 4 steps, found 4294967295");
  CHECK(m.save() == good);
}

TEST_CASE("usage targets are checked") {
  CHECK(validate(UsageTargets{}).ok());
  CHECK(validate(UsageTargets{.window = 0}).message() == "usage window: wanted 1 step or more, found 0");
  CHECK_FALSE(validate(UsageTargets{.target = 0}).ok());
  CHECK_FALSE(validate(UsageTargets{.target = 1.5}).ok());
  CHECK_FALSE(validate(UsageTargets{.threshold = std::nan("")}).ok());
}

}  // namespace moe
