// Loops that keep one kind of unit busy: independent chains of the widest multiply-add an instruction set has, and loads in
// order. Each function opens the instructions it needs by a target attribute and uses intrinsics only, so that the file is
// compiled like any other and leaks no symbol that was compiled for a processor the host may not be.
#include "backends/cpu/ceilings.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/arena.h"
#include "core/cpu_count.h"
#include "core/threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace moe::cpu {
namespace {

// Latency times units is 8 (4 cycles on 2 units) on x86, where AVX2 has 16 registers for chains and operands, and up to 16 on
// ARM.
#if defined(__x86_64__)
constexpr int kChains = 12;
#else
constexpr int kChains = 16;
#endif
constexpr size_t kMostReadBytes = size_t{1} << 30;  // as large as weights are, or an eighth of the memory
constexpr size_t kWindowBytes = size_t{1} << 20;
constexpr double kSecondsEach = 0.15;

// Does `rounds` times kChains multiply-add instructions; the result keeps the compiler from leaving them out.
using MulAddLoop = float (*)(int64_t rounds);
// Reads n bytes, a multiple of 1024, aligned to 64.
using ReadLoop = uint64_t (*)(const std::byte* p, size_t n);

// --- any processor ---

float f32_scalar(int64_t rounds) {
  float sum[kChains] = {};
  float a = 0.5f, b = 0.25f;
  for (int64_t r = 0; r < rounds; ++r) {
    asm volatile("" : "+m"(a), "+m"(b));
    for (float& s : sum) s = s * a + b;
  }
  return sum[0] + sum[kChains - 1];
}

float int8_scalar(int64_t rounds) {
  int32_t sum[kChains] = {};
  int8_t x[kChains] = {1, -2, 3, -4, 5, -6, 7, -8};
  for (int64_t r = 0; r < rounds; ++r) {
    asm volatile("" : "+m"(x));
    for (int i = 0; i < kChains; ++i) sum[i] += x[i] * x[kChains - 1 - i];
  }
  return static_cast<float>(sum[0] + sum[kChains - 1]);
}

uint64_t read_scalar(const std::byte* p, size_t n) {
  uint64_t sum[8] = {};
  for (size_t i = 0; i < n; i += sizeof sum) {
    uint64_t words[8];
    std::memcpy(words, p + i, sizeof words);
    for (int j = 0; j < 8; ++j) sum[j] ^= words[j];
  }
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

// Chains of one instruction in registers: `step` makes the next s of a chain. What comes out is the bits of one lane.
#define MOE_MUL_ADD_LOOP(target_attribute, name, Vector, setup, step) \
  target_attribute float name(int64_t rounds) {                       \
    Vector sum[kChains] = {};                                         \
    setup;                                                            \
    for (int64_t r = 0; r < rounds; ++r) {                            \
      _Pragma("GCC unroll 16") for (Vector & s : sum) { step; }       \
    }                                                                 \
    const Vector first = sum[0];                                      \
    float lane;                                                       \
    std::memcpy(&lane, &first, sizeof lane);                          \
    return lane;                                                      \
  }

#if defined(__x86_64__)

// The empty assembly hides from the compiler that all chains are equal.
#define MOE_X86_LOOP(name, instructions, Vector, setup, next) \
  MOE_MUL_ADD_LOOP(__attribute__((target(instructions))), name, Vector, setup, s = next; asm volatile("" : "+v"(s)))

MOE_X86_LOOP(f32_avx2, "avx2,fma", __m256, const __m256 a = _mm256_set1_ps(0.5f), _mm256_fmadd_ps(a, s, a))
MOE_X86_LOOP(int8_avx2, "avx2", __m256i, const __m256i a = _mm256_set1_epi8(1), _mm256_add_epi16(s, _mm256_maddubs_epi16(s, a)))
MOE_X86_LOOP(f32_avx512, "avx512f", __m512, const __m512 a = _mm512_set1_ps(0.5f), _mm512_fmadd_ps(a, s, a))
MOE_X86_LOOP(int8_avx512, "avx512f,avx512vnni", __m512i, const __m512i a = _mm512_set1_epi32(0x01010101),
             _mm512_dpbusd_epi32(s, a, a))
MOE_X86_LOOP(bf16_avx512, "avx512f,avx512bf16", __m512,
             const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f003f00)), _mm512_dpbf16_ps(s, a, a))
#undef MOE_X86_LOOP

