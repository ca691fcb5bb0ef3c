#include "tools/evolve_report.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tools/evolve_matrix.h"
#include "tools/evolve_page.h"
#include "tools/png_file.h"

namespace moe::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// A page is no archive: beyond these it has an even sample, and says so.
constexpr size_t kMostCandidates = 20000, kMostGenerations = 4000, kMostCells = size_t{4} << 20;

template <class T>
struct Number {
  const char* name;
  double T::*value;
};
constexpr Number<Evaluation> kCandidateNumbers[] = {{"kl", &Evaluation::kl},
                                                    {"worst_domain_kl", &Evaluation::worst_domain_kl},
                                                    {"accuracy", &Evaluation::accuracy},
                                                    {"layer_error", &Evaluation::layer_error},
                                                    {"active_flops", &Evaluation::active_flops},
                                                    {"expert_flops", &Evaluation::expert_flops},
                                                    {"bytes_per_token", &Evaluation::bytes_per_token},
                                                    {"resident_bytes", &Evaluation::resident_bytes},
                                                    {"latency_ms", &Evaluation::latency_ms},
                                                    {"kept_share", &Evaluation::kept_share},
                                                    {"k_mean", &Evaluation::k_mean},
                                                    {"load_cv", &Evaluation::load_cv},
                                                    {"diversity", &Evaluation::diversity}};

// Six digits are more than a screen has.
Json number(double x) {
  if (!std::isfinite(x)) return {};
  if (x == 0) return 0;
  const double scale = std::pow(10.0, 5 - std::floor(std::log10(std::fabs(x))));
  const double rounded = std::round(x * scale) / scale;
  return std::isfinite(rounded) ? Json(rounded) : Json(x);
}

Json numbers(const std::vector<double>& values) {
  Json all = Json::array();
  for (const double x : values) all.push_back(number(x));
  return all;
}

// A candidate and the generation that scored it.
struct Scored {
  uint32_t generation = 0;
  const Evaluation* evaluation = nullptr;
};

std::vector<Scored> scored_of(const JournalText& journal) {
  std::vector<Scored> all;
  for (const GenerationRecord& g : journal.generations)
    for (const Evaluation& e : g.evaluations)
      if (!e.dropped && std::isfinite(e.kl)) all.push_back({g.generation, &e});
  return all;
}

// Every n-th, so that at most `most` are left; the last one is always among them.
template <class T>
std::vector<T> sampled(const std::vector<T>& all, size_t most) {
  if (all.size() <= most) return all;
  std::vector<T> some;
  for (size_t i = 1; i <= most; ++i) some.push_back(all[i * all.size() / most - 1]);
  return some;
}

// One array a number: names are said once.
Json columns_of(const std::vector<Scored>& candidates) {
  Json columns = Json::object();
  Json generation = Json::array();
  for (const Scored& c : candidates) generation.push_back(c.generation);
  columns["generation"] = std::move(generation);
  for (const Number<Evaluation>& n : kCandidateNumbers) {
    Json column = Json::array();
    bool known = false;
    for (const Scored& c : candidates) {
      column.push_back(number(c.evaluation->*n.value));
      known = known || std::isfinite(c.evaluation->*n.value);
    }
    if (known) columns[n.name] = std::move(column);
  }
  return columns;
}

Json generation_of(const GenerationRecord& g) {
  const SearchStatistics& s = g.statistics;
  return {{"generation", g.generation},
          {"token_layers", number(g.token_layers)},
          {"seconds", number(g.seconds)},
          {"best", numbers(s.best)},
          {"hypervolume", number(s.hypervolume)},
          {"diversity", number(s.diversity)},
          {"unique_layers", s.unique_layers},
          {"duplicates", s.duplicates},
          {"mutation_share", numbers(s.mutation_share)},
          {"crossover_share", numbers(s.crossover_share)}};
}

