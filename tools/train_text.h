// Documents from files of text, one after the other, in memory that one document bounds.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/status.h"

namespace moe::tools {

// Bytes that come in order: of a file, a pipe, a decompressor.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // 1 to n bytes, 0 at the end.
  virtual Result<size_t> read(char* out, size_t n) = 0;
  // Bytes of the stored file that were read: for progress.
  virtual uint64_t consumed() const = 0;
  // The next bytes, at most n, which read() gives too.
  virtual Result<std::string_view> peek(size_t n) = 0;
};

// "-" is standard input.
Result<std::unique_ptr<ByteSource>> open_source(const std::string& path);

enum class TextKind {
  kWhole,       // the file is one document
  kSeparator,   // a line that is exactly `separator` stands between two; that line and the line end before it are no text
  kBlankLines,  // as many blank lines as there are stand between two
  kJsonl,       // an object a line, `layout` makes the document
};

struct TextFormat {
  TextKind kind = TextKind::kSeparator;
  std::string separator = "<|endoftext|>";
  std::string layout = "{text}";         // {name} is a field of the object, {name?} one that may be absent, {{ }} are braces
  bool replace_invalid = false;          // what is not UTF-8 becomes U+FFFD; else it stays byte by byte
  size_t most_bytes = size_t{64} << 20;  // of a document; a longer one is cut into several
};

struct TextCounts {
  uint64_t documents = 0, bytes = 0;
  uint64_t cuts = 0;  // documents begun because one was too long
};

// Called with every document that is not empty; an error ends the reading.
using OnDocument = std::function<Status(std::string_view text)>;

// Reads to the end. Messages name `name` and, for JSON, line and field.
Status read_documents(ByteSource& source, const std::string& name, const TextFormat& format, const OnDocument& on_document,
                      TextCounts& counts);

// The layout with the fields of one JSON object: strings as they are, null as nothing, all else as JSON.
Result<std::string> apply_layout(std::string_view layout, std::string_view json_object);
// As JSON writes it in strings: \n \t \\ for those who type a layout in a shell.
std::string unescape(std::string_view text);
std::string replace_invalid_utf8(std::string_view text);

}  // namespace moe::tools
