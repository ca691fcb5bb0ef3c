#include "evolution/json_fields.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

namespace moe {
namespace {

using Json = nlohmann::json;

// Hostile text made fit for a message: short, and nothing but printable ASCII.
std::string printable(std::string s, size_t limit) {
  if (s.size() > limit) s = s.substr(0, limit) + "...";
  for (char& c : s)
    if (c < ' ' || c > '~') c = '?';
  return s;
}

std::string brief(const Json& v) {
  if (v.is_array()) return "an array of " + std::to_string(v.size());
  if (v.is_object()) return "an object";
  return printable(v.dump(-1, ' ', true), 40);
}

std::string step(const std::string& path, const std::string& key) {
  return path.empty() ? printable(key, 40) : path + "." + printable(key, 40);
}

// First pass: syntax, depth and repeated keys, before a tree is built.
class Guard : public nlohmann::json_sax<Json> {
 public:
  Guard(const std::string& what, size_t depth) : what_(what), depth_(depth) {}
  Status status;

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(int64_t) override { return value(); }
  bool number_unsigned(uint64_t) override { return value(); }
  bool number_float(double, const std::string&) override { return value(); }
  bool string(std::string&) override { return value(); }
  bool binary(Json::binary_t&) override { return value(); }
  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = levels_.back();
    level.key = name;
    return level.keys.insert(name).second || refuse("each key once, found it again");
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    const std::string text = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const size_t head = text.find("] ");
    status = Status::Corrupt(what_ + ": " + printable(head == std::string::npos ? text : text.substr(head + 2), 300));
    return false;
  }

 private:
  struct Level {
    bool object = false;
    std::string key = {};
    size_t index = 0;
    std::set<std::string> keys = {};
  };

  bool value() {
    if (!levels_.empty()) ++levels_.back().index;
    return true;
  }
  bool open(bool object) {
    if (levels_.size() == depth_) return refuse("at most " + std::to_string(depth_) + " levels of nesting, found more");
    levels_.push_back({object});
    return true;
  }
  bool close() {
    levels_.pop_back();
    return value();
  }
  bool refuse(const std::string& wanted) {
    std::string path;
    for (const Level& l : levels_) path = l.object ? step(path, l.key) : path + "[" + std::to_string(l.index) + "]";
    status = Status::Corrupt(what_ + ": " + path + ": wanted " + wanted);
    return false;
  }

  const std::string& what_;
  size_t depth_;
  std::vector<Level> levels_;
};

// The path of a value within a tree, found by its address: only errors pay for paths.
bool find_path(const Json& at, const Json* wanted, std::string& path) {
  if (&at == wanted) return true;
  const std::string here = path;
  if (at.is_object()) {
    for (const auto& item : at.items())
      if (find_path(item.value(), wanted, path = step(here, item.key()))) return true;
  } else if (at.is_array()) {
    for (size_t i = 0; i < at.size(); ++i)
      if (find_path(at[i], wanted, path = here + "[" + std::to_string(i) + "]")) return true;
  }
  return false;
}

const Json& as_json(const void* value) { return *static_cast<const Json*>(value); }

std::string number_text(double v) { return Json(v).dump(); }

}  // namespace

struct JsonDocument::Tree {
  std::string what;
  Json json;
  Status status;

  void refuse(const void* value, const std::string& wanted, const std::string& found) {
    if (!status.ok()) return;
    std::string path;
    find_path(json, static_cast<const Json*>(value), path);
    status = Status::Corrupt(what + ": " + (path.empty() ? "document" : path) + ": wanted " + wanted + ", found " + found);
  }
};

