// Which point of a front.json to run: the one that is closest to the full model among those that are fast, small or sparse
// enough.
#pragma once

#include <optional>
#include <string>

#include "tools/common.h"
#include "tools/front_file.h"

namespace moe::tools {

struct FrontWish {
  std::string front;  // file, or a name in the zoo; "": no front
  std::string point;  // by name; "": the best
  std::optional<double> latency_ms;
  std::string memory;  // "2GB"; "": any
  std::string kept;    // experts a layer, mean over layers: "8", or a share of all: "50%"; "": any
};

// --front, --point, --target-latency, --memory-limit, --experts-kept.
void add_front_options(CLI::App& app, FrontWish& wish);

struct FrontChoice {
  std::string name;
  std::string topology;     // path; "": the full model
  uint64_t model_hash = 0;  // that the front is of
  std::string why;          // a sentence
};

// Points and the full model are asked; of those that satisfy the wish, the one with the smallest KL on held-out text, or on
// selection text where none was read. Usage errors where the wish makes no sense; kNotFound names the nearest point where none
// satisfies it. Latency is that of the front's device; of a front without one the measured one, where a point has it.
Result<FrontChoice> choose_point(const FrontFile& front, const FrontWish& wish);

// Reads the file, chooses and says on stderr what and why.
Result<FrontChoice> pick_from_front(const Program& program, const FrontWish& wish);

}  // namespace moe::tools
