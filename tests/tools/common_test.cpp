#include "tools/common.h"

#include <doctest/doctest.h>
#include <stdexcept>

#include "core/file.h"

using namespace moe;
using namespace moe::tools;

namespace {

int run_with(std::vector<const char*> arguments, const std::function<Status(Program&)>& body) {
  Program program("moe-test", "A test.");
  arguments.insert(arguments.begin(), "moe-test");
  return program.run(static_cast<int>(arguments.size()), arguments.data(), [&] { return body(program); });
}

}  // namespace

TEST_CASE("programs print the version that the build declares") {
  const auto text = read_text_file("cmake/moeConfigVersion.cmake");
  REQUIRE(text.ok());
  CHECK(text->find("PACKAGE_VERSION " + std::string(kVersion) + ")") != std::string::npos);
}

TEST_CASE("a program's exit code tells success, failure and misuse apart") {
  const auto ok = [](Program&) { return Status::Ok(); };
  CHECK(run_with({}, ok) == kExitOk);
  CHECK(run_with({}, [](Program&) { return Status::Corrupt("m.gguf: broken"); }) == kExitFailed);
  CHECK(run_with({}, [](Program&) -> Status { throw std::runtime_error("a bug"); }) == kExitFailed);
  CHECK(run_with({}, [](Program&) -> Status { throw std::bad_alloc(); }) == kExitFailed);
  CHECK(run_with({}, [](Program&) -> Status { usage_error("--type: no such type"); }) == kExitUsage);
  CHECK(run_with({"--no-such-option"}, ok) == kExitUsage);
  CHECK(run_with({"--threads", "-1"}, ok) == kExitUsage);
  CHECK(run_with({"--threads", "many"}, ok) == kExitUsage);
  CHECK(run_with({"--seed", "-3"}, ok) == kExitUsage);
  CHECK(run_with({"--seed", "18446744073709551616"}, ok) == kExitUsage);
}

TEST_CASE("every program takes --json, --threads and --seed") {
  const int code = run_with({"--json", "--threads", "3", "--seed", "18446744073709551615"}, [](Program& p) {
    CHECK(p.json());
    CHECK(p.n_threads() == 3);
    CHECK(p.backend_options().n_threads == 3);
    CHECK(p.seed() == UINT64_MAX);
    return Status::Ok();
  });
  CHECK(code == kExitOk);
}

TEST_CASE("a seed chosen for the user stays the same during a run") {
  CHECK(run_with({}, [](Program& p) {
          CHECK(p.seed() == p.seed());
          CHECK(p.common().seed.has_value());
          return Status::Ok();
        }) == kExitOk);
}

TEST_CASE("sizes, counts and times are shown with three digits") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(812) == "812 B");
  CHECK(format_bytes(68700) == "68.7 kB");
  CHECK(format_bytes(999'499) == "999 kB");
  CHECK(format_bytes(999'500) == "1.00 MB");
  CHECK(format_bytes(7'356'789'012) == "7.36 GB");
  CHECK(format_bytes(2.5e18) == "2500 PB");
  CHECK(format_count(320) == "320");
  CHECK(format_count(6.919e9) == "6.92 B");
  CHECK(format_count(0.25) == "0.25");
  CHECK(format_duration(0.421) == "0.42 s");
  CHECK(format_duration(12.34) == "12.3 s");
  CHECK(format_duration(59.96) == "1:00");
  CHECK(format_duration(245) == "4:05");
  CHECK(format_duration(3723) == "1:02:03");
  CHECK(format_duration(-1) == "?");
  CHECK(format_grouped(0) == "0");
  CHECK(format_grouped(999) == "999");
  CHECK(format_grouped(-1234567) == "-1,234,567");
  CHECK(format_grouped(123456) == "123,456");
}

TEST_CASE("a table aligns its columns by characters, not bytes") {
  Table t({Table::kLeft, Table::kRight, Table::kLeft});
  t.row({"a", "1", "x"});
  t.row({"Ġthe", "200", "longer"});
  t.row({"only one cell"});
  CHECK(t.text() ==
        "a                1  x\n"
        "Ġthe           200  longer\n"
        "only one cell\n");
}

TEST_CASE("progress shows share, amount, rate, the time left and what is going on") {
  const Progress bytes("quantize", 3e9, Progress::Unit::kBytes);
  CHECK(bytes.text(1.2e9, 4, "blk.3") == "quantize  40%  1.20 GB of 3.00 GB  300 MB/s  ETA 6 s  blk.3");
  CHECK(bytes.text(0, 0, "") == "quantize  0%  0 B of 3.00 GB  0 B/s");
  CHECK(bytes.text(1e6, 1, "") == "quantize  0%  1.00 MB of 3.00 GB  1.00 MB/s  ETA 49:59");
  const Progress open_end("read", 0, Progress::Unit::kCount, "tokens");
  CHECK(open_end.text(500, 2, "") == "read  500 tokens  250/s");
}
