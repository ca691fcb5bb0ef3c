// Topologies as JSON (TOPOLOGY.md). Writing is by hand, since the layout (a line an array) is the point of it. Reading is in
// two passes over hostile text: Guard refuses what nlohmann::json would accept or choke on (deep nesting, repeated keys) before
// a document is built; the readers below then take it apart field by field, each value checked against a stated range before
// anything of that size is allocated.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "core/file.h"
#include "models/routing.h"

namespace moe {
namespace {

// Limits of the format. They bound what a small hostile text can make us allocate: 16 classes · 4096 experts · 1024 layers = 64
// MiB.
constexpr size_t kMaxText = size_t{8} << 20;
constexpr size_t kMaxDepth = 8;
constexpr size_t kMaxLayers = 1024;
constexpr size_t kMaxNote = size_t{64} << 10;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxInt = INT32_MAX;

// Numbers with a fraction are parsed straight to float: shortest float texts come back as the float they were.
using Json = nlohmann::basic_json<std::map, std::vector, std::string, bool, int64_t, uint64_t, float>;

// --- Writing ---

std::string text_of(float v) {  // shortest text that reads back as v; JSON knows no NaN, readers refuse the null
  if (!std::isfinite(v)) return "null";
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, v).ptr};
}

std::string text_of(int64_t v) { return std::to_string(v); }
std::string text_of(int32_t v) { return std::to_string(v); }
std::string text_of(const std::string& s) { return Json(s).dump(-1, ' ', false, Json::error_handler_t::replace); }

// [f(0), f(1), ...] of the indices that f gives a text for.
template <class F>
std::string list(size_t n, F&& f) {
  std::string s = "[";
  for (size_t i = 0; i < n; ++i) {
    const std::string item = f(i);
    if (!item.empty()) s += (s.size() > 1 ? ", " : "") + item;
  }
  return s + "]";
}

std::string pair(int64_t a, int64_t b) { return "[" + text_of(a) + ", " + text_of(b) + "]"; }

std::string run_lengths(const std::vector<uint8_t>& classes) {
  return list(classes.size(), [&](size_t i) {
    if (i > 0 && classes[i] == classes[i - 1]) return std::string();
    size_t end = i;
    while (end < classes.size() && classes[end] == classes[i]) ++end;
    return pair(static_cast<int64_t>(end - i), classes[i]);
  });
}

std::string masked_ids(std::span<const uint8_t> allow) {
  return list(allow.size(), [&](size_t e) { return allow[e] ? std::string() : std::to_string(e); });
}

// One list of ids a class.
std::string masked(const LayerRouting& r) {
  const size_t n = static_cast<size_t>(r.n_experts);
  return list(r.allow.size() / n, [&](size_t c) { return masked_ids({r.allow.data() + c * n, n}); });
}

void write_layer(std::string& s, const LayerRouting& r) {
  s += "    {\"n_experts\": " + text_of(r.n_experts);
  if (r.n_experts > 0) {
    s += ", \"k_min\": " + text_of(r.k_min) + ", \"k_max\": " + text_of(r.k_max) + ", \"threshold\": " + text_of(r.threshold) +
         ", \"temperature\": " + text_of(r.temperature);
    const auto field = [&](const char* name, const std::string& text) {
      s += std::string(",\n     \"") + name + "\": " + text;
    };
    if (std::find(r.allow.begin(), r.allow.end(), 0) != r.allow.end()) {
      field("masked", masked(r));
    }
    if (!r.redirect.empty()) {
      field("redirect", list(r.redirect.size(), [&](size_t e) {
              return r.redirect[e] == -1 ? std::string() : pair(static_cast<int64_t>(e), r.redirect[e]);
            }));
    }
    if (!r.width.empty()) field("width", list(r.width.size(), [&](size_t e) { return text_of(r.width[e]); }));
    if (!r.bias.empty()) field("bias", list(r.bias.size(), [&](size_t e) { return text_of(r.bias[e]); }));
  }
  s += "}";
}

// --- Reading: paths and errors ---

// Where we are in the document: "layers[3].bias[7]". Lives on the stack of the readers; spelled out only for an error.
struct Path {
  const Path* parent = nullptr;
  const char* key = nullptr;  // null: an element of an array
  size_t index = 0;

  Path operator[](const char* k) const { return {this, k, 0}; }
  Path operator[](size_t i) const { return {this, nullptr, i}; }
  std::string text() const {
    if (!parent) return "";
    const std::string head = parent->text();
    if (!key) return head + "[" + std::to_string(index) + "]";
    return head.empty() ? key : head + "." + key;
  }
};

