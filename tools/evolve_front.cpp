#include "tools/evolve_front.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "evolution/weighted_sum.h"
#include "tools/evolve_devices.h"
#include "tools/model_options.h"

namespace moe::tools {
namespace {

namespace fs = std::filesystem;

std::string point_name(size_t i, size_t n) {
  const size_t digits = std::max<size_t>(2, std::to_string(n - 1).size());
  std::string number = std::to_string(i);
  return "p" + std::string(digits - number.size(), '0') + number;
}

FrontPoint point_of(const FrontFacts& facts, std::string name, const Genome& genome, const Evaluation& selection,
                    const Evaluation& held_out) {
  FrontPoint p;
  p.name = std::move(name);
  p.hash = hash(topology_of(genome, facts.model->routing_shape()));
  p.selection = selection_of(selection, facts.objectives.objectives);
  p.held_out = held_out_of(held_out, facts.text->names());
  p.costs = costs_of(selection);
  return p;
}

// Topologies and devices' fronts of another run in the same folder.
void remove_old_points(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool number = name.size() > 6 && name.substr(1, name.size() - 6).find_first_not_of("0123456789") == std::string::npos;
    const bool point = name.starts_with("p") && name.ends_with(".json") && number;
    if (point || (name.starts_with("front-") && name.ends_with(".json"))) fs::remove(entry.path(), error);
  }
}

std::string note_of(const FrontFacts& facts, const FrontPoint& p) {
  std::string note = "moe-evolve " + p.name + ", seed " + std::to_string(facts.config->search.seed) + ", " +
                     facts.config->search.algorithm + ";";
  for (const auto& [name, value] : p.selection) note += " " + name + " " + show_value(value);
  return note;
}

double selected(const FrontPoint& p, const std::string& name) {
  for (const auto& [objective, value] : p.selection)
    if (objective == name) return value;
  return kNotMeasured;
}

void describe(const FrontFacts& facts, FrontFile& file) {
  file.model = {facts.model->config().name, facts.model->hash(), static_cast<double>(weight_bytes(facts.model->file()))};
  file.seed = facts.config->search.seed;
  file.algorithm = facts.config->search.algorithm;
  if (!facts.devices.empty()) file.device = facts.devices[0];
  for (const ObjectiveDef* o : facts.objectives.objectives) file.objectives.push_back({o->name, o->unit, o->maximise});
  const auto tokens = [](const TextSplit& split, size_t domain) {
    int64_t n = 0;
    for (const int block : split.of_domain[domain])
      n += static_cast<int64_t>(split.blocks[static_cast<size_t>(block)].tokens.size());
    return n;
  };
  for (size_t d = 0; d < facts.text->names().size(); ++d)
    file.texts.push_back({facts.text->names()[d], facts.domain_tokens[d], tokens(facts.text->calibration(), d),
                          tokens(facts.text->select(), d), tokens(facts.text->test(), d)});
  file.spent = facts.spent;
}

// The same routings on a device.
FrontFile on_device(const FrontFile& front, const std::vector<FrontPoint>& points, std::span<const size_t> chosen,
                    const DeviceProfile& device, const RoutingShape& shape) {
  FrontFile file = front;
  file.device = device;
  file.points.clear();
  for (const size_t i : chosen) file.points.push_back(points[i]);
  const auto price = [&](FrontPoint& p) {
    p.costs.latency_ms = latency_on(device, shape, p.costs.bytes_per_token, p.costs.active_flops, p.costs.k_mean);
    for (auto& [name, value] : p.selection)
      if (name == "latency") value = p.costs.latency_ms;
  };
  price(file.full);
  for (auto* all : {&file.baselines, &file.points}) std::for_each(all->begin(), all->end(), price);
  return file;
}

}  // namespace

