// The search of the K formats: 256 elements in groups whose own scales (and mins) are small integers times one f16.
//
// Each group's best real scale comes first; the largest sets the f16. Then two steps alternate: every group picks the
// integers around its optimum that lose least with the f16 as it is, and the f16 are refitted by least squares over all 256
// elements with the codes as they are. The best of all rounds is kept.
#pragma once

#include "tensor/formats/encode_search.h"

namespace moe::encode {

// x ≈ d · scale[g] · (code + lo), as Q3_K and Q6_K store it.
struct ScaledShape {
  int groups;              // of 256 / groups elements
  int lo, hi;              // levels
  int scale_lo, scale_hi;  // the groups' integers
};
struct ScaledSuperBlock {
  uint16_t d;          // f16
  int scale[16];       // scale_lo..scale_hi
  uint8_t codes[256];  // level - lo
};
void fit_super_block(const Samples& s, const ScaledShape& shape, ScaledSuperBlock* out);

// x ≈ d · scale[g] · code - dmin · min[g], as Q2_K, Q4_K and Q5_K store it.
struct AffineShape {
  int groups;
  int hi;        // codes 0..hi
  int scale_hi;  // scales and mins 0..scale_hi
};
struct AffineSuperBlock {
  uint16_t d, dmin;  // f16
  int scale[16];
  int min[16];
  uint8_t codes[256];
};
void fit_super_block(const Samples& s, const AffineShape& shape, AffineSuperBlock* out);

}  // namespace moe::encode
