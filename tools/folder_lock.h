// A folder that one run writes to at a time.
#pragma once

#include <string>

#include "core/status.h"

namespace moe::tools {

// The system lets go of it when the process ends, however it ends.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

  // Makes the file where it is not there. kInvalidArgument when another process has it.
  Status take(const std::string& path);

 private:
  int fd_ = -1;
};

}  // namespace moe::tools
