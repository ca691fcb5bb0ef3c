// What the movers of data are reversed with, on the CPU backend, against the references in double precision.
#include <doctest/doctest.h>

#include "tests/backends/cpu/op_fixture.h"
#include "tests/backends/cpu/op_reference.h"

namespace moe {
namespace {

using namespace test;

OpArgument tokens(const OpRun& run, int64_t n, uint64_t seed) {
  return floats({kTokens, n}, normals(static_cast<size_t>(run.n_tokens * n), seed));
}

}  // namespace

TEST_SUITE_BEGIN("op matrix");

TEST_CASE("row_dot of rows of tokens and of slots") {
  for_each_run([](const OpRun& run) {
    check_against_f64(Op::kRowDot, {tokens(run, 37, 1), tokens(run, 37, 2)}, NoAttrs{}, run, 2e-6);
    const auto slots = [&](uint64_t seed) {
      return floats({kTokens, 3, 5}, normals(static_cast<size_t>(run.n_tokens * 15), seed));
    };
    check_against_f64(Op::kRowDot, {slots(3), slots(4)}, NoAttrs{}, run, 2e-6);
  });
}

TEST_CASE("place puts columns back and zeros beside them") {
  for_each_run([](const OpRun& run) {
    for (const PlaceAttrs& a :
         {PlaceAttrs{3, 2, 5, 9}, PlaceAttrs{1, 0, 4, 4}, PlaceAttrs{2, 7, 8, 8}, PlaceAttrs{1, 0, 1, 19}})
      check_against_f64(Op::kPlace, {tokens(run, a.groups * (a.end - a.begin), 1)}, a, run, 0);
  });
}

TEST_CASE("sum_groups adds the parts of a row") {
  for_each_run([](const OpRun& run) {
    for (const int64_t groups : {1, 2, 5})
      check_against_f64(Op::kSumGroups, {tokens(run, groups * 7, 1)}, GroupAttrs{.groups = groups}, run, 1e-6);
  });
}

TEST_CASE("scatter_rows adds rows of the same token in their order, and zeros the others") {
  for_each_run([](const OpRun& run) {
    std::vector<int32_t> rows;
    for (int64_t r = 0; r < run.n_outputs; ++r) rows.push_back(static_cast<int32_t>(r * r % run.n_tokens));
    const OpArgument dy = floats({kOutputs, 19}, normals(static_cast<size_t>(run.n_outputs * 19), 1));
    check_against_f64(Op::kScatterRows, {dy, ints({kOutputs}, rows)}, NoAttrs{}, run, 1e-6);
  });
}

TEST_SUITE_END();

}  // namespace moe
