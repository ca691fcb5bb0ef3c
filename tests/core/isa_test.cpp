#include "core/isa.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <algorithm>

using namespace moe;

namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kNeon, Isa::kNeonDot, Isa::kNeonI8mm};

// Sets MOE_ISA (nullptr: unsets it) for the scope.
class Environment {
 public:
  explicit Environment(const char* value) {
    if (const char* old = ::getenv("MOE_ISA")) {
      had_ = true;
      old_ = old;
    }
    set(value);
  }
  ~Environment() { set(had_ ? old_.c_str() : nullptr); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static void set(const char* value) { value ? ::setenv("MOE_ISA", value, 1) : ::unsetenv("MOE_ISA"); }
  bool had_ = false;
  std::string old_;
};

CpuFeatures avx2_machine() {
  CpuFeatures cpu;
  cpu.avx2 = cpu.fma = cpu.f16c = true;
  cpu.brand = "Testium 9000";
  return cpu;
}

CpuFeatures avx512_machine() {
  CpuFeatures cpu = avx2_machine();
  cpu.avx512f = cpu.avx512bw = cpu.avx512vl = cpu.avx512dq = cpu.avx512vnni = true;
  return cpu;
}

CpuFeatures arm_machine() {
  CpuFeatures cpu;
  cpu.neon = cpu.dotprod = cpu.i8mm = true;
  return cpu;
}

}  // namespace

TEST_CASE("every instruction set has a name that parses back") {
  for (Isa isa : kAll) CHECK(*parse_isa(isa_name(isa)) == isa);
  CHECK(std::string(isa_name(Isa::kNeonI8mm)) == "neon_i8mm");
}

TEST_CASE("an unknown name is refused with the list of the known ones") {
  for (const char* name : {"foo", "", "AVX2", "avx2 ", "avx"}) {
    const auto r = parse_isa(name);
    REQUIRE_FALSE(r.ok());
    CHECK(r.status().code() == StatusCode::kInvalidArgument);
    for (Isa isa : kAll) CHECK(r.status().message().find(isa_name(isa)) != std::string::npos);
  }
}

TEST_CASE("each feature that a set needs is needed: without it the set is not supported") {
  bool CpuFeatures::*const avx2[] = {&CpuFeatures::avx2, &CpuFeatures::fma, &CpuFeatures::f16c};
  for (auto feature : avx2) {
    CpuFeatures cpu = avx512_machine();
    CHECK(cpu_supports(cpu, Isa::kAvx2));
    cpu.*feature = false;
    CHECK_FALSE(cpu_supports(cpu, Isa::kAvx2));
    CHECK_FALSE(cpu_supports(cpu, Isa::kAvx512));
  }
  bool CpuFeatures::*const avx512[] = {&CpuFeatures::avx512f, &CpuFeatures::avx512bw, &CpuFeatures::avx512vl,
                                       &CpuFeatures::avx512dq, &CpuFeatures::avx512vnni};
  for (auto feature : avx512) {
    CpuFeatures cpu = avx512_machine();
    CHECK(cpu_supports(cpu, Isa::kAvx512));
    cpu.*feature = false;
    CHECK_FALSE(cpu_supports(cpu, Isa::kAvx512));
    CHECK(cpu_supports(cpu, Isa::kAvx2));
  }
  CpuFeatures arm = arm_machine();
  arm.dotprod = false;
  CHECK_FALSE(cpu_supports(arm, Isa::kNeonDot));
  CHECK_FALSE(cpu_supports(arm, Isa::kNeonI8mm));
  CHECK(cpu_supports(arm, Isa::kNeon));
}

TEST_CASE("supported sets come best last and always begin with scalar") {
  using List = std::vector<Isa>;
  CHECK(supported_isas(CpuFeatures()) == List{Isa::kScalar});
  CHECK(supported_isas(avx2_machine()) == List{Isa::kScalar, Isa::kAvx2});
  CHECK(supported_isas(avx512_machine()) == List{Isa::kScalar, Isa::kAvx2, Isa::kAvx512});
  CpuFeatures bf16 = avx512_machine();
  bf16.avx512bf16 = true;
  CHECK(supported_isas(bf16) == List{Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16});
  bf16.avx512vnni = false;
  CHECK(supported_isas(bf16) == List{Isa::kScalar, Isa::kAvx2});
  CHECK(supported_isas(arm_machine()) == List{Isa::kScalar, Isa::kNeon, Isa::kNeonDot, Isa::kNeonI8mm});
}

TEST_CASE("the choice is the argument, else MOE_ISA, else the best") {
  const CpuFeatures cpu = avx512_machine();
  {
    const Environment none(nullptr);
    CHECK(*choose_isa(cpu) == Isa::kAvx512);
    CHECK(*choose_isa(cpu, "avx2") == Isa::kAvx2);
  }
  {
    const Environment scalar("scalar");
    CHECK(*choose_isa(cpu) == Isa::kScalar);
    CHECK(*choose_isa(cpu, "avx2") == Isa::kAvx2);
  }
  const Environment empty("");
  CHECK(*choose_isa(cpu) == Isa::kAvx512);
}

TEST_CASE("a wrong choice is refused with where it came from, what lacks and what would do") {
  {
    const Environment foo("foo");
    const Status s = choose_isa(avx2_machine()).status();
    CHECK(s.code() == StatusCode::kInvalidArgument);
    CHECK(s.message() ==
          "MOE_ISA=foo: wanted one of scalar, avx2, avx512, avx512_bf16, neon, neon_dot, neon_i8mm; this processor has scalar, "
          "avx2");
  }
  const Status s = choose_isa(avx2_machine(), "neon_dot").status();
  CHECK(s.code() == StatusCode::kUnsupported);
  CHECK(s.message() == "isa=neon_dot: this processor (Testium 9000) lacks neon, dotprod; wanted one of scalar, avx2");
}

TEST_CASE("this processor is recognised as one of its architecture") {
  const CpuFeatures cpu = detect_cpu();
#if defined(__aarch64__)
  CHECK(cpu.neon);
  CHECK_FALSE(cpu.avx2);
#elif defined(__x86_64__)
  CHECK_FALSE(cpu.neon);
  CHECK_FALSE(cpu.brand.empty());
  CHECK(cpu.avx2 == (__builtin_cpu_supports("avx2") != 0));
  CHECK(cpu.fma == (__builtin_cpu_supports("fma") != 0));
  CHECK(cpu.avx512f == (__builtin_cpu_supports("avx512f") != 0));
  CHECK(cpu.avx512bw == (__builtin_cpu_supports("avx512bw") != 0));
  CHECK(cpu.avx512vl == (__builtin_cpu_supports("avx512vl") != 0));
  CHECK(cpu.avx512dq == (__builtin_cpu_supports("avx512dq") != 0));
  CHECK(cpu.avx512vnni == (__builtin_cpu_supports("avx512vnni") != 0));
  CHECK(cpu.avx512bf16 == (__builtin_cpu_supports("avx512bf16") != 0));
#endif
  std::string names;
  for (Isa isa : supported_isas(cpu)) names += std::string(" ") + isa_name(isa);
  MESSAGE("this processor:" << names << " (" << cpu.brand << ")");
}
