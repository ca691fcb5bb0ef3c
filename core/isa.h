// Instruction sets: what this processor has, and which set of kernels to use.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace moe {

// Ordered: a later one of the same family is preferred. Each is one file in backends/cpu/isa/.
enum class Isa { kScalar, kAvx2, kAvx512, kAvx512Bf16, kNeon, kNeonDot, kNeonI8mm };

struct CpuFeatures {
  bool avx2 = false, fma = false, f16c = false;
  bool avx512f = false, avx512bw = false, avx512vl = false, avx512dq = false, avx512vnni = false, avx512bf16 = false;
  bool avx_vnni = false;
  bool neon = false, dotprod = false, i8mm = false, fp16 = false, bf16 = false;
  std::string brand;  // e.g. "AMD EPYC 9555"; may be empty
};

CpuFeatures detect_cpu();

const char* isa_name(Isa isa);                 // "scalar", "avx2", "avx512", "avx512_bf16", "neon", "neon_dot", "neon_i8mm"
Result<Isa> parse_isa(std::string_view name);  // lists the valid names on error
bool cpu_supports(const CpuFeatures& cpu, Isa isa);
std::vector<Isa> supported_isas(const CpuFeatures& cpu);  // best last; always holds kScalar

// `wanted` if not empty, else the environment's MOE_ISA, else the best one. kUnsupported when this processor lacks it.
Result<Isa> choose_isa(const CpuFeatures& cpu, std::string_view wanted = {});

}  // namespace moe
