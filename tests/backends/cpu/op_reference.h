// One op on the CPU backend against its reference in double precision (tests/tensor/f64).
#pragma once

#include <functional>

#include "tests/backends/cpu/op_fixture.h"

namespace moe::test {

// f(run) for every instruction set that runs here, 1 to 3 threads, and 1, 3, 5 and 70 tokens with half as many outputs.
void for_each_run(const std::function<void(const OpRun&)>& f);

// A gradient that is there already and is added to.
OpArgument gradient(Shape shape, const std::vector<float>& values);

// Outputs, and states after the run, by worst_error() at most `limit`; and the bits of one thread.
void check_against_f64(Op op, const std::vector<OpArgument>& arguments, const Attrs& attrs, const OpRun& run, double limit);

}  // namespace moe::test
