// Ops of reverse passes on the CPU backend, on every instruction set, with few and many tokens and 1 to 3 threads, against the
// references in double precision.
#include <doctest/doctest.h>

#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"

namespace moe {
namespace {

using namespace test;

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("embed_dw adds the rows of equal ids in order of the tokens") {
  for_each_run([](const OpRun& run) {
    const int64_t V = 9, d = 37;
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < run.n_tokens; ++t) ids.push_back(static_cast<int32_t>(t * t % V));
    check_against_f64(Op::kEmbedDw,
                      {floats({kTokens, d}, normals(static_cast<size_t>(run.n_tokens * d), 1)), ints({kTokens}, ids),
                       gradient({V, d}, normals(static_cast<size_t>(V * d), 2))},
                      NoAttrs{}, run, 1e-6);
  });
}

TEST_SUITE_END();

}  // namespace moe
