// In what order threads work and where they meet. Two schedules of the same op list:
//   few tokens (decode): cheap row-wise ops run on every thread into a private copy of their outputs ("replicated"), so that
//     only the big products need a barrier after them: about five a layer;
//   many tokens (prompt): every op is shared out, with a barrier wherever one reads what others wrote. Ops that split the same
//     rows alike need none between them, a norm and the rounding of its result, say: a quarter of a layer's barriers less.
#pragma once

#include <vector>

#include "tensor/graph.h"

namespace moe::cpu {

inline constexpr int64_t kFewTokens = 4;  // replicated work grows with tokens, a barrier does not

struct Schedule {
  struct Step {
    bool barrier_before = false;
    bool replicated = false;
  };
  std::vector<Step> few, many;   // (n nodes) each
  std::vector<int> phase;        // (n nodes) number of few-token barriers before: for the memory plan
  std::vector<bool> replicated;  // (n values) has a copy a thread in the few-token schedule
};

// How a node is split when it is shared out. Nodes that split rows alike give a row to the same part.
enum class Split { kOther, kTokenRows, kOutputRows };
Split split_of(const Graph&, const Node&);

// The same nodes with those that need no meeting in between side by side: a shared expert's products beside the router's, say.
// Halves the barriers of architectures with several branches in a layer.
Graph order_by_phase(Graph);

Schedule make_schedule(const Graph&);

}  // namespace moe::cpu
