#include "tools/quantize_topology.h"

#include <nlohmann/json.hpp>

#include "models/specialise.h"
#include "tools/model_options.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

std::string change_text(int64_t before, int64_t after) {
  return before == after ? std::to_string(before) : std::to_string(before) + " -> " + std::to_string(after);
}

std::string percent(double share) { return format_fixed(100 * share, 1) + "%"; }

double ratio(uint64_t after, uint64_t before) { return static_cast<double>(after) / static_cast<double>(before); }

const char* elsewhere_name(Elsewhere e) {
  constexpr const char* kNames[] = {"alike", "differently", "refused"};
  return kNames[static_cast<size_t>(e)];
}

void print_table(const SpecialisePlan& plan) {
  using enum Table::Align;
  Table table({kRight, kRight, kRight, kRight, kRight, kRight, kRight, kRight});
  table.row({"layer", "experts", "router rows", "width", "k", "bytes before", "after", ""});
  uint64_t before = 0, after = 0;
  for (const SpecialisePlan::Layer& l : plan.layers) {
    table.row({std::to_string(l.index), change_text(l.experts_before, l.experts), std::to_string(l.rows),
               change_text(l.width_before, l.width), std::to_string(l.k), std::to_string(l.bytes_before),
               std::to_string(l.bytes), percent(ratio(l.bytes, l.bytes_before))});
    before += l.bytes_before, after += l.bytes;
  }
  table.row({"all", "", "", "", "", std::to_string(before), std::to_string(after), percent(ratio(after, before))});
  std::fputs(table.text().c_str(), stdout);
}

Json to_json(const SpecialisePlan& plan, const TopologyWrite& a, const Model& model, double seconds) {
  Json layers = Json::array();
  for (const SpecialisePlan::Layer& l : plan.layers)
    layers.push_back({{"layer", l.index},
                      {"experts_before", l.experts_before},
                      {"experts", l.experts},
                      {"router_rows", l.rows},
                      {"width_before", l.width_before},
                      {"width", l.width},
                      {"k", l.k},
                      {"bytes_before", l.bytes_before},
                      {"bytes", l.bytes},
                      {"expert_share_wanted", l.wanted},
                      {"expert_share", l.kept}});
  Json json = {{"in", a.in},
               {"out", a.dry_run ? Json() : Json(a.out)},
               {"topology", a.topology},
               {"model_hash", hash_to_hex(model.hash())},
               {"hash", hash_to_hex(plan.hash)},
               {"bytes_before", plan.bytes_before},
               {"bytes_after", plan.bytes_after},
               {"topology_left", plan.has_topology},
               {"other_engines", elsewhere_name(plan.elsewhere)},
               {"notes", plan.notes},
               {"layers", std::move(layers)}};
  if (!a.dry_run) json["seconds"] = seconds;
  return json;
}

void print_summary(const SpecialisePlan& plan, const TopologyWrite& a, double seconds) {
  int before = 0, after = 0;
  for (const SpecialisePlan::Layer& l : plan.layers) before += l.experts_before, after += l.experts;
  std::printf("# %s  %s -> %s (%s)  experts %s  hash %s  %s\n", a.out.c_str(),
              format_bytes(static_cast<double>(plan.bytes_before)).c_str(),
              format_bytes(static_cast<double>(plan.bytes_after)).c_str(),
              percent(ratio(plan.bytes_after, plan.bytes_before)).c_str(), change_text(before, after).c_str(),
              hash_to_hex(plan.hash).c_str(), format_duration(seconds).c_str());
}

Result<double> write(const SpecialisePlan& plan, const std::string& out) {
  const auto start = std::chrono::steady_clock::now();
  catch_interrupts();
  ThreadPool pool(1);  // bytes are copied: nothing to share out
  Progress progress("specialise", static_cast<double>(plan.bytes_after), Progress::Unit::kBytes);
  uint64_t done = 0;
  MOE_TRY(write_specialised(plan, pool, out, [&](uint64_t bytes, std::string_view tensor) {
    progress.update(static_cast<double>(done += bytes), tensor);
    return !interrupted();
  }));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Status write_by_topology(const Program& program, const TopologyWrite& a) {
  ModelArguments arguments;
  arguments.path = a.in;
  MOE_ASSIGN(const std::unique_ptr<Model> model, load_model(program, arguments));
  MOE_ASSIGN(const RoutingTopology topology, read_topology(*model, a.topology));
  MOE_ASSIGN(const SpecialisePlan plan, plan_specialise(*model, topology));
  double seconds = 0;
  if (!a.dry_run) {
    MOE_ASSIGN(seconds, write(plan, a.out));
  }
  if (program.json()) {
    print_json(to_json(plan, a, *model, seconds));
    return Status::Ok();
  }
  for (const std::string& note : plan.notes) program.warn(note);
  if (a.dry_run)
    print_table(plan);
  else
    print_summary(plan, a, seconds);
  return Status::Ok();
}

}  // namespace moe::tools
