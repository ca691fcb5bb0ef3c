// Errors that data can cause. A function that reads a file, a request or a user's setting returns Status or Result<T>;
// a broken promise between our own functions is MOE_CHECK (check.h).
//
// A message names file, key or tensor, what was wanted and what was found:
//   return Status::Corrupt("model.gguf: tensor 'blk.0.attn_q.weight': wanted shape (64, 64), found (64, 48)");
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/check.h"

namespace moe {

enum class StatusCode : int {
  kOk = 0,
  kInvalidArgument = 1,  // the caller's values are wrong
  kNotFound = 2,         // no such file, key, tensor, name
  kIo = 3,               // the operating system said no
  kCorrupt = 4,          // the bytes are not what the format promises
  kUnsupported = 5,      // valid, but not something this build can run
  kOutOfMemory = 6,
  kOutOfRange = 7,  // a limit was reached: context full, batch too long
  kCancelled = 8,   // the caller's callback asked to stop
  kInternal = 9,    // our own bug, caught at the library's edge
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  static Status Ok() { return {}; }
  static Status InvalidArgument(std::string m) { return {StatusCode::kInvalidArgument, std::move(m)}; }
  static Status NotFound(std::string m) { return {StatusCode::kNotFound, std::move(m)}; }
  static Status Io(std::string m) { return {StatusCode::kIo, std::move(m)}; }
  static Status Corrupt(std::string m) { return {StatusCode::kCorrupt, std::move(m)}; }
  static Status Unsupported(std::string m) { return {StatusCode::kUnsupported, std::move(m)}; }
  static Status OutOfMemory(std::string m) { return {StatusCode::kOutOfMemory, std::move(m)}; }
  static Status OutOfRange(std::string m) { return {StatusCode::kOutOfRange, std::move(m)}; }
  static Status Cancelled(std::string m) { return {StatusCode::kCancelled, std::move(m)}; }
  static Status Internal(std::string m) { return {StatusCode::kInternal, std::move(m)}; }

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same code with "where: " put before the message.
  Status Annotate(const std::string& where) const { return ok() ? *this : Status(code_, where + ": " + message_); }

 private:
  Status(StatusCode c, std::string m) : code_(c), message_(std::move(m)) {}
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) { MOE_CHECK(!status_.ok()); }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    MOE_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    MOE_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    MOE_CHECK(ok());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace moe

#define MOE_CONCAT_(a, b) a##b
#define MOE_CONCAT(a, b) MOE_CONCAT_(a, b)

// Leaves the function with the error, if there is one.
#define MOE_TRY(expr)                                                     \
  do {                                                                    \
    if (::moe::Status moe_try_ = (expr); !moe_try_.ok()) return moe_try_; \
  } while (0)

// MOE_ASSIGN(auto file, MappedFile::open(path));
#define MOE_ASSIGN(lhs, expr) MOE_ASSIGN_(MOE_CONCAT(moe_result_, __LINE__), lhs, expr)
#define MOE_ASSIGN_(tmp, lhs, expr)   \
  auto tmp = (expr);                  \
  if (!tmp.ok()) return tmp.status(); \
  lhs = std::move(tmp).value()
