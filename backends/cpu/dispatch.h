// Which kernel tables this build has, and which one serves an instruction set on this processor.
#pragma once

#include <span>

#include "backends/cpu/kernels.h"
#include "core/isa.h"

namespace moe::cpu {

struct BuiltKernels {
  Isa isa;
  const KernelTable* table;
};

// One entry an instruction set of the target architecture, scalar first. They may exceed what this processor can run.
std::span<const BuiltKernels> built_kernels();

// kUnsupported when the table is not in this build or the processor lacks the instructions.
Result<const KernelTable*> kernels_for(Isa isa, const CpuFeatures& cpu);

}  // namespace moe::cpu
