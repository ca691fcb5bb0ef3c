#include "tools/evolve_matrix.h"

#include <algorithm>
#include <cmath>

#include "tools/chart.h"
#include "tools/usage_map.h"

namespace moe::tools {
namespace {

constexpr double kLeft = 92, kTop = 58, kRight = 84, kBottom = 34, kLeastGrid = 420;
constexpr double kMostCell = 26, kLeastCell = 2, kWantedGrid = 1400;
constexpr Color kUnknown{60, 92, 140}, kMasked{225, 228, 233}, kMaskedDot{168, 174, 184};

struct Grid {
  double cell = 0, pitch = 0;    // width of a column, height of a row
  size_t columns = 0, rows = 0;  // that fit
};

Grid grid_of(size_t n_experts, size_t n_layers) {
  const auto side = [](size_t n) {
    return std::clamp(std::floor(kWantedGrid / static_cast<double>(n)), kLeastCell, kMostCell);
  };
  const auto fit = [](size_t n, double size, double margins) {
    return std::min(n, static_cast<size_t>((Canvas::kMostSide - margins) / size));
  };
  Grid g;
  g.cell = side(n_experts), g.pitch = std::max(side(n_layers), 4.0);
  g.columns = fit(n_experts, g.cell, kLeft + kRight), g.rows = fit(n_layers, g.pitch, kTop + kBottom);
  return g;
}

std::string k_text(const LayerRouting& layer) {
  if (layer.k_max == 0) return "skipped";
  const std::string most = std::to_string(layer.k_max);
  return "k " + (layer.k_min < layer.k_max ? std::to_string(layer.k_min) + "-" + most : most);
}

// Tokens of each expert against the fair share; empty: not known.
std::vector<double> ratios_of(const RunAnalysis* analysis, size_t layer, size_t n_experts) {
  if (!analysis || layer >= analysis->layers.size() || analysis->layers[layer].use.size() != n_experts) return {};
  std::vector<double> ratios = analysis->layers[layer].use;
  double sum = 0;
  for (const double use : ratios) sum += use;
  if (!(sum > 0)) return {};
  for (double& r : ratios) r *= static_cast<double>(n_experts) / sum;
  return ratios;
}

// Channels of the widest expert; 0: all run all of theirs.
int widest_of(const RoutingTopology& topology) {
  int widest = 0;
  for (const LayerRouting& layer : topology.layers)
    for (const int width : layer.width) widest = std::max(widest, width);
  return widest;
}

void draw_row(Canvas& canvas, const LayerRouting& layer, const std::vector<double>& ratios, const Grid& grid, int widest,
              double top) {
  const std::vector<uint8_t> kept = kept_experts(layer);

  const double gap = grid.cell >= 6 && grid.pitch >= 6 ? 1 : 0, bottom = top + grid.pitch - gap;
  for (size_t e = 0; e < std::min(kept.size(), grid.columns); ++e) {
    const double left = kLeft + static_cast<double>(e) * grid.cell;
    const Box cell{left, top, left + grid.cell - gap, bottom};
    canvas.fill(cell, kMasked);
    if (!kept[e]) {
      if (grid.cell >= 8 && grid.pitch >= 8) canvas.dot({(cell.left + cell.right) / 2, (top + bottom) / 2}, 1.5, kMaskedDot);
      continue;
    }
    const double share = layer.width.empty() ? 1 : static_cast<double>(layer.width[e]) / widest;
    canvas.fill({cell.left, bottom - share * (bottom - top), cell.right, bottom},
                ratios.empty() ? kUnknown : usage_color(ratios[e]));
    if (!ratios.empty() && gap > 0) canvas.frame(cell, ink::kFrame);
  }
}

}  // namespace

std::vector<uint8_t> kept_experts(const LayerRouting& layer) {
  const auto n = static_cast<size_t>(layer.n_experts);
  std::vector<uint8_t> kept(n, 0);
  if (layer.k_max == 0) return kept;
  for (size_t i = 0; i < layer.allow.size(); ++i) kept[i % n] |= layer.allow[i];
  return kept;
}

Result<Canvas> draw_matrix(const RoutingTopology& topology, const MatrixOptions& options) {
  std::vector<size_t> routed;
  size_t most = 0;
  for (size_t l = 0; l < topology.layers.size(); ++l) {
    const auto n = static_cast<size_t>(topology.layers[l].n_experts);
    if (n > 0) routed.push_back(l);
    most = std::max(most, n);
  }
  if (routed.empty()) return Status::InvalidArgument("routing matrix: wanted a layer with experts, found none");
  const Grid grid = grid_of(most, routed.size());
  const double width = std::max(static_cast<double>(grid.columns) * grid.cell, kLeastGrid);
  Canvas canvas(static_cast<int>(kLeft + width + kRight),
                static_cast<int>(kTop + static_cast<double>(grid.rows) * grid.pitch + kBottom), ink::kPaper);
  const int widest = widest_of(topology);
  const bool cut = grid.columns < most || grid.rows < routed.size();
  canvas.text({kLeft, 24}, cut_to_width(options.title + (cut ? " (the first that fit)" : ""), kTitleSize, width),
              {.size = kTitleSize, .color = ink::kText, .weight = 1.4});
  const auto labels_apart = static_cast<size_t>(std::ceil(kTextSize / grid.pitch));
  for (size_t i = 0; i < grid.rows; ++i) {
    const LayerRouting& layer = topology.layers[routed[i]];
    const double top = kTop + static_cast<double>(i) * grid.pitch;
    draw_row(canvas, layer, ratios_of(options.analysis, routed[i], static_cast<size_t>(layer.n_experts)), grid, widest, top);
    if (i % labels_apart != 0) continue;
    draw_side_label(canvas, {kLeft - 8, top + grid.pitch / 2}, "layer " + std::to_string(routed[i]));
    canvas.text({kLeft + static_cast<double>(grid.columns) * grid.cell + 8, top + grid.pitch / 2}, k_text(layer),
                {.size = kTextSize - 2, .color = ink::kFaint});
  }
  const double step = tick_step(static_cast<double>(most), static_cast<int>(std::max(2.0, width / 60)));
  for (size_t e = 0; e < grid.columns; e += static_cast<size_t>(std::max(1.0, step)))
    canvas.text({kLeft + (static_cast<double>(e) + 0.5) * grid.cell, kTop - 10}, std::to_string(e),
                {.size = kTextSize - 2, .color = ink::kFaint, .align = Align::kCenter});
  canvas.text({kLeft, static_cast<double>(canvas.height()) - kBottom / 2},
              options.analysis ? "grey: masked; red: more than a fair share of tokens in the full model; blue: less"
                               : "grey: masked; height: width",
              {.size = kTextSize - 2, .color = ink::kFaint});
  return canvas;
}

}  // namespace moe::tools