Status refuse(const std::string& where, const std::string& wanted, const std::string& found) {
  return Status::Corrupt("topology JSON: " + (where.empty() ? "document" : where) + ": wanted " + wanted + ", found " + found);
}

// Hostile text made fit for a message: short, and nothing but printable ASCII.
std::string printable(std::string s, size_t limit) {
  if (s.size() > limit) s = s.substr(0, limit) + "...";
  for (char& c : s) {
    if (c < ' ' || c > '~') c = '?';
  }
  return s;
}

// A value in a few words.
std::string brief(const Json& v) {
  if (v.is_array()) return "an array of " + std::to_string(v.size());
  if (v.is_object()) return "an object";
  return printable(v.dump(-1, ' ', true), 40);
}

Status refuse(const Path& at, const std::string& wanted, const Json& found) { return refuse(at.text(), wanted, brief(found)); }

// First pass: syntax, depth and repeated keys, with a path for each.
class Guard : public nlohmann::json_sax<Json> {
 public:
  Status status;

  bool null() override { return value(); }
  bool boolean(bool) override { return value(); }
  bool number_integer(int64_t) override { return value(); }
  bool number_unsigned(uint64_t) override { return value(); }
  bool number_float(float, const std::string&) override { return value(); }
  bool string(std::string&) override { return value(); }
  bool binary(Json::binary_t&) override { return value(); }
  bool start_object(size_t) override { return open(true); }
  bool start_array(size_t) override { return open(false); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = levels_.back();
    level.key = name;
    if (level.keys.insert(name).second) return true;
    status = refuse(path(), "each key once", "the key again");
    return false;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    const std::string what = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const size_t head = what.find("] ");
    status = Status::Corrupt("topology JSON: " + printable(head == std::string::npos ? what : what.substr(head + 2), 300));
    return false;
  }

 private:
  struct Level {
    bool object = false;
    std::string key;
    size_t index = 0;
    std::set<std::string> keys;
  };

  bool value() {
    if (!levels_.empty()) ++levels_.back().index;
    return true;
  }
  bool open(bool object) {
    if (levels_.size() == kMaxDepth) {
      status = refuse(path(), "at most " + std::to_string(kMaxDepth) + " levels of nesting", "more");
      return false;
    }
    levels_.push_back({object, {}, 0, {}});
    return true;
  }
  bool close() {
    levels_.pop_back();
    return value();
  }
  std::string path() const {
    std::string s;
    for (const Level& l : levels_)
      s += l.object ? (s.empty() ? "" : ".") + printable(l.key, 40) : "[" + std::to_string(l.index) + "]";
    return s;
  }

  std::vector<Level> levels_;
};

// --- Reading: values ---

Status read_int(const Json& v, const Path& at, int64_t low, int64_t high, int64_t& out) {
  const bool is_int64 = v.is_number_unsigned() ? v.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX) : v.is_number_integer();
  if (is_int64) out = v.get<int64_t>();
  if (is_int64 && low <= out && out <= high) return Status::Ok();
  return refuse(at, "an integer from " + std::to_string(low) + " to " + std::to_string(high), v);
}

Status read_int(const Json& v, const Path& at, int64_t low, int64_t high, int32_t& out) {
  int64_t wide = 0;
  MOE_TRY(read_int(v, at, low, high, wide));
  out = static_cast<int32_t>(wide);
  return Status::Ok();
}

Status read_float(const Json& v, const Path& at, float& out) {
  if (!v.is_number()) return refuse(at, "a number", v);
  out = v.get<float>();
  return Status::Ok();
}

Status read_array(const Json& v, const Path& at, size_t low, size_t high) {
  if (v.is_array() && v.size() >= low && v.size() <= high) return Status::Ok();
  const std::string count = low == high ? std::to_string(low) : "at most " + std::to_string(high);
  return refuse(at, "an array of " + count, v);
}

struct Fields {
  const Json& object;
  const Path& at;
  const Json* find(const char* key) const {
    const auto it = object.find(key);
    return it == object.end() ? nullptr : &*it;
  }
  Status require(const char* key, const Json*& out) const {
    out = find(key);
    return out ? Status::Ok() : refuse(at.text(), std::string("the key \"") + key + "\"", "none");
  }
};

// An object with no keys but those given.
Status read_object(const Json& v, const Path& at, std::initializer_list<const char*> keys) {
  if (!v.is_object()) return refuse(at, "an object", v);
  for (const auto& item : v.items()) {
    const auto known = [&](const char* k) { return item.key() == k; };
    if (std::any_of(keys.begin(), keys.end(), known)) continue;
    std::string wanted = "one of the keys";
    for (const char* k : keys) wanted += std::string(" ") + k;
    return refuse(at.text(), wanted, "the key " + brief(Json(item.key())));
  }
  return Status::Ok();
}

