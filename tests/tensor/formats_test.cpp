// Storage formats: decoders against an independent decoder, encoders against what ggml's quantisers reach, and odd input.
#include "tensor/formats/formats.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "core/rng.h"
#include "tensor/dtype.h"

namespace moe {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;

std::vector<DTypeTraits> formats_where(const std::function<bool(const DTypeTraits&)>& wanted) {
  std::vector<DTypeTraits> found;
  for (const DTypeTraits& t : all_dtypes()) {
    if (t.is_weight && wanted(t)) found.push_back(t);
  }
  return found;
}
std::vector<DTypeTraits> all_formats() {
  return formats_where([](const DTypeTraits&) { return true; });
}
std::vector<DTypeTraits> quantised_formats() {
  return formats_where([](const DTypeTraits& t) { return t.block_elements > 1; });
}

Bytes encode(const DTypeTraits& t, const Floats& x, const Floats& importance = {}) {
  Bytes blocks(dtype_bytes(t.dtype, static_cast<int64_t>(x.size())));
  t.encode(x.data(), importance.empty() ? nullptr : importance.data(), blocks.data(), static_cast<int64_t>(x.size()));
  return blocks;
}

Floats decode(const DTypeTraits& t, const Bytes& blocks) {
  Floats x(blocks.size() / t.block_bytes * static_cast<size_t>(t.block_elements));
  t.decode(blocks.data(), x.data(), static_cast<int64_t>(x.size()));
  return x;
}

Floats round_trip(const DTypeTraits& t, const Floats& x, const Floats& importance = {}) {
  return decode(t, encode(t, x, importance));
}

// n(0, 1), or its cube for heavy tails.
Floats gaussian(size_t n, uint64_t seed, bool heavy = false) {
  Rng rng(seed);
  Floats x(n);
  for (float& v : x) {
    const float f = rng.normal();
    v = 0.02f * (heavy ? f * f * f : f);
  }
  return x;
}

// The same 256 weights for every row of 256.
Floats importance_of(size_t n) {
  Rng rng(3);
  Floats w(n);
  for (size_t i = 0; i < n; ++i) {
    const float f = i < 256 ? rng.normal() : 0;
    w[i] = i < 256 ? f * f + 0.01f : w[i - 256];
  }
  return w;
}

// sqrt(sum w (x - y)^2 / sum w x^2); w empty: all 1.
double relative_rmse(const Floats& x, const Floats& y, const Floats& w = {}) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = w.empty() ? 1 : w[i], rest = static_cast<double>(x[i]) - y[i];
    error += weight * rest * rest;
    energy += weight * x[i] * x[i];
  }
  return std::sqrt(error / energy);
}

bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool all_finite(const Floats& x) {
  return std::all_of(x.begin(), x.end(), [](float f) { return std::isfinite(f); });
}

}  // namespace

TEST_CASE("every format decodes to the bits that the Python package gguf decodes to") {
  for (const DTypeTraits& t : all_formats()) {
    CAPTURE(t.name);
    std::ifstream file("tests/data/formats/" + std::string(t.name) + ".bin", std::ios::binary);
    const Bytes bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const size_t block = t.block_bytes + sizeof(float) * static_cast<size_t>(t.block_elements);
    REQUIRE(!bytes.empty());
    REQUIRE(bytes.size() % block == 0);
    const auto values = bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / block * t.block_bytes);
    Floats wanted(bytes.size() / block * static_cast<size_t>(t.block_elements));
    std::copy(values, bytes.end(), reinterpret_cast<uint8_t*>(wanted.data()));
    const Floats found = decode(t, Bytes(bytes.begin(), values));
    size_t differing = 0;
    for (size_t i = 0; i < wanted.size(); ++i) differing += found[i] != wanted[i];  // compares -0 and 0 as equal
    CHECK(differing == 0);
  }
}

TEST_CASE("MXFP4 scales are powers of two from 2^-128 to 2^126") {
  CHECK(mxfp4_scale(0) == 0x1p-128f);
  CHECK(mxfp4_scale(1) == 0x1p-127f);
  CHECK(mxfp4_scale(2) == 0x1p-126f);
  CHECK(mxfp4_scale(128) == 1);
  CHECK(mxfp4_scale(254) == 0x1p126f);
  CHECK(mxfp4_scale(255) == 0x1p127f);
}

