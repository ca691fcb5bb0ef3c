#include "models/io/metadata.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "models/io/scalar_type.h"

namespace moe {
namespace {

template <class T>
constexpr bool kIsText = OneOf<T, std::string, std::string_view>;

// The conversions that get() promises; false where the value does not fit.
template <class S, class T>
bool convert(S from, T& to) {
  if constexpr (std::is_same_v<S, T>) {
    to = from;
    return true;
  } else if constexpr (std::is_same_v<S, bool> || std::is_same_v<T, bool>) {
    return false;
  } else if constexpr (std::is_integral_v<S> && std::is_integral_v<T>) {
    if (!std::in_range<T>(from)) return false;
  } else if constexpr (std::is_integral_v<T>) {
    return false;
  } else if constexpr (std::is_floating_point_v<S>) {
    if (std::isfinite(from) && std::fabs(static_cast<double>(from)) > static_cast<double>(std::numeric_limits<T>::max()))
      return false;
  }
  to = static_cast<T>(from);
  return true;
}

template <class T>
bool decode_value(const MetadataEntry& e, T& out) {
  if (e.type == GgufType::kArray) return false;
  if constexpr (kIsText<T>) {
    if (e.type == GgufType::kString) out = e.body;
    return e.type == GgufType::kString;
  } else {
    if (e.type == GgufType::kString) return false;
    return visit_scalar(e.type, [&]<class S>(std::type_identity<S>) { return convert(load_scalar<S>(e.body.data()), out); });
  }
}

// The elements of an array of strings, checked when the entry was made.
template <class T>
void decode_strings(const MetadataEntry& e, std::vector<T>& out) {
  const char* p = e.body.data();
  for (uint64_t i = 0; i < e.count; ++i) {
    const auto length = static_cast<size_t>(load_scalar<uint64_t>(p));
    out.emplace_back(p + sizeof(uint64_t), length);
    p += sizeof(uint64_t) + length;
  }
}

// The index of the first number that is no T, if there is one.
template <class T>
std::optional<uint64_t> decode_numbers(const MetadataEntry& e, std::vector<T>& out) {
  return visit_scalar(e.element_type, [&]<class S>(std::type_identity<S>) -> std::optional<uint64_t> {
    for (uint64_t i = 0; i < e.count; ++i) {
      T value{};
      if (!convert(load_scalar<S>(e.body.data() + i * sizeof(S)), value)) return i;
      out.push_back(value);
    }
    return std::nullopt;
  });
}

template <class T>
std::string name_of() {
  return gguf_type_name(kGgufTypeOf<T>);
}

// "uint32 5", "array of 3 string"
std::string found_text(const MetadataEntry& e) {
  std::string out = value_type_text(e);
  if (e.type == GgufType::kString) return out + " '" + printable(e.body) + "'";
  if (e.type != GgufType::kArray) out += " " + value_text(e, 64);
  return out;
}

template <class T>
void append_value(std::string& body, const T& value) {
  if constexpr (kIsText<T>) {
    body += value;
  } else {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    body.append(bytes, sizeof(T));
  }
}

}  // namespace

std::string Metadata::mismatch(std::string_view key, const std::string& wanted, const std::string& found) const {
  return (source_.empty() ? "metadata" : source_) + ": key '" + printable(key) + "': wanted " + wanted + ", found " + found;
}

const MetadataEntry* Metadata::find(std::string_view key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

Result<const MetadataEntry*> Metadata::require(std::string_view key, const std::string& wanted) const {
  if (const MetadataEntry* e = find(key)) return e;
  return Status::NotFound(mismatch(key, wanted, "no such key"));
}

template <MetadataValue T>
Result<T> Metadata::get(std::string_view key) const {
  MOE_ASSIGN(const MetadataEntry* e, require(key, name_of<T>()));
  T out{};
  if (!decode_value(*e, out)) return Status::Corrupt(mismatch(key, name_of<T>(), found_text(*e)));
  return out;
}

template <MetadataValue T>
Result<std::vector<T>> Metadata::get_array(std::string_view key) const {
  const std::string wanted = "array of " + name_of<T>();
  MOE_ASSIGN(const MetadataEntry* e, require(key, wanted));
  const bool fits = e->type == GgufType::kArray && e->element_type != GgufType::kArray &&
                    kIsText<T> == (e->element_type == GgufType::kString);
  if (!fits) return Status::Corrupt(mismatch(key, wanted, found_text(*e)));
  std::vector<T> out;
  out.reserve(static_cast<size_t>(e->count));  // at least a byte of body stands behind each
  if constexpr (kIsText<T>) {
    decode_strings(*e, out);
  } else if (const std::optional<uint64_t> bad = decode_numbers(*e, out)) {
    const std::string found = scalar_text(e->element_type, e->body.data() + *bad * gguf_type_bytes(e->element_type));
    return Status::Corrupt(
        mismatch(key, wanted, gguf_type_name(e->element_type) + (" " + found) + " at element " + std::to_string(*bad)));
  }
  return out;
}

template <MetadataValue T>
Result<std::vector<T>> Metadata::get_array_or_broadcast(std::string_view key, size_t n) const {
  const std::string wanted = name_of<T>() + " or array of " + std::to_string(n) + " " + name_of<T>();
  MOE_ASSIGN(const MetadataEntry* e, require(key, wanted));
  if (e->type == GgufType::kArray) {
    if (e->count != n) return Status::Corrupt(mismatch(key, wanted, found_text(*e)));
    return get_array<T>(key);
  }
  MOE_ASSIGN(const T value, get<T>(key));
  return std::vector<T>(n, value);
}

void Metadata::set_entry(MetadataEntry entry) {
  const auto [it, added] = index_.try_emplace(entry.key, entries_.size());
  if (added) {
    entries_.push_back(std::move(entry));
  } else {
    entries_[it->second] = std::move(entry);
  }
}

template <MetadataValue T>
void Metadata::set(std::string_view key, T value) {
  MetadataEntry e{std::string(key), kGgufTypeOf<T>, kGgufTypeOf<T>, 0, {}};
  append_value(e.body, value);
  set_entry(std::move(e));
}

template <MetadataValue T>
void Metadata::set(std::string_view key, const std::vector<T>& values) {
  MetadataEntry e{std::string(key), GgufType::kArray, kGgufTypeOf<T>, values.size(), {}};
  for (const T& value : values) {
    if constexpr (kIsText<T>) append_value(e.body, static_cast<uint64_t>(value.size()));
    append_value(e.body, value);
  }
  set_entry(std::move(e));
}

bool Metadata::remove(std::string_view key) {
  const auto it = index_.find(key);
  if (it == index_.end()) return false;
  const size_t position = it->second;
  index_.erase(it);
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(position));
  for (auto& [_, i] : index_) i -= i > position;
  return true;
}

#define MOE_INSTANTIATE(T)                                                                             \
  template Result<T> Metadata::get<T>(std::string_view) const;                                         \
  template Result<std::vector<T>> Metadata::get_array<T>(std::string_view) const;                      \
  template Result<std::vector<T>> Metadata::get_array_or_broadcast<T>(std::string_view, size_t) const; \
  template void Metadata::set<T>(std::string_view, T);                                                 \
  template void Metadata::set<T>(std::string_view, const std::vector<T>&);
MOE_INSTANTIATE(bool)
MOE_INSTANTIATE(int8_t)
MOE_INSTANTIATE(uint8_t)
MOE_INSTANTIATE(int16_t)
MOE_INSTANTIATE(uint16_t)
MOE_INSTANTIATE(int32_t)
MOE_INSTANTIATE(uint32_t)
MOE_INSTANTIATE(int64_t)
MOE_INSTANTIATE(uint64_t)
MOE_INSTANTIATE(float)
MOE_INSTANTIATE(double)
MOE_INSTANTIATE(std::string)
MOE_INSTANTIATE(std::string_view)
#undef MOE_INSTANTIATE

}  // namespace moe
