// Matrix products in every instruction set this processor can run. Where multiply-adds are fused the result is known to the
// bit: one chain in ascending k. Matrices lie inside NaN, results between canaries, and scratch begins as NaN.
#include "backends/cpu/gemm.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "backends/cpu/dispatch.h"
#include "core/arena.h"
#include "core/half.h"
#include "core/isa.h"
#include "core/rng.h"

namespace moe::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kCanary = 12345.5f;

std::vector<const KernelTable*> runnable_tables() {
  const CpuFeatures cpu = detect_cpu();
  std::vector<const KernelTable*> tables;
  for (const Isa isa : supported_isas(cpu)) {
    const Result<const KernelTable*> table = kernels_for(isa, cpu);
    REQUIRE_MESSAGE(table.ok(), table.status().message());
    tables.push_back(*table);
  }
  return tables;
}

bool fuses(const KernelTable& k) { return std::string(k.isa) != "scalar"; }
// Sums of f32 words, as opposed to pairs of bfloat16 whose order is the processor's.
bool widens(const KernelTable& k, DType type) { return type == DType::kF32 || std::string(k.isa) != "avx512_bf16"; }

// 0 .. n − 1 in any order.
std::vector<int32_t> shuffled(int64_t n, Rng& rng) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  return order;
}

// A matrix as the product sees it, stored as it is or transposed, NaN between its rows and in a heap block of its size.
struct Side {
  int64_t rows, columns, stride;
  bool transposed;
  DType type;
  std::vector<float> plain;  // (rows, columns)
  std::unique_ptr<float[]> f32;
  std::unique_ptr<uint16_t[]> bf16;

  Side(int64_t r, int64_t c, bool t, DType dtype, int64_t padding, Rng& rng) : rows(r), columns(c), transposed(t), type(dtype) {
    stride = (t ? r : c) + padding;
    for (int64_t i = 0; i < r * c; ++i) plain.push_back(bf16_to_f32(f32_to_bf16(rng.normal())));
    // The last row has no padding: a block without slack shows the sanitizer what is read beyond it.
    f32.reset(new float[size()]);
    bf16.reset(new uint16_t[size()]);
    std::fill_n(f32.get(), size(), kNaN);
    std::fill_n(bf16.get(), size(), f32_to_bf16(kNaN));
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j < c; ++j) {
        const int64_t at = t ? j * stride + i : i * stride + j;
        f32[static_cast<size_t>(at)] = plain[static_cast<size_t>(i * c + j)];
        bf16[static_cast<size_t>(at)] = f32_to_bf16(plain[static_cast<size_t>(i * c + j)]);
      }
  }
  const void* data() const { return type == DType::kF32 ? static_cast<const void*>(f32.get()) : bf16.get(); }
  float at(int64_t i, int64_t j) const { return plain[static_cast<size_t>(i * columns + j)]; }

  // Stores the rows in another order; element i of the result says where row i is now.
  std::vector<int32_t> shuffle(Rng& rng) {
    std::vector<int32_t> order = shuffled(transposed ? columns : rows, rng);
    const std::vector<float> floats(f32.get(), f32.get() + size());
    const std::vector<uint16_t> halves(bf16.get(), bf16.get() + size());
    const auto n = static_cast<size_t>(transposed ? rows : columns), step = static_cast<size_t>(stride);
    for (size_t i = 0; i < order.size(); ++i) {
      const size_t to = static_cast<size_t>(order[i]) * step;
      std::copy_n(floats.begin() + static_cast<ptrdiff_t>(i * step), n, f32.get() + to);
      std::copy_n(halves.begin() + static_cast<ptrdiff_t>(i * step), n, bf16.get() + to);
    }
    return order;
  }

 private:
  size_t size() const {
    const int64_t stored_rows = transposed ? columns : rows, stored_columns = transposed ? rows : columns;
    return static_cast<size_t>(stored_rows > 0 ? (stored_rows - 1) * stride + stored_columns : 0);
  }
};

