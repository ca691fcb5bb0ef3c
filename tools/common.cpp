#include "tools/common.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstring>
#include <exception>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>

#include "core/rng.h"
#include "core/threads.h"

namespace moe::tools {
namespace {

constexpr int kMostThreads = 1024;

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Hint {
  StatusCode code;
  const char* text;
};
constexpr Hint kHints[] = {
    {StatusCode::kIo, "check the path, its permissions and the space left on the disk"},
    {StatusCode::kCorrupt, "the file may be cut short or damaged: compare its size with the original, or fetch it again"},
    {StatusCode::kOutOfMemory, "a smaller context, a smaller batch or a more compact format needs less memory"},
    {StatusCode::kOutOfRange, "shorten the text or enlarge the context"},
    {StatusCode::kInternal, "this is a bug of moe; please report it with the command line"},
};

volatile std::sig_atomic_t interrupts = 0;

void on_interrupt(int signal) {
  interrupts = 1;
  std::signal(signal, SIG_DFL);
}

// 3 significant digits: 7.36, 68.7, 812.
std::string three_digits(double x) {
  const double a = std::fabs(x);
  return format_fixed(x, a < 9.995 ? 2 : a < 99.95 ? 1 : 0);
}

template <size_t N>
std::string scaled(double x, const std::array<const char*, N>& units) {
  size_t i = 0;
  while (i + 1 < N && std::fabs(x) >= 999.5) x /= 1000, ++i;
  const bool whole = i == 0 && x == std::floor(x);
  return (whole ? format_fixed(x, 0) : three_digits(x)) + (*units[i] ? " " : "") + units[i];
}

// CLI11 would take -3 for 2^64 - 3, and 2^64 for 2^64 - 1.
std::string whole_number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = error == std::errc() && end == text.data() + text.size();
  return good ? "" : "wanted a whole number from 0 to 2^64 - 1, found " + text;
}

// Letters to add, take away or change until a is b.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t change = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({change, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

// "; did you mean --prompt?" for --promt; nothing where no option of this command is close.
std::string likely_option(const CLI::App& app, const std::string& typed) {
  constexpr size_t kClose = 2;
  const std::string name = typed.substr(0, typed.find('='));
  if (!name.starts_with("--")) return "";
  std::string best;
  size_t least = kClose + 1;
  const auto look = [&](const CLI::App& command) {
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& known : option->get_lnames()) {
        const size_t distance = edit_distance(name.substr(2), known);
        if (distance < least) least = distance, best = known;
      }
    }
  };
  look(app);
  for (const CLI::App* command : app.get_subcommands()) look(*command);
  return best.empty() ? "" : "; did you mean --" + best + "?";
}

// What the caller closed would be given to the next file opened, and text for a terminal end up in a model. What stands in
// refuses to be used, so that the error still shows.
void occupy_standard_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

// The subcommand that the user typed, for "try 'moe-inspect synth --help'".
std::string command_of(const CLI::App& app, const std::string& name) {
  std::string text = name;
  for (const CLI::App* sub : app.get_subcommands()) text += " " + sub->get_name();
  return text;
}

}  // namespace

Program::Program(std::string name, const std::string& description) : name_(std::move(name)), app_(description, name_) {
  app_.set_help_flag("--help,-h", "show this text");
  app_.set_version_flag("--version", name_ + " " + kVersion, "show the version");
  app_.add_flag("--json", common_.json, "results as JSON");
  app_.add_option("--threads,-t", common_.n_threads, "threads; 0: one for each physical core this process may use")
      ->check(CLI::Range(0, kMostThreads))
      ->capture_default_str();
  app_.add_option("--seed", common_.seed, "seed of everything random; default: a random one, which is printed")
      ->check(CLI::Validator(whole_number, "", "whole number"));
  app_.get_formatter()->column_width(34);
  app_.fallthrough();  // subcommands inherit it: `moe-inspect MODEL keys --json`
}

uint64_t Program::seed() {
  if (!common_.seed) {
    common_.seed = random_seed() >> 32;  // short enough to type again
    std::fprintf(stderr, "%s: --seed %llu\n", name_.c_str(), static_cast<unsigned long long>(*common_.seed));
  }
  return *common_.seed;
}

int Program::n_threads() const { return common_.n_threads > 0 ? common_.n_threads : default_thread_count(); }

BackendOptions Program::backend_options() const {
  BackendOptions options;
  options.n_threads = common_.n_threads;
  options.log = [this](LogLevel level, std::string_view message) {
    if (level == LogLevel::kWarning) warn(message);
  };
  return options;
}

void Program::warn(std::string_view message) const {
  std::fprintf(stderr, "%s: warning: %.*s\n", name_.c_str(), static_cast<int>(message.size()), message.data());
}

int Program::report_usage(const std::string& message, const std::string& command) const {
  std::fprintf(stderr, "%s: %s\n  try '%s --help'\n", name_.c_str(), message.c_str(), command.c_str());
  return kExitUsage;
}

int Program::parse(int argc, const char* const* argv) {
  try {
    app_.parse(argc, argv);
    return -1;
  } catch (const CLI::Success& e) {  // --help, --version
    const int code = app_.exit(e);
    const bool written = std::cout.flush().good() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    return written ? code : report(Status::Io("stdout: write error"));
  } catch (const CLI::ExtrasError& e) {
    const std::vector<std::string> unknown = app_.remaining(true);
    if (unknown.empty()) return report_usage(e.what(), command_of(app_, name_));
    return report_usage("unexpected argument '" + unknown.front() + "'" + likely_option(app_, unknown.front()),
                        command_of(app_, name_));
  } catch (const CLI::ParseError& e) {
    return report_usage(e.what(), command_of(app_, name_));
  }
}

