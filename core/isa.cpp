// Detection by CPUID (x86) and the kernel's hardware capabilities (aarch64), and one table that says what each set needs.
#include "core/isa.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace moe {
namespace {

struct Feature {
  const char* name;
  bool CpuFeatures::*has;
};

using F = CpuFeatures;
constexpr Feature kAvx2Needs[] = {{"avx2", &F::avx2}, {"fma", &F::fma}, {"f16c", &F::f16c}};
constexpr Feature kAvx512Needs[] = {
    {"avx2", &F::avx2},         {"fma", &F::fma},           {"f16c", &F::f16c},         {"avx512f", &F::avx512f},
    {"avx512bw", &F::avx512bw}, {"avx512vl", &F::avx512vl}, {"avx512dq", &F::avx512dq}, {"avx512vnni", &F::avx512vnni}};
constexpr Feature kAvx512Bf16Needs[] = {{"avx2", &F::avx2},
                                        {"fma", &F::fma},
                                        {"f16c", &F::f16c},
                                        {"avx512f", &F::avx512f},
                                        {"avx512bw", &F::avx512bw},
                                        {"avx512vl", &F::avx512vl},
                                        {"avx512dq", &F::avx512dq},
                                        {"avx512vnni", &F::avx512vnni},
                                        {"avx512bf16", &F::avx512bf16}};
constexpr Feature kNeonNeeds[] = {{"neon", &F::neon}};
constexpr Feature kNeonDotNeeds[] = {{"neon", &F::neon}, {"dotprod", &F::dotprod}};
constexpr Feature kNeonI8mmNeeds[] = {{"neon", &F::neon}, {"dotprod", &F::dotprod}, {"i8mm", &F::i8mm}};

struct Row {
  Isa isa;
  const char* name;
  std::span<const Feature> needs;
};

// In the order of the enum: best last.
constexpr Row kRows[] = {
    {Isa::kScalar, "scalar", {}},
    {Isa::kAvx2, "avx2", kAvx2Needs},
    {Isa::kAvx512, "avx512", kAvx512Needs},
    {Isa::kAvx512Bf16, "avx512_bf16", kAvx512Bf16Needs},
    {Isa::kNeon, "neon", kNeonNeeds},
    {Isa::kNeonDot, "neon_dot", kNeonDotNeeds},
    {Isa::kNeonI8mm, "neon_i8mm", kNeonI8mmNeeds},
};

const Row& row_of(Isa isa) {
  for (const Row& row : kRows) {
    if (row.isa == isa) return row;
  }
  check_failed("isa has a row in kRows", __FILE__, __LINE__);
}

void append_name(std::string& list, const char* name) {
  if (!list.empty()) list += ", ";
  list += name;
}

std::string all_names() {
  std::string list;
  for (const Row& row : kRows) append_name(list, row.name);
  return list;
}

std::string missing_features(const CpuFeatures& cpu, Isa isa) {
  std::string list;
  for (const Feature& f : row_of(isa).needs) {
    if (!(cpu.*f.has)) append_name(list, f.name);
  }
  return list;
}

#if defined(__x86_64__) || defined(__i386__)

struct Cpuid {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zeros when the processor has no such leaf.
Cpuid cpuid(uint32_t leaf, uint32_t subleaf = 0) {
  Cpuid r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
  return r;
}

bool bit(uint32_t word, int n) { return (word >> n & 1u) != 0; }

// Which register files the operating system saves at a task switch (XCR0).
uint64_t read_xcr0() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

constexpr uint64_t kYmmState = 0x06;  // XMM, YMM
constexpr uint64_t kZmmState = 0xe6;  // and the mask registers, the upper halves of ZMM0-15, ZMM16-31

std::string read_brand() {
  std::array<char, 49> text{};  // three leaves of 16 characters, padded with zeros or spaces
  for (uint32_t i = 0; i < 3; ++i) {
    const Cpuid r = cpuid(0x80000002u + i);
    std::memcpy(text.data() + 16 * i, &r, sizeof r);
  }
  const std::string brand(text.data());
  const size_t first = brand.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return brand.substr(first, brand.find_last_not_of(' ') - first + 1);
}

// Bit numbers: Intel SDM volume 2A, CPUID, leaves 1, 7.0 and 7.1.
void detect(CpuFeatures& cpu) {
  cpu.brand = read_brand();
  const Cpuid leaf1 = cpuid(1);
  constexpr int kOsXsave = 27;
  const uint64_t saved = bit(leaf1.ecx, kOsXsave) ? read_xcr0() : 0;
  const bool ymm = (saved & kYmmState) == kYmmState;
  const bool zmm = (saved & kZmmState) == kZmmState;
  const Cpuid leaf7 = cpuid(7);
  const Cpuid leaf7_1 = leaf7.eax >= 1 ? cpuid(7, 1) : Cpuid{};

  cpu.fma = ymm && bit(leaf1.ecx, 12);
  cpu.f16c = ymm && bit(leaf1.ecx, 29);
  cpu.avx2 = ymm && bit(leaf7.ebx, 5);
  cpu.avx_vnni = ymm && bit(leaf7_1.eax, 4);
  cpu.avx512f = zmm && bit(leaf7.ebx, 16);
  cpu.avx512dq = zmm && bit(leaf7.ebx, 17);
  cpu.avx512bw = zmm && bit(leaf7.ebx, 30);
  cpu.avx512vl = zmm && bit(leaf7.ebx, 31);
  cpu.avx512vnni = zmm && bit(leaf7.ecx, 11);
  cpu.avx512bf16 = zmm && bit(leaf7_1.eax, 5);
}

#elif defined(__aarch64__) && defined(__linux__)

// Bit numbers: Linux, arch/arm64/include/uapi/asm/hwcap.h; spelt out because older headers lack the later ones.
void detect(CpuFeatures& cpu) {
  const unsigned long capabilities = getauxval(AT_HWCAP);
  const unsigned long more = getauxval(AT_HWCAP2);
  cpu.neon = (capabilities >> 1 & 1) != 0;
  cpu.fp16 = (capabilities >> 10 & 1) != 0;
  cpu.dotprod = (capabilities >> 20 & 1) != 0;
  cpu.i8mm = (more >> 13 & 1) != 0;
  cpu.bf16 = (more >> 14 & 1) != 0;
}

#else

void detect(CpuFeatures&) {}

#endif

}  // namespace

CpuFeatures detect_cpu() {
  CpuFeatures cpu;
  detect(cpu);
  return cpu;
}

const char* isa_name(Isa isa) { return row_of(isa).name; }

Result<Isa> parse_isa(std::string_view name) {
  for (const Row& row : kRows) {
    if (name == row.name) return row.isa;
  }
  return Status::InvalidArgument("isa=" + std::string(name) + ": wanted one of " + all_names());
}

bool cpu_supports(const CpuFeatures& cpu, Isa isa) { return missing_features(cpu, isa).empty(); }

std::vector<Isa> supported_isas(const CpuFeatures& cpu) {
  std::vector<Isa> isas;
  for (const Row& row : kRows) {
    if (cpu_supports(cpu, row.isa)) isas.push_back(row.isa);
  }
  return isas;
}

Result<Isa> choose_isa(const CpuFeatures& cpu, std::string_view wanted) {
  const char* environment = wanted.empty() ? std::getenv("MOE_ISA") : nullptr;
  const std::string name(environment ? std::string_view(environment) : wanted);
  const std::vector<Isa> supported = supported_isas(cpu);
  if (name.empty()) return supported.back();

  const std::string given = (environment ? "MOE_ISA=" : "isa=") + name;
  std::string names;
  for (Isa isa : supported) append_name(names, isa_name(isa));
  const Result<Isa> isa = parse_isa(name);
  if (!isa.ok()) return Status::InvalidArgument(given + ": wanted one of " + all_names() + "; this processor has " + names);
  const std::string missing = missing_features(cpu, *isa);
  if (missing.empty()) return *isa;
  const std::string processor = cpu.brand.empty() ? "this processor" : "this processor (" + cpu.brand + ")";
  return Status::Unsupported(given + ": " + processor + " lacks " + missing + "; wanted one of " + names);
}

}  // namespace moe
