// A model whose best routing is known, because it was planted: where ranks of experts, and removing them one by one, provably
// lead elsewhere.
//
// Two layers of 8 experts, one of them a token, vocabulary of 8 kinds of tokens. A token of kind i goes to expert i; where that
// is masked to the next in its line:
//
//             layer 0                                      layer 1
//   kind 0    A  then B, then C                            Z  then Z', then E      A = C, B = D, Y = Y' in every weight,
//   kind 1    B  then A, then D                            Z' then Z,  then F      Z and Z' put out zeros
//   kind 2    C  then E                                    Y  then Y', then E
//   kind 3    D  then F                                    Y' then Y,  then F      kinds 6 and 7: rare, of the second domain
//   4 to 7    E, F, P, Q then F, E, E, F                   as in layer 0           only; P and Q are short
//
// Layer 0 can lose A and B: their tokens come to their twins C and D. Without A alone its tokens go to B, which is wrong, and
// the same for B: each is missed for itself. Layer 1 can lose one of Z, Z' and one of Y, Y', never both. So 12 experts of 16
// are enough for a divergence of 0, in four ways, and nothing else of 12 experts has it. Who is used least or adds least is P
// and Q (and Z and Z'), and whoever removes the least missed first begins with P or Q.
#pragma once

#include <string>
#include <vector>

#include "evolution/text_data.h"
#include "tests/models/model_fixture.h"

namespace moe::test {

inline constexpr int kPlantedKept = 12;

ModelFile planted_model();
// The same with eight copies of one expert in each layer: no mask is better than another.
ModelFile identical_experts_model();
// Two domains, documents of 40 tokens.
std::vector<TextDomain> planted_text(int n_documents);

}  // namespace moe::test
