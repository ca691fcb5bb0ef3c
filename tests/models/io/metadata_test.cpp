#include "models/io/metadata.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/models/io/gguf_bytes.h"

using namespace moe;
using moe::test::says;

namespace {

// A copy through the bytes of the file section.
Metadata through_bytes(const Metadata& m) {
  ByteWriter w;
  m.encode(w);
  ByteReader r(w.bytes());
  auto out = Metadata::decode(r, m.entries().size(), "copy");
  REQUIRE_MESSAGE(out.ok(), out.status().message());
  CHECK(r.remaining() == 0);
  return std::move(out).value();
}

template <class T>
void check_round_trip(T value, const char* type_name) {
  Metadata m;
  m.set("scalar", value);
  m.set("array", std::vector<T>{value, T{}, value});
  m.set("empty", std::vector<T>{});
  const Metadata copy = through_bytes(m);
  CHECK(*copy.get<T>("scalar") == value);
  CHECK(*copy.get_array<T>("array") == std::vector<T>{value, T{}, value});
  CHECK(copy.get_array<T>("empty")->empty());
  CHECK(value_type_text(*copy.find("scalar")) == type_name);
  CHECK(value_type_text(*copy.find("array")) == std::string("array of 3 ") + type_name);
}

}  // namespace

TEST_CASE("metadata of every type survives encode and decode") {
  check_round_trip<bool>(true, "bool");
  check_round_trip<int8_t>(-128, "int8");
  check_round_trip<uint8_t>(255, "uint8");
  check_round_trip<int16_t>(-32768, "int16");
  check_round_trip<uint16_t>(65535, "uint16");
  check_round_trip<int32_t>(std::numeric_limits<int32_t>::min(), "int32");
  check_round_trip<uint32_t>(std::numeric_limits<uint32_t>::max(), "uint32");
  check_round_trip<int64_t>(std::numeric_limits<int64_t>::min(), "int64");
  check_round_trip<uint64_t>(std::numeric_limits<uint64_t>::max(), "uint64");
  check_round_trip<float>(1e-5f, "float32");
  check_round_trip<double>(1e-300, "float64");
  check_round_trip<std::string>(std::string("a\0b ü\n", 7), "string");
}

TEST_CASE("metadata integers convert between widths exactly when the value fits") {
  Metadata m;
  m.set("big", uint64_t{1} << 63);
  m.set("minus", int8_t{-1});
  m.set("u16", uint16_t{65535});
  m.set("i64", int64_t{2147483648});
  CHECK(*m.get<uint32_t>("u16") == 65535);
  CHECK(*m.get<int32_t>("u16") == 65535);
  CHECK(*m.get<int64_t>("minus") == -1);
  CHECK(*m.get<uint32_t>("i64") == 2147483648u);
  CHECK(*m.get<uint64_t>("big") == uint64_t{1} << 63);
  CHECK(m.get<int64_t>("big").status().message() == "metadata: key 'big': wanted int64, found uint64 9223372036854775808");
  CHECK(m.get<uint32_t>("minus").status().message() == "metadata: key 'minus': wanted uint32, found int8 -1");
  CHECK(m.get<int32_t>("i64").status().code() == StatusCode::kCorrupt);
  CHECK(m.get<int16_t>("u16").status().code() == StatusCode::kCorrupt);
}

TEST_CASE("metadata integers become floats and floats never integers") {
  Metadata m;
  m.set("int", int32_t{-3});
  m.set("float", 2.0f);
  m.set("double", 0.5);
  m.set("huge", 1e300);
  m.set("infinite", std::numeric_limits<double>::infinity());
  CHECK(*m.get<float>("int") == -3.0f);
  CHECK(*m.get<double>("int") == -3.0);
  CHECK(*m.get<double>("float") == 2.0);
  CHECK(*m.get<float>("double") == 0.5f);
  CHECK(std::isinf(*m.get<float>("infinite")));
  CHECK(says(m.get<float>("huge").status(), "wanted float32, found float64 1e+300"));
  CHECK(says(m.get<int32_t>("float").status(), "wanted int32, found float32 2"));
  CHECK(says(m.get<uint64_t>("double").status(), "wanted uint64, found float64 0.5"));
}

