#include "tools/train_log.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <limits>

#include "core/file.h"
#include "tests/temp_folder.h"

using namespace moe;
using namespace moe::tools;

namespace {

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void check_equal(const TrainRow& a, const TrainRow& b) {
  CHECK(a.kind == b.kind);
  CHECK(a.step == b.step);
  for (const auto field : {&TrainRow::tokens, &TrainRow::seconds, &TrainRow::loss, &TrainRow::narrow_loss, &TrainRow::kl,
                           &TrainRow::switch_loss, &TrainRow::z_loss, &TrainRow::diversity, &TrainRow::rate,
                           &TrainRow::grad_norm, &TrainRow::tokens_per_s, &TrainRow::value})
    CHECK(same(a.*field, b.*field));
  CHECK(a.layer == b.layer);
  CHECK(a.name == b.name);
  CHECK(a.values == b.values);
  CHECK(a.text == b.text);
}

TrainRow event(int64_t step, std::string name, std::string text) {
  return {.kind = TrainRowKind::kEvent, .step = step, .name = std::move(name), .text = std::move(text)};
}

// A row of every kind, with numbers and text that are hard to write.
std::vector<TrainRow> sample() {
  return {
      event(0, "start", "config \"a\", seed 1"),
      {.kind = TrainRowKind::kStep,
       .step = 1,
       .tokens = 8192,
       .seconds = 0.1,
       .loss = 1.0 / 3,
       .narrow_loss = 5e-324,
       .kl = std::numeric_limits<double>::max(),
       .switch_loss = 1.0000000000000002,
       .z_loss = -0.0,
       .diversity = std::numeric_limits<double>::infinity(),
       .rate = 3e-4,
       .grad_norm = 123456789012345678.0,
       .tokens_per_s = 1000000},
      {.kind = TrainRowKind::kValid, .step = 2, .loss = 2.5, .name = "fiction, old@width=0.5", .value = 1.25},
      {.kind = TrainRowKind::kUsage, .step = 2, .layer = 3, .value = 0.3, .values = {0.1, 0.2, 0.7, 0}},
      event(2, "sample", "Once\nupon, a \"time\"\r\nthere\r"),
      event(3, "checkpoint", ""),
  };
}

std::string text_of(const std::vector<TrainRow>& rows) {
  std::string text(train_log_header());
  text += '\n';
  for (const TrainRow& row : rows) text += train_log_line(row);
  return text;
}

Status error_of(const std::string& line) {
  return parse_train_log(std::string(train_log_header()) + '\n' + line + '\n', "x.csv").status();
}

}  // namespace

TEST_CASE("a training log reads back as what was written, number for number") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  auto log = TrainLog::create(path);
  REQUIRE(log.ok());
  for (const TrainRow& row : sample()) REQUIRE(log->append(row).ok());
  const auto rows = read_train_log(path);  // while the log is open: every row is with the system
  REQUIRE(rows.ok());
  REQUIRE(rows->size() == sample().size());
  for (size_t i = 0; i < rows->size(); ++i) check_equal((*rows)[i], sample()[i]);
}

TEST_CASE("a training log is the CSV that its header says") {
  const std::vector<TrainRow> rows = sample();
  CHECK(train_log_line(rows[0]) == "event,0,,,,,,,,,,,,,start,,\"config \"\"a\"\", seed 1\"\n");
  CHECK(train_log_line(rows[2]) == "valid,2,,,2.5,,,,,,,,,,\"fiction, old@width=0.5\",1.25,\n");
  CHECK(train_log_line(rows[3]) == "usage,2,,,,,,,,,,,,3,,0.3,0.1 0.2 0.7 0\n");
  TrainRow step = {.step = 7, .tokens = 1e9, .loss = 0.5, .tokens_per_s = 1234.5};
  CHECK(train_log_line(step) == "step,7,1000000000,,0.5,,,,,,,,1234.5,,,,\n");
}