// --- Reading: fields ---

Status read_masked(const Json& v, const Path& at, LayerRouting& r, int n_classes) {
  MOE_TRY(read_array(v, at, static_cast<size_t>(n_classes), static_cast<size_t>(n_classes)));
  const size_t n = static_cast<size_t>(r.n_experts);
  for (size_t c = 0; c < v.size(); ++c) {
    const Path at_class = at[c];
    MOE_TRY(read_array(v[c], at_class, 0, n));
    int64_t id = -1;
    for (size_t i = 0; i < v[c].size(); ++i) {  // ascending, so that every mask has one text and no id comes twice
      MOE_TRY(read_int(v[c][i], at_class[i], id + 1, r.n_experts - 1, id));
      r.allow[c * n + static_cast<size_t>(id)] = 0;
    }
  }
  return Status::Ok();
}

Status read_redirect(const Json& v, const Path& at, LayerRouting& r) {
  MOE_TRY(read_array(v, at, 0, static_cast<size_t>(r.n_experts)));
  r.redirect.assign(static_cast<size_t>(r.n_experts), -1);
  int64_t from = -1;
  for (size_t i = 0; i < v.size(); ++i) {
    const Path at_pair = at[i];
    MOE_TRY(read_array(v[i], at_pair, 2, 2));
    MOE_TRY(read_int(v[i][0], at_pair[size_t{0}], from + 1, r.n_experts - 1, from));
    MOE_TRY(read_int(v[i][1], at_pair[1], 0, r.n_experts - 1, r.redirect[static_cast<size_t>(from)]));
  }
  return Status::Ok();
}

Status read_width(const Json& v, const Path& at, LayerRouting& r) {
  MOE_TRY(read_array(v, at, static_cast<size_t>(r.n_experts), static_cast<size_t>(r.n_experts)));
  r.width.resize(v.size());
  for (size_t e = 0; e < v.size(); ++e) MOE_TRY(read_int(v[e], at[e], 1, kMaxInt, r.width[e]));
  return Status::Ok();
}

Status read_bias(const Json& v, const Path& at, LayerRouting& r) {
  MOE_TRY(read_array(v, at, static_cast<size_t>(r.n_experts), static_cast<size_t>(r.n_experts)));
  r.bias.resize(v.size());
  for (size_t e = 0; e < v.size(); ++e) MOE_TRY(read_float(v[e], at[e], r.bias[e]));
  return Status::Ok();
}

Status read_layer(const Json& v, const Path& at, int n_classes, LayerRouting& r) {
  MOE_TRY(
      read_object(v, at, {"n_experts", "k_min", "k_max", "threshold", "temperature", "masked", "redirect", "width", "bias"}));
  const Fields f{v, at};
  const Json* field = nullptr;
  MOE_TRY(f.require("n_experts", field));
  MOE_TRY(read_int(*field, at["n_experts"], 0, kMaxExperts, r.n_experts));
  if (r.n_experts == 0) {
    return v.size() == 1 ? Status::Ok()
                         : refuse(at.text(), "no other key beside \"n_experts\": 0", std::to_string(v.size() - 1));
  }
  r.allow.assign(static_cast<size_t>(n_classes) * static_cast<size_t>(r.n_experts), 1);
  MOE_TRY(f.require("k_min", field));
  MOE_TRY(read_int(*field, at["k_min"], 0, kMaxInt, r.k_min));
  MOE_TRY(f.require("k_max", field));
  MOE_TRY(read_int(*field, at["k_max"], 0, kMaxInt, r.k_max));
  if ((field = f.find("threshold"))) MOE_TRY(read_float(*field, at["threshold"], r.threshold));
  if ((field = f.find("temperature"))) MOE_TRY(read_float(*field, at["temperature"], r.temperature));
  if ((field = f.find("masked"))) MOE_TRY(read_masked(*field, at["masked"], r, n_classes));
  if ((field = f.find("redirect"))) MOE_TRY(read_redirect(*field, at["redirect"], r));
  if ((field = f.find("width"))) MOE_TRY(read_width(*field, at["width"], r));
  if ((field = f.find("bias"))) MOE_TRY(read_bias(*field, at["bias"], r));
  return Status::Ok();
}

Status read_token_class(const Json& v, const Path& at, int n_classes, std::vector<uint8_t>& out) {
  MOE_TRY(read_array(v, at, 1, static_cast<size_t>(kMaxVocab)));
  for (size_t i = 0; i < v.size(); ++i) {
    const Path at_run = at[i];
    MOE_TRY(read_array(v[i], at_run, 2, 2));
    int64_t count = 0, token_class = 0;
    MOE_TRY(read_int(v[i][0], at_run[size_t{0}], 1, kMaxVocab - static_cast<int64_t>(out.size()), count));
    MOE_TRY(read_int(v[i][1], at_run[1], 0, n_classes - 1, token_class));
    out.insert(out.end(), static_cast<size_t>(count), static_cast<uint8_t>(token_class));
  }
  return Status::Ok();
}