TEST_CASE("metadata bools and strings convert to nothing else") {
  Metadata m("file.gguf");
  m.set("yes", true);
  m.set("one", uint8_t{1});
  m.set("text", "1");
  m.set("list", std::vector<int32_t>{1});
  CHECK(*m.get<bool>("yes"));
  CHECK(*m.get<std::string_view>("text") == "1");
  CHECK(m.get<bool>("one").status().message() == "file.gguf: key 'one': wanted bool, found uint8 1");
  CHECK(m.get<int32_t>("yes").status().message() == "file.gguf: key 'yes': wanted int32, found bool true");
  CHECK(m.get<int32_t>("text").status().message() == "file.gguf: key 'text': wanted int32, found string '1'");
  CHECK(m.get<std::string>("one").status().message() == "file.gguf: key 'one': wanted string, found uint8 1");
  CHECK(m.get<int32_t>("list").status().message() == "file.gguf: key 'list': wanted int32, found array of 1 int32");
  CHECK(m.get<std::string>("list").status().message() == "file.gguf: key 'list': wanted string, found array of 1 int32");
}

TEST_CASE("a metadata fallback stands in for an absent key only") {
  Metadata m("file.gguf");
  m.set("text", "abc");
  CHECK(*m.get_or<uint32_t>("absent", 5) == 5);
  CHECK(*m.get_or<std::string>("absent", "x") == "x");
  CHECK(*m.get_or<std::string>("text", "x") == "abc");
  CHECK(says(m.get_or<uint32_t>("text", 5).status(), "key 'text': wanted uint32, found string 'abc'"));
  CHECK(m.get<uint32_t>("absent").status().code() == StatusCode::kNotFound);
  CHECK(m.get<uint32_t>("absent").status().message() == "file.gguf: key 'absent': wanted uint32, found no such key");
}

TEST_CASE("metadata arrays convert element by element and name the one that does not fit") {
  Metadata m;
  m.set("ints", std::vector<int64_t>{1, 2, -3});
  m.set("words", std::vector<std::string>{"a", "", "bcd"});
  m.set("one", int32_t{4});
  CHECK(*m.get_array<int32_t>("ints") == std::vector<int32_t>{1, 2, -3});
  CHECK(*m.get_array<float>("ints") == std::vector<float>{1, 2, -3});
  CHECK(*m.get_array<std::string_view>("words") == std::vector<std::string_view>{"a", "", "bcd"});
  CHECK(says(m.get_array<uint32_t>("ints").status(), "wanted array of uint32, found int64 -3 at element 2"));
  CHECK(says(m.get_array<std::string>("ints").status(), "wanted array of string, found array of 3 int64"));
  CHECK(says(m.get_array<uint32_t>("words").status(), "wanted array of uint32, found array of 3 string"));
  CHECK(says(m.get_array<int32_t>("one").status(), "wanted array of int32, found int32 4"));
  CHECK(m.get_array<int32_t>("absent").status().code() == StatusCode::kNotFound);
}

TEST_CASE("a metadata scalar is broadcast where one value a layer is wanted") {
  Metadata m;
  m.set("one", uint32_t{4});
  m.set("three", std::vector<int32_t>{4, 0, 8});
  CHECK(*m.get_array_or_broadcast<uint32_t>("one", 3) == std::vector<uint32_t>{4, 4, 4});
  CHECK(*m.get_array_or_broadcast<uint32_t>("three", 3) == std::vector<uint32_t>{4, 0, 8});
  CHECK(says(m.get_array_or_broadcast<uint32_t>("three", 2).status(),
             "key 'three': wanted uint32 or array of 2 uint32, found array of 3 int32"));
  CHECK(says(m.get_array_or_broadcast<bool>("one", 2).status(), "wanted bool, found uint32 4"));
  CHECK(m.get_array_or_broadcast<uint32_t>("absent", 2).status().code() == StatusCode::kNotFound);
}

