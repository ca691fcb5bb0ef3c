// drop_experts and limit_experts on the CPU backend, on every instruction set and with 1 to 3 threads, against the references,
// and by what both promise.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/rng.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"

namespace moe {
namespace {

using namespace test;

// Two classes of tokens: the second may not use experts 1 and 4.
std::vector<OpArgument> tables(int64_t E, int64_t n_tokens) {
  std::vector<int8_t> allow(static_cast<size_t>(2 * E), 1);
  for (const int64_t e : {1, 4})
    if (e < E) allow[static_cast<size_t>(E + e)] = 0;
  std::vector<int32_t> classes;
  for (int64_t t = 0; t < n_tokens; ++t) classes.push_back(static_cast<int32_t>(t % 3 == 1));
  return {bytes({2, E}, allow), ints({kTokens}, classes)};
}

std::vector<OpArgument> drop_arguments(int64_t E, int64_t n_tokens, float p, float seed) {
  std::vector<OpArgument> a = tables(E, n_tokens);
  a.insert(a.begin(), {floats({kTokens, E}, normals(static_cast<size_t>(n_tokens * E), 1)), floats({4}, {p, seed, 0, 0})});
  return a;
}

std::vector<float> dropped_logits(std::vector<OpArgument> a, const DropAttrs& attrs, const OpRun& run) {
  return run_op(Op::kDropExperts, a, attrs, run)[0];
}

OpRun of_tokens(int64_t n) { return {"", 2, true, false, n, 1}; }

// K different experts a token in random order, the last slot of every fourth token unused.
std::vector<OpArgument> limit_arguments(int64_t E, int64_t K, int64_t n_tokens, const std::vector<float>& capacity) {
  Rng rng(9);
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < n_tokens; ++t) {
    std::vector<int32_t> row;
    while (static_cast<int64_t>(row.size()) < K) {
      const auto e = static_cast<int32_t>(rng.below(static_cast<uint64_t>(rng.below(2) ? E : (E + 2) / 3)));  // some are liked
      if (std::count(row.begin(), row.end(), e) == 0) row.push_back(e);
      if (static_cast<int64_t>(row.size()) == E) break;
    }
    row.resize(static_cast<size_t>(K), -1);
    if (t % 4 == 3) row.back() = -1;
    ids.insert(ids.end(), row.begin(), row.end());
  }
  std::vector<float> logits = normals(static_cast<size_t>(n_tokens * E), 2);
  for (size_t i = 5; i < logits.size(); i += 7) logits[i] = kDroppedLogit;
  std::vector<OpArgument> a = tables(E, n_tokens);
  a.insert(a.begin(), {ints({kTokens, K}, ids), floats({kTokens, E}, logits)});
  a.push_back(floats({4}, capacity));
  return a;
}

std::vector<int32_t> limited(std::vector<OpArgument> a, const OpRun& run, int64_t layer = 0) {
  const std::vector<float> ids = run_op(Op::kLimitExperts, a, LimitAttrs{layer}, run)[0];
  return {ids.begin(), ids.end()};
}

std::vector<int32_t> ids_of(const OpArgument& a) {
  const auto* p = reinterpret_cast<const int32_t*>(a.bytes.data());
  return {p, p + a.bytes.size() / sizeof(int32_t)};
}

constexpr float kDrop = 0, kRandom = 1, kNext = 2;

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("drop_experts for every number of experts and share of them") {
  for_each_run([](const OpRun& run) {
    for (const int64_t E : {1, 3, 12, 37})
      for (const float p : {0.0f, 0.3f, 0.9f, 1.0f})
        for (const int64_t keep : {int64_t{1}, std::min<int64_t>(E, 3)})
          check_against_f64(Op::kDropExperts, drop_arguments(E, run.n_tokens, p, 77), DropAttrs{keep, 2}, run, 0);
  });
}

TEST_CASE("limit_experts for every way of overflow, with much room, little and none") {
  for_each_run([](const OpRun& run) {
    for (const auto& [E, K] : {std::pair<int64_t, int64_t>{1, 1}, {6, 3}, {16, 4}, {5, 5}})
      for (const float overflow : {kDrop, kRandom, kNext})
        for (const float factor : {0.0f, 1e-6f, 0.4f, 1.1f, 1e30f})
          check_against_f64(Op::kLimitExperts, limit_arguments(E, K, run.n_tokens, {factor, overflow, 5, 0}), LimitAttrs{1},
                            run, 0);
  });
}

TEST_SUITE_END();

TEST_CASE("drop_experts takes the share it is asked for, and no expert that is needed or masked") {
  constexpr int64_t kExperts = 16, kRows = 500;
  for (const float p : {0.0f, 0.1f, 0.5f, 1.0f})
    for (const int64_t keep : {1, 4, 16}) {
      CAPTURE(p);
      CAPTURE(keep);
      const std::vector<OpArgument> a = drop_arguments(kExperts, kRows, p, 3);
      const std::vector<float> y = dropped_logits(a, {keep, 0}, of_tokens(kRows));
      const std::vector<float> x = a[0].floats();
      int64_t dropped = 0, allowed = 0;
      for (size_t t = 0; t < kRows; ++t) {
        const bool second = t % 3 == 1;
        int64_t stay = 0;
        for (size_t e = 0; e < kExperts; ++e) {
          const bool gone = y[t * kExperts + e] == kDroppedLogit, masked = second && (e == 1 || e == 4);
          CHECK((gone || y[t * kExperts + e] == x[t * kExperts + e]));
          CHECK_FALSE((gone && masked));
          dropped += gone, allowed += !masked, stay += !gone && !masked;
        }
        CHECK(stay >= std::min<int64_t>(keep, second ? 14 : 16));
        if (p == 1) CHECK(stay == std::min<int64_t>(keep, second ? 14 : 16));
      }
      if (keep == 1 && p < 1) CHECK(std::fabs(static_cast<float>(dropped) / static_cast<float>(allowed) - p) < 0.02);
      if (keep == 16) CHECK(dropped == 0);
    }
}

TEST_CASE("seed, layer and row each change what is dropped") {
  const auto draw = [](float seed, int64_t layer) {
    return dropped_logits(drop_arguments(16, 8, 0.5f, seed), {2, layer}, of_tokens(8));
  };
  const std::vector<float> y = draw(1, 0);
  CHECK(y == draw(1, 0));
  CHECK(y != draw(2, 0));
  CHECK(y != draw(1, 1));
  std::set<std::vector<bool>> rows;
  for (size_t t = 0; t < 8; ++t) {
    std::vector<bool> gone;
    for (size_t e = 0; e < 16; ++e) gone.push_back(y[t * 16 + e] == kDroppedLogit);
    rows.insert(gone);
  }
  CHECK(rows.size() == 8);
}

TEST_CASE("an expert takes first choices first and, of equal ones, those of earlier tokens") {
  // 8 slots in use and 4 experts: two slots each.
  const std::vector<int32_t> ids = {0, 1, 1, 0, 0, 1, 0, 3};
  std::vector<float> logits = {4, 3, 1, 2, /**/ 3, 4, 2, 1, /**/ 4, 3, 2, 1, /**/ 4, 1, kDroppedLogit, 3};
  std::vector<OpArgument> a = {ints({kTokens, 2}, ids), floats({kTokens, 4}, logits), bytes({1, 4}, {1, 1, 1, 1}),
                               ints({kTokens}, {0, 0, 0, 0}), floats({4}, {1, kDrop, 0, 0})};
  CHECK(limited(a, of_tokens(4)) == std::vector<int32_t>{0, 1, 1, -1, 0, -1, -1, 3});
  // Token 3 finds nothing: it uses 3, and 2 was dropped for it.
  a[4] = floats({4}, {1, kNext, 0, 0});
  CHECK(limited(a, of_tokens(4)) == std::vector<int32_t>{0, 1, 1, 2, 0, 2, -1, 3});
  a[2] = bytes({1, 4}, {1, 1, 0, 1});
  CHECK(limited(a, of_tokens(4)) == std::vector<int32_t>{0, 1, 1, 3, 0, -1, -1, 3});
}

TEST_CASE("no expert has more slots than its capacity, and no token an expert twice or one that is not its own") {
  constexpr int64_t kExperts = 8, kSlots = 3, kRows = 400;
  for (const float overflow : {kDrop, kRandom, kNext}) {
    CAPTURE(overflow);
    const std::vector<OpArgument> a = limit_arguments(kExperts, kSlots, kRows, {1.25f, overflow, 7, 0});
    const std::vector<int32_t> before = ids_of(a[0]), after = limited(a, of_tokens(kRows));
    const auto in_use = [](const std::vector<int32_t>& ids) {
      return std::count_if(ids.begin(), ids.end(), [](int32_t e) { return e >= 0; });
    };
    const std::vector<float> logits = a[1].floats();
    std::vector<int64_t> count(kExperts), wanted(kExperts);
    int64_t moved = 0;
    for (size_t t = 0; t < kRows; ++t) {
      std::set<int32_t> row;
      for (size_t s = 0; s < kSlots; ++s) {
        const int32_t e = after[t * kSlots + s], own = before[t * kSlots + s];
        if (own >= 0) ++wanted[static_cast<size_t>(own)];
        if (own < 0) CHECK(e < 0);
        if (e < 0) continue;
        ++count[static_cast<size_t>(e)];
        CHECK(row.insert(e).second);
        if (e == own) continue;
        ++moved;
        CHECK(logits[t * kExperts + static_cast<size_t>(e)] > kDroppedLogit);
        CHECK_FALSE((t % 3 == 1 && (e == 1 || e == 4)));
      }
    }
    const auto room = static_cast<int64_t>(std::ceil(1.25 * static_cast<double>(in_use(before)) / kExperts));
    CHECK(*std::max_element(wanted.begin(), wanted.end()) > room);
    CHECK(*std::max_element(count.begin(), count.end()) == room);
    CHECK((moved > 0) == (overflow != kDrop));
    CHECK((in_use(after) == in_use(before)) == (overflow != kDrop));
  }
}

TEST_CASE("re-routing at random depends on seed and layer") {
  const auto ids = [](float seed, int64_t layer) {
    return limited(limit_arguments(8, 3, 60, {1.25f, kRandom, seed, 0}), of_tokens(60), layer);
  };
  CHECK(ids(1, 0) == ids(1, 0));
  CHECK(ids(1, 0) != ids(2, 0));
  CHECK(ids(1, 0) != ids(1, 1));
}

TEST_CASE("route treats dropped experts as masked ones, bit for bit, forward and in reverse") {
  constexpr int64_t kExperts = 12, kRows = 20;
  for (const Gating gating : {Gating::kSoftmax, Gating::kSigmoid, Gating::kSoftmaxSelected}) {
    const RouteAttrs attrs{.n_experts = kExperts, .k_capacity = 3, .gating = gating};
    const OpRun run = of_tokens(kRows);
    const std::vector<OpArgument> a = drop_arguments(kExperts, kRows, 0.6f, 11);
    const std::vector<float> dropped = dropped_logits(a, {3, 0}, run);
    std::vector<int8_t> allow(dropped.size());  // a class for every token
    std::vector<int32_t> classes(kRows);
    for (size_t t = 0; t < kRows; ++t) {
      classes[t] = static_cast<int32_t>(t);
      for (size_t i = t * kExperts; i < (t + 1) * kExperts; ++i) allow[i] = dropped[i] != kDroppedLogit;
    }
    // Biases beyond every score: they must not bring a dropped expert back.
    std::vector<OpArgument> masked = {a[0],
                                      absent(),
                                      floats({8}, {1, 3, 0.1f, 0.8f, 0, 0, 0, 0}),
                                      bytes({kRows, kExperts}, allow),
                                      ints({kTokens}, classes),
                                      floats({kExperts}, normals(kExperts, 3, 4)),
                                      ints({kExperts}, std::vector<int32_t>(kExperts, -1))};
    std::vector<OpArgument> open = masked;
    open[0] = floats({kTokens, kExperts}, dropped);
    open[3] = bytes({kRows, kExperts}, std::vector<int8_t>(allow.size(), 1));
    const auto wanted = run_op(Op::kRoute, masked, attrs, run), found = run_op(Op::kRoute, open, attrs, run);
    CHECK(found == wanted);
    for (auto* in : {&masked, &open})
      in->insert(in->end(), {ints({kTokens, 3}, {found[0].begin(), found[0].end()}), floats({kTokens, 3}, found[1]),
                             floats({kTokens, 3}, normals(kRows * 3, 4)), floats({4}, {0.5f, 0.25f, 0, 0})});
    const auto slopes = run_op(Op::kRouteGrad, open, attrs, run);
    CHECK(slopes == run_op(Op::kRouteGrad, masked, attrs, run));
    for (size_t i = 0; i < dropped.size(); ++i)
      if (dropped[i] == kDroppedLogit) CHECK(slopes[0][i] == 0);
  }
}

}  // namespace moe
