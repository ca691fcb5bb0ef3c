// ARMv8.0 with Advanced SIMD: every 64-bit ARM processor.
#include "backends/cpu/dot/panel_neon.h"
#include "backends/cpu/dot/tile_rows.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"

namespace moe::cpu {

constinit const KernelTable kKernelsNeon = make_table("neon");

}  // namespace moe::cpu