// Measured with ggml_quantize_chunk of ggml (llama.cpp, 2026) on the data of gaussian() and importance_of(), rows of 256.
TEST_CASE("encoders lose at most 1.02 times what ggml's quantisers lose") {
  struct Reference {
    const char* name;
    double gaussian, gaussian_weighted, heavy, heavy_weighted;  // relative rmse
  };
  const Reference references[] = {
      {"q8_0", 0.00532, 0.00531, 0.00863, 0.00849},   {"q4_0", 0.08483, 0.07338, 0.11212, 0.10540},
      {"q4_1", 0.07813, 0.06033, 0.11187, 0.07725},   {"q5_0", 0.04280, 0.03707, 0.06060, 0.05642},
      {"q5_1", 0.03781, 0.02937, 0.05572, 0.04011},   {"q2_k", 0.29916, 0.21880, 0.39170, 0.23362},
      {"q3_k", 0.15044, 0.12720, 0.15597, 0.13526},   {"q4_k", 0.07153, 0.06148, 0.09073, 0.08157},
      {"q5_k", 0.03617, 0.03176, 0.05100, 0.04562},   {"q6_k", 0.01770, 0.01531, 0.02456, 0.02336},
      {"iq4_nl", 0.07563, 0.06777, 0.09342, 0.08303}, {"mxfp4", 0.11400, 0.11372, 0.14271, 0.14519},
  };
  CHECK(std::size(references) == quantised_formats().size());
  const size_t n = 64 * 256;
  const Floats normal = gaussian(n, 1), heavy = gaussian(n, 2, true), weights = importance_of(n);
  for (const Reference& r : references) {
    CAPTURE(r.name);
    const DTypeTraits& t = traits(parse_dtype(r.name).value());
    CHECK(relative_rmse(normal, round_trip(t, normal)) <= 1.02 * r.gaussian);
    CHECK(relative_rmse(normal, round_trip(t, normal, weights), weights) <= 1.02 * r.gaussian_weighted);
    CHECK(relative_rmse(heavy, round_trip(t, heavy)) <= 1.02 * r.heavy);
    CHECK(relative_rmse(heavy, round_trip(t, heavy, weights), weights) <= 1.02 * r.heavy_weighted);
  }
}

TEST_CASE("no block loses more than rounding to evenly spread levels would") {
  // Half a step between levels, as a fraction of the block's largest magnitude; in the K formats a step can be one unit of
  // the groups' scales wider, and a min is off by half a unit.
  const auto affine_k = [](double steps, double units) { return 0.5 * 2 / steps * (1 + 1 / units) + 0.5 * 1 / units; };
  const auto scaled_k = [](double steps, double units) { return 0.5 / steps * (1 + 1 / units); };
  struct Bound {
    const char* name;
    double of_peak;
  };
  const Bound bounds[] = {
      {"q8_0", 0.5 / 127},
      {"q4_0", 0.5 / 7},
      {"q4_1", 0.5 * 2 / 15},
      {"q5_0", 0.5 / 15},
      {"q5_1", 0.5 * 2 / 31},
      {"q2_k", affine_k(3, 15)},
      {"q3_k", scaled_k(3, 31)},
      {"q4_k", affine_k(15, 63)},
      {"q5_k", affine_k(31, 63)},
      {"q6_k", scaled_k(31, 127)},
      {"iq4_nl", 0.5 * (113 - 89) / 113},  // its widest step
      {"mxfp4", 0.25},                     // between 4 and 6, or beyond 6, of at least 4
  };
  Rng rng(10);
  Floats x(64 * 256);
  for (float& v : x) v = 2 * rng.uniform() - 1;
  const double f16_rounding = 0x1p-11;
  for (const Bound& bound : bounds) {
    CAPTURE(bound.name);
    const DTypeTraits& t = traits(parse_dtype(bound.name).value());
    const Floats y = round_trip(t, x);
    double worst = 0;
    for (size_t i = 0; i < x.size();) {
      double peak = 0, error = 0;
      for (const size_t end = i + static_cast<size_t>(t.block_elements); i < end; ++i) {
        peak = std::max(peak, std::fabs(static_cast<double>(x[i])));
        error += (static_cast<double>(x[i]) - y[i]) * (static_cast<double>(x[i]) - y[i]);
      }
      worst = std::max(worst, std::sqrt(error / t.block_elements) / peak);
    }
    CHECK(worst <= bound.of_peak + f16_rounding);
  }
}

