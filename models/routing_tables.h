// One layer's routing in the form that the route and expert ops read. Swapping a topology rewrites these between two runs.
#pragma once

#include <algorithm>
#include <vector>

#include "models/graph_builder.h"
#include "models/routing.h"
#include "tensor/backend.h"

namespace moe {

struct RoutingTables {
  float params[8] = {};
  std::vector<int8_t> allow;      // (n_classes, E)
  std::vector<float> bias;        // (E)
  std::vector<int32_t> redirect;  // (E)
  std::vector<int32_t> width;     // (W), by place
  std::vector<int32_t> place;     // (E), or none where W = E

  void resize(int n_experts, int n_classes, const std::vector<int32_t>& places) {
    const auto E = static_cast<size_t>(n_experts);
    allow.assign(E * static_cast<size_t>(n_classes), 0), bias.assign(E, 0), redirect.assign(E, -1), place = places;
    width.assign(E - static_cast<size_t>(std::count(place.begin(), place.end(), -1)), 0);
  }

  void fill(const LayerRouting& r, int n_classes, int d_ff) {
    const float numbers[] = {static_cast<float>(r.k_min), static_cast<float>(r.k_max), r.threshold, r.temperature};
    std::copy(std::begin(numbers), std::end(numbers), params);
    std::copy(r.allow.begin(), r.allow.begin() + static_cast<std::ptrdiff_t>(n_classes) * r.n_experts, allow.begin());
    copy_or(r.bias, bias, 0.0f), copy_or(r.redirect, redirect, -1);
    if (place.empty()) return copy_or(r.width, width, d_ff);
    for (size_t e = 0; e < place.size(); ++e)
      if (place[e] >= 0) width[static_cast<size_t>(place[e])] = r.width.empty() ? d_ff : r.width[e];
  }

  // Of a graph that was built for as many classes as the tables have.
  Status bind(Executable& executable, const RouterValues& r) {
    const int64_t E = r.n_experts, classes = static_cast<int64_t>(allow.size()) / E;
    MOE_TRY(executable.bind(r.params, {params, DType::kF32, {8}}));
    MOE_TRY(executable.bind(r.allow, {allow.data(), DType::kI8, {classes, E}}));
    MOE_TRY(executable.bind(r.bias, {bias.data(), DType::kF32, {E}}));
    MOE_TRY(executable.bind(r.redirect, {redirect.data(), DType::kI32, {E}}));
    if (r.place != kNone) MOE_TRY(executable.bind(r.place, {place.data(), DType::kI32, {E}}));
    return executable.bind(r.width, {width.data(), DType::kI32, {static_cast<int64_t>(width.size())}});
  }

 private:
  template <class T>
  static void copy_or(const std::vector<T>& from, std::vector<T>& to, T neutral) {
    if (from.empty())
      std::fill(to.begin(), to.end(), neutral);
    else
      std::copy(from.begin(), from.end(), to.begin());
  }
};

}  // namespace moe
