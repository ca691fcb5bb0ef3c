// The table of backends that this build holds.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "tensor/backend.h"

namespace moe {

struct BackendDef {
  const char* name;  // as a user types it
  const char* description;
  Result<std::unique_ptr<Backend>> (*create)(const BackendOptions&);
};

std::span<const BackendDef> all_backends();

// kNotFound lists the names there are.
Result<std::unique_ptr<Backend>> create_backend(std::string_view name, const BackendOptions& options);

}  // namespace moe
