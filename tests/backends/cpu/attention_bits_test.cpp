// What must not change a bit of attention: the batch a query comes in, the threads, what keys hold that it does not see.
#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <span>

#include "tests/backends/cpu/attention_fixture.h"
#include "tests/models/model_fixture.h"

namespace moe {
namespace {

using namespace test;

struct Setting {
  std::string isa;
  int threads;
  bool exact;
};

std::vector<float> run(const AttentionCase& s, AttentionInputs& in, const Setting& how) {
  const auto n = static_cast<int64_t>(in.positions.size());
  return run_op(Op::kAttention, in.arguments, s.a, {how.isa, how.threads, how.exact, false, n, 1})[0];
}

// Tokens [begin, end) of a batch over the same caches.
AttentionInputs part_of(const AttentionInputs& in, size_t begin, size_t end) {
  AttentionInputs part = in;
  const size_t n = in.positions.size();
  for (const size_t i : {0, 1, 2, 5, 6}) {
    std::vector<std::byte>& b = part.arguments[i].bytes;
    const size_t row = b.size() / n;
    b = {b.begin() + static_cast<std::ptrdiff_t>(begin * row), b.begin() + static_cast<std::ptrdiff_t>(end * row)};
  }
  part.positions = {in.positions.begin() + static_cast<std::ptrdiff_t>(begin),
                    in.positions.begin() + static_cast<std::ptrdiff_t>(end)};
  part.slots = {in.slots.begin() + static_cast<std::ptrdiff_t>(begin), in.slots.begin() + static_cast<std::ptrdiff_t>(end)};
  return part;
}

// The batch in pieces of these sizes, one after the other, each over the caches that the last has left.
std::vector<float> run_pieces(const AttentionCase& s, const AttentionInputs& in, const std::vector<size_t>& sizes,
                              const Setting& how) {
  AttentionInputs rest = in;
  std::vector<float> found;
  size_t begin = 0;
  for (const size_t n : sizes) {
    AttentionInputs piece = part_of(rest, begin, begin + n);
    const std::vector<float> y = run(s, piece, how);
    found.insert(found.end(), y.begin(), y.end());
    rest.arguments[3] = piece.arguments[3], rest.arguments[4] = piece.arguments[4];
    begin += n;
  }
  return found;
}

// NaN in every byte: a NaN of each format, and of the scale of q8_0.
void poison(OpArgument& cache, size_t first_row, size_t n_rows, int64_t dim) {
  if (cache.bytes.empty()) return;
  const size_t row = dtype_bytes(cache.dtype, dim);
  std::memset(cache.bytes.data() + first_row * row, 0xff, n_rows * row);
}

std::vector<int32_t> constant(size_t n, int32_t value) { return std::vector<int32_t>(n, value); }

struct Variant {
  AttentionCase s;
  std::string name;
};

// In every format of the cache.
std::vector<Variant> variants(int64_t n_ctx) {
  std::vector<Variant> all;
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0}) {
    const size_t first = all.size();
    all.push_back({shape(8, 1, 64, 64, n_ctx), "group of 8"});
    all.push_back({shape(6, 2, 64, 32, n_ctx), "groups of 3, window and sinks"});
    all.back().s.a.window = 200, all.back().s.sinks = true;
    all.push_back({shape(2, 2, 96, 96, n_ctx), "groups of 1, soft-capped"});
    all.back().s.a.softcap = 2;
    all.push_back({shape(20, 1, 96, 64, n_ctx), "latent, window"});
    all.back().s.latent = true, all.back().s.a.window = 515;
    for (size_t i = first; i < all.size(); ++i) all[i].s.k = all[i].s.v = type;
  }
  return all;
}

