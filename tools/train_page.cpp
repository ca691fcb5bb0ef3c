#include "tools/train_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace moe::tools {
namespace {

constexpr size_t kMostNames = 48;
constexpr double kHeadingSize = 22;
constexpr Color kLoss{43, 89, 195}, kNarrow{214, 120, 28};
// Corpora, in the order they are met; the first is that of "all" more often than not.
constexpr Color kCorpora[] = {{24, 26, 32},   {200, 40, 52},  {22, 138, 88},  {142, 68, 173},
                              {196, 138, 10}, {10, 138, 170}, {176, 66, 128}, {110, 96, 60}};

struct EventStyle {
  const char* name;
  Color color;
  bool whole;  // a line across the panel, else a short one at its upper edge
};
constexpr EventStyle kEvents[] = {{"resume", {22, 138, 88}, true},        {"repair", {214, 120, 28}, true},
                                  {"interrupted", {142, 68, 173}, true},  {"error", {200, 20, 30}, true},
                                  {"done", {90, 96, 105}, true},          {"start", {90, 96, 105}, false},
                                  {"checkpoint", {110, 150, 200}, false}, {"sample", {190, 170, 110}, false}};
constexpr EventStyle kOther = {"other events", {130, 130, 130}, false};

const EventStyle& style_of(const std::string& name) {
  const auto* const found =
      std::find_if(std::begin(kEvents), std::end(kEvents), [&](const EventStyle& s) { return name == s.name; });
  return found == std::end(kEvents) ? kOther : *found;
}

// Colours of validations: one a corpus, paler for each variant of it ("fiction@width=0.5").
std::vector<Color> colors_of(const std::vector<RunCurves::Named>& valid) {
  std::vector<std::string> corpora;
  std::map<std::string, int> variants;
  std::vector<Color> colors;
  for (const RunCurves::Named& v : valid) {
    const std::string corpus = v.name.substr(0, v.name.find('@'));
    const auto at = std::find(corpora.begin(), corpora.end(), corpus) - corpora.begin();
    if (at == static_cast<std::ptrdiff_t>(corpora.size())) corpora.push_back(corpus);
    const double pale = std::min(0.75, 0.3 * variants[corpus]++);
    colors.push_back(mix(kCorpora[static_cast<size_t>(at) % std::size(kCorpora)], ink::kPaper, pale));
  }
  return colors;
}

class Page {
 public:
  Page(const RunCurves& curves, const PageOptions& options)
      : curves_(curves),
        steps_(padded(curves.steps, 0.01)),
        layout_(curves, options, legend()),
        canvas_(options.width, static_cast<int>(layout_.height), ink::kPaper) {}

  Canvas draw(const PageOptions& options) {
    canvas_.text({layout_.loss.left, 26}, cut_to_width(options.title, kHeadingSize, layout_.loss.width()),
                 {.size = kHeadingSize, .color = ink::kText, .weight = 1.4});
    draw_legend(canvas_, layout_.legend, legend());
    draw_loss();
    draw_small();
    if (!curves_.usage.empty()) draw_usage();
    return std::move(canvas_);
  }

 private:
  // Where things are. Margins hold the labels of the panels.
  struct Layout {
    static constexpr double kMargin = 28, kTop = 52, kTitle = 30, kSmall = 150, kLoss = 420, kLeastLoss = 140, kLeastMap = 60;
    static constexpr int kMostLegendRows = 4;