#define MOE_READ_LOOP(name, instructions, Vector)                                                                  \
  __attribute__((target(instructions))) uint64_t name(const std::byte* p, size_t n) {                              \
    Vector sum[8] = {};                                                                                            \
    for (size_t i = 0; i < n; i += sizeof sum) {                                                                   \
      _Pragma("GCC unroll 8") for (int j = 0; j < 8; ++j) { sum[j] ^= reinterpret_cast<const Vector*>(p + i)[j]; } \
    }                                                                                                              \
    const Vector all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];                      \
    uint64_t lane;                                                                                                 \
    std::memcpy(&lane, &all, sizeof lane);                                                                         \
    return lane;                                                                                                   \
  }

MOE_READ_LOOP(read_avx2, "avx2", __m256i)
MOE_READ_LOOP(read_avx512, "avx512f", __m512i)
#undef MOE_READ_LOOP

#elif defined(__aarch64__)

// Instructions beyond the baseline go to the assembler by name: clang 14 has no intrinsics behind a target attribute.
#define MOE_NEON_LOOP(name, Vector, assembly)                         \
  MOE_MUL_ADD_LOOP(, name, Vector, const int8x16_t a = vdupq_n_s8(1), \
                   asm volatile(".arch armv8.6-a\n\t" assembly        \
                                : "+w"(s)                             \
                                : "w"(a)))

MOE_NEON_LOOP(f32_neon, float32x4_t, "fmla %0.4s, %1.4s, %1.4s")
MOE_NEON_LOOP(int8_neon, int16x8_t, "smlal %0.8h, %1.8b, %1.8b")
MOE_NEON_LOOP(int8_neon_dot, int32x4_t, "sdot %0.4s, %1.16b, %1.16b")
MOE_NEON_LOOP(int8_neon_i8mm, int32x4_t, "smmla %0.4s, %1.16b, %1.16b")
MOE_NEON_LOOP(bf16_neon, float32x4_t, "bfmmla %0.4s, %1.8h, %1.8h")
#undef MOE_NEON_LOOP

#endif
#undef MOE_MUL_ADD_LOOP

// --- which loop stands for what ---

struct MulAdds {
  Isa isa;
  double Ceilings::*rate;
  MulAddLoop loop;
  int per_instruction;
  bool CpuFeatures::*needs = nullptr;  // beyond what the instruction set has
};

constexpr MulAdds kMulAdds[] = {
    {Isa::kScalar, &Ceilings::f32, f32_scalar, 1},
    {Isa::kScalar, &Ceilings::int8, int8_scalar, 1},
#if defined(__x86_64__)
    {Isa::kAvx2, &Ceilings::f32, f32_avx2, 8},
    {Isa::kAvx2, &Ceilings::int8, int8_avx2, 32},
    {Isa::kAvx512, &Ceilings::f32, f32_avx512, 16},
    {Isa::kAvx512, &Ceilings::int8, int8_avx512, 64},
    {Isa::kAvx512Bf16, &Ceilings::f32, f32_avx512, 16},
    {Isa::kAvx512Bf16, &Ceilings::int8, int8_avx512, 64},
    {Isa::kAvx512Bf16, &Ceilings::bf16, bf16_avx512, 32},
#elif defined(__aarch64__)
    {Isa::kNeon, &Ceilings::f32, f32_neon, 4},
    {Isa::kNeon, &Ceilings::int8, int8_neon, 8},
    {Isa::kNeonDot, &Ceilings::f32, f32_neon, 4},
    {Isa::kNeonDot, &Ceilings::int8, int8_neon_dot, 16},
    {Isa::kNeonI8mm, &Ceilings::f32, f32_neon, 4},
    {Isa::kNeonI8mm, &Ceilings::int8, int8_neon_i8mm, 32},
    {Isa::kNeonI8mm, &Ceilings::bf16, bf16_neon, 16, &CpuFeatures::bf16},
#endif
};

ReadLoop read_loop(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) return read_avx2;
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Bf16) return read_avx512;
#endif
  (void)isa;
  return read_scalar;
}

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Every thread times bursts of some 50 µs, short enough that some of them meet no interruption, and keeps its best.
double measure_mul_adds(ThreadPool& pool, const MulAdds& m) {
  constexpr int64_t kRounds = 20000;
  std::vector<double> best(static_cast<size_t>(pool.size()), 1e9);
  auto bursts = [&](int thread) {
    double& mine = best[static_cast<size_t>(thread)];
    const auto begin = Clock::now();
    while (seconds_since(begin) < kSecondsEach) {
      const auto start = Clock::now();
      [[maybe_unused]] volatile float sink = m.loop(kRounds);
      mine = std::min(mine, seconds_since(start));
    }
  };
  pool.run(bursts);
  double rate = 0;
  for (const double seconds : best) rate += static_cast<double>(kRounds) * kChains * m.per_instruction / seconds;
  return rate;
}

