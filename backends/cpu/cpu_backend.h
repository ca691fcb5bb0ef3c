// The CPU backend: every op, every storage format, kernels chosen at run time for the processor at hand.
#pragma once

#include <memory>

#include "tensor/backend.h"

namespace moe {

// kUnsupported when options.isa (or MOE_ISA) names kernels that this processor cannot run.
Result<std::unique_ptr<Backend>> create_cpu_backend(const BackendOptions& options);

}  // namespace moe