struct Shape3 {
  int64_t m, n, k;
};

AlignedBytes poisoned_scratch(const KernelTable& k, int n_threads) {
  const size_t bytes = gemm_scratch_bytes(k, n_threads);
  AlignedBytes scratch = allocate_aligned(bytes);
  std::memset(scratch.get(), 0xff, bytes);  // NaN, as float32 and as bfloat16
  return scratch;
}

struct Problem {
  Shape3 s;
  Side a, b;
  int64_t ldc;
  std::vector<float> c;  // (m, ldc) with canaries in the padding, and a row of them behind
  bool accumulate;

  Problem(Shape3 shape, bool transpose_a, bool transpose_b, bool add, DType type, int64_t padding, Rng& rng)
      : s(shape),
        a(shape.m, shape.k, transpose_a, type, padding, rng),
        b(shape.k, shape.n, transpose_b, type, padding, rng),
        ldc(shape.n + padding),
        c(static_cast<size_t>((shape.m + 1) * ldc), kCanary),
        accumulate(add) {
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n; ++j) c[static_cast<size_t>(i * ldc + j)] = add ? rng.normal() : kNaN;
  }

  GemmArgs args(float* to, void* scratch) const {
    return {s.m, s.n, s.k, a.data(), b.data(), to, a.stride, b.stride, ldc, a.transposed, b.transposed, accumulate, scratch};
  }
  GemmFn kernel(const KernelTable& k) const { return a.type == DType::kF32 ? k.gemm_f32 : k.gemm_bf16; }

  std::vector<float> run(const KernelTable& k) const {
    std::vector<float> out = c;
    const AlignedBytes scratch = poisoned_scratch(k, 1);
    kernel(k)(args(out.data(), scratch.get()));
    return out;
  }
};

std::string described(const Problem& p) {
  return std::to_string(p.s.m) + "x" + std::to_string(p.s.n) + "x" + std::to_string(p.s.k) + (p.a.transposed ? " T" : " N") +
         (p.b.transposed ? "T" : "N") + (p.accumulate ? " added" : "") + (p.a.type == DType::kF32 ? " f32" : " bf16");
}

// How many outputs are wrong: bits where the order of sums is known, else a bound on rounding errors; canaries always.
int wrong_outputs(const KernelTable& k, const Problem& p) {
  const std::vector<float> c = p.run(k);
  const bool exact = fuses(k) && widens(k, p.a.type);
  int wrong = 0;
  for (int64_t i = 0; i <= p.s.m; ++i)
    for (int64_t j = 0; j < p.ldc; ++j) {
      const auto at = static_cast<size_t>(i * p.ldc + j);
      if (i == p.s.m || j >= p.s.n) {
        wrong += c[at] != kCanary;
        continue;
      }
      float chain = p.accumulate ? p.c[at] : 0;
      double value = chain, magnitude = std::fabs(value);
      for (int64_t l = 0; l < p.s.k; ++l) {
        const float x = p.a.at(i, l), y = p.b.at(l, j);
        chain = std::fma(x, y, chain);
        value += static_cast<double>(x) * y;
        magnitude += std::fabs(static_cast<double>(x) * y);
      }
      const double bound = 0x1p-24 * (2 * static_cast<double>(p.s.k) + 2) * magnitude;
      wrong += exact ? float_bits(c[at]) != float_bits(chain) : !(std::fabs(c[at] - value) <= bound);
    }
  return wrong;
}

// Every remainder of a tile, one and many panels, and more than one block of rows and of k.
const std::vector<Shape3> kShapes = {
    {1, 1, 1},     {1, 1, 40},    {1, 70, 17},  {3, 1, 33},  {2, 31, 2},   {5, 16, 16},   {6, 17, 15},   {7, 32, 100},
    {8, 33, 31},   {13, 64, 32},  {14, 48, 7},  {15, 47, 1}, {16, 16, 65}, {29, 70, 130}, {57, 33, 63},  {9, 40, 385},
    {31, 18, 800}, {4, 32, 1541}, {61, 64, 19}, {70, 5, 20}, {541, 3, 9},  {3, 200, 11},  {1087, 17, 5},
};

