// What this machine can do at most: bytes read from memory and multiply-adds, measured. moe-bench puts them beside what a model
// and a kernel reach, so that "fast" is a share of something.
#pragma once

#include "core/isa.h"

namespace moe::cpu {

// All threads together; a rate is 0 where the instruction set has no instruction for it.
struct Ceilings {
  Isa isa = Isa::kScalar;
  int n_threads = 1;
  double read = 0;  // bytes/s from memory, far more than caches hold, read in order, on the average of half a second
  double int8 = 0;  // multiply-adds/s on registers: the best an instruction set offers for int8 into int32 (avx2: into int16)
  double bf16 = 0;  // bf16 products into float32
  double f32 = 0;   // scalar: a product and a sum each, as the compiler makes them
};

// Takes about two seconds. Multiply-adds are the best of many short runs, since whatever else the machine does can only make
// them slower; reading is an average.
// kUnsupported when this processor lacks the instructions, kInvalidArgument for less than one thread. Throws std::bad_alloc
// without 1 GiB of memory (an eighth of the machine's where that is less) and std::system_error without threads.
Result<Ceilings> measure_ceilings(Isa isa, int n_threads);

// Ceilings::read alone, in about a second: memory is faster and slower by the minute where a machine is shared. Fails and
// throws as measure_ceilings().
Result<double> measure_read(Isa isa, int n_threads);

}  // namespace moe::cpu
