// A heat map of who used which experts when: a band a layer, a row an expert, a column a step. The colour is an expert's share
// of its layer's tokens against the fair share: white is fair, red is more, blue is less, four times either way at the ends.
#pragma once

#include <map>
#include <vector>

#include "tools/chart.h"

namespace moe::tools {

struct UsageRow {
  double step = 0;
  std::vector<double> shares;  // (n_experts)
};

class UsageMap {
 public:
  // Rows of a layer have steps that ascend; of rows with another number of experts than the layer's last one none is kept.
  void add(int layer, UsageRow row);

  bool empty() const { return layers_.empty(); }
  size_t n_layers() const { return layers_.size(); }
  double wanted_height() const;  // pixels that show every expert, within reason
  void draw(Canvas& canvas, const Box& plot, const Range& steps, const std::string& title) const;

 private:
  using Rows = std::vector<UsageRow>;
  void draw_band(Canvas& canvas, const Box& band, const Range& steps, const Rows& rows) const;
  std::map<int, Rows> layers_;
};

// The colour of a share times the number of experts.
Color usage_color(double ratio);

}  // namespace moe::tools