Json json_of(const JournalText& journal) {
  std::vector<const GenerationRecord*> all;
  for (const GenerationRecord& g : journal.generations) all.push_back(&g);
  Json generations = Json::array();
  for (const GenerationRecord* g : sampled(all, kMostGenerations)) generations.push_back(generation_of(*g));
  const std::vector<Scored> scored = scored_of(journal), shown = sampled(scored, kMostCandidates);
  const auto parsed = [](const std::string& text) { return text.empty() ? Json() : Json::parse(text, nullptr, false); };
  return {{"settings", parsed(journal.settings)},        {"end", parsed(journal.end)},
          {"n_generations", journal.generations.size()}, {"n_scored", scored.size()},
          {"generations", std::move(generations)},       {"scored", columns_of(shown)}};
}

// "1101…": an expert a digit.
std::string digits_of(const std::vector<uint8_t>& bits) {
  std::string digits;
  for (const uint8_t bit : bits) digits += bit ? '1' : '0';
  return digits;
}

Json json_of(const LayerRouting& layer) {
  if (layer.n_experts == 0) return {{"n", 0}};
  Json json = {{"n", layer.n_experts},
               {"kept", digits_of(kept_experts(layer))},
               {"k", {layer.k_min, layer.k_max}},
               {"threshold", number(layer.threshold)},
               {"temperature", number(layer.temperature)},
               {"biased", std::any_of(layer.bias.begin(), layer.bias.end(), [](float b) { return b != 0; })},
               {"redirected", std::count_if(layer.redirect.begin(), layer.redirect.end(), [](int32_t e) { return e >= 0; })}};
  if (!layer.width.empty()) json["width"] = layer.width;
  return json;
}

Json json_of(const std::vector<std::pair<std::string, RoutingTopology>>& topologies) {
  Json all = Json::object();
  for (const auto& [name, topology] : topologies) {
    Json layers = Json::array();
    for (const LayerRouting& layer : topology.layers) layers.push_back(json_of(layer));
    all[name] = {{"classes", topology.n_classes}, {"layers", std::move(layers)}};
  }
  return all;
}

