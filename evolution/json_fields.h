// Reads JSON that anybody may have written: a document's values by name, each checked against what is wanted, and the first
// thing wrong kept with its path. Values asked for after that are zeros, so that a reader is a list of fields:
//
//   MOE_ASSIGN(const JsonDocument document, JsonDocument::parse(text, "device JSON", {}));
//   const JsonField root = document.root();
//   profile.threads = static_cast<int>(root["threads"].integer(0, 1024));   // there must be one
//   if (root.has("name")) profile.name = root["name"].text(100);            // there may be one
//   return document.status();   // device JSON: threads: wanted an integer from 0 to 1024, found "many"
//
// Rejected: a tree of our own (nlohmann's is behind this header, which says nothing of it).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"

namespace moe {

class JsonField;

// Move-only; fields refer to it. Not thread-safe.
class JsonDocument {
 public:
  struct Limits {
    size_t bytes = size_t{8} << 20;
    size_t depth = 16;
  };
  // kCorrupt, beginning with `what`, where the text is longer or deeper than the limits, is no JSON (UTF-8, finite numbers) or
  // repeats a key of an object.
  static Result<JsonDocument> parse(std::string_view text, std::string what, Limits limits);
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();

  JsonField root() const;
  const Status& status() const;  // kCorrupt: the first field that was not as wanted

 private:
  friend class JsonField;
  struct Tree;
  explicit JsonDocument(std::unique_ptr<Tree> tree);
  std::unique_ptr<Tree> tree_;
};

class JsonField {
 public:
  JsonField operator[](const char* key) const;  // of an object; wanted
  bool has(const char* key) const;              // and it is not null
  // An object with no keys but these.
  void allow(std::initializer_list<const char*> keys) const;

  double number(double low = std::numeric_limits<double>::lowest(), double high = std::numeric_limits<double>::max()) const;
  double number_or_nan() const;  // null: NaN
  int64_t integer(int64_t low, int64_t high) const;
  uint64_t unsigned_integer() const;
  uint64_t hex() const;  // 16 digits
  bool boolean() const;
  std::string text(size_t most_bytes) const;
  std::vector<JsonField> items(size_t least, size_t most) const;
  std::vector<std::pair<std::string, JsonField>> members(size_t most) const;  // sorted by name
  std::string json() const;                                                   // the field as a text of its own

  // A reader found another thing wrong with it.
  void refuse(const std::string& wanted) const;

 private:
  friend class JsonDocument;
  JsonField(JsonDocument::Tree* tree, const void* value) : tree_(tree), value_(value) {}
  JsonDocument::Tree* tree_;
  const void* value_;  // null: something above it was wrong
};

}  // namespace moe
