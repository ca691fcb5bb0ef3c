// What no sound tool writes: each broken file gets one line that says what is wrong with it, and never more than that.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "models/io/gguf.h"
#include "tests/models/io/gguf_bytes.h"

using namespace moe;
using namespace moe::test;

namespace {

// Parses a copy in a heap block of exactly its size, so that the sanitizer sees one byte too far, and touches what came out.
Status parse_alone(std::string_view bytes) {
  const auto block = std::make_unique<std::byte[]>(bytes.size());
  std::copy_n(bytes_of(bytes).data(), bytes.size(), block.get());
  const auto f = GgufFile::parse({block.get(), bytes.size()}, "f.gguf");
  if (!f.ok()) return f.status();
  for (const MetadataEntry& e : f->metadata().entries()) CHECK(value_text(e, 60).size() <= 240);
  for (const TensorInfo& t : f->tensors()) CHECK(f->find(t.name) == &t);
  static_cast<void>(f->content_hash());
  return Status::Ok();
}

struct Broken {
  std::string name;
  StatusCode code;
  std::string message;  // how it begins behind "f.gguf: "
  std::function<void(GgufBytes&)> damage;
};

constexpr auto kCorrupt = StatusCode::kCorrupt;
constexpr auto kUnsupported = StatusCode::kUnsupported;

std::string nested_arrays(int depth) {
  std::string s = array(kU8, 1, "x");
  for (int i = 1; i < depth; ++i) s = array(kArray, 1, s);
  return s;
}

const auto set_pair = [](std::string p) { return [p](GgufBytes& f) { f.pairs[1] = p; }; };
const auto set_tensor = [](std::string t) { return [t](GgufBytes& f) { f.tensors[1] = t; }; };
const auto set_alignment = [](uint32_t type, std::string value) {
  return [=](GgufBytes& f) { f.pairs[1] = pair("general.alignment", type, value); };
};

// The sound file holds 7 keys and 2 tensors: a f32 (2, 4) at 0, b q8_0 (32) at 32 to 66.
std::vector<Broken> broken_files() {
  return {
      {"magic", kCorrupt, "wanted a GGUF file, found one that begins with 'GGML'", [](GgufBytes& f) { f.magic = "GGML"; }},
      {"magic of control bytes", kCorrupt, "wanted a GGUF file, found one that begins with '\\x7fELF'",
       [](GgufBytes& f) { f.magic = "\177ELF"; }},
      {"version 0", kUnsupported, "wanted GGUF version 2 or 3, found version 0", [](GgufBytes& f) { f.version = 0; }},
      {"version 1", kUnsupported, "wanted GGUF version 2 or 3, found version 1", [](GgufBytes& f) { f.version = 1; }},
      {"version 4", kUnsupported, "wanted GGUF version 2 or 3, found version 4", [](GgufBytes& f) { f.version = 4; }},
      {"big-endian", kUnsupported, "wanted little-endian GGUF, found a big-endian file (version 3)",
       [](GgufBytes& f) { f.version = 0x03000000; }},

      {"more keys than bytes", kCorrupt, "wanted at most ", [](GgufBytes& f) { f.n_pairs = uint64_t{1} << 62; }},
      {"negative key count", kCorrupt, "wanted at most ", [](GgufBytes& f) { f.n_pairs = uint64_t{1} << 63; }},
      {"a key too few", kCorrupt, "tensor 'nested': wanted 1 to 4 dimensions, found 9", [](GgufBytes& f) { f.n_pairs = 6; }},
      {"a key too many", kCorrupt, "tensor 1 of 2: byte 309: wanted 562949953421312 bytes of tensor name",
       [](GgufBytes& f) { f.n_pairs = 8; }},
      {"more tensors than bytes", kCorrupt, "wanted at most ", [](GgufBytes& f) { f.n_tensors = uint64_t{1} << 40; }},
      {"negative tensor count", kCorrupt, "wanted at most ", [](GgufBytes& f) { f.n_tensors = uint64_t{1} << 63; }},
      {"a tensor too many", kCorrupt, "tensor 3 of 3: wanted a name of 1 to 65535 bytes, found 0",
       [](GgufBytes& f) { f.n_tensors = 3; }},

      {"empty key", kCorrupt, "key 2 of 7: wanted a name of 1 to 65535 bytes, found 0", set_pair(pair("", kU32, u32(1)))},
      {"key too long", kCorrupt, "key 2 of 7: wanted a name of 1 to 65535 bytes, found 65536",
       set_pair(pair(std::string(65536, 'k'), kU32, u32(1)))},
      {"key with NUL", kCorrupt, "key 2 of 7: wanted a name without NUL, found 'a\\x00b'",
       set_pair(pair(std::string("a\0b", 3), kU32, u32(1)))},
      {"key not in UTF-8", kCorrupt, "key 2 of 7: wanted a name in UTF-8, found 'a\\xc0\\x80'",
       set_pair(pair("a\xc0\x80", kU32, u32(1)))},
      {"key with a surrogate", kCorrupt, "key 2 of 7: wanted a name in UTF-8", set_pair(pair("\xed\xa0\x80", kU32, u32(1)))},
      {"key twice", kCorrupt, "key 'yes': wanted each key once, found it twice", set_pair(pair("yes", kU32, u32(1)))},
      {"value type 13 of a key with a line feed", kCorrupt, "key 'a\\nb': wanted a value type from 0 to 12, found 13",
       set_pair(pair("a\nb", 13, u32(1)))},
      {"key longer than the file", kCorrupt, "key 2 of 7: byte 77: wanted 18446744073709551615 bytes of key, found ",
       set_pair(u64(UINT64_MAX) + "abc")},
      {"value type 13", kCorrupt, "key 'n': wanted a value type from 0 to 12, found 13", set_pair(pair("n", 13, u32(1)))},
      {"string longer than the file", kCorrupt, "key 'n': byte 90: wanted 1099511627776 bytes of string, found ",
       set_pair(pair("n", kString, u64(uint64_t{1} << 40)))},
      {"bool of 2", kCorrupt, "key 'n': wanted a bool of 0 or 1, found 2", set_pair(pair("n", kBool, "\2"))},
      {"bool of 255 in an array", kCorrupt, "key 'n': wanted a bool of 0 or 1, found 255",
       set_pair(pair("n", kArray, array(kBool, 3, "\1\1\xff")))},
      {"array of type 77", kCorrupt, "key 'n': wanted an element type from 0 to 12, found 77",
       set_pair(pair("n", kArray, array(77, 1, "x")))},
      {"array longer than the file", kCorrupt, "key 'n': byte 94: wanted 4611686018427387904 uint32, found ",
       set_pair(pair("n", kArray, array(kU32, uint64_t{1} << 62, "")))},
      {"array of strings longer than the file", kCorrupt, "key 'n': byte 94: wanted 4611686018427387904 string, found ",
       set_pair(pair("n", kArray, array(kString, uint64_t{1} << 62, "")))},
      {"array of arrays longer than the file", kCorrupt, "key 'n': byte 94: wanted 18446744073709551615 array, found ",
       set_pair(pair("n", kArray, array(kArray, UINT64_MAX, "")))},
      {"string in an array longer than the file", kCorrupt, "key 'n': byte 111: wanted 999999 bytes of string, found ",
       set_pair(pair("n", kArray, array(kString, 2, text("a") + u64(999999))))},
      {"arrays too deep", kCorrupt, "key 'n': wanted arrays at most 4 deep, found deeper ones",
       set_pair(pair("n", kArray, nested_arrays(5)))},

      {"alignment 0", kCorrupt, "key 'general.alignment': wanted a power of two from 8 to 1048576, found 0",
       set_alignment(kU32, u32(0))},
      {"alignment 24", kCorrupt, "key 'general.alignment': wanted a power of two from 8 to 1048576, found 24",
       set_alignment(kU32, u32(24))},
      {"alignment 4", kCorrupt, "key 'general.alignment': wanted a power of two from 8 to 1048576, found 4",
       set_alignment(kU32, u32(4))},
      {"alignment 2^31", kCorrupt, "key 'general.alignment': wanted a power of two from 8 to 1048576, found 2147483648",
       set_alignment(kU32, u32(1u << 31))},
      {"negative alignment", kCorrupt, "key 'general.alignment': wanted uint32, found int32 -32",
       set_alignment(kI32, u32(static_cast<uint32_t>(-32)))},
      {"alignment as text", kCorrupt, "key 'general.alignment': wanted uint32, found string '32'",
       set_alignment(kString, text("32"))},

      {"empty tensor name", kCorrupt, "tensor 2 of 2: wanted a name of 1 to 65535 bytes, found 0",
       set_tensor(tensor("", {32}, 8, 32))},
      {"tensor name with NUL", kCorrupt, "tensor 2 of 2: wanted a name without NUL, found 'b\\x00'",
       set_tensor(tensor(std::string("b\0", 2), {32}, 8, 32))},
      {"tensor name not in UTF-8", kCorrupt, "tensor 2 of 2: wanted a name in UTF-8, found 'b\\xff'",
       set_tensor(tensor("b\xff", {32}, 8, 32))},
      {"tensor twice", kCorrupt, "tensor 'a': wanted each tensor once, found it twice", set_tensor(tensor("a", {32}, 8, 32))},
      {"tensor twice, once of unknown type", kCorrupt, "tensor 'a': wanted each tensor once, found it twice",
       set_tensor(tensor("a", {32}, 99, 32))},
      {"no dimensions", kCorrupt, "tensor 'b': wanted 1 to 4 dimensions, found 0", set_tensor(tensor("b", {}, 8, 32))},
      {"five dimensions", kCorrupt, "tensor 'b': wanted 1 to 4 dimensions, found 5",
       set_tensor(tensor("b", {32, 1, 1, 1, 1}, 8, 32))},
      {"4294967295 dimensions", kCorrupt, "tensor 'b': wanted 1 to 4 dimensions, found 4294967295",
       set_tensor(text("b") + u32(UINT32_MAX))},
      {"dimension 0", kCorrupt, "tensor 'b': wanted dimensions of at least 1, found (0, 32)",
       set_tensor(tensor("b", {32, 0}, 8, 32))},
      {"negative dimension", kCorrupt, "tensor 'b': wanted dimensions of at least 1, found (-1)",
       set_tensor(tensor("b", {UINT64_MAX}, 0, 32))},
      {"product of dimensions overflows", kCorrupt,
       "tensor 'b': wanted a size below 2^63, found shape (8, 2305843009213693952)",
       set_tensor(tensor("b", {uint64_t{1} << 61, 8}, 24, 32))},
      {"product wraps round to a small one", kCorrupt, "tensor 'b': wanted a size below 2^63",
       set_tensor(tensor("b", {uint64_t{1} << 32, (uint64_t{1} << 32) + 1}, 24, 32))},
      {"bytes overflow though elements do not", kCorrupt, "tensor 'b': wanted a size below 2^63",
       set_tensor(tensor("b", {uint64_t{1} << 62}, 0, 32))},
      {"unknown type of overflowing shape", kCorrupt, "tensor 'b': wanted a size below 2^63",
       set_tensor(tensor("b", {uint64_t{1} << 32, uint64_t{1} << 32}, 99, 32))},
      {"part of a block", kCorrupt, "tensor 'b': wanted rows of a multiple of 32 elements, found (2, 16)",
       set_tensor(tensor("b", {16, 2}, 8, 32))},
      {"part of a block of a foreign type", kCorrupt, "tensor 'b': wanted rows of a multiple of 256 elements, found (32)",
       set_tensor(tensor("b", {32}, 16, 32))},
      {"offset not aligned", kCorrupt, "tensor 'b': wanted an offset that is a multiple of 32, found 33",
       set_tensor(tensor("b", {32}, 8, 33))},
      {"offset behind the file", kCorrupt,
       "tensor 'b': wanted 34 bytes at offset 1024 of the data section, found 66 bytes in it",
       set_tensor(tensor("b", {32}, 8, 1024))},
      {"offset that wraps round", kCorrupt,
       "tensor 'b': wanted 34 bytes at offset 18446744073709551584 of the data section, found 66",
       set_tensor(tensor("b", {32}, 8, UINT64_MAX - 31))},
      {"unknown type behind the file", kCorrupt, "tensor 'b': wanted 0 bytes at offset 1024 of the data section, found 66",
       set_tensor(tensor("b", {32}, 99, 1024))},
      {"tensor longer than the file", kCorrupt, "tensor 'b': wanted 68 bytes at offset 32 of the data section, found 66",
       set_tensor(tensor("b", {64}, 8, 32))},
      {"foreign tensor longer than the file", kCorrupt,
       "tensor 'b': wanted 66 bytes at offset 32 of the data section, found 66", set_tensor(tensor("b", {256}, 16, 32))},
      {"tensors at one offset", kCorrupt,
       "tensor 'b': wanted bytes of its own, found offset 0 inside tensor 'a', which ends at 32",
       set_tensor(tensor("b", {32}, 8, 0))},
      {"tensors that overlap", kCorrupt,
       "tensor 'b': wanted bytes of its own, found offset 32 inside tensor 'a', which ends at 40",
       [](GgufBytes& f) { f.tensors[0] = tensor("a", {10}, 0, 0); }},
      {"a last byte missing", kCorrupt, "tensor 'b': wanted 34 bytes at offset 32 of the data section, found 65",
       [](GgufBytes& f) { f.data.pop_back(); }},
      {"a part of a split model in memory", kUnsupported, "wanted a whole model in memory, found part 1 of 2",
       [](GgufBytes& f) {
         f.pairs.push_back(pair("split.no", kU16, le(uint16_t{0})));
         f.pairs.push_back(pair("split.count", kU16, le(uint16_t{2})));
       }},
      {"split number beyond the count", kCorrupt, "key 'split.no': wanted a part below split.count",
       [](GgufBytes& f) {
         f.pairs.push_back(pair("split.no", kU16, le(uint16_t{2})));
         f.pairs.push_back(pair("split.count", kU16, le(uint16_t{2})));
       }},
  };
}

}  // namespace

