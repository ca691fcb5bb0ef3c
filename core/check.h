// MOE_CHECK: a condition that only our own bug can break. It throws BugError, which the thread pool carries to the caller
// and the C API turns into MOE_ERROR_INTERNAL: a bug in the library never takes the host program down.
#pragma once

#include <stdexcept>

namespace moe {

class BugError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace moe

#define MOE_CHECK(cond)                                          \
  do {                                                           \
    if (!(cond)) ::moe::check_failed(#cond, __FILE__, __LINE__); \
  } while (0)
