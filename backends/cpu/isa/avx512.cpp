// AVX-512 with VNNI: Intel since Ice Lake and Cascade Lake, AMD since Zen 4.
#include "backends/cpu/dot/rows_avx512.h"
#include "backends/cpu/dot/tile_rows.inl"
//
#include "backends/cpu/dot/quad_shared.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"

namespace moe::cpu {

constinit const KernelTable kKernelsAvx512 = make_table("avx512");

}  // namespace moe::cpu
