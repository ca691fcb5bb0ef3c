// AVX2 with FMA and F16C: Intel since Haswell, AMD since Excavator.
#include "backends/cpu/dot/rows_avx2.h"
#include "backends/cpu/dot/tile_rows.inl"
//
#include "backends/cpu/dot/quad_shared.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"

namespace moe::cpu {

constinit const KernelTable kKernelsAvx2 = make_table("avx2");

}  // namespace moe::cpu
