// Building, checking, pricing and expanding graphs. What is particular to an op is in ops/.
#include "tensor/graph.h"

#include <algorithm>
#include <iterator>

#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

constexpr const char* kOpNames[] = {
#define MOE_OP(Enum, name) #name,
#include "tensor/ops.def"
};
static_assert(std::size(kOpNames) == kNumOps);

constexpr const char* kAttrsNames[] = {
    "NoAttrs",         "ScaleAttrs",       "NormAttrs",    "RopeTableAttrs", "RopeAttrs",        "GroupAttrs",
    "HeadLinearAttrs", "AttentionAttrs",   "GluAttrs",     "RouteAttrs",     "QuantizeActAttrs", "CrossEntropyAttrs",
    "PlaceAttrs",      "ProductGradAttrs", "MoeGradAttrs", "DropAttrs",      "LimitAttrs"};
static_assert(std::size(kAttrsNames) == std::variant_size_v<Attrs>);

bool is_optional(const char* input) { return std::string_view(input).back() == '?'; }

bool is_op(Op op) { return static_cast<int>(op) >= 0 && static_cast<int>(op) < kNumOps; }

bool in_graph(const Graph& g, ValueId id) { return id >= 0 && static_cast<size_t>(id) < g.values.size(); }

std::string describe(const Value& v) { return traits(v.dtype).name + to_string(v.shape); }

// What every op demands of a node, whatever it computes.
Status check_node(const Graph& g, const Node& node) {
  const OpDef& def = op_def(node.op);
  const auto wrong = [&](const std::string& what) { return Status::InvalidArgument(std::string(def.name) + ": " + what); };
  if (node.in.size() != def.inputs.size())
    return wrong("wanted " + std::to_string(def.inputs.size()) + " inputs, found " + std::to_string(node.in.size()));
  for (size_t i = 0; i < node.in.size(); ++i) {
    if (node.in[i] == kNone && !is_optional(def.inputs[i])) return wrong("input " + std::string(def.inputs[i]) + " is absent");
    if (node.in[i] != kNone && !in_graph(g, node.in[i]))
      return wrong("input " + std::string(def.inputs[i]) + " is value " + std::to_string(node.in[i]) + " of " +
                   std::to_string(g.values.size()));
  }
  if (node.attrs.index() != def.attrs)
    return wrong(std::string("wanted ") + kAttrsNames[def.attrs] + ", found " + kAttrsNames[node.attrs.index()]);
  return Status::Ok();
}

Status check_value(const Value& v) {
  const auto wrong = [&](const std::string& what) {
    return Status::InvalidArgument("value '" + v.name + "' " + describe(v) + ": " + what);
  };
  for (int i = 0; i < v.shape.rank; ++i) {
    const bool symbolic = i == 0 && (v.shape[i] == kTokens || v.shape[i] == kOutputs);
    if (v.shape[i] < 0 && !symbolic) return wrong("only the outermost extent may be T or R");
  }
  if (!v.shape.is_static() && (v.kind == ValueKind::kWeight || v.kind == ValueKind::kState))
    return wrong("weights and states have fixed extents");
  if (v.shape.is_static() || v.shape.rank > 1) {
    const int block = traits(v.dtype).block_elements;
    if (v.shape.last() % block != 0) return wrong("rows must be a multiple of " + std::to_string(block) + " elements");
  }
  if (v.output && v.kind != ValueKind::kTemp) return wrong("only what a node makes can be an output");
  return Status::Ok();
}

std::string node_label(const Graph& g, size_t i) {
  const Node& node = g.nodes[i];
  std::string label = "node " + std::to_string(i);
  if (is_op(node.op)) label += std::string(" (") + op_name(node.op) + ")";
  return label;
}

Status check_outputs(const Graph& g, const Node& node, std::vector<bool>& written) {
  std::vector<Value> wanted;
  MOE_TRY(infer_outputs(g, node, wanted));
  if (node.out.size() != wanted.size())
    return Status::InvalidArgument("wanted " + std::to_string(wanted.size()) + " outputs, found " +
                                   std::to_string(node.out.size()));
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (!in_graph(g, node.out[i]))
      return Status::InvalidArgument("output " + std::to_string(node.out[i]) + " is no value of the graph");
    const Value& found = g.value(node.out[i]);
    if (found.dtype != wanted[i].dtype || !(found.shape == wanted[i].shape))
      return Status::InvalidArgument("output %" + std::to_string(node.out[i]) + ": wanted " + describe(wanted[i]) + ", found " +
                                     describe(found));
    if (found.kind != ValueKind::kTemp)
      return Status::InvalidArgument("output %" + std::to_string(node.out[i]) + " is not a temp");
    if (written[static_cast<size_t>(node.out[i])])
      return Status::InvalidArgument("output %" + std::to_string(node.out[i]) + " has a writer already");
    written[static_cast<size_t>(node.out[i])] = true;
  }
  return Status::Ok();
}

}  // namespace

const char* op_name(Op op) {
  MOE_CHECK(is_op(op));
  return kOpNames[static_cast<size_t>(op)];
}

const OpDef& op_def(Op op) {
  static const OpDef table[] = {
#define MOE_OP(Enum, name) name##_op(),
#include "tensor/ops.def"
  };
  static_assert(std::size(table) == kNumOps);
  MOE_CHECK(is_op(op));
  return table[static_cast<size_t>(op)];
}

