// The picture of a training run: loss over steps with validation points; learning rate, gradient norm and evenness of expert
// use; a heat map of expert use; events as vertical lines.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tools/train_log.h"
#include "tools/usage_map.h"

namespace moe::tools {

struct PageOptions {
  std::string title;
  int width = 1600;
  int height = 0;  // 0: what the content wants
};
inline constexpr int kLeastWidth = 640, kLeastHeight = 720;

// The rows of a log as what is drawn, in the order of steps.
struct RunCurves {
  struct Named {
    std::string name;
    std::vector<Point> points;  // step, value
  };
  struct Event {
    double step = 0;
    std::string name;
  };
  Range steps;
  std::vector<Point> loss, narrow, rate, grad_norm;
  std::vector<Named> valid;                     // in order of their first row
  std::map<int, std::vector<Point>> variation;  // of each layer's use
  UsageMap usage;
  std::vector<Event> events;
  size_t n_valid_left_out = 0;  // names beyond those a page has colours for
};
RunCurves curves_of(std::vector<TrainRow> rows);

// At least one row must have something to draw.
Canvas draw_train_page(const RunCurves& curves, const PageOptions& options);

}  // namespace moe::tools
