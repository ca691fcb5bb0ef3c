#include "core/status.h"

#include <doctest/doctest.h>

#include <memory>

using moe::Result;
using moe::Status;
using moe::StatusCode;

namespace {

Result<int> half_of(int n) {
  if (n % 2) return Status::InvalidArgument("wanted an even number, found " + std::to_string(n));
  return n / 2;
}

Result<int> quarter_of(int n) {
  MOE_ASSIGN(const int half, half_of(n));
  return half_of(half);
}

Status check_twice(int n, int* reached) {
  MOE_TRY(half_of(n).status());
  *reached = n;
  return {};
}

}  // namespace

TEST_CASE("a default Status is ok and says nothing") {
  const Status s;
  CHECK(s.ok());
  CHECK(s.code() == StatusCode::kOk);
  CHECK(s.message().empty());
  CHECK(Status::Ok().ok());
}

TEST_CASE("every named constructor gives its own code and keeps the message") {
  const struct {
    Status status;
    StatusCode code;
  } rows[] = {
      {Status::InvalidArgument("m"), StatusCode::kInvalidArgument},
      {Status::NotFound("m"), StatusCode::kNotFound},
      {Status::Io("m"), StatusCode::kIo},
      {Status::Corrupt("m"), StatusCode::kCorrupt},
      {Status::Unsupported("m"), StatusCode::kUnsupported},
      {Status::OutOfMemory("m"), StatusCode::kOutOfMemory},
      {Status::OutOfRange("m"), StatusCode::kOutOfRange},
      {Status::Cancelled("m"), StatusCode::kCancelled},
      {Status::Internal("m"), StatusCode::kInternal},
  };
  int expected = 1;
  for (const auto& row : rows) {
    CHECK_FALSE(row.status.ok());
    CHECK(row.status.code() == row.code);
    CHECK(static_cast<int>(row.code) == expected++);
    CHECK(row.status.message() == "m");
  }
}

TEST_CASE("Annotate puts the place before the message, keeps the code and leaves ok alone") {
  const Status s = Status::Corrupt("bad magic").Annotate("model.gguf");
  CHECK(s.code() == StatusCode::kCorrupt);
  CHECK(s.message() == "model.gguf: bad magic");
  CHECK(Status().Annotate("model.gguf").message().empty());
}

TEST_CASE("MOE_ASSIGN leaves the function with the first error and goes on with the value") {
  CHECK(*quarter_of(12) == 3);
  CHECK(quarter_of(7).status().message() == "wanted an even number, found 7");
  CHECK(quarter_of(6).status().message() == "wanted an even number, found 3");
}

TEST_CASE("MOE_TRY leaves the function with the error") {
  int reached = 0;
  CHECK(check_twice(3, &reached).code() == StatusCode::kInvalidArgument);
  CHECK(reached == 0);
  CHECK(check_twice(4, &reached).ok());
  CHECK(reached == 4);
}

TEST_CASE("a Result carries values that can only be moved") {
  Result<std::unique_ptr<int>> r = std::make_unique<int>(5);
  REQUIRE(r.ok());
  const std::unique_ptr<int> p = std::move(r).value();
  CHECK(*p == 5);
}

TEST_CASE("taking the value of a failed Result, or making one from an ok Status, is a bug that throws") {
  const Result<int> failed = Status::Io("gone");
  CHECK_THROWS_AS(failed.value(), moe::BugError);
  CHECK_THROWS_AS((void)Result<int>(Status()), moe::BugError);
}

TEST_CASE("MOE_CHECK names the condition and the file") {
  const auto break_it = [] { MOE_CHECK(1 + 1 == 3); };
  CHECK_THROWS_WITH_AS(break_it(), doctest::Contains("1 + 1 == 3"), moe::BugError);
  CHECK_THROWS_WITH_AS(break_it(), doctest::Contains("status_test.cpp"), moe::BugError);
  CHECK_NOTHROW([] { MOE_CHECK(1 + 1 == 2); }());
}
