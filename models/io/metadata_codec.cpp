// The key-value section of GGUF files: bytes to Metadata, back, and to text.
#include <algorithm>
#include <charconv>

#include "models/io/metadata.h"
#include "models/io/scalar_type.h"

namespace moe {
namespace {

constexpr uint64_t kMinKeyRecord = 8 + 1 + 4 + 1;  // key length, one character, type, one byte of value

// The fewest bytes that one value of this type takes: refuses counts that the rest of the file cannot hold.
uint64_t min_value_bytes(GgufType t) {
  if (t == GgufType::kString) return sizeof(uint64_t);
  if (t == GgufType::kArray) return sizeof(uint32_t) + sizeof(uint64_t);
  return gguf_type_bytes(t);
}

Status check_bools(std::span<const std::byte> bytes) {
  const auto bad = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; });
  if (bad == bytes.end()) return Status::Ok();
  return Status::Corrupt("wanted a bool of 0 or 1, found " + std::to_string(std::to_integer<int>(*bad)));
}

Status skip_array(ByteReader& r, int depth, GgufType& type, uint64_t& count);

// Moves over `count` values and checks them. Each takes at least a byte, so this ends with the file.
Status skip_values(ByteReader& r, GgufType type, uint64_t count, int depth) {
  const size_t at = r.position(), left = r.remaining();
  if (count > left / min_value_bytes(type)) {
    return Status::Corrupt("byte " + std::to_string(at) + ": wanted " + std::to_string(count) + " " + gguf_type_name(type) +
                           ", found " + std::to_string(left) + " bytes");
  }
  if (type == GgufType::kString) {
    std::string_view text;
    for (uint64_t i = 0; i < count; ++i) MOE_TRY(read_gguf_string(r, "string", text));
    return Status::Ok();
  }
  if (type == GgufType::kArray) {
    GgufType inner_type;
    uint64_t inner_count = 0;
    for (uint64_t i = 0; i < count; ++i) MOE_TRY(skip_array(r, depth + 1, inner_type, inner_count));
    return Status::Ok();
  }
  std::span<const std::byte> bytes;
  MOE_CHECK(r.read_bytes(static_cast<size_t>(count * gguf_type_bytes(type)), bytes));
  return type == GgufType::kBool ? check_bools(bytes) : Status::Ok();
}

// An array is its element type (u32), its count (u64) and the elements.
Status skip_array(ByteReader& r, int depth, GgufType& type, uint64_t& count) {
  if (depth > kGgufMaxArrayDepth) {
    return Status::Corrupt("wanted arrays at most " + std::to_string(kGgufMaxArrayDepth) + " deep, found deeper ones");
  }
  MOE_TRY(read_gguf_type(r, "an element type", type));
  MOE_TRY(read_field(r, "array length", count));
  return skip_values(r, type, count, depth);
}

// What stands before the body of a value: an array's header, a string's length.
size_t header_bytes(GgufType t) { return t == GgufType::kString || t == GgufType::kArray ? min_value_bytes(t) : 0; }

// The value of type e.type at the reader's position.
Status decode_value(ByteReader& r, MetadataEntry& e) {
  ByteReader from = r;  // reads the same bytes again, once they are known to be sound
  e.element_type = e.type;
  MOE_TRY(e.type == GgufType::kArray ? skip_array(r, 1, e.element_type, e.count) : skip_values(r, e.type, 1, 0));
  std::string_view value;
  MOE_CHECK(from.read_view(r.position() - from.position(), value));
  e.body = value.substr(header_bytes(e.type));
  return Status::Ok();
}

// Appends the values at the reader's position as text, until `out` is longer than anybody will show.
void append_values(ByteReader& r, GgufType type, uint64_t count, size_t enough, std::string& out);

