// ARMv8.6 with I8MM and DotProd: Neoverse V1 and N2, Cortex-X2 and A510, Apple M2 and later.
#include "backends/cpu/dot/panel_neon_i8mm.h"
#include "backends/cpu/dot/rows_neon_dot.h"
//
#include "backends/cpu/dot/quad_apart.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"

namespace moe::cpu {

constinit const KernelTable kKernelsNeonI8mm = make_table("neon_i8mm");

}  // namespace moe::cpu
