// What every program of moe shares, so that all of them behave alike: --help, --version, --json, --threads and --seed; errors
// as `moe-run: message` with a hint below; exit codes; progress; numbers for people; Ctrl-C.
//
//   int main(int argc, char** argv) {
//     moe::tools::Program program("moe-run", "Runs a model.");
//     std::string model;
//     program.app().add_option("MODEL", model, "GGUF file")->required();
//     return program.run(argc, argv, [&]() -> moe::Status { ... });
//   }
//
// Results go to stdout, everything else to stderr.
#pragma once

#include <chrono>
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "tensor/backend.h"

namespace moe::tools {

inline constexpr const char* kVersion = "0.1.0";  // as cmake/moeConfigVersion.cmake says; a test compares

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // the body returned an error
inline constexpr int kExitUsage = 2;   // the command line made no sense

struct CommonOptions {
  bool json = false;             // results as one JSON document on stdout
  int n_threads = 0;             // 0: default_thread_count()
  std::optional<uint64_t> seed;  // as given by the user; see Program::seed()
};

class Program {
 public:
  // `name` as a user types it. Declares the options that all programs have.
  Program(std::string name, const std::string& description);

  CLI::App& app() { return app_; }
  const std::string& name() const { return name_; }
  const std::string& invoked_as() const { return invoked_as_; }  // argv[0], in the body of run()
  const CommonOptions& common() const { return common_; }
  bool json() const { return common_.json; }

  // --seed, or a random one, which is said on stderr so that the run can be repeated. The same at every call.
  uint64_t seed();
  int n_threads() const;  // --threads, or default_thread_count()
  // --threads, and warnings of the library as `moe-run: warning: …`.
  BackendOptions backend_options() const;
  void warn(std::string_view message) const;

  // Parses the command line, runs the body and returns the exit code for main(). Errors, exceptions (out of memory, no more
  // threads) and a stdout that cannot be written (disk full) are reported here.
  int run(int argc, const char* const* argv, const std::function<Status()>& body);

 private:
  int parse(int argc, const char* const* argv);  // −1: go on
  int report(const Status& status) const;
  int report_usage(const std::string& message, const std::string& command) const;
  Status guarded(const std::function<Status()>& body) const;

  std::string name_, invoked_as_;
  CLI::App app_;
  CommonOptions common_;
};

// Leaves the body: the command line is wrong in a way that only the body could see (exit code 2).
[[noreturn]] void usage_error(const std::string& message);
// The value; a status becomes a usage error. `option` opens the message: "--type".
template <class T>
T or_usage(const char* option, Result<T> result) {
  if (!result.ok()) usage_error(std::string(option) + ": " + result.status().message());
  return std::move(result).value();
}

// The likely way out for errors of this kind, or "".
std::string hint_for(const Status& status);

// --- Ctrl-C and SIGTERM ---

// From now on the first one only sets a flag, for long work to look at; the second one ends the process. Called again, it waits
// for a first one anew.
void catch_interrupts();
bool interrupted();
Status interrupted_status();  // kCancelled, for bodies that stop because of it

// --- Output ---

// Ends in a newline. Text that is not UTF-8 is shown with U+FFFD.
void print_json(const nlohmann::ordered_json& json);

bool is_terminal(std::FILE* file);
int terminal_columns();  // of stderr; 80 where unknown

// "812 B", "68.7 kB", "7.36 GB": powers of 1000, three digits.
std::string format_bytes(double bytes);
// "812", "68.7 k", "6.92 B" (10⁹): three digits.
std::string format_count(double n);
// "0.42 s", "12.3 s", "4:05", "1:02:03".
std::string format_duration(double seconds);
// printf's %.*f.
std::string format_fixed(double value, int digits);
// "1,234,567".
std::string format_grouped(int64_t n);

// Rows of cells, columns as wide as their widest cell, two blanks between them.
class Table {
 public:
  enum Align { kLeft, kRight };
  explicit Table(std::vector<Align> columns) : columns_(std::move(columns)) {}
  void row(std::vector<std::string> cells);  // at most one a column
  std::string text() const;

 private:
  std::vector<Align> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters (not bytes) of UTF-8 text, as many as the columns that most fonts need.
size_t display_width(std::string_view utf8);

// How far a long job is, on stderr: one line that is rewritten on a terminal, else a plain line every few seconds.
//   quantize  37%  1.21 GB of 3.27 GB  240 MB/s  ETA 0:09  blk.3.ffn_up_exps.weight
// Jobs that end within the first seconds leave nothing behind in a log file. Not thread-safe.
class Progress {
 public:
  enum class Unit { kBytes, kCount };
  // `total` 0: unknown. `noun` follows counts: "tokens".
  Progress(std::string label, double total, Unit unit, std::string noun = "");
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(double done, std::string_view note = {});  // cheap: shows something a few times a second
  void print(const std::string& line);                   // a line of its own on stderr, above the progress
  void finish();                                         // wipes the line from a terminal

  // What update() would show; `elapsed` in seconds.
  std::string text(double done, double elapsed, std::string_view note) const;

 private:
  using Clock = std::chrono::steady_clock;
  void wipe();
  std::string label_, noun_;
  double total_;
  Unit unit_;
  bool terminal_;
  bool shown_ = false;  // a line is on the terminal
  Clock::time_point start_, last_;
};

}  // namespace moe::tools
