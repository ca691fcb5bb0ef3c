#include "core/bytes.h"

#include <doctest/doctest.h>

#include <memory>

using moe::ByteReader;
using moe::ByteWriter;

namespace {

// u8, u16, u32, u64, f32, f64 and four characters: 31 bytes.
ByteWriter sample() {
  ByteWriter w;
  w.write(uint8_t{0x12});
  w.write(uint16_t{0x3456});
  w.write(uint32_t{0x789abcde});
  w.write(uint64_t{0x0123456789abcdef});
  w.write(1.5f);
  w.write(-2.25);
  w.write_bytes("text", 4);
  return w;
}

// How many of the seven fields could be read.
int read_fields(ByteReader& r) {
  uint8_t a;
  uint16_t b;
  uint32_t c;
  uint64_t d;
  float e;
  double f;
  std::string_view g;
  if (!r.read(a) || a != 0x12) return 0;
  if (!r.read(b) || b != 0x3456) return 1;
  if (!r.read(c) || c != 0x789abcde) return 2;
  if (!r.read(d) || d != 0x0123456789abcdef) return 3;
  if (!r.read(e) || e != 1.5f) return 4;
  if (!r.read(f) || f != -2.25) return 5;
  if (!r.read_view(4, g) || g != "text") return 6;
  return 7;
}

}  // namespace

TEST_CASE("numbers are stored with the lowest byte first") {
  ByteWriter w;
  w.write(uint32_t{0x04030201});
  REQUIRE(w.size() == 4);
  for (int i = 0; i < 4; ++i) CHECK(static_cast<int>(w.bytes()[static_cast<size_t>(i)]) == i + 1);
}

TEST_CASE("what ByteWriter wrote, ByteReader reads back") {
  const ByteWriter w = sample();
  ByteReader r(w.bytes());
  CHECK(read_fields(r) == 7);
  CHECK(r.remaining() == 0);
  CHECK(r.position() == 31);
}

TEST_CASE("every prefix of valid bytes stops at the field that is cut, without moving or reading past the end") {
  const ByteWriter w = sample();
  const size_t ends[] = {1, 3, 7, 15, 19, 27, 31};
  for (size_t n = 0; n <= w.size(); ++n) {
    const std::unique_ptr<std::byte[]> exact(new std::byte[n]);  // a heap block of just n bytes: ASAN watches its end
    std::memcpy(exact.get(), w.bytes().data(), n);
    ByteReader r({exact.get(), n});
    int whole = 0;
    while (whole < 7 && ends[whole] <= n) ++whole;
    CHECK(read_fields(r) == whole);
    CHECK(r.position() == (whole ? ends[whole - 1] : 0));
  }
}

TEST_CASE("lengths near 2^64 are refused, not added to the position") {
  const ByteWriter w = sample();
  ByteReader r(w.bytes());
  REQUIRE(r.skip(3));
  std::string_view text;
  std::span<const std::byte> bytes;
  for (const size_t n : {SIZE_MAX, SIZE_MAX - 2, SIZE_MAX / 2, size_t{29}}) {
    CHECK_FALSE(r.skip(n));
    CHECK_FALSE(r.read_view(n, text));
    CHECK_FALSE(r.read_bytes(n, bytes));
  }
  CHECK(r.position() == 3);
  CHECK(r.skip(28));
  CHECK(r.remaining() == 0);
}

TEST_CASE("pad_to fills with zeros up to the next multiple and not beyond") {
  ByteWriter w;
  w.pad_to(32);
  CHECK(w.size() == 0);
  w.write(uint8_t{0xff});
  w.pad_to(32);
  REQUIRE(w.size() == 32);
  for (size_t i = 1; i < 32; ++i) CHECK(w.bytes()[i] == std::byte{0});
  w.pad_to(32);
  CHECK(w.size() == 32);
}