TEST_CASE("a training log that somebody saved with Windows line ends is the same log") {
  std::string text = text_of({sample()[1], sample()[2], sample()[0]});
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.insert(at, "\r");
  const auto rows = parse_train_log(text, "x.csv");
  REQUIRE(rows.ok());
  REQUIRE(rows->size() == 3);
  check_equal((*rows)[1], sample()[2]);
  check_equal((*rows)[2], sample()[0]);
}

TEST_CASE("every prefix of a training log is the log of a killed run") {
  const std::string text = text_of(sample());
  size_t most = 0;
  for (size_t n = 0; n <= text.size(); ++n) {
    const std::vector<char> prefix(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(n));
    const auto rows = parse_train_log({prefix.data(), n}, "x.csv");
    REQUIRE(rows.ok());
    REQUIRE(rows->size() >= most);
    REQUIRE(rows->size() <= most + 1);
    most = rows->size();
  }
  CHECK(most == sample().size());
}

TEST_CASE("resuming drops what the checkpoint does not know and a row cut short, and appends") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  const std::string whole = text_of(sample());
  REQUIRE(write_text_file(path, whole + "step,4,\"half of a ro").ok());
  {
    auto log = TrainLog::resume(path, 2);
    REQUIRE(log.ok());
    REQUIRE(log->append(event(2, "resume", "again")).ok());
  }
  std::vector<TrainRow> wanted = sample();
  wanted.back() = event(2, "resume", "again");  // in the place of the one of step 3
  CHECK(read_text_file(path).value() == text_of(wanted));
}

TEST_CASE("resuming keeps all rows of a log that ends with its checkpoint") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  REQUIRE(write_text_file(path, text_of(sample())).ok());
  REQUIRE(TrainLog::resume(path, 3).ok());
  CHECK(read_text_file(path).value() == text_of(sample()));
}

TEST_CASE("resuming makes the log where there is none, or only a part of its header") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  for (const char* before : {static_cast<const char*>(nullptr), "", "kind,step,tok"}) {
    if (before) REQUIRE(write_text_file(path, before).ok());
    auto log = TrainLog::resume(path, 10);
    REQUIRE(log.ok());
    REQUIRE(log->append(sample()[1]).ok());
    CHECK(read_text_file(path).value() == text_of({sample()[1]}));
    std::filesystem::remove(path);
  }
}

TEST_CASE("a file that is no training log is refused and kept") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  for (const char* text : {"step,loss\n1,2\n", "kind,step\n", "binary\x01\x02 without an end"}) {
    REQUIRE(write_text_file(path, text).ok());
    const Status status = TrainLog::resume(path, 10).status();
    CHECK(status.code() == StatusCode::kCorrupt);
    CHECK(status.message().starts_with(path + ": line 1: wanted the header of a training log, found '"));
    CHECK(read_text_file(path).value() == text);
    CHECK(read_train_log(path).status().code() == StatusCode::kCorrupt);
  }
  CHECK(read_train_log(folder / "none.csv").status().code() == StatusCode::kNotFound);
  CHECK_FALSE(TrainLog::create(folder / "no/such/log.csv").ok());
}