Result<WrittenResult> write_result(const FrontFacts& facts, Evaluator& evaluator, const FoundPoints& found,
                                   std::span<const NamedGenome> simple, const std::string& folder) {
  std::vector<Genome> genomes;
  for (const NamedGenome& g : simple) genomes.push_back(g.genome);
  std::vector<Evaluation> selection(genomes.size());
  MOE_TRY(evaluator.confirm(genomes, selection));
  for (const Candidate& c : found.candidates) genomes.push_back(c.genome), selection.push_back(c.evaluation);
  std::vector<Evaluation> held_out(genomes.size());
  MOE_TRY(evaluator.held_out(genomes, held_out));

  WrittenResult result;
  FrontFile& file = result.front;
  describe(facts, file);
  for (size_t i = 0; i < simple.size(); ++i) {
    FrontPoint p = point_of(facts, simple[i].name, genomes[i], selection[i], held_out[i]);
    if (i == 0)
      file.full = std::move(p);
    else
      file.baselines.push_back(std::move(p));
  }
  remove_old_points(folder);
  std::vector<FrontPoint> points;
  for (size_t i = 0; i < found.candidates.size(); ++i) {
    const size_t at = simple.size() + i;
    FrontPoint p = point_of(facts, point_name(i, found.candidates.size()), genomes[at], selection[at], held_out[at]);
    p.topology = p.name + ".json";
    RoutingTopology topology = topology_of(genomes[at], facts.model->routing_shape());
    topology.note = note_of(facts, p);
    MOE_TRY(save_topology(topology, (fs::path(folder) / p.topology).string()));
    points.push_back(std::move(p));
  }
  file.points.assign(points.begin(), points.begin() + static_cast<std::ptrdiff_t>(found.n_front));
  for (size_t d = 0; d < found.of_device.size(); ++d) {
    const DeviceProfile& device = facts.devices[d];
    const std::string path = (fs::path(folder) / device_front_name(device)).string();
    result.devices.emplace_back(path, on_device(file, points, found.of_device[d], device, facts.model->routing_shape()));
    MOE_TRY(write_front(result.devices.back().second, path));
  }
  MOE_TRY(write_front(file, (fs::path(folder) / "front.json").string()));
  return result;
}

std::vector<MeasureItem> items_to_measure(FrontFile& front, const RoutingShape& shape, std::span<const NamedGenome> simple,
                                          const FoundPoints& found, size_t most) {
  std::vector<MeasureItem> items;
  const auto add = [&](FrontPoint& p, const Genome& genome) { items.push_back({p.name, &p, topology_of(genome, shape)}); };
  add(front.full, simple[0].genome);
  for (const size_t i : evenly(front.points.size(), most)) add(front.points[i], found.candidates[i].genome);
  for (size_t i = 1; i < simple.size(); ++i) add(front.baselines[i - 1], simple[i].genome);
  return items;
}

std::string chosen_point(const EvolveConfig& config, const FrontFile& front) {
  std::vector<double> weights, baseline;
  for (const EvolveObjective& o : config.objectives) {
    if (!o.weight) return "";
    double base = std::fabs(selected(front.full, o.name));
    if (!(base > 0)) base = 0;
    if (base == 0)
      for (const FrontPoint& p : front.points) base = std::max(base, std::fabs(selected(p, o.name)));
    weights.push_back(*o.weight);
    baseline.push_back(base > 0 ? base : 1);
  }
  const auto sum = WeightedSum::make(weights, baseline);
  if (!sum.ok()) return "";
  std::string best;
  double least = 0;
  for (const FrontPoint& p : front.points) {
    Score score;
    for (size_t m = 0; m < config.objectives.size(); ++m)
      score.values[m] = selected(p, config.objectives[m].name) * (front.objectives[m].maximise ? -1 : 1);
    const double value = (*sum)(score).values[0];
    if (best.empty() || value < least) best = p.name, least = value;
  }
  return best;
}

std::string value_text(const ObjectiveDef& objective, double value) {
  if (std::isnan(value)) return "-";
  const std::string unit = objective.unit;
  if (unit == "B") return format_bytes(value);
  if (unit == "FLOP") return format_count(value);
  return format_fixed(value, std::fabs(value) < 10 ? 4 : 1) + (unit == "ms" ? " ms" : "");
}

std::string front_table(const FrontFile& front) {
  std::vector<Table::Align> columns(front.objectives.size() + 6, Table::kRight);
  columns[0] = Table::kLeft;
  Table table(columns);
  std::vector<std::string> head = {"point"};
  for (const FrontFile::Objective& o : front.objectives) head.push_back(o.name);
  head.insert(head.end(), {"held-out kl", "perplexity", "worst text"});
  const bool measured = front.full.measured.has_value();
  if (measured) head.insert(head.end(), {"measured tok/s", "resident"});
  table.row(std::move(head));
  const auto add = [&](const FrontPoint& p) {
    std::vector<std::string> row = {p.name};
    for (const FrontFile::Objective& o : front.objectives) {
      const auto def = find_objective(o.name);
      row.push_back(def.ok() ? value_text(**def, selected(p, o.name)) : "");
    }
    const auto number = [](double x) { return std::isnan(x) ? std::string("-") : format_fixed(x, 4); };
    row.insert(row.end(), {number(p.held_out.kl), number(p.held_out.perplexity), number(p.held_out.worst_domain_kl)});
    if (measured) {
      const FrontPoint::Measured m = p.measured.value_or(FrontPoint::Measured{});
      row.push_back(p.measured ? format_fixed(m.tokens_per_s, 1) : "-");
      row.push_back(p.measured ? format_bytes(m.resident_bytes) : "-");
    }
    table.row(std::move(row));
  };
  add(front.full);
  for (const FrontPoint& p : front.baselines) add(p);
  for (const FrontPoint& p : front.points) add(p);
  return table.text();
}

}  // namespace moe::tools
