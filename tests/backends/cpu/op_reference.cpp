#include "tests/backends/cpu/op_reference.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/models/model_fixture.h"
#include "tests/tensor/f64/graph_f64.h"

namespace moe::test {
namespace {

Doubles numbers(const OpArgument& a) {
  if (a.dtype == DType::kI32) {
    const auto* p = reinterpret_cast<const int32_t*>(a.bytes.data());
    return Doubles(p, p + a.bytes.size() / sizeof(int32_t));
  }
  if (a.dtype == DType::kI8) {
    const auto* p = reinterpret_cast<const int8_t*>(a.bytes.data());
    return Doubles(p, p + a.bytes.size());
  }
  const std::vector<float> v = a.floats();
  return Doubles(v.begin(), v.end());
}

// The same node over double precision: what the backend's outputs and then its states should be.
std::vector<Doubles> reference(Op op, const std::vector<OpArgument>& arguments, const Attrs& attrs, const OpRun& run) {
  Graph g;
  const std::vector<ValueId> in = add_arguments(g, arguments);
  Values64 values;
  for (size_t i = 0; i < arguments.size(); ++i)
    if (in[i] != kNone) values[in[i]] = numbers(arguments[i]);
  g.add_node(op, in, attrs);
  RunShape shape;
  shape.n_tokens = run.n_tokens, shape.n_outputs = run.n_outputs;
  run_f64(g, shape, values);
  std::vector<Doubles> wanted;
  for (const ValueId id : g.nodes[0].out) wanted.push_back(values.at(id));
  for (size_t i = 0; i < arguments.size(); ++i)
    if (in[i] != kNone && arguments[i].kind == ValueKind::kState) wanted.push_back(values.at(in[i]));
  return wanted;
}

std::vector<std::vector<float>> outputs_and_states(Op op, std::vector<OpArgument> arguments, const Attrs& attrs,
                                                   const OpRun& run) {
  std::vector<std::vector<float>> found = run_op(op, arguments, attrs, run);
  for (const OpArgument& a : arguments)
    if (!a.bytes.empty() && a.kind == ValueKind::kState) found.push_back(a.floats());
  return found;
}

}  // namespace

void for_each_run(const std::function<void(const OpRun&)>& f) {
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 2, 3})
      for (const int64_t tokens : {1, 3, 5, 70}) {
        CAPTURE(isa);
        CAPTURE(threads);
        CAPTURE(tokens);
        f({isa, threads, true, false, tokens, std::max<int64_t>(1, tokens / 2)});
      }
}

OpArgument gradient(Shape shape, const std::vector<float>& values) {
  OpArgument a = state(shape, DType::kF32);
  std::copy_n(reinterpret_cast<const std::byte*>(values.data()), a.bytes.size(), a.bytes.begin());
  return a;
}

void check_against_f64(Op op, const std::vector<OpArgument>& arguments, const Attrs& attrs, const OpRun& run, double limit) {
  const std::vector<Doubles> wanted = reference(op, arguments, attrs, run);
  const auto found = outputs_and_states(op, arguments, attrs, run);
  OpRun alone = run;
  alone.n_threads = 1;
  const auto found_alone = outputs_and_states(op, arguments, attrs, alone);
  REQUIRE(found.size() == wanted.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK_MESSAGE(worst_error(found[i], wanted[i]) <= limit, op_name(op));
    CHECK(same_bits(found[i], found_alone[i]));
  }
}

}  // namespace moe::test