Status read_model_hash(const Json& v, const Path& at, uint64_t& out) {
  if (v.is_string()) {
    const std::string& s = v.get_ref<const std::string&>();
    const char* end = s.data() + s.size();
    if (s.size() == 16 && std::from_chars(s.data(), end, out, 16).ptr == end) return Status::Ok();
  }
  return refuse(at, "16 hexadecimal digits", v);
}

Status read_head(const Fields& f, const Path& at, RoutingTopology& t) {
  const Json* field = nullptr;
  int32_t version = 0;
  MOE_TRY(f.require("format", field));
  if (*field != "moe-topology") return refuse(at["format"], "\"moe-topology\"", *field);
  MOE_TRY(f.require("version", field));
  MOE_TRY(read_int(*field, at["version"], 1, 1, version));
  MOE_TRY(f.require("model_hash", field));
  MOE_TRY(read_model_hash(*field, at["model_hash"], t.model_hash));
  if ((field = f.find("note"))) {
    if (!field->is_string()) return refuse(at["note"], "a string", *field);
    t.note = field->get<std::string>();
    if (t.note.size() > kMaxNote) return refuse(at["note"], "at most " + std::to_string(kMaxNote) + " bytes", *field);
  }
  if ((field = f.find("n_classes"))) MOE_TRY(read_int(*field, at["n_classes"], 1, kMaxTokenClasses, t.n_classes));
  if ((field = f.find("token_class"))) MOE_TRY(read_token_class(*field, at["token_class"], t.n_classes, t.token_class));
  return Status::Ok();
}

Status read_document(const Json& v, RoutingTopology& t) {
  const Path root;
  MOE_TRY(read_object(v, root, {"format", "version", "model_hash", "note", "n_classes", "token_class", "layers"}));
  const Fields f{v, root};
  MOE_TRY(read_head(f, root, t));
  const Json* layers = nullptr;
  MOE_TRY(f.require("layers", layers));
  const Path at = root["layers"];
  MOE_TRY(read_array(*layers, at, 0, kMaxLayers));
  t.layers.resize(layers->size());
  for (size_t i = 0; i < t.layers.size(); ++i) MOE_TRY(read_layer((*layers)[i], at[i], t.n_classes, t.layers[i]));
  return Status::Ok();
}

}  // namespace

std::string to_json(const RoutingTopology& t) {
  std::string s = "{\n  \"format\": \"moe-topology\",\n  \"version\": 1,\n";
  s += "  \"model_hash\": \"" + hash_to_hex(t.model_hash) + "\",\n";
  if (!t.note.empty()) s += "  \"note\": " + text_of(t.note) + ",\n";
  s += "  \"n_classes\": " + text_of(t.n_classes) + ",\n";
  if (!t.token_class.empty()) s += "  \"token_class\": " + run_lengths(t.token_class) + ",\n";
  s += "  \"layers\": [";
  for (size_t i = 0; i < t.layers.size(); ++i) {
    s += i == 0 ? "\n" : ",\n";
    write_layer(s, t.layers[i]);
  }
  return s + (t.layers.empty() ? "]\n}\n" : "\n  ]\n}\n");
}

Result<RoutingTopology> topology_from_json(std::string_view text) {
  if (text.size() > kMaxText) {
    return refuse("", "at most " + std::to_string(kMaxText) + " bytes", std::to_string(text.size()));
  }
  Guard guard;
  if (!Json::sax_parse(text, &guard)) return guard.status;
  RoutingTopology t;
  MOE_TRY(read_document(Json::parse(text, nullptr, false), t));
  return t;
}

Result<RoutingTopology> load_topology(const std::string& path) {
  MOE_ASSIGN(const std::string text, read_text_file(path, kMaxText));
  Result<RoutingTopology> t = topology_from_json(text);
  if (!t.ok()) return t.status().Annotate(path);
  return t;
}

Status save_topology(const RoutingTopology& topology, const std::string& path) {
  const std::string text = to_json(topology);
  const Result<RoutingTopology> back = topology_from_json(text);
  if (!back.ok() || !(*back == topology)) {
    return Status::InvalidArgument(path + ": not written, the topology would not read back as it is: " +
                                   (back.ok() ? "its vectors or its note are malformed" : back.status().message()));
  }
  return write_text_file(path, text);
}

}  // namespace moe
