#include "models/io/gguf_format.h"

#include <array>
#include <bit>

namespace moe {
namespace {

struct TypeRow {
  const char* name;
  size_t bytes;
};

// Indexed by GgufType.
constexpr std::array<TypeRow, kNumGgufTypes> kTypes = {{{"uint8", 1},
                                                        {"int8", 1},
                                                        {"uint16", 2},
                                                        {"int16", 2},
                                                        {"uint32", 4},
                                                        {"int32", 4},
                                                        {"float32", 4},
                                                        {"bool", 1},
                                                        {"string", 0},
                                                        {"array", 0},
                                                        {"uint64", 8},
                                                        {"int64", 8},
                                                        {"float64", 8}}};

// Sizes from ggml's ggml-common.h; numbers that ggml has retired (4, 5, 31 to 33, 36 to 38) are left out.
constexpr ForeignTensorType kForeignTypes[] = {
    {9, "q8_1", 32, 36},      {15, "q8_k", 256, 292}, {16, "iq2_xxs", 256, 66}, {17, "iq2_xs", 256, 74},
    {18, "iq3_xxs", 256, 98}, {19, "iq1_s", 256, 50}, {21, "iq3_s", 256, 110},  {22, "iq2_s", 256, 82},
    {23, "iq4_xs", 256, 136}, {25, "i16", 1, 2},      {27, "i64", 1, 8},        {28, "f64", 1, 8},
    {29, "iq1_m", 256, 56},   {34, "tq1_0", 256, 54}, {35, "tq2_0", 256, 66},   {40, "nvfp4", 64, 36},
    {41, "q1_0", 128, 18},    {42, "q2_0", 64, 18},
};

// Length of the well-formed UTF-8 sequence at the start of s (Unicode 15, table 3-7), 0 if there is none.
//   00..7F                                 one byte
//   C2..DF 80..BF                          two; C0 and C1 would be overlong
//   E0 A0..BF, E1..EF 80..BF, then 80..BF  three; E0 below A0 is overlong, ED above 9F a surrogate
//   F0 90..BF, F1..F4 80..BF, then twice   four; F0 below 90 is overlong, F4 above 8F beyond U+10FFFF
size_t utf8_length(std::string_view s) {
  const auto byte = [&](size_t i) { return i < s.size() ? static_cast<uint8_t>(s[i]) : 0u; };
  const auto continues = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const unsigned b = byte(0);
  if (s.empty()) return 0;
  if (b < 0x80) return 1;
  if (b >= 0xc2 && b <= 0xdf) return continues(1) ? 2 : 0;
  if (b >= 0xe0 && b <= 0xef) return continues(1, b == 0xe0 ? 0xa0 : 0x80, b == 0xed ? 0x9f : 0xbf) && continues(2) ? 3 : 0;
  if (b < 0xf0 || b > 0xf4) return 0;
  return continues(1, b == 0xf0 ? 0x90 : 0x80, b == 0xf4 ? 0x8f : 0xbf) && continues(2) && continues(3) ? 4 : 0;
}

// The first `length` bytes of s as they may appear in a line of text.
std::string escaped(std::string_view s, size_t length) {
  static constexpr char kHex[] = "0123456789abcdef";
  const auto b = static_cast<uint8_t>(s[0]);
  if (length > 1 || (length == 1 && b >= 0x20 && b != 0x7f && b != '\\')) return std::string(s.substr(0, length));
  switch (b) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\\':
      return "\\\\";
    default:
      return {'\\', 'x', kHex[b >> 4], kHex[b & 15]};
  }
}

}  // namespace

const char* gguf_type_name(GgufType t) { return kTypes[static_cast<size_t>(t)].name; }
size_t gguf_type_bytes(GgufType t) { return kTypes[static_cast<size_t>(t)].bytes; }

Status read_gguf_string(ByteReader& r, const char* what, std::string_view& out) {
  uint64_t length = 0;
  MOE_TRY(read_field(r, what, length));
  const size_t at = r.position(), left = r.remaining();
  if (length <= left && r.read_view(static_cast<size_t>(length), out)) return Status::Ok();
  return Status::Corrupt("byte " + std::to_string(at) + ": wanted " + std::to_string(length) + " bytes of " + what +
                         ", found " + std::to_string(left));
}

