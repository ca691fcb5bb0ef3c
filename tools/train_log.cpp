// Rows are written with one write(2) each and read by hand: quoted cells may hold newlines, so a line of the file is not a row.
#include "tools/train_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <optional>
#include <system_error>
#include <utility>

#include "core/file.h"

namespace moe::tools {
namespace {

constexpr const char* kKinds[] = {"step", "valid", "usage", "event"};  // by TrainRowKind

struct NumberColumn {
  const char* name;
  double TrainRow::*field;
};
constexpr NumberColumn kNumbers[] = {{"tokens", &TrainRow::tokens},
                                     {"seconds", &TrainRow::seconds},
                                     {"loss", &TrainRow::loss},
                                     {"narrow_loss", &TrainRow::narrow_loss},
                                     {"kl", &TrainRow::kl},
                                     {"switch", &TrainRow::switch_loss},
                                     {"z", &TrainRow::z_loss},
                                     {"diversity", &TrainRow::diversity},
                                     {"rate", &TrainRow::rate},
                                     {"grad_norm", &TrainRow::grad_norm},
                                     {"tokens_per_s", &TrainRow::tokens_per_s}};
constexpr std::string_view kHeader =
    "kind,step,tokens,seconds,loss,narrow_loss,kl,switch,z,diversity,rate,grad_norm,tokens_per_s,layer,name,value,values";

// Cells of a row: kind, step, the numbers, then these.
constexpr size_t kFirstNumber = 2;
constexpr size_t kLayer = kFirstNumber + std::size(kNumbers);
constexpr size_t kName = kLayer + 1, kValue = kLayer + 2, kValues = kLayer + 3, kColumns = kLayer + 4;

// --- Writing ---

// The shortest text of the number; whole ones without an exponent, so that people can read them.
std::string number_text(double x) {
  if (std::isnan(x)) return "";
  constexpr double kWhole = 1e15;
  char text[64];
  const bool whole = x == std::floor(x) && std::fabs(x) < kWhole;
  const auto end =
      whole ? std::to_chars(text, std::end(text), x, std::chars_format::fixed).ptr : std::to_chars(text, std::end(text), x).ptr;
  return {text, end};
}

std::string quoted(const std::string& cell) {
  if (cell.find_first_of("\",\r\n") == std::string::npos) return cell;
  std::string out = "\"";
  for (const char c : cell) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

std::string values_text(const TrainRow& row) {
  if (row.kind != TrainRowKind::kUsage) return quoted(row.text);
  std::string out;
  for (const double x : row.values) out += (out.empty() ? "" : " ") + number_text(x);
  return out;
}

// What a row of its kind cannot do without, or "".
std::string missing(const TrainRow& row) {
  if (row.step < 0) return "step: wanted a number from 0, found " + std::to_string(row.step);
  const bool needs_name = row.kind == TrainRowKind::kValid || row.kind == TrainRowKind::kEvent;
  if (needs_name && row.name.empty()) return "name: wanted one, found none";
  if (row.kind != TrainRowKind::kUsage) return "";
  if (row.layer < 0) return "layer: wanted a number from 0, found none";
  if (row.values.empty()) return "values: wanted the share of each expert, found none";
  for (const double x : row.values) {
    if (std::isnan(x)) return "values: wanted numbers, found nan";
  }
  return "";
}

Status system_status(const std::string& path, const char* what, int error) {
  return Status::Io(path + ": " + what + ": " + std::generic_category().message(error));
}

// --- Reading ---

using Cells = std::array<std::string, kColumns>;

// Cuts text into rows of cells.
class Rows {
 public:
  explicit Rows(std::string_view text) : text_(text) {}

  enum class Next { kRow, kEnd, kCutShort };
  // The next row; kCutShort where the text ends before its newline. Errors have neither name nor line.
  Result<Next> next(Cells& cells) {
    begin_ = at_, line_ = next_line_;
    if (at_ == text_.size()) return Next::kEnd;
    for (std::string& cell : cells) cell.clear();
    for (size_t n = 0;; ++n) {
      if (n == kColumns) return Status::Corrupt("wanted " + std::to_string(kColumns) + " cells, found more");
      MOE_ASSIGN(const std::optional<char> end, cell(cells[n]));
      if (!end) return Next::kCutShort;
      if (*end == ',') continue;
      if (n + 1 < kColumns)
        return Status::Corrupt("wanted " + std::to_string(kColumns) + " cells, found " + std::to_string(n + 1));
      return Next::kRow;
    }
  }

  int64_t line() const { return line_; }  // of the row's first byte, from 1
  std::string_view row() const { return text_.substr(begin_, at_ - begin_); }

 private:
  // One cell and what ended it, ',' or '\n'; nothing where the text ends.
  Result<std::optional<char>> cell(std::string& out) {
    bool inside = false;  // of quotes
    for (bool first = true; at_ < text_.size(); first = false) {
      if (at_ - begin_ >= kMostRowBytes)
        return Status::Corrupt("wanted at most " + std::to_string(kMostRowBytes) + " bytes a row, found more");
      const char c = text_[at_++];
      if (c == '\n') ++next_line_;
      if (c == '"') {
        MOE_TRY(quote(first, inside, out));
      } else if (!inside && (c == ',' || c == '\n')) {
        return std::optional<char>(c);
      } else if (inside || c != '\r' || at_ == text_.size() || text_[at_] != '\n') {
        out += c;
      }
    }
    return std::optional<char>();
  }

  // A quote opens a cell, stands twice for one, or closes the cell.
  Status quote(bool first, bool& inside, std::string& out) {
    if (!inside) {
      if (!first) return Status::Corrupt("found a quote inside of a cell without quotes");
      inside = true;
      return Status::Ok();
    }
    if (at_ == text_.size()) return Status::Ok();  // cut short, whatever it was
    if (text_[at_] == '"') {
      out += '"', ++at_;
      return Status::Ok();
    }
    if (text_[at_] != ',' && text_[at_] != '\n' && text_[at_] != '\r')
      return Status::Corrupt("found more after the quote that closes a cell");
    inside = false;
    return Status::Ok();
  }

  std::string_view text_;
  size_t at_ = 0, begin_ = 0;
  int64_t line_ = 1, next_line_ = 1;
};

// Text of a file as a message may show it.
std::string shown(std::string_view text) {
  constexpr size_t kMost = 40;
  std::string out = "'";
  for (const char c : text.substr(0, kMost)) out += c >= ' ' && c < 127 ? c : '?';
  return out + (text.size() > kMost ? "…'" : "'");
}

template <class T>
Result<T> number_of(std::string_view column, std::string_view text) {
  T x{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error == std::errc() && end == text.data() + text.size()) return x;
  return Status::Corrupt(std::string(column) + ": wanted a number, found " + shown(text));
}

Result<std::vector<double>> shares_of(std::string_view text) {
  std::vector<double> values;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    MOE_ASSIGN(const double x, number_of<double>("values", text.substr(0, end)));
    values.push_back(x);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return values;
}

Result<TrainRow> row_of(Cells& cells) {
  TrainRow row;
  const auto* const kind = std::find(std::begin(kKinds), std::end(kKinds), cells[0]);
  if (kind == std::end(kKinds)) return Status::Corrupt("kind: wanted step, valid, usage or event, found " + shown(cells[0]));
  row.kind = static_cast<TrainRowKind>(kind - std::begin(kKinds));
  MOE_ASSIGN(row.step, number_of<int64_t>("step", cells[1]));
  for (size_t i = 0; i < std::size(kNumbers); ++i) {
    const std::string& cell = cells[kFirstNumber + i];
    if (cell.empty()) continue;
    MOE_ASSIGN(row.*kNumbers[i].field, number_of<double>(kNumbers[i].name, cell));
  }
  if (!cells[kLayer].empty()) {
    MOE_ASSIGN(row.layer, number_of<int>("layer", cells[kLayer]));
    if (row.layer < 0) return Status::Corrupt("layer: wanted a number from 0, found " + cells[kLayer]);
  }
  row.name = std::move(cells[kName]);
  if (!cells[kValue].empty()) {
    MOE_ASSIGN(row.value, number_of<double>("value", cells[kValue]));
  }
  if (row.kind == TrainRowKind::kUsage) {
    MOE_ASSIGN(row.values, shares_of(cells[kValues]));
  } else {
    row.text = std::move(cells[kValues]);
  }
  if (const std::string what = missing(row); !what.empty()) return Status::Corrupt(what);
  return row;
}

Status check_header(std::string_view text, const std::string& name) {
  const std::string_view line = text.substr(0, text.find('\n'));
  if (line == kHeader || (line.ends_with('\r') && line.substr(0, line.size() - 1) == kHeader)) return Status::Ok();
  return Status::Corrupt(name + ": line 1: wanted the header of a training log, found " + shown(line));
}

// A log whose run was killed before all of its header was written.
bool is_unborn(std::string_view text) { return text.size() <= kHeader.size() && kHeader.starts_with(text); }

// Calls use(row, its bytes) for every whole row.
template <class Use>
Status for_rows(std::string_view text, const std::string& name, Use use) {
  if (is_unborn(text)) return Status::Ok();
  MOE_TRY(check_header(text, name));
  Rows rows(text);
  Cells cells;
  for (bool header = true;; header = false) {
    const auto where = [&] { return name + ": line " + std::to_string(rows.line()); };
    const Result<Rows::Next> next = rows.next(cells);
    if (!next.ok()) return next.status().Annotate(where());
    if (*next != Rows::Next::kRow) return Status::Ok();
    if (header) continue;
    Result<TrainRow> row = row_of(cells);
    if (!row.ok()) return row.status().Annotate(where());
    use(std::move(*row), rows.row());
  }
}

}  // namespace

std::string_view train_log_header() { return kHeader; }

std::string train_log_line(const TrainRow& row) {
  std::string line = kKinds[static_cast<size_t>(row.kind)];
  line += ',' + std::to_string(row.step);
  for (const NumberColumn& c : kNumbers) line += ',' + number_text(row.*c.field);
  line += ',' + (row.layer < 0 ? "" : std::to_string(row.layer));
  line += ',' + quoted(row.name);
  line += ',' + number_text(row.value);
  return line + ',' + values_text(row) + '\n';
}

Result<TrainLog> TrainLog::open(const std::string& path) {
  TrainLog log;
  log.path_ = path;
  log.fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (log.fd_ < 0) return system_status(path, "cannot open", errno);
  return log;
}

Result<TrainLog> TrainLog::create(const std::string& path) {
  MOE_TRY(write_text_file(path, std::string(kHeader) + '\n'));
  return open(path);
}

Result<TrainLog> TrainLog::resume(const std::string& path, int64_t last_step) {
  const Result<std::string> text = read_text_file(path);
  if (text.status().code() == StatusCode::kNotFound) return create(path);
  if (!text.ok()) return text.status();
  std::string kept = std::string(kHeader) + '\n';
  MOE_TRY(for_rows(*text, path, [&](const TrainRow& row, std::string_view bytes) {
    if (row.step <= last_step) kept += bytes;
  }));
  MOE_TRY(write_text_file(path, kept));
  return open(path);
}

TrainLog::TrainLog(TrainLog&& o) noexcept : path_(std::move(o.path_)), fd_(std::exchange(o.fd_, -1)) {}

TrainLog& TrainLog::operator=(TrainLog&& o) noexcept {
  std::swap(path_, o.path_);
  std::swap(fd_, o.fd_);
  return *this;
}

TrainLog::~TrainLog() {
  if (fd_ >= 0) ::close(fd_);
}

Status TrainLog::append(const TrainRow& row) {
  if (const std::string what = missing(row); !what.empty()) return Status::InvalidArgument(path_ + ": " + what);
  const std::string line = train_log_line(row);
  if (line.size() > kMostRowBytes)
    return Status::InvalidArgument(path_ + ": wanted a row of at most " + std::to_string(kMostRowBytes) + " bytes, found " +
                                   std::to_string(line.size()));
  const off_t before = ::lseek(fd_, 0, SEEK_END);
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      Status failed = system_status(path_, "cannot write", n < 0 ? errno : ENOSPC);
      if (done > 0 && before >= 0 && ::ftruncate(fd_, before) != 0) return failed.Annotate("the last row is cut short");
      return failed;
    }
    done += static_cast<size_t>(n);
  }
  return Status::Ok();
}

Result<std::vector<TrainRow>> parse_train_log(std::string_view text, const std::string& name) {
  std::vector<TrainRow> rows;
  MOE_TRY(for_rows(text, name, [&](TrainRow&& row, std::string_view) { rows.push_back(std::move(row)); }));
  return rows;
}

Result<std::vector<TrainRow>> read_train_log(const std::string& path) {
  MOE_ASSIGN(const std::string text, read_text_file(path));
  return parse_train_log(text, path);
}

}  // namespace moe::tools
