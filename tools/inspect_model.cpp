// Graph, topology and weights of a model that moe can run.
#include <nlohmann/json.hpp>

#include "tools/inspect.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

Json cost_json(const Cost& c) { return {{"flops", c.flops}, {"bytes_read", c.bytes_read}, {"bytes_written", c.bytes_written}}; }

Json graph_json(const Graph& g, const RunShape& shape) {
  Json nodes = Json::array();
  const auto names = [&](const std::vector<ValueId>& ids) {
    Json out = Json::array();
    for (const ValueId id : ids) out.push_back(id == kNone ? Json() : Json(id));
    return out;
  };
  for (const Node& n : g.nodes) {
    nodes.push_back({{"op", op_name(n.op)},
                     {"layer", n.layer},
                     {"in", names(n.in)},
                     {"out", names(n.out)},
                     {"cost", cost_json(cost(g, n, shape))}});
  }
  Json values = Json::array();
  for (const Value& v : g.values) {
    values.push_back({{"name", v.name}, {"dtype", traits(v.dtype).name}, {"shape", to_string(v.shape)}, {"output", v.output}});
  }
  return {{"name", g.name}, {"cost", cost_json(cost(g, shape))}, {"nodes", std::move(nodes)}, {"values", std::move(values)}};
}

std::string range_text(double low, double high, int digits) {
  const std::string a = format_fixed(low, digits), b = format_fixed(high, digits);
  return a == b ? a : a + "-" + b;
}

std::string percent(double low, double high) { return range_text(100 * low, 100 * high, 1) + "%"; }

void print_summary(const TopologySummary& s) {
  using enum Table::Align;
  Table table({kRight, kRight, kRight, kRight, kRight, kRight});
  table.row({"layer", "experts", "k", "width", "expert FLOPs", "expert bytes"});
  const auto add = [&](const std::string& name, const TopologySummary::Layer& l) {
    table.row({name, std::to_string(l.kept) + "/" + std::to_string(l.n_experts),
               range_text(l.k_low, l.k_high, l.index < 0 ? 2 : 0), percent(l.width, l.width),
               percent(l.flops_low, l.flops_high), percent(l.bytes, l.bytes)});
  };
  for (const TopologySummary::Layer& l : s.layers) add(std::to_string(l.index), l);
  add("all", s.total);
  std::fputs(table.text().c_str(), stdout);
}

Json summary_json(const TopologySummary& s) {
  const auto layer = [](const TopologySummary::Layer& l) -> Json {
    return {{"layer", l.index},         {"n_experts", l.n_experts},   {"kept", l.kept},
            {"k_low", l.k_low},         {"k_high", l.k_high},         {"width", l.width},
            {"flops_low", l.flops_low}, {"flops_high", l.flops_high}, {"bytes", l.bytes}};
  };
  Json layers = Json::array();
  for (const TopologySummary::Layer& l : s.layers) layers.push_back(layer(l));
  return {{"layers", std::move(layers)}, {"total", layer(s.total)}};
}

Status validate_topology(const Program& program, const Model& model, const std::string& path) {
  MOE_ASSIGN(const RoutingTopology t, read_topology(model, path));
  const TopologySummary summary = summarize(t, model.routing_shape());
  const std::string changes = diff(model.topology(), t);
  if (program.json()) {
    print_json(
        {{"valid", true}, {"hash", hash_to_hex(hash(t))}, {"full", changes.empty()}, {"summary", summary_json(summary)}});
    return Status::Ok();
  }
  std::printf("%s is valid for %s, topology hash %s\n\n", path.c_str(), model.file().name().c_str(),
              hash_to_hex(hash(t)).c_str());
  if (summary.layers.empty())
    std::printf("no layer has experts\n");
  else
    print_summary(summary);
  if (!changes.empty()) std::printf("\nagainst the model's own topology:\n%s", changes.c_str());
  return Status::Ok();
}

}  // namespace

Status inspect_graph(const Program& program, const ModelArguments& arguments, const GraphArguments& a) {
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, arguments));
  GraphOptions options;
  options.n_ctx = a.ctx;
  MOE_ASSIGN(ModelGraph g, model->graph(options));
  if (a.unfused) g.graph = expand_fused(g.graph, nullptr, nullptr);
  RunShape shape;
  shape.n_tokens = a.tokens;
  shape.kv_length = a.ctx;
  if (program.json())
    print_json(graph_json(g.graph, shape));
  else
    std::fputs(dump(g.graph, a.costs ? &shape : nullptr).c_str(), stdout);
  return Status::Ok();
}

Status inspect_topology(const Program& program, const ModelArguments& arguments, const TopologyArguments& a) {
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, arguments));
  if (!a.validate.empty()) return validate_topology(program, *model, a.validate);
  MOE_ASSIGN(const RoutingTopology t, make_topology(*model, arguments));
  if (!a.out.empty()) return save_topology(t, a.out);
  std::fputs(to_json(t).c_str(), stdout);
  return Status::Ok();
}

Status inspect_check(const Program& program, const ModelArguments& arguments) {
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, arguments));
  MOE_TRY(model->check_weights());
  const size_t n = model->file().tensors().size();
  const auto bytes = static_cast<double>(weight_bytes(model->file()));
  if (program.json())
    print_json({{"ok", true}, {"tensors", n}, {"bytes", weight_bytes(model->file())}});
  else
    std::printf("%zu tensors, %s: all weights are finite numbers\n", n, format_bytes(bytes).c_str());
  return Status::Ok();
}

}  // namespace moe::tools
