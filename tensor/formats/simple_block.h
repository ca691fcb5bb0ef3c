// The searches of the formats with 32 elements and one f16 scale (and offset) a block, and the packing they share.
#pragma once

#include "tensor/formats/encode_search.h"

namespace moe::encode {

// x ≈ d · (code + lo), codes 0..2·|lo| - 1: Q4_0 (lo = -8), Q5_0 (lo = -16). x, importance (or null), codes: (32)
void fit_scaled_block(const float* x, const float* importance, int lo, uint16_t* d, uint8_t* codes);

// x ≈ d · code + m, codes 0..hi: Q4_1, Q5_1
void fit_affine_block(const float* x, const float* importance, int hi, uint16_t* d, uint16_t* m, uint8_t* codes);

// Low nibbles of codes j and j + 16 into qs[j]. codes: (32), qs: (16)
void pack_nibbles(const uint8_t* codes, uint8_t* qs);

// Bit 4 of code j into bit j % 8 of qh[j / 8]. codes: (32), qh: (4)
void pack_fifth_bits(const uint8_t* codes, uint8_t* qh);

}  // namespace moe::encode
