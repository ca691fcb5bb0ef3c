#include "tools/front_file.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/mathx.h"
#include "evolution/json_fields.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBytes = size_t{256} << 20;
constexpr size_t kMostPoints = 100000, kMostTexts = 1000, kMostName = 1000, kMostPath = 4096;

template <class T>
struct Number {
  const char* name;
  double T::*value;
};
constexpr Number<FrontPoint::HeldOut> kHeldOut[] = {{"kl", &FrontPoint::HeldOut::kl},
                                                    {"kl_error", &FrontPoint::HeldOut::kl_error},
                                                    {"perplexity", &FrontPoint::HeldOut::perplexity},
                                                    {"worst_domain_kl", &FrontPoint::HeldOut::worst_domain_kl}};
constexpr Number<FrontPoint::Costs> kCosts[] = {{"active_flops", &FrontPoint::Costs::active_flops},
                                                {"expert_flops", &FrontPoint::Costs::expert_flops},
                                                {"bytes_per_token", &FrontPoint::Costs::bytes_per_token},
                                                {"resident_bytes", &FrontPoint::Costs::resident_bytes},
                                                {"latency_ms", &FrontPoint::Costs::latency_ms},
                                                {"kept_share", &FrontPoint::Costs::kept_share},
                                                {"k_mean", &FrontPoint::Costs::k_mean},
                                                {"load_cv", &FrontPoint::Costs::load_cv},
                                                {"diversity", &FrontPoint::Costs::diversity}};
constexpr Number<FrontPoint::Measured> kMeasured[] = {{"tokens_per_s", &FrontPoint::Measured::tokens_per_s},
                                                      {"resident_bytes", &FrontPoint::Measured::resident_bytes}};
constexpr Number<FrontFile::Spent> kSpent[] = {{"token_layers", &FrontFile::Spent::token_layers},
                                               {"generations", &FrontFile::Spent::generations},
                                               {"evaluations", &FrontFile::Spent::evaluations},
                                               {"seconds", &FrontFile::Spent::seconds}};

// --- Writing ---

Json json_of(double value) { return std::isfinite(value) ? Json(value) : Json(); }

template <class T, size_t N>
Json numbers(const Number<T> (&table)[N], const T& from) {
  Json json = Json::object();
  for (const Number<T>& n : table) json[n.name] = json_of(from.*n.value);
  return json;
}

Json json_of(const NamedValues& values) {
  Json json = Json::object();
  for (const auto& [name, value] : values) json[name] = json_of(value);
  return json;
}

Json json_of(const FrontPoint& p) {
  Json held_out = numbers(kHeldOut, p.held_out);
  held_out["domain_kl"] = json_of(p.held_out.domain_kl);
  return {{"name", p.name},
          {"topology", p.topology.empty() ? Json() : Json(p.topology)},
          {"hash", hash_to_hex(p.hash)},
          {"selection", json_of(p.selection)},
          {"held_out", std::move(held_out)},
          {"costs", numbers(kCosts, p.costs)},
          {"measured", p.measured ? numbers(kMeasured, *p.measured) : Json()}};
}

std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// An item a line.
template <class T, class F>
std::string lines_of(const std::vector<T>& items, F&& json) {
  std::string text = "[";
  for (size_t i = 0; i < items.size(); ++i) text += (i > 0 ? ",\n  " : "\n  ") + line_of(json(items[i]));
  return text + (items.empty() ? "]" : "\n ]");
}

// --- Reading ---

template <class T, size_t N>
void read_numbers(const JsonField& from, const Number<T> (&table)[N], T& to) {
  for (const Number<T>& n : table) to.*n.value = from[n.name].number_or_nan();
}

NamedValues read_values(const JsonField& from) {
  NamedValues values;
  for (const auto& [name, value] : from.members(kMostTexts)) {
    if (name.size() > kMostName) value.refuse("a name of at most " + std::to_string(kMostName) + " bytes");
    values.push_back({name, value.number_or_nan()});
  }
  return values;
}

// A front may come from somebody else: its topologies lie beside it or below.
std::string read_path(const JsonField& from) {
  std::string path = from.text(kMostPath);
  const std::filesystem::path parts(path);
  bool inside = !path.empty() && path.find('\0') == std::string::npos && parts.is_relative();
  for (const std::filesystem::path& part : parts) inside = inside && part != "..";
  if (!inside) from.refuse("a path below the file's folder");
  return path;
}

FrontPoint read_point(const JsonField& from) {
  FrontPoint p;
  from.allow({"name", "topology", "hash", "selection", "held_out", "costs", "measured"});
  p.name = from["name"].text(kMostName);
  if (from.has("topology")) p.topology = read_path(from["topology"]);
  p.hash = from["hash"].hex();
  p.selection = read_values(from["selection"]);
  read_numbers(from["held_out"], kHeldOut, p.held_out);
  p.held_out.domain_kl = read_values(from["held_out"]["domain_kl"]);
  read_numbers(from["costs"], kCosts, p.costs);
  if (from.has("measured")) {
    FrontPoint::Measured measured;
    read_numbers(from["measured"], kMeasured, measured);
    p.measured = measured;
  }
  return p;
}