TEST_CASE("importance lowers the weighted error") {
  const Floats x = gaussian(64 * 256, 4), w = importance_of(x.size());
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    const double with = relative_rmse(x, round_trip(t, x, w), w), without = relative_rmse(x, round_trip(t, x), w);
    if (t.dtype == DType::kQ8_0) {
      CHECK(with == without);  // takes no notice of it
    } else {
      CHECK(with < without);
    }
  }
}

TEST_CASE("values that a format can hold come back bit for bit") {
  // x = d · scale[g] · level - dmin · min[g]; both ends of the levels and the largest scale and min occur.
  struct Grid {
    const char* name;
    int group, lo, hi;
    int scale_lo, scale_hi;  // the ends of the groups' integers; both 1 where the format has none
    int min_hi;              // of the groups' mins; 0: none, -1: one f16 offset a block
  };
  const Grid grids[] = {
      {"q8_0", 32, -127, 127, 1, 1, 0},    {"q4_0", 32, -8, 7, 1, 1, 0},   {"q4_1", 32, 0, 15, 1, 1, -1},
      {"q5_0", 32, -16, 15, 1, 1, 0},      {"q5_1", 32, 0, 31, 1, 1, -1},  {"q2_k", 16, 0, 3, 1, 15, 15},
      {"q3_k", 16, -4, 3, -32, 31, 0},     {"q4_k", 32, 0, 15, 1, 63, 63}, {"q5_k", 32, 0, 31, 1, 63, 63},
      {"q6_k", 16, -32, 31, -128, 127, 0},
  };
  for (const Grid& grid : grids) {
    CAPTURE(grid.name);
    const DTypeTraits& t = traits(parse_dtype(grid.name).value());
    Rng rng(11);
    const auto between = [&](int lo, int hi) { return lo + static_cast<int>(rng.below(static_cast<uint64_t>(hi - lo + 1))); };
    const float d = f16_to_f32(0x211f), dmin = f16_to_f32(0x2345), offset = f16_to_f32(0xb0c1);
    Floats x;
    for (int g = 0; g < 1024 / grid.group; ++g) {
      const bool first = g * grid.group % 256 == 0;
      const int some_scale = between(grid.scale_lo, grid.scale_hi);
      const int scale = first ? (grid.scale_lo < 0 ? grid.scale_lo : grid.scale_hi) : some_scale == 0 ? 1 : some_scale;
      const int min = grid.min_hi > 0 ? (first ? grid.min_hi : between(0, grid.min_hi)) : 0;
      for (int i = 0; i < grid.group; ++i) {
        const int level = i == 3 ? grid.lo : i == 5 ? grid.hi : between(grid.lo, grid.hi);
        const float rest = grid.min_hi < 0 ? -offset : dmin * static_cast<float>(min);
        x.push_back(d * static_cast<float>(scale) * static_cast<float>(level) - rest);
      }
    }
    CHECK(same_bits(round_trip(t, x), x));
    CHECK(same_bits(round_trip(t, x, importance_of(x.size())), x));
  }
}

TEST_CASE("encoding what was decoded changes nothing in formats whose scale follows from the largest element") {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kMXFP4}) {
    const DTypeTraits& t = traits(dtype);
    CAPTURE(t.name);
    const Floats once = round_trip(t, gaussian(4096, 5, true));
    CHECK(same_bits(round_trip(t, once), once));
  }
}

TEST_CASE("plain floats keep NaN and infinities and round finite values to finite ones") {
  const Floats x = {kNaN, kInf, -kInf, 3.4e38f, -3.4028235e38f, 65519.0f, -65520.0f, 1e-40f, -0.0f};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    CAPTURE(traits(dtype).name);
    const Floats y = round_trip(traits(dtype), x);
    CHECK(std::isnan(y[0]));
    CHECK(y[1] == kInf);
    CHECK(y[2] == -kInf);
    CHECK(all_finite(Floats(y.begin() + 3, y.end())));
    CHECK(std::signbit(y[8]));
  }
  CHECK(round_trip(traits(DType::kF16), x)[3] == 65504.0f);
  CHECK(round_trip(traits(DType::kF16), x)[6] == -65504.0f);
}

