// Shapes and views. A Tensor never owns; Buffer (buffer.h) does.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/check.h"
#include "tensor/dtype.h"

namespace moe {

inline constexpr int kMaxRank = 4;

// Extents known only when a graph runs; allowed as the outermost one.
inline constexpr int64_t kTokens = -1;   // rows of this batch: T
inline constexpr int64_t kOutputs = -2;  // rows whose logits are wanted: R

// Extents, outermost first; the last one is contiguous: a weight of a linear layer is (n_out, n_in), stacked experts are
// (n_experts, n_out, n_in). GGUF lists them the other way round. Rank 0 is a scalar of one element.
struct Shape {
  int rank = 0;
  std::array<int64_t, kMaxRank> dim{};

  Shape() = default;
  Shape(std::initializer_list<int64_t> d) {
    MOE_CHECK(d.size() <= kMaxRank);
    for (int64_t x : d) dim[static_cast<size_t>(rank++)] = x;
  }

  int64_t operator[](int i) const { return dim[static_cast<size_t>(i)]; }
  int64_t last() const { return rank ? dim[static_cast<size_t>(rank - 1)] : 1; }
  bool per_token() const { return rank > 0 && dim[0] == kTokens; }
  bool per_output() const { return rank > 0 && dim[0] == kOutputs; }
  bool is_static() const { return rank == 0 || dim[0] >= 0; }

  int64_t row_elements() const {  // elements below the outermost extent
    int64_t n = 1;
    for (int i = 1; i < rank; ++i) n *= dim[static_cast<size_t>(i)];
    return n;
  }
  int64_t elements() const { return rank ? dim[0] * row_elements() : 1; }  // static shapes only

  bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; ++i)
      if ((*this)[i] != o[i]) return false;
    return true;
  }
};

std::string to_string(const Shape& s);  // "(T, 2048)", "(64, 1024, 2048)"

// A typed view of contiguous rows in memory that a backend can reach. `shape` has no symbolic extent here.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  size_t row_bytes() const { return dtype_bytes(dtype, shape.last()); }  // of one innermost row
  size_t bytes() const { return row_bytes() * static_cast<size_t>(shape.elements() / (shape.last() ? shape.last() : 1)); }

  float* f32() const {
    MOE_CHECK(dtype == DType::kF32);
    return static_cast<float*>(data);
  }
  int32_t* i32() const {
    MOE_CHECK(dtype == DType::kI32);
    return static_cast<int32_t*>(data);
  }
  int8_t* i8() const {
    MOE_CHECK(dtype == DType::kI8);
    return static_cast<int8_t*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace moe
