// How products are cut for threads: every row once, long runs first, and the same bits for any number of threads where experts
// are many, alone, idle or unevenly long.
#include "backends/cpu/work_split.h"

#include <doctest/doctest.h>

#include "core/rng.h"
#include "tests/backends/cpu/op_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe::cpu {
namespace {

using namespace test;

constexpr int64_t D = 64, F = 96;  // 96 rows: no part gets whole experts

// All outputs of gate_up, then of down on random h, for this routing.
struct Layer {
  int64_t E, K, T;
  std::vector<int32_t> ids;

  std::vector<float> gate_up(int n_threads) const {
    std::vector<OpArgument> a = {floats({kTokens, D}, normals(size(T, D), 1)), ints({kTokens, K}, ids),
                                 weights({E, F, D}, normals(size(E * F, D), 2, 0.2f), DType::kQ8_0),
                                 weights({E, F, D}, normals(size(E * F, D), 3, 0.2f), DType::kQ8_0)};
    std::vector<float> h = run(Op::kMoeGateUp, a, GluAttrs{}, n_threads);
    for (size_t p = 0; p < ids.size(); ++p)  // slots without an expert may hold anything
      if (ids[p] < 0) std::fill_n(h.begin() + static_cast<int64_t>(p) * F, F, 0.0f);
    return h;
  }
  std::vector<float> down(int n_threads) const {
    std::vector<OpArgument> a = {floats({kTokens, K, F}, normals(size(T * K, F), 4)), ints({kTokens, K}, ids),
                                 floats({kTokens, K}, std::vector<float>(ids.size(), 0.5f)),
                                 weights({E, D, F}, normals(size(E * D, F), 5, 0.2f), DType::kQ8_0)};
    return run(Op::kMoeDown, a, ScaleAttrs{}, n_threads);
  }
  std::vector<float> linear(int n_threads) const {
    std::vector<OpArgument> a = {floats({kTokens, D}, normals(size(T, D), 6)), ints({kTokens, K}, ids),
                                 weights({E, F, D}, normals(size(E * F, D), 7, 0.2f), DType::kQ8_0)};
    return run(Op::kMoeLinear, a, NoAttrs{}, n_threads);
  }

 private:
  static size_t size(int64_t a, int64_t b) { return static_cast<size_t>(a * b); }
  std::vector<float> run(Op op, std::vector<OpArgument>& a, const Attrs& attrs, int n_threads) const {
    return run_op(op, a, attrs, OpRun{"", n_threads, false, false, T, 1})[0];
  }
};

void check_same_bits_for_any_thread_count(const Layer& layer) {
  const std::vector<float> h = layer.gate_up(1), y = layer.down(1), z = layer.linear(1);
  for (int threads = 2; threads <= 8; ++threads) {
    CAPTURE(threads);
    CHECK(same_bits(layer.gate_up(threads), h));
    CHECK(same_bits(layer.down(threads), y));
    CHECK(same_bits(layer.linear(threads), z));
  }
}

// Row `token` of a batch alone has the bits it has in the batch.
void check_company_changes_no_bit(const Layer& layer) {
  const std::vector<float> all = layer.linear(2);
  Layer alone = layer;
  alone.T = 1, alone.ids.resize(static_cast<size_t>(layer.K));
  const std::vector<float> first = alone.linear(2);
  CHECK(same_bits(first, {all.begin(), all.begin() + static_cast<int64_t>(first.size())}));
}

Layer random_layer(int64_t E, int64_t K, int64_t T) {
  Rng rng(9);
  Layer layer{E, K, T, {}};
  for (int64_t t = 0; t < T; ++t) {
    const auto first = static_cast<int64_t>(rng.below(static_cast<uint64_t>(E)));
    for (int64_t s = 0; s < K; ++s) layer.ids.push_back(static_cast<int32_t>((first + 7 * s) % E));
  }
  return layer;
}

}  // namespace

TEST_CASE("chunks cover every row once, fall in size, and hold whole grains but for the last") {
  for (const int64_t n : {0, 1, 31, 32, 33, 64, 100, 2048, 6144, 151936})
    for (const int parts : {1, 2, 3, 16, 200})
      for (const int64_t most : {int64_t{1}, int64_t{64}, int64_t{256}, INT64_MAX}) {
        CAPTURE(n);
        CAPTURE(parts);
        CAPTURE(most);
        FallingChunks chunks(n, parts, most);
        int64_t end = 0, last = INT64_MAX;
        for (int64_t task = 0;; ++task) {
          const Range r = chunks.at(task);
          if (r.begin == r.end) break;
          CHECK(r.begin == end);
          CHECK((r.end == n || (r.end - r.begin) % kRowGrain == 0));
          CHECK(r.end - r.begin <= std::min(last, std::max<int64_t>(most, 64)));
          end = r.end, last = r.end - r.begin;
        }
        CHECK(end == n);
      }
}

TEST_CASE("a thread that skips chunks finds those that others leave it") {
  FallingChunks all(6144, 2), some(6144, 2);
  std::vector<Range> list;
  for (int64_t task = 0; task < 14; ++task) list.push_back(all.at(task));
  for (const size_t task : {size_t{0}, size_t{3}, size_t{4}, size_t{11}, size_t{13}}) {
    const Range r = some.at(static_cast<int64_t>(task));
    CHECK(r.begin == list[task].begin);
    CHECK(r.end == list[task].end);
  }
  const Range behind = some.at(100);
  CHECK(behind.begin == behind.end);
}

TEST_CASE("the outputs of a call fit the scratch that holds them") {
  for (int64_t n = 0; n <= kCallTokens; ++n) {
    CHECK(rows_of_call(n) >= kRowGrain);
    CHECK(rows_of_call(n) % kRowGrain == 0);
    CHECK(rows_of_call(n) * n <= kCallFloats);
  }
}

TEST_CASE("a thousand experts of which a few are used give the same bits for 1 to 8 threads") {
  check_same_bits_for_any_thread_count(random_layer(1000, 3, 1));
  check_same_bits_for_any_thread_count(random_layer(1000, 3, 40));
  check_company_changes_no_bit(random_layer(1000, 3, 40));
}

TEST_CASE("one expert a token gives the same bits for 1 to 8 threads") {
  for (const int64_t tokens : {1, 5, 33}) check_same_bits_for_any_thread_count(random_layer(5, 1, tokens));
}

TEST_CASE("all tokens with one expert, in more than one call, give the same bits for 1 to 8 threads") {
  Layer layer{4, 1, 2 * kCallTokens + 9, {}};
  layer.ids.assign(static_cast<size_t>(layer.T), 2);
  check_same_bits_for_any_thread_count(layer);
  check_company_changes_no_bit(layer);
}

TEST_CASE("a batch without any expert reads none and sums to 0") {
  Layer layer{4, 2, 3, std::vector<int32_t>(6, -1)};
  for (const int threads : {1, 2, 5}) {
    for (const float y : layer.down(threads)) CHECK(y == 0);
    for (const float y : layer.linear(threads)) CHECK(y == 0);
    CHECK_FALSE(layer.gate_up(threads).empty());
  }
}

}  // namespace moe::cpu