    Layout(const RunCurves& curves, const PageOptions& options, const std::vector<LegendItem>& items) {
      const double left = Axes::kLeft, right = options.width - kMargin;
      const double rows = legend_rows(items, right - left, kMostLegendRows);
      legend = {left, kTop - kLegendRow / 2, right, kTop - kLegendRow / 2 + rows * kLegendRow};
      const bool has_map = !curves.usage.empty();
      double loss_height = kLoss, map_height = has_map ? curves.usage.wanted_height() : 0;
      const double fixed = legend.bottom + kTitle + Axes::kBelow + kTitle + kSmall + Axes::kBelow +
                           (has_map ? kTitle + kTitle / 2 + Axes::kBelow : 0) + kMargin / 2;
      if (options.height > 0) {  // what is left is divided as it would have been
        const double rest = options.height - fixed, share = map_height / (map_height + loss_height);
        map_height = has_map ? std::clamp(std::floor(rest * share), kLeastMap, rest - kLeastLoss) : 0;
        loss_height = rest - map_height;
      }
      loss = {left, legend.bottom + kTitle, right, legend.bottom + kTitle + loss_height};
      const double small_top = loss.bottom + Axes::kBelow + kTitle;
      const double pitch = (options.width - kMargin + kMargin / 2) / 3;
      for (size_t i = 0; i < 3; ++i) {
        const double begin = std::round(pitch * static_cast<double>(i));
        small[i] = {begin + left, small_top, std::round(pitch * static_cast<double>(i + 1)) - kMargin / 2, small_top + kSmall};
      }
      const double map_top = small_top + kSmall + Axes::kBelow + kTitle + kTitle / 2;
      map = {left, map_top, right, map_top + map_height};
      height = std::round(options.height > 0 ? options.height : fixed + loss_height + map_height);
    }

    Box legend, loss, map;
    std::array<Box, 3> small;
    double height = 0;
  };

  std::vector<LegendItem> legend() const {
    using Mark = LegendItem::Mark;
    std::vector<LegendItem> items;
    if (!curves_.loss.empty()) items.push_back({"training", kLoss, Mark::kLine});
    if (!curves_.narrow.empty()) items.push_back({"narrow pass", kNarrow, Mark::kLine});
    const std::vector<Color> colors = colors_of(curves_.valid);
    for (size_t i = 0; i < colors.size(); ++i) items.push_back({curves_.valid[i].name, colors[i], Mark::kDots});
    if (curves_.n_valid_left_out > 0)
      items.push_back({std::to_string(curves_.n_valid_left_out) + " more not drawn", ink::kFaint, Mark::kDots});
    std::set<const EventStyle*> seen;
    for (const RunCurves::Event& e : curves_.events) {
      const EventStyle& style = style_of(e.name);
      if (seen.insert(&style).second) items.push_back({style.name, style.color, Mark::kEvent});
    }
    return items;
  }

  // The first steps fall from far above; what matters comes later.
  Range loss_range(const std::vector<Point>& smooth, const std::vector<Point>& narrow) const {
    constexpr double kSkipped = 0.02;
    constexpr size_t kFew = 50;
    const double from = curves_.loss.size() < kFew ? steps_.low : curves_.steps.low + kSkipped * curves_.steps.length();
    std::vector<Point> late;
    Range range;
    const auto take = [&](const std::vector<Point>& points, auto use) {
      for (const Point p : points) {
        if (p.x >= from) use(p);
      }
    };
    take(curves_.loss, [&](Point p) { late.push_back(p); });
    const Range raw = robust_range(late);
    range.add(raw.low), range.add(raw.high);
    take(smooth, [&](Point p) { range.add(p.y); });
    take(narrow, [&](Point p) { range.add(p.y); });
    for (const RunCurves::Named& v : curves_.valid) take(v.points, [&](Point p) { range.add(p.y); });
    return padded(range, 0.05);
  }

  size_t window() const { return std::max<size_t>(1, curves_.loss.size() / 100); }

  void draw_loss() {
    const std::vector<Point> smooth = smoothed(curves_.loss, window()), narrow = smoothed(curves_.narrow, window());
    const Axes axes(layout_.loss, steps_, loss_range(smooth, narrow));
    axes.draw(canvas_, "loss, nats a token");
    draw_events(layout_.loss);
    axes.line(canvas_, curves_.loss, 1, kLoss, 0.35);
    axes.line(canvas_, narrow, 2, kNarrow);
    axes.line(canvas_, smooth, 2.6, kLoss);
    const std::vector<Color> colors = colors_of(curves_.valid);
    for (size_t i = 0; i < colors.size(); ++i) {
      axes.line(canvas_, curves_.valid[i].points, 1.5, colors[i]);
      axes.dots(canvas_, curves_.valid[i].points, 3.5, colors[i]);
    }
  }