TEST_CASE("each broken GGUF file gets the message for its fault, on one line") {
  REQUIRE(parse_alone(sound_file().bytes()).ok());
  for (const Broken& b : broken_files()) {
    CAPTURE(b.name);
    GgufBytes f = sound_file();
    b.damage(f);
    const Status s = parse_alone(f.bytes());
    CHECK(s.code() == b.code);
    CHECK_MESSAGE(s.message().starts_with("f.gguf: " + b.message), s.message());
    CHECK(s.message().find('\n') == std::string::npos);
  }
}

TEST_CASE("no prefix of a GGUF file is taken for the whole") {
  const std::string whole = sound_file().bytes();
  for (size_t n = 0; n < whole.size(); ++n) {
    CAPTURE(n);
    const Status s = parse_alone(std::string_view(whole).substr(0, n));
    CHECK_FALSE(s.ok());
    CHECK(s.message().starts_with("f.gguf: "));
  }
  CHECK(parse_alone(whole).ok());
}

TEST_CASE("a vocabulary-only GGUF file is complete from the end of its keys on") {
  GgufBytes f = sound_file();
  f.tensors.clear();
  f.data.clear();
  const size_t keys = f.header().size();
  const std::string whole = f.bytes();
  REQUIRE(keys < whole.size());
  for (size_t n = 0; n <= whole.size(); ++n) {
    CAPTURE(n);
    CHECK(parse_alone(std::string_view(whole).substr(0, n)).ok() == (n >= keys));
  }
}

