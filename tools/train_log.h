// The CSV of a training run: one row a step, a validation, a layer's expert use and an event, in the order they happened.
// Any program that reads CSV (RFC 4180) can draw it; ours is `moe-train plot`. Columns in this order, one header line:
//
//   kind,step,tokens,seconds,loss,narrow_loss,kl,switch,z,diversity,rate,grad_norm,tokens_per_s,layer,name,value,values
//
//   kind   what the row is about            its columns; every row has a step and may have tokens and seconds
//   step   one step of training             tokens … tokens_per_s
//   valid  a held-out corpus                name: corpus or "all", and a variant: "all@width=0.5"; loss: nats a token;
//                                           value: bits per byte
//   usage  a layer's experts over a window  layer; value: coefficient of variation; values: share of each expert, "0.25 0.75"
//   event  start resume checkpoint sample   name: which of them; values: text for people
//          repair interrupted error done
//
// A cell without a meaning is empty. Numbers read back as the same double.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace moe::tools {

inline constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();  // the number of an empty cell

enum class TrainRowKind : uint8_t { kStep, kValid, kUsage, kEvent };

struct TrainRow {
  TrainRowKind kind = TrainRowKind::kStep;
  int64_t step = 0;              // >= 0
  double tokens = kAbsent;       // seen until here
  double seconds = kAbsent;      // trained until here
  double loss = kAbsent;         // cross-entropy, nats a token
  double narrow_loss = kAbsent;  // of the narrow pass
  double kl = kAbsent;           // to the teacher, or of the narrow pass to the full one
  double switch_loss = kAbsent;  // auxiliary losses, their factors left out
  double z_loss = kAbsent;
  double diversity = kAbsent;
  double rate = kAbsent;       // learning rate
  double grad_norm = kAbsent;  // before clipping
  double tokens_per_s = kAbsent;
  int layer = -1;  // -1: none
  std::string name = {};
  double value = kAbsent;
  std::vector<double> values = {};  // usage: share of each expert
  std::string text = {};            // event
};

// The longest row, so that a damaged quote cannot make the rest of a file one cell. (50,000 experts, or a megabyte of sample.)
inline constexpr size_t kMostRowBytes = size_t{1} << 20;

std::string_view train_log_header();              // without a newline
std::string train_log_line(const TrainRow& row);  // with one

// Writes a log. Move-only; not thread-safe.
class TrainLog {
 public:
  // An empty log; replaces the file.
  static Result<TrainLog> create(const std::string& path);
  // Goes on with the log of a run whose checkpoint is of `last_step`: rows of later steps are dropped, a killed run has written
  // more than its checkpoint knows; a last row cut short as well. The file is replaced atomically, and made where there is
  // none. kCorrupt, and no change, for a file that is no such log.
  static Result<TrainLog> resume(const std::string& path, int64_t last_step);
  TrainLog(TrainLog&&) noexcept;
  TrainLog& operator=(TrainLog&&) noexcept;
  ~TrainLog();

  // The row is with the operating system when this returns: ending the process does not lose it. Where that fails (disk full)
  // the file keeps the rows it had, and the next append() tries anew. kInvalidArgument for rows that would not read back.
  Status append(const TrainRow& row);

 private:
  TrainLog() = default;
  static Result<TrainLog> open(const std::string& path);
  std::string path_;
  int fd_ = -1;
};

// All rows. A last row without its newline is left out: the run that writes it was killed, or has not ended yet. kCorrupt names
// the line and the column.
Result<std::vector<TrainRow>> read_train_log(const std::string& path);
// The same of text; `name` opens the messages.
Result<std::vector<TrainRow>> parse_train_log(std::string_view text, const std::string& name);

}  // namespace moe::tools
