#include "backends/cpu/dispatch.h"

#include <string>

namespace moe::cpu {

std::span<const BuiltKernels> built_kernels() {
  static constexpr BuiltKernels kBuilt[] = {
    {Isa::kScalar, &kKernelsScalar},
#if defined(__x86_64__)
    {Isa::kAvx2, &kKernelsAvx2},
    {Isa::kAvx512, &kKernelsAvx512},
    {Isa::kAvx512Bf16, &kKernelsAvx512Bf16},
#elif defined(__aarch64__)
    {Isa::kNeon, &kKernelsNeon},
    {Isa::kNeonDot, &kKernelsNeonDot},
    {Isa::kNeonI8mm, &kKernelsNeonI8mm},
#endif
  };
  return kBuilt;
}

Result<const KernelTable*> kernels_for(Isa isa, const CpuFeatures& cpu) {
  const std::string name = isa_name(isa);
  if (!cpu_supports(cpu, isa)) {
    return Status::Unsupported("instruction set '" + name + "': this processor" +
                               (cpu.brand.empty() ? std::string() : " (" + cpu.brand + ")") + " lacks it");
  }
  for (const BuiltKernels& built : built_kernels()) {
    if (built.isa == isa) return built.table;
  }
  return Status::Unsupported("instruction set '" + name + "': its kernels are not in this build");
}

}  // namespace moe::cpu