void append_value(ByteReader& r, GgufType type, size_t enough, std::string& out) {
  std::string_view text;
  if (type == GgufType::kString) {
    if (read_gguf_string(r, "string", text).ok()) out += "\"" + printable(text, enough) + "\"";
  } else if (type != GgufType::kArray) {
    if (r.read_view(gguf_type_bytes(type), text)) out += scalar_text(type, text.data());
  } else {
    GgufType inner;
    uint64_t count = 0;
    if (!read_gguf_type(r, "an element type", inner).ok() || !r.read(count)) return;
    append_values(r, inner, count, enough, out);
  }
}

void append_values(ByteReader& r, GgufType type, uint64_t count, size_t enough, std::string& out) {
  out += "[";
  for (uint64_t i = 0; i < count && out.size() <= enough; ++i) {
    if (i) out += ", ";
    append_value(r, type, enough, out);
  }
  out += "]";
}

std::span<const std::byte> body_bytes(const MetadataEntry& e) { return std::as_bytes(std::span(e.body)); }

}  // namespace

Result<Metadata> Metadata::decode(ByteReader& reader, uint64_t n, std::string source) {
  Metadata out(std::move(source));
  const uint64_t most = std::min(kGgufMaxRecords, static_cast<uint64_t>(reader.remaining()) / kMinKeyRecord);
  if (n > most) {
    return Status::Corrupt(out.source_ + ": wanted at most " + std::to_string(most) + " keys in " +
                           std::to_string(reader.remaining()) + " bytes, found a count of " + std::to_string(n));
  }
  for (uint64_t i = 0; i < n; ++i) {
    const std::string number = out.source_ + ": key " + std::to_string(i + 1) + " of " + std::to_string(n);
    std::string_view key;
    MOE_TRY(read_gguf_string(reader, "key", key).Annotate(number));
    MOE_TRY(check_gguf_name(key, kGgufMaxNameBytes).Annotate(number));
    const std::string named = out.source_ + ": key '" + printable(key) + "'";
    if (out.has(key)) return Status::Corrupt(named + ": wanted each key once, found it twice");
    MetadataEntry e;
    e.key = key;
    MOE_TRY(read_gguf_type(reader, "a value type", e.type).Annotate(named));
    MOE_TRY(decode_value(reader, e).Annotate(named));
    out.set_entry(std::move(e));
  }
  return out;
}

void Metadata::encode(ByteWriter& writer) const {
  for (const MetadataEntry& e : entries_) {
    write_gguf_string(writer, e.key);
    writer.write(static_cast<uint32_t>(e.type));
    if (e.type == GgufType::kArray) {
      writer.write(static_cast<uint32_t>(e.element_type));
      writer.write(e.count);
    }
    if (e.type == GgufType::kString) writer.write(static_cast<uint64_t>(e.body.size()));
    writer.write_bytes(e.body.data(), e.body.size());
  }
}

std::string scalar_text(GgufType type, const char* p) {
  return visit_scalar(type, [&]<class S>(std::type_identity<S>) -> std::string {
    const S value = load_scalar<S>(p);
    if constexpr (std::is_same_v<S, bool>) {
      return value ? "true" : "false";
    } else if constexpr (std::is_integral_v<S>) {
      return std::to_string(value);
    } else {
      char text[32];
      return {text, std::to_chars(text, text + sizeof text, value).ptr};  // the shortest that reads back the same
    }
  });
}

std::string value_type_text(const MetadataEntry& e) {
  if (e.type != GgufType::kArray) return gguf_type_name(e.type);
  return "array of " + std::to_string(e.count) + " " + gguf_type_name(e.element_type);
}

std::string value_text(const MetadataEntry& e, size_t width) {
  if (e.type == GgufType::kString) return printable(e.body, width);
  if (e.type != GgufType::kArray) return cut_line(scalar_text(e.type, e.body.data()), width);
  ByteReader r(body_bytes(e));
  std::string out;
  append_values(r, e.element_type, e.count, 4 * std::min(width, e.body.size()), out);  // a character is at most 4 bytes
  return cut_line(std::move(out), width);
}

}  // namespace moe