Status infer_outputs(const Graph& g, const Node& node, std::vector<Value>& out) {
  if (!is_op(node.op)) return Status::InvalidArgument("there is no op " + std::to_string(static_cast<int>(node.op)));
  MOE_TRY(check_node(g, node));
  const OpDef& def = op_def(node.op);
  MOE_TRY(def.infer(g, node, out));
  MOE_CHECK(out.size() == def.outputs.size());
  for (size_t i = 0; out.size() > 1 && i < out.size(); ++i) out[i].name = def.outputs[i];
  return Status::Ok();
}

ValueId Graph::find(std::string_view wanted) const {
  if (wanted.empty()) return kNone;
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i].name == wanted) return static_cast<ValueId>(i);
  return kNone;
}

ValueId Graph::add_value(Value v) {
  values.push_back(std::move(v));
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::add_node(Op op, std::vector<ValueId> in, Attrs attrs, int layer) {
  const OpDef& def = op_def(op);
  while (in.size() < def.inputs.size() && is_optional(def.inputs[in.size()])) in.push_back(kNone);
  Node node{op, std::move(in), {}, attrs, layer};
  std::vector<Value> out;
  if (const Status s = infer_outputs(*this, node, out); !s.ok())
    throw BugError((name.empty() ? "" : name + ": ") + s.message());
  for (Value& v : out) node.out.push_back(add_value(std::move(v)));
  nodes.push_back(std::move(node));
  return nodes.back().out.empty() ? kNone : nodes.back().out[0];
}

Status Graph::validate() const {
  for (const Value& v : values) MOE_TRY(check_value(v));
  std::vector<bool> written(values.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const ValueId in : nodes[i].in) {
      if (!in_graph(*this, in) || value(in).kind != ValueKind::kTemp || written[static_cast<size_t>(in)]) continue;
      return Status::InvalidArgument(node_label(*this, i) + ": reads %" + std::to_string(in) + " before it is written");
    }
    MOE_TRY(check_outputs(*this, nodes[i], written).Annotate(node_label(*this, i)));
  }
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i].output && !written[i])
      return Status::InvalidArgument("output %" + std::to_string(i) + " '" + values[i].name + "' has no writer");
  return Status::Ok();
}

Cost cost(const Graph& g, const Node& node, const RunShape& run) { return op_def(node.op).cost(g, node, run); }

Cost cost(const Graph& g, const RunShape& run) {
  Cost total;
  for (const Node& node : g.nodes) total += cost(g, node, run);
  return total;
}

namespace {

// Appends node, or what its fallback makes of it, to g. The values of `node` are g's already.
void append_expanded(Graph& g, const Node& node, bool (*keep)(const Graph&, const Node&, void*), void* context) {
  const OpDef& def = op_def(node.op);
  if (!def.fallback || (keep && keep(g, node, context))) {
    g.nodes.push_back(node);
    return;
  }
  const size_t first = g.nodes.size();
  const ValueId made = def.fallback(g, node);
  std::vector<Node> simpler(g.nodes.begin() + static_cast<std::ptrdiff_t>(first), g.nodes.end());
  g.nodes.resize(first);
  MOE_CHECK(!simpler.empty() && simpler.back().out == std::vector<ValueId>{made} &&
            static_cast<size_t>(made) + 1 == g.values.size());
  g.values.pop_back();
  simpler.back().out = node.out;
  for (const Node& s : simpler) append_expanded(g, s, keep, context);
}

}  // namespace

Graph expand_fused(const Graph& g, bool (*keep)(const Graph&, const Node&, void*), void* context) {
  Graph expanded{g.name, g.values, {}};
  expanded.nodes.reserve(g.nodes.size());
  for (const Node& node : g.nodes) append_expanded(expanded, node, keep, context);
  return expanded;
}

Graph cut(const Graph& graph, std::span<const ValueId> from, std::span<const ValueId> to) {
  Graph g = graph;
  for (Value& v : g.values) v.output = false;
  std::vector<bool> needed(g.values.size(), false), given(g.values.size(), false);
  for (const ValueId id : from) {
    MOE_CHECK(g.value(id).kind == ValueKind::kTemp || g.value(id).kind == ValueKind::kInput);
    g.value(id).kind = ValueKind::kInput;
    given[static_cast<size_t>(id)] = true;
  }
  for (const ValueId id : to) {
    g.value(id).output = g.value(id).kind == ValueKind::kTemp;
    needed[static_cast<size_t>(id)] = true;
  }
  const auto makes_needed = [&](const Node& n) {
    return std::any_of(n.out.begin(), n.out.end(),
                       [&](ValueId id) { return needed[static_cast<size_t>(id)] && !given[static_cast<size_t>(id)]; });
  };
  std::vector<Node> kept;
  for (auto n = g.nodes.rbegin(); n != g.nodes.rend(); ++n) {
    if (!makes_needed(*n)) continue;
    for (const ValueId id : n->in)
      if (id != kNone) needed[static_cast<size_t>(id)] = true;
    kept.push_back(std::move(*n));
  }
  g.nodes.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
  for (size_t i = 0; i < g.values.size(); ++i)
    if (!needed[i]) g.values[i].kind = ValueKind::kTemp;
  return g;
}

}  // namespace moe
