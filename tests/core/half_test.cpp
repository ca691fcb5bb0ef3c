#include "core/half.h"

#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <limits>

using namespace moe;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// s · 2^(e−15) · (1 + m/1024), from the definition.
float f16_by_definition(uint16_t h) {
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  const float sign = h & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
}

// For neighbours a < b of a 16-bit format: everything below the midpoint rounds to a, above it to b, itself to the even one.
template <uint16_t (*encode)(float)>
bool rounds_between(uint16_t a, float value_a, float value_b) {
  const float middle = static_cast<float>((static_cast<double>(value_a) + static_cast<double>(value_b)) / 2);
  const uint16_t b = static_cast<uint16_t>(a + 1);
  const uint16_t even = a % 2 ? b : a;
  return encode(std::nextafter(middle, value_a)) == a && encode(middle) == even && encode(std::nextafter(middle, value_b)) == b;
}

}  // namespace

TEST_CASE("every finite float16 decodes to its definition") {
  int wrong = 0;
  for (uint32_t h = 0; h < 0x10000; ++h) {
    if (((h >> 10) & 31) == 31) continue;
    const float expected = f16_by_definition(static_cast<uint16_t>(h));
    wrong += float_bits(f16_to_f32(static_cast<uint16_t>(h))) != float_bits(expected);
  }
  CHECK(wrong == 0);
}

TEST_CASE("float16 infinities and NaNs decode as such") {
  CHECK(f16_to_f32(0x7c00) == kInfinity);
  CHECK(f16_to_f32(0xfc00) == -kInfinity);
  CHECK(std::isnan(f16_to_f32(0x7c01)));
  CHECK(std::isnan(f16_to_f32(0xfe00)));
}

TEST_CASE("every float16 and bfloat16 that is not NaN survives the way to float32 and back") {
  int wrong = 0;
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto h = static_cast<uint16_t>(i);
    if ((h & 0x7fff) <= 0x7c00) wrong += f32_to_f16(f16_to_f32(h)) != h;
    if ((h & 0x7fff) <= 0x7f80) wrong += f32_to_bf16(bf16_to_f32(h)) != h;
  }
  CHECK(wrong == 0);
}

TEST_CASE("float32 to float16 rounds to nearest, ties to even, between all neighbours") {
  int wrong = 0;
  for (uint16_t a = 0; a < 0x7bff; ++a) {
    const float x = f16_to_f32(a), y = f16_to_f32(static_cast<uint16_t>(a + 1));
    wrong += !rounds_between<f32_to_f16>(a, x, y);
  }
  CHECK(wrong == 0);
}

TEST_CASE("float32 to bfloat16 rounds to nearest, ties to even, between all neighbours") {
  int wrong = 0;
  for (uint16_t a = 0; a < 0x7f7f; ++a) {
    const float x = bf16_to_f32(a), y = bf16_to_f32(static_cast<uint16_t>(a + 1));
    wrong += !rounds_between<f32_to_bf16>(a, x, y);
  }
  CHECK(wrong == 0);
}

TEST_CASE("what is too large for float16 becomes infinity from 65520 on") {
  CHECK(f32_to_f16(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(-1e30f) == 0xfc00);
  CHECK(f32_to_f16(kInfinity) == 0x7c00);
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(f32_to_bf16(-kInfinity) == 0xff80);
}

TEST_CASE("NaN stays NaN with its sign, even when its mantissa bits are all in the lower half") {
  for (const uint32_t bits : {0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xff800001u}) {
    const float nan = float_from_bits(bits);
    CHECK(std::isnan(f16_to_f32(f32_to_f16(nan))));
    CHECK(std::isnan(bf16_to_f32(f32_to_bf16(nan))));
    CHECK((f32_to_f16(nan) >> 15) == (bits >> 31));
    CHECK((f32_to_bf16(nan) >> 15) == (bits >> 31));
  }
}

TEST_CASE("zeros keep their sign and what is below half the smallest subnormal becomes zero") {
  CHECK(f32_to_f16(0.0f) == 0x0000);
  CHECK(f32_to_f16(-0.0f) == 0x8000);
  CHECK(f32_to_f16(-0x1p-25f) == 0x8000);
  CHECK(f32_to_f16(0x1.000002p-25f) == 0x0001);
  CHECK(f32_to_bf16(-0.0f) == 0x8000);
}
