#include "tools/evolve_analysis.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "evolution/json_fields.h"
#include "evolution/saliency.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBytes = size_t{256} << 20, kMostName = 1000;
constexpr int64_t kMostLayers = 4096, kMostExperts = 4096, kMostDomains = 4096, kMostOperators = 32768;

Json json_of(const std::vector<double>& values) {
  Json all = Json::array();
  for (const double x : values) all.push_back(std::isfinite(x) ? Json(x) : Json());
  return all;
}

Json json_of(const RunAnalysis::Layer& layer) {
  Json json = {{"experts", layer.use.size()}};
  if (layer.use.empty()) return json;
  json["use"] = json_of(layer.use);
  json["domain_use"] = Json::array();
  for (const std::vector<double>& use : layer.domain_use) json["domain_use"].push_back(json_of(use));
  json["reap"] = json_of(layer.reap);
  return json;
}

std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::vector<std::string> read_names(const JsonField& field, int64_t most) {
  std::vector<std::string> names;
  for (const JsonField& item : field.items(0, static_cast<size_t>(most))) names.push_back(item.text(kMostName));
  return names;
}

std::vector<double> read_numbers(const JsonField& field, size_t n) {
  std::vector<double> values;
  for (const JsonField& item : field.items(n, n)) values.push_back(item.number_or_nan());
  return values;
}

RunAnalysis::Layer read_layer(const JsonField& field, size_t n_domains) {
  RunAnalysis::Layer layer;
  const auto n = static_cast<size_t>(field["experts"].integer(0, kMostExperts));
  if (n == 0) return layer;
  layer.use = read_numbers(field["use"], n);
  for (const JsonField& use : field["domain_use"].items(n_domains, n_domains)) layer.domain_use.push_back(read_numbers(use, n));
  layer.reap = read_numbers(field["reap"], n);
  return layer;
}

template <class Op>
std::vector<std::string> names_of(const std::vector<Op>& operators) {
  std::vector<std::string> names;
  names.reserve(operators.size());
  for (const Op& op : operators) names.push_back(op.name);
  return names;
}

// The row whose name is "reap"; empty for a table without it.
std::vector<std::vector<float>> reap_of(const Calibration& calibration) {
  const Result<const SaliencyDef*> def = find_saliency("reap");
  return def.ok() ? saliency_table(**def, calibration) : std::vector<std::vector<float>>(calibration.layers.size());
}

}  // namespace

RunAnalysis analysis_of(const Calibration& calibration, std::span<const std::string> domains, const Variation& variation) {
  RunAnalysis a;
  a.domains.assign(domains.begin(), domains.end());
  for (const int64_t tokens : calibration.tokens) a.tokens += static_cast<double>(tokens);
  a.mutations = names_of(variation.mutations());
  a.crossovers = names_of(variation.crossovers());
  const std::vector<std::vector<float>> reap = reap_of(calibration);
  for (size_t l = 0; l < calibration.layers.size(); ++l) {
    const LayerCalibration& from = calibration.layers[l];
    const auto n = static_cast<size_t>(from.n_experts);
    RunAnalysis::Layer layer;
    for (int e = 0; e < from.n_experts; ++e) layer.use.push_back(static_cast<double>(from.total(from.use, e)));
    for (size_t d = 0; n > 0 && d < domains.size(); ++d) {
      const auto begin = from.domain_use.begin() + static_cast<std::ptrdiff_t>(d * n);
      layer.domain_use.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(n));
    }
    layer.reap.assign(reap[l].begin(), reap[l].end());
    a.layers.push_back(std::move(layer));
  }
  return a;
}

std::string to_json(const RunAnalysis& a) {
  Json head = {{"format", "moe-analysis"}, {"version", 1},
               {"domains", a.domains},     {"tokens", a.tokens},
               {"mutations", a.mutations}, {"crossovers", a.crossovers}};
  std::string text = line_of(head);
  text.pop_back();
  text += ",\"layers\":[";
  for (size_t l = 0; l < a.layers.size(); ++l) text += (l > 0 ? ",\n " : "\n ") + line_of(json_of(a.layers[l]));
  return text + "]}\n";
}

Result<RunAnalysis> analysis_from_json(std::string_view text) {
  MOE_ASSIGN(const JsonDocument document, JsonDocument::parse(text, "analysis JSON", {kMostBytes, 8}));
  const JsonField root = document.root();
  if (root["format"].text(kMostName) != "moe-analysis") root["format"].refuse("\"moe-analysis\"");
  root["version"].integer(1, 1);
  RunAnalysis a;
  a.domains = read_names(root["domains"], kMostDomains);
  a.tokens = root["tokens"].number(0);
  a.mutations = read_names(root["mutations"], kMostOperators);
  a.crossovers = read_names(root["crossovers"], kMostOperators);
  for (const JsonField& layer : root["layers"].items(0, static_cast<size_t>(kMostLayers)))
    a.layers.push_back(read_layer(layer, a.domains.size()));
  MOE_TRY(document.status());
  return a;
}

Result<RunAnalysis> read_analysis(const std::string& path) {
  MOE_ASSIGN(const std::string text, read_text_file(path, kMostBytes));
  Result<RunAnalysis> analysis = analysis_from_json(text);
  if (!analysis.ok()) return analysis.status().Annotate(path);
  return analysis;
}

Status write_analysis(const RunAnalysis& analysis, const std::string& path) { return write_text_file(path, to_json(analysis)); }

}  // namespace moe::tools