TEST_CASE("metadata keeps the order of keys through replacing and removing") {
  Metadata m;
  for (const char* key : {"a", "b", "c", "d"}) m.set(key, int32_t{1});
  m.set("b", "now text");
  CHECK(m.remove("a"));
  CHECK_FALSE(m.remove("a"));
  m.set("e", true);
  std::string keys;
  for (const MetadataEntry& e : m.entries()) keys += e.key;
  CHECK(keys == "bcde");
  CHECK(*m.get<std::string>("b") == "now text");
  CHECK(*m.get<int32_t>("d") == 1);
  CHECK(*m.get<bool>("e"));
  CHECK_FALSE(m.has("a"));
}

TEST_CASE("a copy of metadata shares nothing with the original") {
  Metadata a;
  a.set("words", std::vector<std::string>{"x", "y"});
  Metadata b = a;
  b.set("words", std::vector<std::string>{"z"});
  a.set("more", int32_t{1});
  CHECK(*a.get_array<std::string>("words") == std::vector<std::string>{"x", "y"});
  CHECK(*b.get_array<std::string>("words") == std::vector<std::string>{"z"});
  CHECK_FALSE(b.has("more"));
}

TEST_CASE("metadata entries move between objects, arrays of arrays too") {
  const std::string bytes = test::sound_file().bytes().substr(4 + 4 + 8 + 8);
  ByteReader r(test::bytes_of(bytes));
  const auto from = Metadata::decode(r, 7, "file");
  REQUIRE(from.ok());
  Metadata to;
  for (const MetadataEntry& e : from->entries()) to.set_entry(e);
  ByteWriter w;
  to.encode(w);
  REQUIRE(w.size() == r.position());
  CHECK(std::memcmp(w.bytes().data(), bytes.data(), w.size()) == 0);
  CHECK(value_text(*to.find("nested"), 80) == "[[97, 98], [\"x\"]]");
  CHECK(says(to.get_array<int32_t>("nested").status(), "wanted array of int32, found array of 2 array"));
  CHECK(says(to.get<int32_t>("nested").status(), "wanted int32, found array of 2 array"));
}

TEST_CASE("metadata values print on one line cut to the width") {
  Metadata m;
  m.set("text", "one\ntwo\t\x1b\\ \xff ü");
  m.set("long", std::string(1000, 'x'));
  m.set("wide", std::string("üüüüü"));
  m.set("float", 1e-5f);
  m.set("third", 1.0f / 3);
  m.set("bool", false);
  m.set("list", std::vector<int8_t>{1, -2, 3});
  m.set("words", std::vector<std::string>{"a\n", "b"});
  m.set("many", std::vector<uint32_t>(100000, 12345u));
  const auto print = [&](const char* key, size_t width) { return value_text(*m.find(key), width); };
  CHECK(print("text", 80) == "one\\ntwo\\t\\x1b\\\\ \\xff ü");
  CHECK(print("long", 5) == "xxxx…");
  CHECK(print("wide", 5) == "üüüüü");
  CHECK(print("wide", 4) == "üüü…");
  CHECK(print("wide", 1) == "…");
  CHECK(print("wide", 0) == "");
  CHECK(print("float", 80) == "1e-05");
  CHECK(print("third", 80) == "0.33333334");
  CHECK(print("bool", 80) == "false");
  CHECK(print("list", 80) == "[1, -2, 3]");
  CHECK(print("list", 6) == "[1, -…");
  CHECK(print("words", 80) == "[\"a\\n\", \"b\"]");
  CHECK(print("many", 12) == "[12345, 123…");
  CHECK(print("many", std::numeric_limits<size_t>::max()).size() == 700000);
}
