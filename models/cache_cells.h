// The used part of a sequence's caches, for copying and saving: runs of bytes in the buffers of keys and values.
#pragma once

#include <vector>

#include "models/graph_builder.h"
#include "tensor/buffer.h"

namespace moe {

inline size_t cell_bytes(const Value& cache) { return dtype_bytes(cache.dtype, cache.shape.last()); }

// Calls f(buffer, first byte, bytes) -> Status for the first n cells of every head of one sequence: for each layer, keys then
// values, heads in order. k and v: (n layers), empty where the layer has none.
template <class F>
Status for_cells(const ModelGraph& g, const std::vector<Buffer>& k, const std::vector<Buffer>& v, int seq, int n, F&& f) {
  for (size_t i = 0; i < g.caches.size(); ++i)
    for (const bool keys : {true, false}) {
      const ValueId id = keys ? g.caches[i].k : g.caches[i].v;
      if (id == kNone) continue;
      const Value& value = g.graph.value(id);
      const size_t row = cell_bytes(value), heads = static_cast<size_t>(value.shape[1]),
                   n_ctx = static_cast<size_t>(value.shape[2]);
      for (size_t h = 0; h < heads; ++h)
        MOE_TRY(f((keys ? k : v)[i], (static_cast<size_t>(seq) * heads + h) * n_ctx * row, static_cast<size_t>(n) * row));
    }
  return Status::Ok();
}

}  // namespace moe
