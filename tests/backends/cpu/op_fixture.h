// One op on the CPU backend: a graph of a single node, its inputs, and its output between canaries of NaN.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/backend.h"

namespace moe::test {

// The memory of one input, state or weight.
struct OpArgument {
  ValueKind kind = ValueKind::kInput;
  DType dtype = DType::kF32;
  Shape shape;  // kTokens and kOutputs stand for n_tokens and n_outputs of the run
  std::vector<std::byte> bytes;

  const float* f32() const { return reinterpret_cast<const float*>(bytes.data()); }
  std::vector<float> floats() const;  // decoded
};

OpArgument absent();
OpArgument floats(Shape shape, const std::vector<float>& values, ValueKind kind = ValueKind::kInput);
OpArgument ints(Shape shape, const std::vector<int32_t>& values);
OpArgument bytes(Shape shape, const std::vector<int8_t>& values);
// Encoded in the format; what the op sees is floats() of the result.
OpArgument weights(Shape shape, const std::vector<float>& values, DType dtype = DType::kF32);
OpArgument state(Shape shape, DType dtype);  // zeros

// n seeded numbers from the normal distribution.
std::vector<float> normals(size_t n, uint64_t seed, float deviation = 1);

// A value of the graph for each argument, kNone for absent ones.
std::vector<ValueId> add_arguments(Graph& g, const std::vector<OpArgument>& arguments);

struct OpRun {
  std::string isa;  // empty: the best one
  int n_threads = 1;
  bool exact = true;
  bool expanded = false;  // fused ops through their fallback
  int64_t n_tokens = 1, n_outputs = 1;
  bool throughput = false;
};

// Every instruction set of this processor, with 1, 2 and 3 threads.
void for_each_isa_and_threads(const std::function<void(const OpRun&)>& f);

// All outputs of the node, as floats (ids as numbers). States are written back to `arguments`. Memory that the run reserved is
// filled by an earlier run over NaN inputs, so that an element left unwritten shows.
std::vector<std::vector<float>> run_op(Op op, std::vector<OpArgument>& arguments, const Attrs& attrs, const OpRun& run);

// The largest |found − wanted| over the largest |wanted| (at least 1e-6).
double worst_error(const std::vector<float>& found, const std::vector<double>& wanted);

}  // namespace moe::test
