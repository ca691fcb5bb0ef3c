// ARMv8.2 with DotProd: Cortex-A55 and A75, Neoverse N1, Apple A13 and later.
#include "backends/cpu/dot/panel_neon_dot.h"
#include "backends/cpu/dot/rows_neon_dot.h"
#include "backends/cpu/dot/tile_rows.inl"
//
#include "backends/cpu/dot/quad_apart.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"

namespace moe::cpu {

constinit const KernelTable kKernelsNeonDot = make_table("neon_dot");

}  // namespace moe::cpu
