// A forward pass as a flat list of ops over values. It is the only description of a model's arithmetic: architectures build it,
// fuse.* rewrites it, plan.* gives its values memory, backends run it, cost() prices it, dump() prints it.
//
// A value is written once (states excepted: attention updates its caches in place, gradients are added to), so list order is
// execution order and every dependency points backwards. Graphs are plain data: copyable, no pointers into themselves.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "tensor/attrs.h"
#include "tensor/tensor.h"

namespace moe {

enum class Op : int {
#define MOE_OP(Enum, name) k##Enum,
#include "tensor/ops.def"
};
inline constexpr int kNumOps = 0
#define MOE_OP(Enum, name) +1
#include "tensor/ops.def"
    ;
const char* op_name(Op op);

using ValueId = int32_t;
inline constexpr ValueId kNone = -1;  // an optional input that is absent

enum class ValueKind : int {
  kWeight,  // lives in the model file; `data` points at it once bound
  kInput,   // runtime data that the caller binds: token ids, positions, routing tables
  kState,   // survives from run to run: key and value caches
  kTemp,    // made by a node, dead after its last reader unless it is an output
};

struct Value {
  std::string name;  // of a weight: the tensor's name in the file; otherwise a label for dumps and errors
  ValueKind kind = ValueKind::kTemp;
  DType dtype = DType::kF32;
  Shape shape;
  void* data = nullptr;  // weights only
  bool output = false;   // temp that must survive to the end of the run and be readable afterwards
};

struct Node {
  Op op;
  std::vector<ValueId> in;  // in the order of ops.def; kNone where an optional input is absent
  std::vector<ValueId> out;
  Attrs attrs;
  int layer = -1;  // −1 outside the layers; for stats and dumps
};

// How many rows of each symbolic extent a run has, and what cost() assumes about data-dependent work.
struct RunShape {
  int64_t n_tokens = 1;
  int64_t n_outputs = 1;
  int64_t kv_length = 1;  // keys a query meets, for cost() only
  double k_mean = 0;      // experts a token uses, for cost() only; 0: the route's own k
};

struct Cost {
  double flops = 0;  // a multiply-add counts as 2
  double bytes_read = 0;
  double bytes_written = 0;
  Cost& operator+=(const Cost& o) {
    flops += o.flops, bytes_read += o.bytes_read, bytes_written += o.bytes_written;
    return *this;
  }
};

class Graph {
 public:
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;

  const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
  Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }
  ValueId find(std::string_view name) const;  // kNone when no value is called so; linear time

  ValueId add_value(Value v);
  // Appends an op, makes its outputs by the op's shape rule, and returns the first one (kNone of an op that only writes to a
  // state); trailing optional inputs may be left
  // out. A wrong shape here is our own bug (files are checked against the architecture before): BugError, as MOE_CHECK throws,
  // with both shapes in the message.
  ValueId add_node(Op op, std::vector<ValueId> in, Attrs attrs = NoAttrs{}, int layer = -1);

  // Every promise of this header, for graphs after a rewrite: inputs defined before use, shapes as the rules say, one writer
  // each.
  Status validate() const;
};

class GradientBuilder;  // autodiff.h

// Everything the project knows about an op, side by side in tensor/ops/. Table row order = ops.def.
struct OpDef {
  Op op;
  const char* name;
  std::vector<const char*> inputs;  // names; a trailing '?' marks an optional one
  std::vector<const char*> outputs;
  size_t attrs = 0;  // which alternative of Attrs its nodes carry: attrs_index<NormAttrs>()
  // Fills `out` with dtype and shape of each output, or says what is wrong, with the shapes found. Called through
  // infer_outputs(), which has checked the number and the ids of the inputs and the kind of attributes.
  Status (*infer)(const Graph&, const Node&, std::vector<Value>& out);
  Cost (*cost)(const Graph&, const Node&, const RunShape&);
  // Fused ops: appends simpler ops to g that compute the same from node.in, and returns the value that takes out[0]'s place.
  // Null for ops that are simple already.
  ValueId (*fallback)(Graph& g, const Node& node) = nullptr;
  // Appends ops that make gradients of the inputs from those of the outputs: see autodiff.h. Null where there is no gradient:
  // fused ops, ops on integers, and what belongs to a reverse pass itself.
  Status (*gradient)(GradientBuilder& b, const Node& node) = nullptr;
};
const OpDef& op_def(Op op);

// The outputs that a node must have (dtype, shape and, for ops with several, name), or why it may not be.
Status infer_outputs(const Graph&, const Node&, std::vector<Value>& out);

Cost cost(const Graph&, const Node&, const RunShape&);
Cost cost(const Graph&, const RunShape&);  // of the whole run

// A header with name, ops, weights and their bytes, then one line a node:
//   %12 ffn_norm:f32(T, 2048) = rms_norm(%9, blk.0.ffn_norm.weight:f32(2048)) {eps=1e-05, group=2048}
// Absent optional inputs are `-`, trailing ones nothing, outputs of the graph end in `!`. With a run shape each line starts
// with FLOPs and bytes.
std::string dump(const Graph&, const RunShape* with_cost = nullptr);

// Expands every fused node for which `keep` is false (or null) through its fallback, until none is left. Ids of values stay.
Graph expand_fused(const Graph&, bool (*keep)(const Graph&, const Node&, void*), void* context);

// The part of a graph that makes `to` when `from` is given: values of `from` become inputs under their labels, nodes that `to`
// does not need go, `to` become its only outputs, and what nobody reads any more keeps its id and gets no memory. Each of
// `from` is a temp or an input. A node that is needed for one output keeps all of them.
Graph cut(const Graph&, std::span<const ValueId> from, std::span<const ValueId> to);

}  // namespace moe