std::vector<FrontPoint> read_points(const JsonField& from) {
  std::vector<FrontPoint> points;
  for (const JsonField& item : from.items(0, kMostPoints)) points.push_back(read_point(item));
  return points;
}

FrontFile::Text read_text(const JsonField& from) {
  constexpr int64_t kMost = INT64_MAX;
  return {from["name"].text(kMostName), from["tokens"].integer(0, kMost), from["calibration"].integer(0, kMost),
          from["select"].integer(0, kMost), from["test"].integer(0, kMost)};
}

void read_head(const JsonField& root, FrontFile& front) {
  root.allow({"format", "version", "model", "seed", "algorithm", "device", "objectives", "texts", "full", "baselines", "points",
              "spent"});
  if (root["format"].text(kMostName) != "moe-front") root["format"].refuse("\"moe-front\"");
  root["version"].integer(1, 1);
  const JsonField model = root["model"];
  front.model = {model["name"].text(kMostPath), model["hash"].hex(), model["bytes"].number(0)};
  front.seed = root["seed"].unsigned_integer();
  front.algorithm = root["algorithm"].text(kMostName);
  for (const JsonField& o : root["objectives"].items(0, kMostTexts))
    front.objectives.push_back({o["name"].text(kMostName), o["unit"].text(kMostName), o["maximise"].boolean()});
  for (const JsonField& t : root["texts"].items(0, kMostTexts)) front.texts.push_back(read_text(t));
}

}  // namespace

NamedValues selection_of(const Evaluation& evaluation, std::span<const ObjectiveDef* const> objectives) {
  NamedValues values;
  for (const ObjectiveDef* o : objectives) values.push_back({o->name, o->value(evaluation)});
  return values;
}

FrontPoint::HeldOut held_out_of(const Evaluation& e, std::span<const std::string> domains) {
  FrontPoint::HeldOut h{e.kl, e.kl_error, std::isfinite(e.nll) ? mathx::exp(e.nll) : kNotMeasured, e.worst_domain_kl, {}};
  for (size_t d = 0; d < domains.size() && d < e.domain_kl.size(); ++d) h.domain_kl.push_back({domains[d], e.domain_kl[d]});
  return h;
}

FrontPoint::Costs costs_of(const Evaluation& e) {
  return {e.active_flops, e.expert_flops, e.bytes_per_token, e.resident_bytes, e.latency_ms,
          e.kept_share,   e.k_mean,       e.load_cv,         e.diversity};
}

std::string to_json(const FrontFile& f) {
  const Json model = {{"name", f.model.name}, {"hash", hash_to_hex(f.model.hash)}, {"bytes", f.model.bytes}};
  std::string text = "{\"format\":\"moe-front\",\"version\":1,\n \"model\":" + line_of(model);
  text += ",\n \"seed\":" + std::to_string(f.seed) + ",\n \"algorithm\":" + line_of(f.algorithm);
  text += ",\n \"device\":" + (f.device ? line_of(Json::parse(moe::to_json(*f.device))) : "null");
  text += ",\n \"objectives\":" + lines_of(f.objectives, [](const FrontFile::Objective& o) {
            return Json{{"name", o.name}, {"unit", o.unit}, {"maximise", o.maximise}};
          });
  text += ",\n \"texts\":" + lines_of(f.texts, [](const FrontFile::Text& t) {
            return Json{
                {"name", t.name}, {"tokens", t.tokens}, {"calibration", t.calibration}, {"select", t.select}, {"test", t.test}};
          });
  const auto point = [](const FrontPoint& p) { return json_of(p); };
  text += ",\n \"full\":" + line_of(json_of(f.full)) + ",\n \"baselines\":" + lines_of(f.baselines, point);
  text += ",\n \"points\":" + lines_of(f.points, point) + ",\n \"spent\":" + line_of(numbers(kSpent, f.spent));
  return text + "}\n";
}

Result<FrontFile> front_from_json(std::string_view text) {
  MOE_ASSIGN(const JsonDocument document, JsonDocument::parse(text, "front JSON", {.bytes = kMostBytes, .depth = 8}));
  const JsonField root = document.root();
  FrontFile front;
  read_head(root, front);
  front.full = read_point(root["full"]);
  front.baselines = read_points(root["baselines"]);
  front.points = read_points(root["points"]);
  read_numbers(root["spent"], kSpent, front.spent);
  MOE_TRY(document.status());
  if (root.has("device")) {
    Result<DeviceProfile> device = device_from_json(root["device"].json());
    if (!device.ok()) return device.status().Annotate("front JSON: device");
    front.device = std::move(device).value();
  }
  return front;
}

Result<FrontFile> read_front(const std::string& path) {
  MOE_ASSIGN(const std::string text, read_text_file(path, kMostBytes));
  Result<FrontFile> front = front_from_json(text);
  if (!front.ok()) return front.status().Annotate(path);
  return front;
}

Status write_front(const FrontFile& front, const std::string& path) { return write_text_file(path, to_json(front)); }

std::string topology_path(const std::string& front_path, const FrontPoint& point) {
  return (std::filesystem::path(front_path).parent_path() / point.topology).string();
}

}  // namespace moe::tools
