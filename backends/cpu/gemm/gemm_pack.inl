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
//   across   the same word of kLanes lines that follow one another, n elements of k (1, or 2 in a pair); across_n of n lines
struct GemmF32 {
  using In = float;
  static constexpr int kPerWord = 1;
  static F32 along(const float* p) { return load(p); }
  static F32 along_n(const float* p, int64_t n) { return load_n(p, n); }
  static F32 across(const float* p, int64_t, bool) { return load(p); }
  static F32 across_n(const float* p, int64_t, bool, int64_t n) { return load_n(p, n); }
  static F32 mul_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }
};

struct GemmWideBF16 {
  using In = uint16_t;
  static constexpr int kPerWord = 1;
  static F32 along(const uint16_t* p) { return load_bf16(p); }
  static F32 along_n(const uint16_t* p, int64_t n) { return load_bf16_n(p, n); }
  static F32 across(const uint16_t* p, int64_t, bool) { return load_bf16(p); }
  static F32 across_n(const uint16_t* p, int64_t, bool, int64_t n) { return load_bf16_n(p, n); }
  static F32 mul_add(F32 a, F32 b, F32 c) { return fma(a, b, c); }
};

// One side of a product: line i, element p is at[i · line + p · step], and one of the two strides is 1.
template <class In>
struct GemmSide {
  const In* at;
  int64_t line, step;
  int64_t lines, k;

  GemmSide sub(int64_t first_line, int64_t first_k, int64_t n_lines, int64_t n_k) const {
    return {at + first_line * line + first_k * step, line, step, n_lines, n_k};
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
    for (int64_t j = 0; j < kLanes; ++j) line[j] = s.at + (first + j < s.lines ? first + j : s.lines - 1) * s.line;
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
    const typename E::In* row = s.at + p * s.step;
    const bool whole = p + E::kPerWord <= s.k;
    for (int64_t j = 0; j < s.lines; j += kLanes) {
      const F32 words = room - j >= kLanes ? E::across(row + j, s.step, whole) : E::across_n(row + j, s.step, whole, room - j);
      store(out + j, words);
    }
    out += stride;
  }
}

// A panel of s.lines lines, of which the matrix has `room` from there on; out: (words of k, stride) and up to kLanes more.
template <class E>
inline void pack_panel(const GemmSide<typename E::In>& s, int64_t room, float* out, int64_t stride) {
  if (s.step == 1)
    pack_rows<E>(s, out, stride);
  else
    pack_columns<E>(s, room, out, stride);
}

}  // namespace
}  // namespace moe::cpu