TEST_CASE("damaged rows of a training log are named by line and column") {
  const auto message = [](const std::string& line) {
    const Status status = error_of(line);
    CHECK(status.code() == StatusCode::kCorrupt);
    return status.message();
  };
  CHECK(message("stop,1,,,,,,,,,,,,,,,") == "x.csv: line 2: kind: wanted step, valid, usage or event, found 'stop'");
  CHECK(message("step,one,,,,,,,,,,,,,,,") == "x.csv: line 2: step: wanted a number, found 'one'");
  CHECK(message("step,-1,,,,,,,,,,,,,,,") == "x.csv: line 2: step: wanted a number from 0, found -1");
  CHECK(message("step,1,,,1.5x,,,,,,,,,,,,") == "x.csv: line 2: loss: wanted a number, found '1.5x'");
  CHECK(message("step,1,,,1e999,,,,,,,,,,,,") == "x.csv: line 2: loss: wanted a number, found '1e999'");
  CHECK(message("step,1,,,,,,,,,,,,-2,,,") == "x.csv: line 2: layer: wanted a number from 0, found -2");
  CHECK(message("step,1") == "x.csv: line 2: wanted 17 cells, found 2");
  CHECK(message("step,1,,,,,,,,,,,,,,,,") == "x.csv: line 2: wanted 17 cells, found more");
  CHECK(message("") == "x.csv: line 2: wanted 17 cells, found 1");
  CHECK(message("usage,1,,,,,,,,,,,,,,,0.5 0.5") == "x.csv: line 2: layer: wanted a number from 0, found none");
  CHECK(message("usage,1,,,,,,,,,,,,0,,,") == "x.csv: line 2: values: wanted the share of each expert, found none");
  CHECK(message("usage,1,,,,,,,,,,,,0,,,0.5  0.5") == "x.csv: line 2: values: wanted a number, found ''");
  CHECK(message("usage,1,,,,,,,,,,,,0,,,0.5 nan") == "x.csv: line 2: values: wanted numbers, found nan");
  CHECK(message("event,1,,,,,,,,,,,,,,,text") == "x.csv: line 2: name: wanted one, found none");
  CHECK(message("event,1,,,,,,,,,,,,,a\"b,,") == "x.csv: line 2: found a quote inside of a cell without quotes");
  CHECK(message("event,1,,,,,,,,,,,,,\"a\"b,,") == "x.csv: line 2: found more after the quote that closes a cell");
  CHECK(message("event,1,,,,,,,,,,,,,a,,\"two\nlines\"\nstep,?,,,,,,,,,,,,,,,") ==
        "x.csv: line 4: step: wanted a number, found '?'");
}

TEST_CASE("a quote that never closes does not swallow the rest of a log") {
  std::string text = "event,1,,,,,,,,,,,,,a,,\"";
  for (int i = 0; i < 60000; ++i) text += "step,1,,,,,,,,,,,,,,,\n";
  CHECK(error_of(text).message() == "x.csv: line 2: wanted at most 1048576 bytes a row, found more");
}

TEST_CASE("rows that would not read back are not written") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  auto log = TrainLog::create(path);
  REQUIRE(log.ok());
  CHECK(log->append({.step = -1}).code() == StatusCode::kInvalidArgument);
  CHECK(log->append({.kind = TrainRowKind::kEvent, .step = 1}).code() == StatusCode::kInvalidArgument);
  CHECK(log->append({.kind = TrainRowKind::kUsage, .step = 1, .layer = 0}).code() == StatusCode::kInvalidArgument);
  CHECK(log->append(event(1, "sample", std::string(kMostRowBytes, 'x'))).code() == StatusCode::kInvalidArgument);
  CHECK(log->append(event(1, "sample", std::string(kMostRowBytes - 100, 'x'))).ok());
  CHECK(read_train_log(path).value().size() == 1);
}

TEST_CASE("a full disk is an error, takes back half a row, and the next row may fit again") {
  const test::TempFolder folder;
  const std::string path = folder / "log.csv";
  auto log = TrainLog::create(path);
  REQUIRE(log.ok());
  REQUIRE(log->append(sample()[1]).ok());
  const std::string before = read_text_file(path).value();

  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlimit small = {before.size() + 10, limit.rlim_max};  // the next row is cut after 10 bytes
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Status failed = log->append(sample()[2]);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);

  CHECK(failed.code() == StatusCode::kIo);
  CHECK(failed.message().starts_with(path + ": cannot write: "));
  CHECK(read_text_file(path).value() == before);
  CHECK(log->append(sample()[3]).ok());
  CHECK(read_text_file(path).value() == text_of({sample()[1], sample()[3]}));
}