JsonDocument::JsonDocument(std::unique_ptr<Tree> tree) : tree_(std::move(tree)) {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::parse(std::string_view text, std::string what, Limits limits) {
  if (text.size() > limits.bytes)
    return Status::Corrupt(what + ": wanted at most " + std::to_string(limits.bytes) + " bytes, found " +
                           std::to_string(text.size()));
  Guard guard(what, limits.depth);
  if (!Json::sax_parse(text, &guard)) return guard.status;
  auto tree = std::make_unique<Tree>();
  tree->json = Json::parse(text, nullptr, false);
  tree->what = std::move(what);
  return JsonDocument(std::move(tree));
}

JsonField JsonDocument::root() const { return {tree_.get(), &tree_->json}; }
const Status& JsonDocument::status() const { return tree_->status; }

void JsonField::refuse(const std::string& wanted) const {
  if (value_) tree_->refuse(value_, wanted, brief(as_json(value_)));
}

JsonField JsonField::operator[](const char* key) const {
  if (!value_) return *this;
  const Json& v = as_json(value_);
  if (!v.is_object()) {
    refuse("an object");
    return {tree_, nullptr};
  }
  const auto found = v.find(key);
  if (found != v.end()) return {tree_, &*found};
  tree_->refuse(value_, std::string("the key \"") + key + "\"", "none");
  return {tree_, nullptr};
}

bool JsonField::has(const char* key) const {
  if (!value_ || !as_json(value_).is_object()) return false;
  const auto found = as_json(value_).find(key);
  return found != as_json(value_).end() && !found->is_null();
}

void JsonField::allow(std::initializer_list<const char*> keys) const {
  if (!value_) return;
  if (!as_json(value_).is_object()) return refuse("an object");
  for (const auto& item : as_json(value_).items()) {
    if (std::any_of(keys.begin(), keys.end(), [&](const char* k) { return item.key() == k; })) continue;
    std::string wanted = "one of the keys";
    for (const char* k : keys) wanted += std::string(" ") + k;
    return tree_->refuse(value_, wanted, "the key " + brief(Json(item.key())));
  }
}

double JsonField::number(double low, double high) const {
  if (!value_) return 0;
  const Json& v = as_json(value_);
  const double number = v.is_number() ? v.get<double>() : 0;
  if (v.is_number() && low <= number && number <= high) return number;
  const bool bounded = low > std::numeric_limits<double>::lowest() || high < std::numeric_limits<double>::max();
  std::string wanted = "a number";
  if (bounded && high == std::numeric_limits<double>::max())
    wanted += " of " + number_text(low) + " or more";
  else if (bounded)
    wanted += " from " + number_text(low) + " to " + number_text(high);
  refuse(wanted);
  return 0;
}

double JsonField::number_or_nan() const {
  return value_ && as_json(value_).is_null() ? std::numeric_limits<double>::quiet_NaN() : number();
}

int64_t JsonField::integer(int64_t low, int64_t high) const {
  if (!value_) return 0;
  const Json& v = as_json(value_);
  const bool fits = v.is_number_unsigned() ? v.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX) : v.is_number_integer();
  const int64_t number = fits ? v.get<int64_t>() : 0;
  if (fits && low <= number && number <= high) return number;
  refuse("an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return 0;
}

uint64_t JsonField::unsigned_integer() const {
  if (!value_) return 0;
  const Json& v = as_json(value_);
  if (v.is_number_unsigned()) return v.get<uint64_t>();
  refuse("an integer from 0 to " + std::to_string(UINT64_MAX));
  return 0;
}

uint64_t JsonField::hex() const {
  if (!value_) return 0;
  uint64_t number = 0;
  if (as_json(value_).is_string()) {
    const std::string& s = as_json(value_).get_ref<const std::string&>();
    const char* end = s.data() + s.size();
    const auto [stop, error] = std::from_chars(s.data(), end, number, 16);
    if (s.size() == 16 && stop == end && error == std::errc()) return number;
  }
  refuse("16 hexadecimal digits");
  return 0;
}

bool JsonField::boolean() const {
  if (!value_) return false;
  if (as_json(value_).is_boolean()) return as_json(value_).get<bool>();
  refuse("true or false");
  return false;
}

std::string JsonField::text(size_t most_bytes) const {
  if (!value_) return "";
  if (as_json(value_).is_string()) {
    const std::string& s = as_json(value_).get_ref<const std::string&>();
    if (s.size() <= most_bytes) return s;
  }
  refuse("a text of at most " + std::to_string(most_bytes) + " bytes");
  return "";
}

std::vector<JsonField> JsonField::items(size_t least, size_t most) const {
  std::vector<JsonField> fields;
  if (!value_) return fields;
  const Json& v = as_json(value_);
  if (!v.is_array() || v.size() < least || v.size() > most) {
    const std::string count = least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most);
    refuse("an array of " + count);
    return fields;
  }
  fields.reserve(v.size());
  for (const Json& item : v) fields.push_back({tree_, &item});
  return fields;
}

std::vector<std::pair<std::string, JsonField>> JsonField::members(size_t most) const {
  std::vector<std::pair<std::string, JsonField>> fields;
  if (!value_) return fields;
  const Json& v = as_json(value_);
  if (!v.is_object() || v.size() > most) {
    refuse("an object of at most " + std::to_string(most) + " keys");
    return fields;
  }
  for (const auto& item : v.items()) fields.push_back({item.key(), JsonField(tree_, &item.value())});
  return fields;
}

std::string JsonField::json() const { return value_ ? as_json(value_).dump() : "null"; }

}  // namespace moe
