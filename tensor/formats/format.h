// What every storage format shares: how its functions are declared, and the promises of its codec.
//
// A format is a block struct that lies in files byte for byte (little-endian, no padding) plus
//   decode_<name>(b, out, n_blocks)              out: (n_blocks · elements)
//   encode_<name>(x, importance, b, n_blocks)    x: (n_blocks · elements); importance: the same shape, or null
//
// Decoders are exact: an f16 scale has 11 significant bits and the integers it meets have at most 12 between them, so every
// product below fits float32's 24 bits and only the one addition of an offset rounds. Neither the order of the factors nor
// a fused multiply-add changes a bit of the result.
//
// Encoders minimise sum(importance · (x - decoded)^2) for each block. They take anything: NaN counts as 0, values beyond
// what the format can hold (infinities too) become its largest, importance that is negative or NaN counts as 0, and where a
// group of elements has no importance at all every element counts the same. Equal input gives equal bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/half.h"

// Decoders go into ISA objects and CUDA kernels: no weak symbol may come out of them, so no std:: calls and no plain inline.
#if defined(__CUDACC__)
#define MOE_FORMAT_FN __host__ __device__ static inline
#else
#define MOE_FORMAT_FN static inline
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blocks are read as they lie in the file");
