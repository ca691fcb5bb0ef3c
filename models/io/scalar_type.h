// From a GgufType to the C++ type that stores it, and back. Private to models/io.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

#include "models/io/metadata.h"

namespace moe {

template <class T>
inline constexpr GgufType kGgufTypeOf = GgufType::kString;
template <>
inline constexpr GgufType kGgufTypeOf<bool> = GgufType::kBool;
template <>
inline constexpr GgufType kGgufTypeOf<int8_t> = GgufType::kInt8;
template <>
inline constexpr GgufType kGgufTypeOf<uint8_t> = GgufType::kUint8;
template <>
inline constexpr GgufType kGgufTypeOf<int16_t> = GgufType::kInt16;
template <>
inline constexpr GgufType kGgufTypeOf<uint16_t> = GgufType::kUint16;
template <>
inline constexpr GgufType kGgufTypeOf<int32_t> = GgufType::kInt32;
template <>
inline constexpr GgufType kGgufTypeOf<uint32_t> = GgufType::kUint32;
template <>
inline constexpr GgufType kGgufTypeOf<int64_t> = GgufType::kInt64;
template <>
inline constexpr GgufType kGgufTypeOf<uint64_t> = GgufType::kUint64;
template <>
inline constexpr GgufType kGgufTypeOf<float> = GgufType::kFloat32;
template <>
inline constexpr GgufType kGgufTypeOf<double> = GgufType::kFloat64;

// Calls f(std::type_identity<S>{}) with the S that stores scalars of type t, which is neither string nor array.
template <class F>
auto visit_scalar(GgufType t, F&& f) {
  switch (t) {
    case GgufType::kUint8:
      return f(std::type_identity<uint8_t>{});
    case GgufType::kInt8:
      return f(std::type_identity<int8_t>{});
    case GgufType::kUint16:
      return f(std::type_identity<uint16_t>{});
    case GgufType::kInt16:
      return f(std::type_identity<int16_t>{});
    case GgufType::kUint32:
      return f(std::type_identity<uint32_t>{});
    case GgufType::kInt32:
      return f(std::type_identity<int32_t>{});
    case GgufType::kFloat32:
      return f(std::type_identity<float>{});
    case GgufType::kBool:
      return f(std::type_identity<bool>{});
    case GgufType::kUint64:
      return f(std::type_identity<uint64_t>{});
    case GgufType::kInt64:
      return f(std::type_identity<int64_t>{});
    case GgufType::kFloat64:
      return f(std::type_identity<double>{});
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  check_failed("a scalar type", __FILE__, __LINE__);
}

// p need not be aligned; bool bytes were checked to be 0 or 1 when read.
template <class S>
S load_scalar(const char* p) {
  S value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

std::string scalar_text(GgufType type, const char* p);  // "5", "-1e-05", "true"

}  // namespace moe
