// The text of a graph, for people and for golden tests: the same graph gives the same bytes on every machine.
#include <charconv>
#include <cstdio>

#include "tensor/graph.h"

namespace moe {
namespace {

struct AttrText {
  std::string text;

  void operator()(const char* name, bool v) { append(name, v ? "true" : "false"); }
  void operator()(const char* name, int v) { append(name, std::to_string(v)); }
  void operator()(const char* name, int64_t v) { append(name, std::to_string(v)); }
  void operator()(const char* name, float v) {  // shortest digits that read back as the same float
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof(digits), v).ptr;
    append(name, std::string(digits, end));
  }
  void operator()(const char* name, DType v) { append(name, traits(v).name); }
  void append(const char* name, const std::string& value) {
    text += (text.empty() ? "" : ", ") + std::string(name) + "=" + value;
  }
};

std::string typed(const Value& v) { return v.name + ":" + traits(v.dtype).name + to_string(v.shape); }

std::string input_text(const Graph& g, ValueId id) {
  if (id == kNone) return "-";
  const Value& v = g.value(id);
  return v.kind == ValueKind::kTemp || v.name.empty() ? "%" + std::to_string(id) : typed(v);
}

std::string output_text(const Graph& g, ValueId id) {
  const Value& v = g.value(id);
  return "%" + std::to_string(id) + (v.name.empty() ? "" : " ") + typed(v);
}

std::string node_text(const Graph& g, const Node& node) {
  std::string text, inputs;
  bool is_output = false;
  for (const ValueId id : node.out) {
    text += (text.empty() ? "" : ", ") + output_text(g, id);
    is_output |= g.value(id).output;
  }
  size_t n_in = node.in.size();
  while (n_in > 0 && node.in[n_in - 1] == kNone) --n_in;
  for (size_t i = 0; i < n_in; ++i) inputs += (i ? ", " : "") + input_text(g, node.in[i]);
  AttrText attrs;
  std::visit([&](const auto& a) { a.fields(attrs); }, node.attrs);
  text += (node.out.empty() ? "" : " = ") + std::string(op_name(node.op)) + "(" + inputs + ")";
  if (!attrs.text.empty()) text += " {" + attrs.text + "}";
  return text + (is_output ? " !\n" : "\n");
}

std::string header(const Graph& g) {
  size_t weights = 0, bytes = 0;
  for (const Value& v : g.values) {
    if (v.kind != ValueKind::kWeight) continue;
    ++weights;
    bytes += Tensor{nullptr, v.dtype, v.shape}.bytes();
  }
  return "# " + (g.name.empty() ? "graph" : g.name) + ": " + std::to_string(g.nodes.size()) + " ops, " +
         std::to_string(weights) + " weights, " + std::to_string(bytes) + " bytes\n";
}

std::string cost_columns(const Cost& c) {
  char text[64];
  const int n = std::snprintf(text, sizeof(text), "%10.4g %10.4g %10.4g  ", c.flops, c.bytes_read, c.bytes_written);
  return std::string(text, static_cast<size_t>(n));
}

}  // namespace

std::string dump(const Graph& g, const RunShape* with_cost) {
  std::string text = header(g);
  if (with_cost) text += "     flops       read    written\n" + cost_columns(cost(g, *with_cost)) + "all\n";
  for (const Node& node : g.nodes) text += (with_cost ? cost_columns(cost(g, node, *with_cost)) : "") + node_text(g, node);
  return text;
}

}  // namespace moe
