// The table of mutations, and rows by name.
#include <algorithm>

#include "evolution/variation/operators.h"

namespace moe {
namespace {

template <class Op>
Result<std::vector<Op>> rows_by_name(const std::vector<Op>& table, std::span<const std::string> names, const char* kind) {
  std::vector<Op> rows;
  for (const std::string& name : names) {
    const auto row = std::find_if(table.begin(), table.end(), [&](const Op& op) { return op.name == name; });
    if (row == table.end()) {
      std::string known;
      for (const Op& op : table) (known += known.empty() ? "" : ", ") += op.name;
      std::string what = kind;
      what.append(": wanted one of ").append(known).append("; found '").append(name).append("'");
      return Status::NotFound(what);
    }
    rows.push_back(*row);
  }
  return rows;
}

}  // namespace

std::vector<MutationOp> default_mutations() {
  return {add_connection(), remove_connection(), rewire_expert(),  level_switch_kept(), level_switch_ranked(),
          level_switch_k(), k_range(),           threshold_step(), temperature_step(),  bias_step(),
          width_step(),     width_shift(),       work_switch(),    redirect_edge(),     group_toggle(),
          class_split(),    class_merge(),       layer_skip()};
}

std::vector<CrossoverOp> default_crossovers() {
  return {uniform_layers(), one_point_depth(), mask_uniform(), blend_parameters()};
}

Result<std::vector<MutationOp>> mutations_by_name(const std::vector<MutationOp>& table, std::span<const std::string> names) {
  return rows_by_name(table, names, "mutations");
}

Result<std::vector<CrossoverOp>> crossovers_by_name(const std::vector<CrossoverOp>& table, std::span<const std::string> names) {
  return rows_by_name(table, names, "crossovers");
}

}  // namespace moe
