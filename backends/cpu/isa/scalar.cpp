// The reference: plain C++ for any processor.
#include "backends/cpu/dot/panel_scalar.h"
#include "backends/cpu/dot/tile_rows.inl"
#include "backends/cpu/isa/table.inl"
#include "backends/cpu/kernels.h"

namespace moe::cpu {

constinit const KernelTable kKernelsScalar = make_table("scalar");

}  // namespace moe::cpu
