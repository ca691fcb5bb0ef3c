#include "backends/cpu/ceilings.h"

#include <doctest/doctest.h>

namespace moe::cpu {
namespace {

TEST_CASE("every instruction set of this processor has ceilings") {
  for (const Isa isa : supported_isas(detect_cpu())) {
    CAPTURE(isa_name(isa));
    const Result<Ceilings> c = measure_ceilings(isa, 1);
    REQUIRE(c.ok());
    CHECK(c->isa == isa);
    CHECK(c->n_threads == 1);
    CHECK(c->read > 0);
    CHECK(c->f32 > 0);
    CHECK(c->int8 > 0);
  }
}

TEST_CASE("ceilings of instructions that this processor lacks are refused") {
  const Isa foreign = cpu_supports(detect_cpu(), Isa::kNeon) ? Isa::kAvx2 : Isa::kNeon;
  CHECK(measure_ceilings(foreign, 1).status().code() == StatusCode::kUnsupported);
  CHECK(measure_ceilings(Isa::kScalar, 0).status().code() == StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace moe::cpu
