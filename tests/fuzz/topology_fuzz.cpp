// Any bytes as a topology's JSON. What is read must come back from its own text unchanged, and validation, summary, diff and
// hash must bear it, whatever it holds.
#include <cstdint>
#include <cstdlib>

#include "models/routing.h"

namespace {

// A model that the topology might have been made for, so that validation gets past its first checks.
moe::RoutingShape shape_like(const moe::RoutingTopology& t) {
  moe::RoutingShape s;
  s.model_hash = t.model_hash;
  s.n_vocab = static_cast<int>(t.token_class.size());
  for (const moe::LayerRouting& r : t.layers) {
    const bool groups = r.n_experts % 4 == 0 && r.n_experts > 0;
    s.layers.push_back({r.n_experts, r.n_experts ? 1 : 0, 256, 32, groups ? 4 : 1, groups ? 2 : 1});
  }
  return s;
}

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const moe::Result<moe::RoutingTopology> t = moe::topology_from_json({reinterpret_cast<const char*>(data), size});
  if (!t.ok()) {
    require(!t.status().message().empty());
    return 0;
  }
  const std::string text = moe::to_json(*t);
  const moe::Result<moe::RoutingTopology> back = moe::topology_from_json(text);
  require(back.ok() && *back == *t && moe::hash(*back) == moe::hash(*t) && moe::diff(*t, *back).empty());
  const moe::RoutingShape shape = shape_like(*t);
  const moe::Status valid = moe::validate(*t, shape);
  if (valid.ok()) {
    const moe::TopologySummary s = moe::summarize(*t, shape);
    require(s.total.bytes > 0 && s.total.bytes <= 1.000001);
  }
  const moe::RoutingTopology full = moe::full_topology(shape);
  require(moe::validate(full, shape).ok());
  (void)moe::diff(full, *t);
  return 0;
}