// A processor of each core that this process may use.
std::vector<int> one_of_each_core() {
  std::vector<int> chosen;
  for (const int cpu : allowed_cpus()) {
    chosen.push_back(cpu);
    if (count_cores("/", chosen) < static_cast<int>(chosen.size())) chosen.pop_back();
  }
  return chosen;
}

// Keeps a thread on a core of its own while it lives, where there are enough: two threads that the system puts on one core of a
// busy machine read in turns.
class OnCore {
 public:
  OnCore(const std::vector<int>& cores, int thread, int n_threads) {
    if (static_cast<int>(cores.size()) < n_threads || sched_getaffinity(0, sizeof before_, &before_) != 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cores[static_cast<size_t>(thread)], &one);
    moved_ = sched_setaffinity(0, sizeof one, &one) == 0;
  }
  ~OnCore() {
    if (moved_) sched_setaffinity(0, sizeof before_, &before_);
  }
  OnCore(const OnCore&) = delete;
  OnCore& operator=(const OnCore&) = delete;

 private:
  cpu_set_t before_{};
  bool moved_ = false;
};

size_t read_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  const size_t memory = pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) : 0;
  return std::clamp(memory / 8 / kWindowBytes, size_t{64}, kMostReadBytes / kWindowBytes) * kWindowBytes;
}

// What all threads read together, each its own part of the memory over and over without waiting for the others, as weights are
// read. On the average, not at best: memory is shared with whatever else the machine does, and so is what is held against it.
// Prefetches and several streams a thread were tried and read no faster (Zen 5).
double measure_reads(ThreadPool& pool, ReadLoop read) {
  const size_t n_bytes = read_bytes();
  const AlignedBytes bytes = allocate_aligned(n_bytes);
  // Large pages, where the system gives them: the ceiling is the memory's, not that of the address translation. Advice only.
  constexpr uintptr_t kPage = 1 << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(bytes.get()) + kPage - 1) / kPage * kPage;
  madvise(reinterpret_cast<void*>(first), n_bytes - kPage, MADV_HUGEPAGE);
  std::vector<double> rates(static_cast<size_t>(pool.size()));
  const std::vector<int> cores = one_of_each_core();
  auto passes = [&](int thread) {
    const OnCore here(cores, thread, pool.size());
    const Range r = split_range(static_cast<int64_t>(n_bytes), thread, pool.size(), kWindowBytes);
    std::memset(bytes.get() + r.begin, 1, static_cast<size_t>(r.end - r.begin));
    pool.barrier();
    const auto begin = Clock::now();
    double n_read = 0, seconds = 0;
    for (int64_t at = r.begin; r.begin < r.end && seconds < 4 * kSecondsEach; seconds = seconds_since(begin)) {
      [[maybe_unused]] volatile uint64_t sink = read(bytes.get() + at, kWindowBytes);
      n_read += kWindowBytes;
      at = at + static_cast<int64_t>(kWindowBytes) < r.end ? at + static_cast<int64_t>(kWindowBytes) : r.begin;
    }
    if (seconds > 0) rates[static_cast<size_t>(thread)] = n_read / seconds;
  };
  pool.run(passes);
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

Status check(Isa isa, int n_threads) {
  if (!cpu_supports(detect_cpu(), isa))
    return Status::Unsupported(std::string("ceilings of instruction set '") + isa_name(isa) + "': this processor lacks it");
  if (n_threads < 1) return Status::InvalidArgument("ceilings: wanted at least one thread, found " + std::to_string(n_threads));
  return Status::Ok();
}

}  // namespace

Result<Ceilings> measure_ceilings(Isa isa, int n_threads) {
  MOE_TRY(check(isa, n_threads));
  const CpuFeatures cpu = detect_cpu();
  ThreadPool pool(n_threads);
  Ceilings c;
  c.isa = isa, c.n_threads = n_threads;
  for (const MulAdds& m : kMulAdds)
    if (m.isa == isa && (!m.needs || cpu.*m.needs)) c.*m.rate = measure_mul_adds(pool, m);
  c.read = measure_reads(pool, read_loop(isa));
  return c;
}

Result<double> measure_read(Isa isa, int n_threads) {
  MOE_TRY(check(isa, n_threads));
  ThreadPool pool(n_threads);
  return measure_reads(pool, read_loop(isa));
}

}  // namespace moe::cpu