template <class F>
void for_each_problem(const std::vector<Shape3>& shapes, F&& f) {
  Rng rng(17);
  for (const DType type : {DType::kF32, DType::kBF16})
    for (const Shape3& s : shapes)
      for (int bits = 0; bits < 8; ++bits)
        f(Problem(s, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, type, bits % 3 * 3, rng));
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("gemm: every transpose, shape and stride gives the chain of multiply-adds, and writes C alone") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for_each_problem(kShapes, [&](const Problem& p) {
      const std::string what = described(p);
      CAPTURE(what);
      CHECK(wrong_outputs(*k, p) == 0);
    });
  }
}

TEST_CASE("gemm: rows of A, B and C may lie in any order, for one thread and for three") {
  Rng rng(23);
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for_each_problem({{1, 1, 1}, {5, 16, 16}, {29, 70, 130}, {31, 18, 801}, {541, 35, 9}, {70, 5, 0}}, [&](Problem p) {
      const std::string what = described(p);
      CAPTURE(what);
      const std::vector<float> wanted = p.run(*k);
      const std::vector<int32_t> a_rows = p.a.shuffle(rng), b_rows = p.b.shuffle(rng), c_rows = shuffled(p.s.m, rng);
      for (const int n_threads : {1, 3}) {
        std::vector<float> c(p.c.size());
        const auto row = [&](std::vector<float>& x, size_t i) { return x.begin() + static_cast<ptrdiff_t>(i) * p.ldc; };
        for (size_t i = 0; i < c_rows.size(); ++i) std::copy_n(row(p.c, i), p.ldc, row(c, static_cast<size_t>(c_rows[i])));
        GemmArgs g = p.args(c.data(), nullptr);
        g.a_rows = a_rows.data(), g.b_rows = b_rows.data(), g.c_rows = c_rows.data();
        ThreadPool pool(n_threads);
        const AlignedBytes scratch = poisoned_scratch(*k, n_threads);
        gemm(*k, p.a.type, {&g, 1}, pool, scratch.get());
        int wrong = 0;
        for (size_t i = 0; i < c_rows.size(); ++i)
          wrong += std::memcmp(&*row(c, static_cast<size_t>(c_rows[i])), wanted.data() + static_cast<int64_t>(i) * p.ldc,
                               static_cast<size_t>(p.ldc) * sizeof(float)) != 0;
        CHECK(wrong == 0);
      }
    });
  }
}

TEST_CASE("gemm: without terms C is 0, or what it was; without rows or columns nothing is written") {
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for_each_problem({{3, 5, 0}, {0, 5, 4}, {3, 0, 4}, {0, 0, 0}}, [&](const Problem& p) {
      const std::string what = described(p);
      CAPTURE(what);
      CHECK(wrong_outputs(*k, p) == 0);
    });
  }
}

TEST_CASE("gemm: a product cut in k at an even number has the bits of the whole") {
  Rng rng(3);
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (const DType type : {DType::kF32, DType::kBF16})
      for (const int64_t first : {2, 40, 384, 768, 900}) {
        const Problem whole({20, 50, 1001}, true, false, false, type, 1, rng);  // k runs along rows: cuts are row offsets
        std::vector<float> parts = whole.c;
        const AlignedBytes scratch = poisoned_scratch(*k, 1);
        GemmArgs g = whole.args(parts.data(), scratch.get());
        g.k = first;
        whole.kernel (*k)(g);
        const size_t bytes = dtype_bytes(type, 1) * static_cast<size_t>(first);
        g.a = static_cast<const std::byte*>(g.a) + bytes * static_cast<size_t>(g.lda);
        g.b = static_cast<const std::byte*>(g.b) + bytes * static_cast<size_t>(g.ldb);
        g.k = whole.s.k - first, g.accumulate = true;
        whole.kernel (*k)(g);
        const std::vector<float> c = whole.run(*k);
        CHECK(std::memcmp(c.data(), parts.data(), c.size() * sizeof(float)) == 0);
      }
  }
}

