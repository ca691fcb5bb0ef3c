// Panels of a matrix product: the inputs rearranged so that the innermost loop reads forward.
//
//   A panel   [ k 0: word of row 0 .. R−1 | k 1: ... ]            R ≤ kGemmRows rows of op(A); one word is broadcast
//   B panel   [ k 0: word of column 0 .. | k 1: ... ]             up to kGemmVecs registers of columns of op(B)
//
// A word has 32 bits: a float, or where the instruction set multiplies bfloat16, two of them with successive k. Both panels are
// "lines of a matrix side by side", and a side comes in one of two ways: its lines are rows in memory and are transposed, or
// its lines are columns in memory and pieces of rows are copied. What a panel has beyond the last line repeats other lines or
// is 0, and only reaches outputs that are not stored.
#pragma once

namespace moe::cpu {
namespace {

#define MOE_UNROLL_16 _Pragma("GCC unroll 16")

// What an element type is in a panel.
//   along    kLanes words of one line whose elements follow one another; along_n has n elements, and 0 beyond them
//   across   the same word of kLanes lines that follow one another: at p those of the first element of k, at `next` of the
//            second in a pair (null: there is none); across_n of n lines
struct GemmF32 {
  using In = float;
  static constexpr int kPerWord = 1;
  static F32 along(const float* p) { return load(p); }
  static F32 along_n(const float* p, int64_t n) { return load_n(p, n); }
  static F32 across(const float* p, const float*) { return load(p); }
  static F32 across_n(const float* p, const float*, int64_t n) { return load_n(p, n); }
  static F32 mul_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }
};

struct GemmWideBF16 {
  using In = uint16_t;
  static constexpr int kPerWord = 1;
  static F32 along(const uint16_t* p) { return load_bf16(p); }
  static F32 along_n(const uint16_t* p, int64_t n) { return load_bf16_n(p, n); }
  static F32 across(const uint16_t* p, const uint16_t*) { return load_bf16(p); }
  static F32 across_n(const uint16_t* p, const uint16_t*, int64_t n) { return load_bf16_n(p, n); }
  static F32 mul_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }
};

// One side of a product. Its lines are the rows of a matrix as it is stored, and k runs along them, or its columns.
template <class In>
struct GemmSide {
  const In* at;
  int64_t stride;
  const int32_t* order;  // which row of `at` each row is; null: they follow one another
  bool lines_are_rows;
  int64_t lines, k;

  const In* row(int64_t i) const { return at + (order ? order[i] : i) * stride; }

  GemmSide sub(int64_t first_line, int64_t first_k, int64_t n_lines, int64_t n_k) const {
    const int64_t down = lines_are_rows ? first_line : first_k, along = lines_are_rows ? first_k : first_line;
    return {at + along + (order ? 0 : down * stride), stride, order ? order + down : nullptr, lines_are_rows, n_lines, n_k};
  }
};

template <class E>
constexpr int64_t gemm_words(int64_t k) {
  return (k + E::kPerWord - 1) / E::kPerWord;
}

// Lines are rows in memory. Squares of kLanes lines by kLanes words; a store may reach over what the next one writes.
template <class E>
inline void pack_rows(const GemmSide<typename E::In>& s, float* out, int64_t stride) {
  constexpr int64_t kElements = kLanes * E::kPerWord;
  for (int64_t first = 0; first < s.lines; first += kLanes) {
    const typename E::In* line[kLanes];
    for (int64_t j = 0; j < kLanes; ++j) line[j] = s.row(first + j < s.lines ? first + j : s.lines - 1);
    F32 square[kLanes];
    float* to = out + first;
    int64_t p = 0;
    for (; p + kElements <= s.k; p += kElements) {
      MOE_UNROLL_16 for (int j = 0; j < kLanes; ++j) square[j] = E::along(line[j] + p);
      transpose(square);
      MOE_UNROLL_16 for (int i = 0; i < kLanes; ++i) store(to + i * stride, square[i]);
      to += kLanes * stride;
    }
    if (p == s.k) continue;
    for (int j = 0; j < kLanes; ++j) square[j] = E::along_n(line[j] + p, s.k - p);
    transpose(square);
    for (int64_t i = 0; i < gemm_words<E>(s.k - p); ++i) store(to + i * stride, square[i]);
  }
}

// Lines are columns in memory; `room` of them may be read.
template <class E>
inline void pack_columns(const GemmSide<typename E::In>& s, int64_t room, float* out, int64_t stride) {
  for (int64_t p = 0; p < s.k; p += E::kPerWord) {
    const typename E::In* row = s.row(p);
    const typename E::In* next = E::kPerWord > 1 && p + 1 < s.k ? s.row(p + 1) : nullptr;
    for (int64_t j = 0; j < s.lines; j += kLanes) {
      const typename E::In* second = next ? next + j : nullptr;
      store(out + j, room - j >= kLanes ? E::across(row + j, second) : E::across_n(row + j, second, room - j));
    }
    out += stride;
  }
}

// A panel of s.lines lines, of which the matrix has `room` from there on; out: (words of k, stride) and up to kLanes more.
template <class E>
inline void pack_panel(const GemmSide<typename E::In>& s, int64_t room, float* out, int64_t stride) {
  if (s.lines_are_rows)
    pack_rows<E>(s, out, stride);
  else
    pack_columns<E>(s, room, out, stride);
}

}  // namespace
}  // namespace moe::cpu
