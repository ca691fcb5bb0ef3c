#include "backends/backend_registry.h"

#include "backends/cpu/cpu_backend.h"

namespace moe {

std::span<const BackendDef> all_backends() {
  static constexpr BackendDef kBackends[] = {
      {"cpu", "every processor: scalar, AVX2, AVX-512 and NEON kernels chosen at run time", create_cpu_backend},
  };
  return kBackends;
}

Result<std::unique_ptr<Backend>> create_backend(std::string_view name, const BackendOptions& options) {
  std::string known;
  for (const BackendDef& b : all_backends()) {
    if (name == b.name) return b.create(options);
    known += (known.empty() ? "" : ", ") + std::string(b.name);
  }
  return Status::NotFound("no backend '" + std::string(name) + "'; this build has: " + known);
}

}  // namespace moe