TEST_CASE("a block of zeros decodes to zeros, with any importance") {
  const Floats zeros(512, 0.0f);
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    for (const Floats& w : {Floats(), Floats(512, 0.0f), importance_of(512)}) {
      for (const float f : round_trip(t, zeros, w)) CHECK(f == 0);
    }
  }
}

TEST_CASE("NaN counts as zero") {
  const Floats x = gaussian(512, 6);
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    Floats with_nan = x, with_zero = x;
    for (size_t i = 0; i < x.size(); i += 37) with_nan[i] = kNaN, with_zero[i] = 0;
    CHECK(encode(t, with_nan) == encode(t, with_zero));
    for (const float f : round_trip(t, Floats(256, kNaN))) CHECK(f == 0);
  }
}

TEST_CASE("values beyond a format's range become large, finite and keep their sign") {
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    for (const float huge : {kInf, std::numeric_limits<float>::max(), 1e30f, 1e9f}) {
      CAPTURE(huge);
      Floats x = gaussian(256, 7);
      x[17] = huge;
      x[201] = -huge;
      const Floats y = round_trip(t, x);
      CHECK(all_finite(y));
      CHECK(y[17] > 40000);
      CHECK(y[201] < -40000);
      CHECK(all_finite(round_trip(t, Floats(256, huge))));
      CHECK(round_trip(t, Floats(256, -huge))[255] < -40000);
    }
  }
}

TEST_CASE("values too small for a scale lose no more than themselves") {
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    for (const float tiny : {1e-45f, 1e-40f, 1e-30f, 1e-20f, 1e-14f, 1e-9f}) {
      CAPTURE(tiny);
      Floats x(256);
      for (size_t i = 0; i < x.size(); ++i) x[i] = tiny * (static_cast<float>(i % 13) - 6);
      const Floats y = round_trip(t, x);
      for (const float f : y) CHECK(std::fabs(f) <= 2 * 6 * tiny);
    }
  }
}

TEST_CASE("whatever bits come in, finite values come out") {
  Rng rng(12);
  Floats x(32 * 256), w(x.size());
  for (float& f : x) f = float_from_bits(rng.next_u32());
  for (float& f : w) f = float_from_bits(rng.next_u32());
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    CHECK(all_finite(round_trip(t, x)));
    CHECK(all_finite(round_trip(t, x, w)));
  }
}

TEST_CASE("importance that is no importance is ignored") {
  const Floats x = gaussian(512, 8);
  Floats garbage = importance_of(x.size()), cleaned = garbage;
  for (size_t i = 0; i < x.size(); i += 3) garbage[i] = i % 2 ? kNaN : -1.0f, cleaned[i] = 0;
  Floats doubled = importance_of(x.size());
  for (float& w : doubled) w *= 2;
  for (const DTypeTraits& t : quantised_formats()) {
    CAPTURE(t.name);
    CHECK(encode(t, x, Floats(x.size(), 0.0f)) == encode(t, x));
    CHECK(encode(t, x, Floats(x.size(), kNaN)) == encode(t, x));
    CHECK(encode(t, x, garbage) == encode(t, x, cleaned));
    CHECK(encode(t, x, doubled) == encode(t, x, importance_of(x.size())));
    CHECK(all_finite(round_trip(t, x, Floats(x.size(), kInf))));
    CHECK(relative_rmse(x, round_trip(t, x, Floats(x.size(), 1e-38f))) < 0.3);
  }
}

TEST_CASE("a block's bytes do not depend on its neighbours") {
  const Floats x = gaussian(1024, 9), w = importance_of(1024);
  for (const DTypeTraits& t : all_formats()) {
    CAPTURE(t.name);
    const Bytes together = encode(t, x, w);
    Bytes apart;
    for (size_t i = 0; i < x.size(); i += static_cast<size_t>(t.block_elements)) {
      const auto from = static_cast<std::ptrdiff_t>(i), to = from + t.block_elements;
      const Bytes one = encode(t, Floats(x.begin() + from, x.begin() + to), Floats(w.begin() + from, w.begin() + to));
      apart.insert(apart.end(), one.begin(), one.end());
    }
    CHECK(together == apart);
  }
}

}  // namespace moe