template <class F>
void for_settings(F&& f) {
  for (const std::string& isa : runnable_isas())
    for (const bool exact : {true, false}) {
      CAPTURE(isa);
      CAPTURE(exact);
      f(isa, exact);
    }
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("a query's attention has the same bits alone, in any piece of its prompt and for any number of threads") {
  for_settings([](const std::string& isa, bool exact) {
    for (const Variant& v : variants(620)) {
      CAPTURE(v.name);
      CAPTURE(std::string(traits(v.s.k).name));
      const AttentionInputs in = make_inputs(v.s, run_of(495, 30), constant(30, 0));
      AttentionInputs whole = in;
      const std::vector<float> wanted = run(v.s, whole, {isa, 1, exact});
      CHECK(same_bits(run_pieces(v.s, in, {1, 17, 3, 8, 1}, {isa, 3, exact}), wanted));
      CHECK(same_bits(run_pieces(v.s, in, std::vector<size_t>(30, 1), {isa, 2, exact}), wanted));
    }
  });
}

TEST_CASE("a query's attention has the same bits beside other sequences") {
  for_settings([](const std::string& isa, bool exact) {
    for (Variant& v : variants(610)) {
      CAPTURE(v.name);
      CAPTURE(std::string(traits(v.s.k).name));
      v.s.n_slots = 3;
      const AttentionInputs in = make_inputs(v.s, {511, 130, 512, 599, 131, 513, 600, 132}, {2, 0, 2, 1, 0, 2, 1, 0});
      AttentionInputs whole = in;
      const std::vector<float> wanted = run(v.s, whole, {isa, 1, exact});
      for (const int threads : {1, 2, 4}) CHECK(same_bits(run_pieces(v.s, in, {1, 1, 2, 1, 3}, {isa, threads, exact}), wanted));
    }
  });
}

TEST_CASE("keys and values that no query sees may hold anything") {
  for_settings([](const std::string& isa, bool exact) {
    for (const Variant& v : variants(700)) {
      CAPTURE(v.name);
      CAPTURE(std::string(traits(v.s.k).name));
      for (const size_t n : {size_t{1}, size_t{9}}) {
        const int first = 531;
        AttentionInputs clean = make_inputs(v.s, run_of(first, static_cast<int>(n)), constant(n, 0));
        AttentionInputs poisoned = clean;
        const auto before = static_cast<size_t>(v.s.a.window > 0 ? first - v.s.a.window + 1 : 0);
        for (int64_t h = 0; h < v.s.a.n_kv_head; ++h)
          for (const size_t cache : {3, 4}) {
            const int64_t dim = cache == 3 ? v.s.a.head_dim : v.s.a.v_dim;
            const size_t head = cell(v.s, 0, h, 0, 1), end = static_cast<size_t>(first) + n;
            poison(poisoned.arguments[cache], head, before, dim);
            poison(poisoned.arguments[cache], head + end, static_cast<size_t>(v.s.n_ctx) - end, dim);
          }
        const std::vector<float> wanted = run(v.s, clean, {isa, 2, exact});
        CHECK(all_finite(wanted));
        CHECK(same_bits(run(v.s, poisoned, {isa, 2, exact}), wanted));
      }
    }
  });
}

TEST_CASE("a token's infinite or missing numbers reach no query before it") {
  for_settings([](const std::string& isa, bool exact) {
    for (const Variant& v : variants(200)) {
      if (v.s.k == DType::kQ8_0) continue;  // encodes them as finite numbers
      CAPTURE(v.name);
      CAPTURE(std::string(traits(v.s.k).name));
      for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
        for (const size_t last : {size_t{8}, size_t{9}}) {
          AttentionInputs clean = make_inputs(v.s, run_of(120, 20), constant(20, 0));
          AttentionInputs spoiled = clean;
          for (const size_t i : {1, 2}) {
            OpArgument& rows = spoiled.arguments[i];
            if (rows.bytes.empty()) continue;
            auto* x = reinterpret_cast<float*>(rows.bytes.data());
            const size_t row = rows.bytes.size() / sizeof(float) / 20;
            for (size_t e = 0; e < row; ++e) x[last * row + e] = bad;
          }
          const std::vector<float> wanted = run(v.s, clean, {isa, 1, exact}), found = run(v.s, spoiled, {isa, 1, exact});
          const size_t untouched = last * wanted.size() / 20;
          CHECK(same_bits(std::span(found).first(untouched), std::span(wanted).first(untouched)));
          CHECK_FALSE(all_finite(std::span(found).subspan(untouched)));
        }
    }
  });
}

TEST_SUITE_END();

}  // namespace moe
