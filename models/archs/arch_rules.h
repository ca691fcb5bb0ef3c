// Rules that several architectures share.
#pragma once

#include "models/config.h"

namespace moe {

// d_ff_expert, from expert_feed_forward_length or feed_forward_length, and expert_count must be there.
Status require_expert_width(ModelConfig& c, const std::string& source);

// For architectures whose other engines know one width only, feed_forward_length: makes d_ff follow d_ff_expert, so that a
// model made with another expert width is read alike everywhere.
Status require_one_width(ModelConfig& c, const std::string& source);

// expert_weights_scale, which files leave out or set to 0 where it is 1.
float weights_scale(const ModelConfig& c);

// What all small example models have in common: 4 layers of width 256, 8 heads.
ModelConfig small_example(const char* arch);

}  // namespace moe