// JSON that may stand in an HTML script: nothing in it opens a tag, ends one or begins a comment.
std::string script_safe(const Json& json) {
  const std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    switch (c) {  // these stand in strings only
      case '<':
        safe += "\\u003c";
        break;
      case '>':
        safe += "\\u003e";
        break;
      case '&':
        safe += "\\u0026";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

// --- Files ---

size_t cells_of(const RoutingTopology& topology) {
  size_t cells = 0;
  for (const LayerRouting& layer : topology.layers) cells += static_cast<size_t>(layer.n_experts);
  return cells;
}

// Of points and baselines, until a page would hold too much of them. A topology that is gone is no reason to show nothing.
Status read_topologies(const std::string& front_path, const FrontFile& front, ReportSource& source) {
  size_t cells = 0;
  for (const std::vector<FrontPoint>* points : {&front.points, &front.baselines}) {
    for (const FrontPoint& p : *points) {
      if (p.topology.empty() || cells > kMostCells) continue;
      Result<RoutingTopology> topology = load_topology(topology_path(front_path, p));
      if (topology.status().code() == StatusCode::kNotFound) continue;
      if (!topology.ok()) return topology.status();
      cells += cells_of(*topology);
      source.topologies.emplace_back(p.name, *std::move(topology));
    }
  }
  return Status::Ok();
}

// Absent files are no error.
template <class T>
Status read_optional(Result<T> read, std::optional<T>& value) {
  if (!read.ok()) return read.status().code() == StatusCode::kNotFound ? Status::Ok() : read.status();
  value = *std::move(read);
  return Status::Ok();
}

// The point asked for, or the middle one of those that have a topology.
Result<const std::pair<std::string, RoutingTopology>*> chosen(const ReportSource& source, const std::string& name) {
  const auto& all = source.topologies;
  if (name.empty()) {
    const size_t n_points = std::min(all.size(), source.front ? source.front->points.size() : 0);
    return all.empty() ? nullptr : &all[n_points / 2 < all.size() ? n_points / 2 : 0];
  }
  std::string names;
  for (const auto& topology : all) {
    if (topology.first == name) return &topology;
    names += (names.empty() ? "" : ", ") + topology.first;
  }
  return Status::NotFound("point " + name + ": there are " + (names.empty() ? "none with a topology" : names));
}

Status write_matrix(const ReportArguments& arguments, const ReportSource& source, ReportFacts& facts) {
  MOE_ASSIGN(const auto* const point, chosen(source, arguments.point));
  if (!point || (!can_write_png() && arguments.matrix.empty())) return Status::Ok();
  const std::string path = arguments.matrix.empty() ? (fs::path(arguments.folder) / "matrix.png").string() : arguments.matrix;
  const std::string model = source.front ? fs::path(source.front->model.name).filename().string() + ", " : "";
  MOE_ASSIGN(const Canvas canvas, draw_matrix(point->second, {.title = model + point->first, .analysis = source.analysis}));
  MOE_TRY(write_png(canvas, path));
  facts.matrix = path, facts.point = point->first;
  return Status::Ok();
}

}  // namespace

std::string report_page(const ReportSource& source) {
  Json data = {{"folder", source.folder},
               {"front", source.front ? Json::parse(to_json(*source.front), nullptr, false) : Json()},
               {"journal", source.journal ? json_of(*source.journal) : Json()},
               {"analysis", source.analysis ? Json::parse(to_json(*source.analysis), nullptr, false) : Json()},
               {"topologies", json_of(source.topologies)}};
  return report_html(script_safe(data));
}

Result<ReportFacts> write_report(const ReportArguments& arguments) {
  const fs::path folder(arguments.folder);
  const std::string front_path = (folder / "front.json").string();
  std::optional<JournalText> journal;
  std::optional<FrontFile> front;
  std::optional<RunAnalysis> analysis;
  MOE_TRY(read_optional(read_journal((folder / "journal.jsonl").string()), journal));
  MOE_TRY(read_optional(read_front(front_path), front));
  MOE_TRY(read_optional(read_analysis((folder / "analysis.json").string()), analysis));
  if (!journal && !front)
    return Status::NotFound(arguments.folder + ": wanted journal.jsonl or front.json of a search, found neither");
  ReportSource source;
  source.journal = journal ? &*journal : nullptr;
  source.front = front ? &*front : nullptr;
  source.analysis = analysis ? &*analysis : nullptr;
  source.folder = arguments.folder;
  if (front) MOE_TRY(read_topologies(front_path, *front, source));

  ReportFacts facts;
  facts.page = arguments.page.empty() ? (folder / "report.html").string() : arguments.page;
  facts.generations = journal ? journal->generations.size() : 0;
  facts.candidates = journal ? scored_of(*journal).size() : 0;
  facts.points = front ? front->points.size() : 0;
  MOE_TRY(write_matrix(arguments, source, facts));
  const std::string page = report_page(source);
  facts.page_bytes = page.size();
  MOE_TRY(write_text_file(facts.page, page));
  return facts;
}

void add_report(CLI::App& app, ReportArguments& a) {
  CLI::App* report = app.add_subcommand("report", "a page of what a search did and found, for any browser, offline");
  report->add_option("DIR", a.folder, "folder of the search; it may still be running")->required();
  report->add_option("-o,--out", a.page, "HTML file to write; default: DIR/report.html");
  report->add_option("--matrix", a.matrix, "PNG file of a point's routing matrix; default: DIR/matrix.png");
  report->add_option("--point", a.point, "point of the matrix; default: the middle of the front");
}

Status report_command(const Program& program, const ReportArguments& arguments) {
  MOE_ASSIGN(const ReportFacts facts, write_report(arguments));
  if (program.json()) {
    print_json({{"page", facts.page},
                {"matrix", facts.matrix},
                {"point", facts.point},
                {"generations", facts.generations},
                {"candidates", facts.candidates},
                {"points", facts.points},
                {"bytes", facts.page_bytes}});
    return Status::Ok();
  }
  std::printf("%s: %zu generations, %zu candidates, %zu points, %s\n", facts.page.c_str(), facts.generations, facts.candidates,
              facts.points, format_bytes(static_cast<double>(facts.page_bytes)).c_str());
  if (!facts.matrix.empty()) std::printf("%s: %s\n", facts.matrix.c_str(), facts.point.c_str());
  return Status::Ok();
}

}  // namespace moe::tools