TEST_CASE("gemm: one, two and three threads give the same bits, for one product and for those of uneven experts") {
  const std::vector<std::vector<Shape3>> lists = {
      {{64, 200, 100}},
      {{300, 20, 50}},
      {{1, 1, 1}},
      {{7, 96, 64}, {0, 96, 64}, {45, 96, 64}, {1, 96, 64}, {20, 96, 0}, {3, 5, 64}}};
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (const DType type : {DType::kF32, DType::kBF16})
      for (const std::vector<Shape3>& shapes : lists)
        for (int bits = 0; bits < 4; ++bits) {
          Rng rng(5);
          std::vector<Problem> problems;
          problems.reserve(shapes.size());
          for (const Shape3& s : shapes) problems.emplace_back(s, (bits & 1) != 0, (bits & 2) != 0, bits == 3, type, 2, rng);
          for (int n_threads = 1; n_threads <= 3; ++n_threads) {
            std::vector<std::vector<float>> c;
            std::vector<GemmArgs> products;
            c.reserve(problems.size()), products.reserve(problems.size());
            for (const Problem& p : problems) c.push_back(p.c);
            for (size_t i = 0; i < problems.size(); ++i) products.push_back(problems[i].args(c[i].data(), nullptr));
            ThreadPool pool(n_threads);
            const AlignedBytes scratch = poisoned_scratch(*k, n_threads);
            gemm(*k, type, products, pool, scratch.get());
            for (size_t i = 0; i < problems.size(); ++i) {
              const std::vector<float> alone = problems[i].run(*k);
              CHECK(std::memcmp(c[i].data(), alone.data(), alone.size() * sizeof(float)) == 0);
            }
          }
        }
  }
}

TEST_CASE("gemm: threads share a list of products evenly") {
  const KernelTable& k = *runnable_tables().back();
  Rng rng(6);
  const Problem p({48, 640, 8}, false, true, false, DType::kF32, 0, rng);
  for (const int n_threads : {2, 4}) {
    for (int thread = 0; thread < n_threads; ++thread) {
      std::vector<float> c = p.c;
      const AlignedBytes scratch = poisoned_scratch(k, 1);
      const GemmArgs product = p.args(c.data(), nullptr);
      gemm_part(k, DType::kF32, {&product, 1}, thread, n_threads, scratch.get());
      int64_t written = 0;
      for (const float v : c) written += v == v && v != kCanary;
      CHECK(written == 48 * 640 / n_threads);
    }
  }
}

TEST_CASE("gemm: infinities and NaN reach their own row and column only") {
  Rng rng(7);
  for (const KernelTable* k : runnable_tables()) {
    CAPTURE(std::string(k->isa));
    for (const DType type : {DType::kF32, DType::kBF16}) {
      Problem p({19, 37, 21}, false, true, false, type, 0, rng);
      const auto a_at = static_cast<size_t>(4 * p.a.stride + 20), b_at = static_cast<size_t>(9 * p.b.stride + 3);
      p.a.f32[a_at] = kNaN, p.a.bf16[a_at] = f32_to_bf16(kNaN);
      p.b.f32[b_at] = HUGE_VALF, p.b.bf16[b_at] = f32_to_bf16(HUGE_VALF);
      const std::vector<float> c = p.run(*k);
      int wrong = 0;
      for (int64_t i = 0; i < 19; ++i)
        for (int64_t j = 0; j < 37; ++j) {
          const float v = c[static_cast<size_t>(i * 37 + j)];
          wrong += std::isnan(v) != (i == 4);
          if (i != 4) wrong += std::isinf(v) != (j == 9);
        }
      CHECK(wrong == 0);
    }
  }
}

TEST_SUITE_END();

}  // namespace moe::cpu
