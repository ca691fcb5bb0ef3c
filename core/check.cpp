#include "core/check.h"

#include <string>

namespace moe {

void check_failed(const char* condition, const char* file, int line) {
  throw BugError(std::string(file) + ":" + std::to_string(line) + ": check failed: " + condition);
}

}  // namespace moe