// What may be thrown through a body: the standard library's own exceptions and those of broken promises.
Status Program::guarded(const std::function<Status()>& body) const {
  try {
    return body();
  } catch (const UsageError&) {
    throw;
  } catch (const std::bad_alloc&) {
    return Status::OutOfMemory("the system has no more memory for this");
  } catch (const std::system_error& e) {
    return Status::Io(e.what());
  } catch (const std::exception& e) {
    return Status::Internal(e.what());
  }
}

int Program::report(const Status& status) const {
  std::fprintf(stderr, "%s: %s\n", name_.c_str(), status.message().c_str());
  if (const std::string hint = hint_for(status); !hint.empty()) std::fprintf(stderr, "  %s\n", hint.c_str());
  return kExitFailed;
}

int Program::run(int argc, const char* const* argv, const std::function<Status()>& body) {
  occupy_standard_descriptors();
  if (argc > 0) invoked_as_ = argv[0];
  if (const int code = parse(argc, argv); code >= 0) return code;
  try {
    const Status status = guarded(body);
    errno = 0;
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    if (!status.ok()) return report(status);
    if (!written) return report(Status::Io(std::string("stdout: ") + (errno ? std::strerror(errno) : "write error")));
    return kExitOk;
  } catch (const UsageError& e) {
    return report_usage(e.what(), command_of(app_, name_));
  }
}

void usage_error(const std::string& message) { throw UsageError(message); }

std::string hint_for(const Status& status) {
  for (const Hint& h : kHints) {
    if (h.code == status.code()) return h.text;
  }
  return "";
}

void catch_interrupts() {
  interrupts = 0;
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

bool interrupted() { return interrupts != 0; }

Status interrupted_status() { return Status::Cancelled("interrupted"); }

void print_json(const nlohmann::ordered_json& json) {
  const std::string text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

bool is_terminal(std::FILE* file) { return isatty(fileno(file)) != 0; }

int terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string format_bytes(double bytes) { return scaled(bytes, std::array<const char*, 6>{"B", "kB", "MB", "GB", "TB", "PB"}); }

std::string format_count(double n) { return scaled(n, std::array<const char*, 5>{"", "k", "M", "B", "T"}); }

std::string format_duration(double seconds) {
  if (!(seconds >= 0)) return "?";
  if (seconds < 59.95) return format_fixed(seconds, seconds < 9.995 ? 2 : 1) + " s";
  const auto s = static_cast<long long>(std::llround(std::min(seconds, 1e9)));
  char text[48];
  if (s < 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

std::string format_fixed(double value, int digits) {
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string format_grouped(int64_t n) {
  std::string text = std::to_string(n);
  const size_t first = n < 0 ? 1 : 0;
  for (size_t i = text.size(); i > first + 3;) text.insert(i -= 3, ",");
  return text;
}

size_t display_width(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

void Table::row(std::vector<std::string> cells) {
  MOE_CHECK(cells.size() <= columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<size_t> width(columns_.size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], display_width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(width[i] - display_width(row[i]), ' ');
      const bool last = i + 1 == row.size();
      out += columns_[i] == kRight ? blanks + row[i] : row[i] + (last ? "" : blanks);
      out += last ? "" : "  ";
    }
    out += '\n';
  }
  return out;
}

namespace {
constexpr double kTerminalSeconds = 0.1, kLogSeconds = 5;
}

Progress::Progress(std::string label, double total, Unit unit, std::string noun)
    : label_(std::move(label)), noun_(std::move(noun)), total_(total), unit_(unit), terminal_(is_terminal(stderr)) {
  start_ = last_ = Clock::now();
}

std::string Progress::text(double done, double elapsed, std::string_view note) const {
  const auto amount = [&](double x) { return unit_ == Unit::kBytes ? format_bytes(x) : format_count(x); };
  const std::string noun = noun_.empty() ? "" : " " + noun_;
  const double rate = elapsed > 0 ? done / elapsed : 0;
  std::string out = label_ + "  ";
  if (total_ > 0) out += format_fixed(std::floor(100 * std::min(1.0, done / total_)), 0) + "%  ";
  out += amount(done) + (total_ > 0 ? " of " + amount(total_) : "") + noun + "  ";
  out += amount(rate) + "/s";
  if (total_ > 0 && rate > 0) {
    const double left = std::max(0.0, total_ - done) / rate;
    out += "  ETA " + (left < 59.5 ? format_fixed(std::ceil(left), 0) + " s" : format_duration(left));
  }
  if (!note.empty()) out += "  " + std::string(note);
  return out;
}

void Progress::update(double done, std::string_view note) {
  const Clock::time_point now = Clock::now();
  if (std::chrono::duration<double>(now - last_).count() < (terminal_ ? kTerminalSeconds : kLogSeconds)) return;
  last_ = now;
  std::string line = text(done, std::chrono::duration<double>(now - start_).count(), note);
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(1, terminal_columns() - 1))));
  std::fprintf(stderr, "\r%s\033[K", line.c_str());
  std::fflush(stderr);
  shown_ = true;
}

void Progress::wipe() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

void Progress::print(const std::string& line) {
  wipe();
  std::fprintf(stderr, "%s\n", line.c_str());
}

void Progress::finish() { wipe(); }

}  // namespace moe::tools