void write_gguf_string(ByteWriter& w, std::string_view s) {
  w.write(static_cast<uint64_t>(s.size()));
  w.write_bytes(s.data(), s.size());
}

Status read_gguf_type(ByteReader& r, const char* what, GgufType& out) {
  uint32_t id = 0;
  MOE_TRY(read_field(r, what, id));
  if (id >= kNumGgufTypes) {
    return Status::Corrupt(std::string("wanted ") + what + " from 0 to " + std::to_string(kNumGgufTypes - 1) + ", found " +
                           std::to_string(id));
  }
  out = static_cast<GgufType>(id);
  return Status::Ok();
}

Status check_gguf_name(std::string_view name, size_t max_bytes) {
  if (name.empty() || name.size() > max_bytes) {
    return Status::Corrupt("wanted a name of 1 to " + std::to_string(max_bytes) + " bytes, found " +
                           std::to_string(name.size()));
  }
  if (name.find('\0') != name.npos) return Status::Corrupt("wanted a name without NUL, found '" + printable(name) + "'");
  if (!valid_utf8(name)) return Status::Corrupt("wanted a name in UTF-8, found '" + printable(name) + "'");
  return Status::Ok();
}

Status check_gguf_alignment(uint64_t alignment) {
  if (std::has_single_bit(alignment) && alignment >= kGgufMinAlignment && alignment <= kGgufMaxAlignment) return Status::Ok();
  return Status::Corrupt("key 'general.alignment': wanted a power of two from " + std::to_string(kGgufMinAlignment) + " to " +
                         std::to_string(kGgufMaxAlignment) + ", found " + std::to_string(alignment));
}

Result<uint64_t> gguf_tensor_bytes(std::span<const int64_t> shape, int64_t block_elements, int64_t block_bytes) {
  if (shape.empty() || shape.size() > kGgufMaxDims) {
    return Status::Corrupt("wanted 1 to " + std::to_string(kGgufMaxDims) + " dimensions, found " +
                           std::to_string(shape.size()));
  }
  for (int64_t d : shape) {
    if (d < 1) return Status::Corrupt("wanted dimensions of at least 1, found " + shape_text(shape));
  }
  if (shape.back() % block_elements != 0) {
    return Status::Corrupt("wanted rows of a multiple of " + std::to_string(block_elements) + " elements, found " +
                           shape_text(shape));
  }
  int64_t bytes = 0;
  bool overflow = __builtin_mul_overflow(shape.back() / block_elements, block_bytes, &bytes);
  int64_t elements = shape.back();
  for (int64_t d : shape.first(shape.size() - 1)) {
    overflow |= __builtin_mul_overflow(bytes, d, &bytes);
    overflow |= __builtin_mul_overflow(elements, d, &elements);
  }
  if (overflow) return Status::Corrupt("wanted a size below 2^63, found shape " + shape_text(shape));
  return static_cast<uint64_t>(bytes);
}

bool valid_utf8(std::string_view s) {
  while (!s.empty()) {
    const size_t n = utf8_length(s);
    if (n == 0) return false;
    s.remove_prefix(n);
  }
  return true;
}

std::string printable(std::string_view s, size_t width) {
  std::string out;
  for (size_t pieces = 0; !s.empty() && pieces <= width; ++pieces) {
    const size_t n = utf8_length(s);
    out += escaped(s, n);
    s.remove_prefix(n ? n : 1);
  }
  return cut_line(std::move(out), width);
}

std::string cut_line(std::string text, size_t width) {
  const auto starts_character = [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; };
  size_t characters = 0, cut = 0;  // cut: where character number width - 1 ends
  for (size_t i = 0; i < text.size(); ++i) {
    if (!starts_character(text[i])) continue;
    if (characters + 1 == width) cut = i;
    if (++characters > width) return text.substr(0, cut) + (width ? "…" : "");
  }
  return text;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string out = "(";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + ")";
}

const ForeignTensorType* find_foreign_type(uint32_t gguf_id) {
  for (const ForeignTensorType& t : kForeignTypes) {
    if (t.gguf_id == gguf_id) return &t;
  }
  return nullptr;
}

}  // namespace moe