  void draw_small() {
    const auto panel = [&](size_t i, const std::string& title, const Range& range) {
      const Axes axes(layout_.small[i], steps_, range);
      axes.draw(canvas_, title);
      return axes;
    };
    Range rates;
    for (const Point p : curves_.rate) rates.add(p.y);
    if (!rates.empty()) rates.add(0);
    panel(0, titled("learning rate", rates), padded(rates, 0.06)).line(canvas_, curves_.rate, 2, kLoss);

    const Range norms = robust_range(curves_.grad_norm);
    const Axes norm = panel(1, titled("gradient norm", norms), padded(norms, 0.08));
    norm.line(canvas_, curves_.grad_norm, 1, kLoss, 0.35);
    norm.line(canvas_, smoothed(curves_.grad_norm, window()), 2, kLoss);

    std::vector<Point> all;
    for (const auto& [layer, points] : curves_.variation) all.insert(all.end(), points.begin(), points.end());
    Range variations = robust_range(all);
    if (!variations.empty()) variations.add(0);
    const Axes variation = panel(2, titled("variation of use by layer", variations), padded(variations, 0.06));
    double i = 0;
    for (const auto& [layer, points] : curves_.variation) {
      const double t = i++ / std::max(1.0, static_cast<double>(curves_.variation.size()) - 1);
      variation.line(canvas_, points, 1.6, mix(kLoss, kNarrow, t));
    }
  }

  static std::string titled(const std::string& title, const Range& range) { return range.empty() ? title + ": none" : title; }

  void draw_usage() {
    curves_.usage.draw(canvas_, layout_.map, steps_, "expert use");
    const Axes axes(layout_.map, steps_, {0, 1});
    axes.draw_x_labels(canvas_, false);
    draw_events(layout_.map);
    canvas_.frame(layout_.map, ink::kFrame);
    draw_side_label(canvas_, {layout_.map.left - 8, layout_.map.bottom + 15}, "step");
  }

  // One line a pixel column and kind, however many events there are.
  void draw_events(const Box& plot) {
    constexpr double kShort = 9;
    const Axes axes(plot, steps_, {0, 1});
    std::set<std::pair<double, const EventStyle*>> drawn;
    for (const RunCurves::Event& e : curves_.events) {
      const EventStyle& style = style_of(e.name);
      const double x = std::round(axes.column(e.step));
      if (!drawn.insert({x, &style}).second) continue;
      canvas_.fill({x, plot.top, x + 1.5, style.whole ? plot.bottom : plot.top + kShort}, style.color, 0.8);
    }
  }

  const RunCurves& curves_;
  Range steps_;
  Layout layout_;
  Canvas canvas_;
};

}  // namespace

RunCurves curves_of(std::vector<TrainRow> rows) {
  std::stable_sort(rows.begin(), rows.end(), [](const TrainRow& a, const TrainRow& b) { return a.step < b.step; });
  RunCurves c;
  std::map<std::string, size_t> valid;
  for (TrainRow& row : rows) {
    const auto step = static_cast<double>(row.step);
    const auto add = [&](std::vector<Point>& points, double y) {
      if (can_draw(y)) points.push_back({step, y});
    };
    c.steps.add(step);
    if (row.kind == TrainRowKind::kStep) {
      add(c.loss, row.loss), add(c.narrow, row.narrow_loss), add(c.rate, row.rate), add(c.grad_norm, row.grad_norm);
    } else if (row.kind == TrainRowKind::kValid) {
      const auto [found, is_new] = valid.try_emplace(row.name, c.valid.size());
      if (is_new && found->second < kMostNames) c.valid.push_back({row.name, {}});
      if (is_new && found->second >= kMostNames) ++c.n_valid_left_out;
      if (found->second < c.valid.size()) add(c.valid[found->second].points, row.loss);
    } else if (row.kind == TrainRowKind::kUsage) {
      add(c.variation[row.layer], row.value);
      c.usage.add(row.layer, {step, std::move(row.values)});
    } else {
      c.events.push_back({step, row.name});
    }
  }
  return c;
}

Canvas draw_train_page(const RunCurves& curves, const PageOptions& options) { return Page(curves, options).draw(options); }

}  // namespace moe::tools
