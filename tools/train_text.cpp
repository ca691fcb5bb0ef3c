#include "tools/train_text.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "models/tokenizer/unicode.h"

namespace moe::tools {
namespace {

constexpr size_t kChunk = 256 << 10;

class FileSource final : public ByteSource {
 public:
  FileSource(std::FILE* file, std::string name, bool owned) : file_(file), name_(std::move(name)), owned_(owned) {}
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  ~FileSource() override {
    if (owned_) std::fclose(file_);
  }

  Result<size_t> read(char* out, size_t n) override {
    if (!ahead_.empty()) {
      n = std::min(n, ahead_.size());
      std::memcpy(out, ahead_.data(), n);
      ahead_.erase(0, n);
      return n;
    }
    return read_file(out, n);
  }
  Result<std::string_view> peek(size_t n) override {
    char byte;
    while (ahead_.size() < n) {
      MOE_ASSIGN(const size_t got, read_file(&byte, 1));
      if (got == 0) break;
      ahead_ += byte;
    }
    return std::string_view(ahead_).substr(0, n);
  }
  uint64_t consumed() const override { return consumed_; }

 private:
  Result<size_t> read_file(char* out, size_t n) {
    errno = 0;
    const size_t got = std::fread(out, 1, n, file_);
    if (got == 0 && std::ferror(file_)) return Status::Io(name_ + ": cannot read: " + std::strerror(errno));
    consumed_ += got;
    return got;
  }

  std::FILE* file_;
  std::string name_;
  bool owned_;
  uint64_t consumed_ = 0;
  std::string ahead_;
};

bool is_blank_line(std::string_view line) { return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos; }

// Collects the text of the document at work and knows where its last line begins.
class DocumentReader {
 public:
  DocumentReader(const std::string& name, const TextFormat& format, const OnDocument& on_document, TextCounts& counts)
      : name_(name), format_(format), on_document_(on_document), counts_(counts) {}

  Status add(std::string_view chunk) {
    while (!chunk.empty()) {
      const size_t end = chunk.find('\n');
      const bool whole_line = end != std::string_view::npos;
      text_ += chunk.substr(0, end);
      chunk.remove_prefix(whole_line ? end + 1 : chunk.size());
      if (whole_line) MOE_TRY(end_line(true));
      if (text_.size() > format_.most_bytes) MOE_TRY(cut());
    }
    return Status::Ok();
  }

  Status finish() {
    if (line_begin_ < text_.size()) MOE_TRY(end_line(false));
    return format_.kind == TextKind::kJsonl ? Status::Ok() : emit(text_);
  }

 private:
  // The line from line_begin_ to the end of text_ is whole; `closed`: a line end follows.
  Status end_line(bool closed) {
    ++line_number_;
    const std::string_view line = std::string_view(text_).substr(line_begin_);
    if (format_.kind == TextKind::kJsonl) return emit_object(line);
    if (divides(line)) {
      const size_t size = line_begin_ > 0 ? line_begin_ - 1 : 0;  // without the line end before
      MOE_TRY(emit(std::string_view(text_).substr(0, size)));
      clear();
      return Status::Ok();
    }
    if (closed) text_ += '\n';
    line_begin_ = text_.size();
    return Status::Ok();
  }

  bool divides(std::string_view line) const {
    if (format_.kind == TextKind::kBlankLines) return is_blank_line(line);
    if (format_.kind != TextKind::kSeparator) return false;
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line == format_.separator;
  }

  Status emit_object(std::string_view line) {
    if (!is_blank_line(line)) {
      const Result<std::string> text = apply_layout(format_.layout, line);
      if (!text.ok()) return text.status().Annotate(name_ + ": line " + std::to_string(line_number_));
      MOE_TRY(emit(*text));
    }
    clear();
    return Status::Ok();
  }

