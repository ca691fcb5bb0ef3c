#include "tools/front_pick.h"

#include <cmath>

#include "models/routing.h"
#include "tools/byte_size.h"
#include "tools/zoo.h"

namespace moe::tools {
namespace {

double modelled_latency(const FrontPoint& p) { return p.costs.latency_ms; }
double measured_latency(const FrontPoint& p) {
  return p.measured && p.measured->tokens_per_s > 0 ? 1e3 / p.measured->tokens_per_s : p.costs.latency_ms;
}
double memory_of(const FrontPoint& p) { return p.costs.resident_bytes; }
double kept_of(const FrontPoint& p) { return p.costs.kept_share; }

std::string latency_text(double ms) { return format_fixed(ms, ms < 10 ? 3 : 1) + " ms a token"; }
std::string kept_text(double share) { return format_fixed(100 * share, 1) + " % of experts"; }

// One thing that a point must have at most so much of.
struct Limit {
  double most;
  double (*value)(const FrontPoint&);
  std::string (*text)(double);
  const char* missing;  // what to do where points lack the value
};

double quality_of(const FrontPoint& p) {
  if (!std::isnan(p.held_out.kl)) return p.held_out.kl;
  for (const auto& [name, value] : p.selection)
    if (name == "kl") return value;
  return kNotMeasured;
}

std::string quality_text(const FrontPoint& p) {
  return "kl " + format_fixed(quality_of(p), 4) + " nats a token on " +
         (std::isnan(p.held_out.kl) ? "selection text" : "held-out text");
}

// Experts of a layer, mean over routed layers: any topology of the front knows.
Result<double> experts_a_layer(const FrontFile& front, const std::string& front_path) {
  Status status = Status::NotFound(front_path + ": --experts-kept N: wanted a point with a topology, found none");
  for (const FrontPoint& p : front.points) {
    if (p.topology.empty()) continue;
    const Result<RoutingTopology> t = load_topology(topology_path(front_path, p));
    if (!t.ok()) {
      status = t.status();
      continue;
    }
    double sum = 0, layers = 0;
    for (const LayerRouting& r : t->layers) sum += r.n_experts, layers += r.n_experts > 0;
    if (layers > 0) return sum / layers;
  }
  return status;
}

Result<double> kept_share(const FrontFile& front, const FrontWish& wish) {
  std::string number = wish.kept;
  const bool share = number.ends_with('%');
  if (share) number.pop_back();
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(number, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != number.size() || !(value > 0) || !std::isfinite(value))
    usage_error("--experts-kept: wanted a number of experts a layer or a share such as 50%, found '" + wish.kept + "'");
  if (share) return value / 100;
  MOE_ASSIGN(const double all, experts_a_layer(front, wish.front));
  return value / all;
}

Result<std::vector<Limit>> limits_of(const FrontFile& front, const FrontWish& wish) {
  std::vector<Limit> limits;
  if (wish.latency_ms)
    limits.push_back({*wish.latency_ms, front.device ? modelled_latency : measured_latency, latency_text,
                      "moe-evolve --device-profile gives points a latency"});
  if (!wish.memory.empty())
    limits.push_back({or_usage("--memory-limit", parse_bytes(wish.memory)), memory_of, format_bytes, "the front has no sizes"});
  if (!wish.kept.empty()) {
    MOE_ASSIGN(const double share, kept_share(front, wish));
    limits.push_back({share * (1 + 1e-9), kept_of, kept_text, "the front does not say how many experts are kept"});
  }
  return limits;
}

// How far beyond its limits a point is, as a sum of shares; NaN where a value is missing.
double excess(const FrontPoint& p, const std::vector<Limit>& limits) {
  double sum = 0;
  for (const Limit& l : limits) {
    const double value = l.value(p);
    if (std::isnan(value)) return value;
    sum += std::max(0.0, value / l.most - 1);
  }
  return sum;
}

std::string values_text(const FrontPoint& p, const std::vector<Limit>& limits) {
  std::string text;
  for (const Limit& l : limits) text += ", " + l.text(l.value(p));
  return text;
}

std::string limits_text(const std::vector<Limit>& limits) {
  std::string text;
  for (const Limit& l : limits) text += (text.empty() ? "at most " : " and ") + l.text(l.most);
  return text;
}

FrontChoice chosen(const FrontFile& front, const FrontWish& wish, const FrontPoint& p, const std::string& why) {
  return {p.name, p.topology.empty() ? "" : topology_path(wish.front, p), front.model.hash, why};
}

Result<FrontChoice> choose_by_name(const FrontFile& front, const FrontWish& wish) {
  std::string names;
  const auto find = [&](const std::vector<FrontPoint>& points) -> const FrontPoint* {
    for (const FrontPoint& p : points) {
      if (p.name == wish.point) return &p;
      if (names.size() < 300) names += (names.empty() ? "" : ", ") + p.name;
    }
    return nullptr;
  };
  const FrontPoint* p = wish.point == front.full.name ? &front.full : find(front.points);
  if (!p) p = find(front.baselines);
  if (!p) return Status::NotFound(wish.front + ": --point: wanted one of " + names + ", found '" + wish.point + "'");
  if (p != &front.full && p->topology.empty())
    return Status::NotFound(wish.front + ": --point " + p->name + ": wanted a point with a topology, found none");
  return chosen(front, wish, *p, p->name + ": " + quality_text(*p));
}

}  // namespace

void add_front_options(CLI::App& app, FrontWish& w) {
  const char* group = "Evolved routing";
  CLI::Option* front = app.add_option("--front", w.front,
                                      "front.json of moe-evolve, or a model of the zoo for the front it came with: use the "
                                      "topology of its best point that "
                                      "satisfies the rest")
                           ->group(group);
  CLI::Option* point = app.add_option("--point", w.point, "the point of this name instead")->needs(front)->group(group);
  for (CLI::Option* limit :
       {app.add_option("--target-latency", w.latency_ms, "milliseconds that a token may take")->check(CLI::PositiveNumber),
        app.add_option("--memory-limit", w.memory, "bytes that its specialised file may have: 2GB, 500MB"),
        app.add_option("--experts-kept", w.kept, "experts that a layer may keep, mean over layers, or a share: 50%")})
    limit->needs(front)->excludes(point)->group(group);
}

Result<FrontChoice> choose_point(const FrontFile& front, const FrontWish& wish) {
  if (!wish.point.empty()) return choose_by_name(front, wish);
  MOE_ASSIGN(const std::vector<Limit> limits, limits_of(front, wish));
  if (limits.empty()) usage_error("--front: wanted --target-latency, --memory-limit, --experts-kept or --point beside it");
  std::vector<const FrontPoint*> points = {&front.full};
  for (const FrontPoint& p : front.points)
    if (!p.topology.empty()) points.push_back(&p);
  const FrontPoint *best = nullptr, *nearest = nullptr;
  size_t n_within = 0;
  for (const FrontPoint* p : points) {
    const double beyond = excess(*p, limits);
    if (std::isnan(beyond) || std::isnan(quality_of(*p))) continue;
    if (!nearest || beyond < excess(*nearest, limits)) nearest = p;
    if (beyond > 0) continue;
    ++n_within;
    if (!best || quality_of(*p) < quality_of(*best)) best = p;
  }
  if (!nearest) return Status::NotFound(wish.front + ": no point can be judged: " + limits.front().missing);
  if (!best)
    return Status::NotFound(wish.front + ": wanted a point with " + limits_text(limits) + ", found none; nearest is " +
                            nearest->name + values_text(*nearest, limits) + ", " + quality_text(*nearest));
  return chosen(front, wish, *best,
                best->name + ": " + quality_text(*best) + ", the smallest of " + std::to_string(n_within) + " with " +
                    limits_text(limits) + " (of " + std::to_string(points.size()) + ")" + values_text(*best, limits));
}

Result<FrontChoice> pick_from_front(const Program& program, const FrontWish& wish) {
  FrontWish found = wish;
  MOE_TRY(find_front(program, found.front));
  MOE_ASSIGN(const FrontFile front, read_front(found.front));
  MOE_ASSIGN(FrontChoice choice, choose_point(front, found));
  std::fprintf(stderr, "%s: %s: %s\n", program.name().c_str(), found.front.c_str(), choice.why.c_str());
  return choice;
}

}  // namespace moe::tools