TEST_CASE("arrays nest as deep as the limit") {
  GgufBytes f = sound_file();
  f.pairs[1] = pair("n", kArray, nested_arrays(4));
  CHECK(parse_alone(f.bytes()).ok());
}

TEST_CASE("no changed byte of a GGUF header crashes the reader") {
  const GgufBytes f = sound_file();
  const std::string whole = f.bytes();
  const size_t header = whole.size() - f.data.size();
  size_t refused = 0;
  for (size_t i = 0; i < header; ++i) {
    for (int value : {0, 1, 2, 8, 9, 13, 0x20, 0x7f, 0x80, 0xc0, 0xfe, 0xff}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(value);
      refused += !parse_alone(changed).ok();
    }
  }
  CHECK(refused > header);  // most bytes are counts, types and lengths
}

TEST_CASE("no changed number of a GGUF header crashes the reader") {
  const GgufBytes f = sound_file();
  const std::string whole = f.bytes();
  size_t refused = 0;
  for (size_t i = 0; i + 8 <= whole.size() - f.data.size(); ++i) {
    for (uint64_t value : {uint64_t{0}, uint64_t{INT64_MAX}, UINT64_MAX, uint64_t{1} << 61, uint64_t{UINT32_MAX}}) {
      std::string changed = whole;
      changed.replace(i, 8, le(value));
      refused += !parse_alone(changed).ok();
    }
  }
  CHECK(refused > whole.size());
}