  // Gives away what is there, at the end of a line or else of a character. A separator that this breaks is text.
  Status cut() {
    if (format_.kind == TextKind::kJsonl)
      return Status::OutOfRange(name_ + ": line " + std::to_string(line_number_ + 1) + ": more than " +
                                std::to_string(format_.most_bytes) + " bytes");
    size_t end = line_begin_;
    if (end == 0) {
      end = text_.size();
      while (end > text_.size() - std::min<size_t>(text_.size(), 4) + 1 && (text_[end - 1] & 0xC0) == 0x80) --end;
      if (end > 1 && static_cast<uint8_t>(text_[end - 1]) >= 0xC0) --end;  // the beginning of a character
    }
    MOE_TRY(emit(std::string_view(text_).substr(0, end)));
    text_.erase(0, end);
    line_begin_ = 0;
    ++counts_.cuts;
    return Status::Ok();
  }

  Status emit(std::string_view text) {
    if (text.empty()) return Status::Ok();
    ++counts_.documents;
    counts_.bytes += text.size();
    return format_.replace_invalid ? on_document_(replace_invalid_utf8(text)) : on_document_(text);
  }

  void clear() {
    text_.clear();
    line_begin_ = 0;
  }

  const std::string& name_;
  const TextFormat& format_;
  const OnDocument& on_document_;
  TextCounts& counts_;
  std::string text_;
  size_t line_begin_ = 0;
  uint64_t line_number_ = 0;
};

std::string field_names(const nlohmann::json& object) {
  std::string names;
  for (const auto& [key, value] : object.items()) names += (names.empty() ? "" : ", ") + key;
  return names;
}

Status append_field(const nlohmann::json& object, std::string_view name, std::string& out) {
  const bool optional = name.ends_with('?');
  if (optional) name.remove_suffix(1);
  const auto field = object.find(name);
  if (field == object.end() && optional) return Status::Ok();
  if (field == object.end())
    return Status::NotFound("wanted the field '" + std::string(name) + "', found: " + field_names(object));
  if (field->is_string())
    out += field->get_ref<const std::string&>();
  else if (!field->is_null())
    out += field->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<ByteSource>> open_source(const std::string& path) {
  if (path == "-") return std::unique_ptr<ByteSource>(std::make_unique<FileSource>(stdin, "standard input", false));
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) {
    const std::string what = path + ": cannot open: " + std::strerror(errno);
    return errno == ENOENT ? Status::NotFound(what) : Status::Io(what);
  }
  return std::unique_ptr<ByteSource>(std::make_unique<FileSource>(file, path, true));
}

Status read_documents(ByteSource& source, const std::string& name, const TextFormat& format, const OnDocument& on_document,
                      TextCounts& counts) {
  DocumentReader reader(name, format, on_document, counts);
  std::vector<char> chunk(kChunk);
  for (;;) {
    MOE_ASSIGN(const size_t n, source.read(chunk.data(), chunk.size()));
    if (n == 0) return reader.finish();
    MOE_TRY(reader.add({chunk.data(), n}));
  }
}

Result<std::string> apply_layout(std::string_view layout, std::string_view json_object) {
  const nlohmann::json object = nlohmann::json::parse(json_object, nullptr, false);
  if (!object.is_object()) return Status::Corrupt("wanted a JSON object");
  std::string out;
  for (size_t i = 0; i < layout.size(); ++i) {
    const char c = layout[i];
    if ((c == '{' || c == '}') && i + 1 < layout.size() && layout[i + 1] == c) {
      out += c, ++i;
    } else if (c == '{') {
      const size_t end = layout.find('}', i);
      if (end == std::string_view::npos)
        return Status::InvalidArgument("layout '" + std::string(layout) + "': a { is not closed");
      MOE_TRY(append_field(object, layout.substr(i + 1, end - i - 1), out));
      i = end;
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    if (next == 'n' || next == 't' || next == '\\') {
      out += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const DecodedChar c = decode_utf8(text);
    if (c.state == Utf8::kValid)
      out += text.substr(0, c.length);
    else
      append_utf8(kReplacementCharacter, out);
    text.remove_prefix(c.length);
  }
  return out;
}

}  // namespace moe::tools
