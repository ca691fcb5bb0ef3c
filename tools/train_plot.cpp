#include "tools/train_plot.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "tools/png_file.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

// The run in numbers: the last known of each.
struct Summary {
  int64_t last_step = 0;
  double tokens = kAbsent, seconds = kAbsent, loss = kAbsent;
  struct Valid {
    int64_t step = 0;
    double loss = kAbsent, bits_per_byte = kAbsent;
  };
  std::map<std::string, Valid> valid;
  std::map<std::string, int64_t> events;
};

Summary summary_of(const std::vector<TrainRow>& rows) {
  Summary s;
  for (const TrainRow& row : rows) {
    s.last_step = std::max(s.last_step, row.step);
    if (!std::isnan(row.tokens)) s.tokens = row.tokens;
    if (!std::isnan(row.seconds)) s.seconds = row.seconds;
    if (row.kind == TrainRowKind::kStep && !std::isnan(row.loss)) s.loss = row.loss;
    if (row.kind == TrainRowKind::kValid) s.valid[row.name] = {row.step, row.loss, row.value};
    if (row.kind == TrainRowKind::kEvent) ++s.events[row.name];
  }
  return s;
}

// "step 12,000, 98.3 M tokens, 3:12:00, loss 3.214, held out 3.312 (1.224 bits a byte)"
std::string text_of(const Summary& s) {
  std::string text = "step " + format_grouped(s.last_step);
  if (can_draw(s.tokens)) text += ", " + format_count(s.tokens) + " tokens";
  if (can_draw(s.seconds)) text += ", " + format_duration(s.seconds);
  if (can_draw(s.loss)) text += ", loss " + format_fixed(s.loss, 3);
  const auto all = s.valid.find("all");
  if (all == s.valid.end() || !can_draw(all->second.loss)) return text;
  text += ", held out " + format_fixed(all->second.loss, 3);
  if (can_draw(all->second.bits_per_byte)) text += " (" + format_fixed(all->second.bits_per_byte, 3) + " bits a byte)";
  return text;
}

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }

Json json_of(const PlotArguments& a, const Summary& s, size_t n_rows, const Canvas& canvas) {
  Json valid = Json::object();
  for (const auto& [name, v] : s.valid)
    valid[name] = {{"step", v.step},
                   {"loss", number(v.loss)},
                   {"perplexity", number(std::exp(v.loss))},
                   {"bits_per_byte", number(v.bits_per_byte)}};
  return {{"out", a.out},
          {"width", canvas.width()},
          {"height", canvas.height()},
          {"rows", n_rows},
          {"last_step", s.last_step},
          {"tokens", number(s.tokens)},
          {"seconds", number(s.seconds)},
          {"loss", number(s.loss)},
          {"valid", valid},
          {"events", s.events}};
}

}  // namespace

void add_plot(CLI::App& app, PlotArguments& a) {
  CLI::App* plot = app.add_subcommand("plot", "draws the log of a training run: loss, learning rate, expert use; a PNG file");
  plot->add_option("LOG", a.log, "CSV that training wrote; it may still be writing")->required();
  plot->add_option("-o,--out", a.out, "PNG file to write")->required();
  plot->add_option("--title", a.page.title, "above the picture; default: the file's name and where the run stands");
  plot->add_option("--width", a.page.width, "pixels")->check(CLI::Range(kLeastWidth, Canvas::kMostSide))->capture_default_str();
  plot->add_option("--height", a.page.height, "pixels; default: what the content wants")
      ->check(CLI::Range(kLeastHeight, Canvas::kMostSide));
}

Status plot_log(const Program& program, const PlotArguments& a) {
  std::error_code none;
  if (std::filesystem::equivalent(a.log, a.out, none)) usage_error("--out is the LOG: " + a.out);
  if (!can_write_png()) return write_png(Canvas(1, 1, ink::kPaper), a.out);  // says why
  MOE_ASSIGN(std::vector<TrainRow> rows, read_train_log(a.log));
  const size_t n_rows = rows.size();
  if (rows.empty()) return Status::InvalidArgument(a.log + ": holds no rows yet");
  const Summary summary = summary_of(rows);
  PageOptions page = a.page;
  if (page.title.empty()) page.title = std::filesystem::path(a.log).stem().string() + ": " + text_of(summary);
  const Canvas canvas = draw_train_page(curves_of(std::move(rows)), page);
  MOE_TRY(write_png(canvas, a.out));
  if (program.json())
    print_json(json_of(a, summary, n_rows, canvas));
  else
    std::printf("# %s  %d x %d  %s rows: %s\n", a.out.c_str(), canvas.width(), canvas.height(),
                format_grouped(static_cast<int64_t>(n_rows)).c_str(), text_of(summary).c_str());
  return Status::Ok();
}

}  // namespace moe::tools
