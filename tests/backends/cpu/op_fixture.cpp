#include "tests/backends/cpu/op_fixture.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/cpu_backend.h"
#include "core/rng.h"
#include "tests/models/model_fixture.h"

namespace moe::test {
namespace {

template <class T>
std::vector<std::byte> copy_bytes(const std::vector<T>& values) {
  std::vector<std::byte> b(values.size() * sizeof(T));
  if (!b.empty()) std::memcpy(b.data(), values.data(), b.size());
  return b;
}

Shape concrete(Shape s, const OpRun& run) {
  if (s.per_token()) s.dim[0] = run.n_tokens;
  if (s.per_output()) s.dim[0] = run.n_outputs;
  return s;
}

std::vector<float> as_floats(const Tensor& t) {
  const auto n = static_cast<size_t>(t.shape.elements());
  std::vector<float> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = t.dtype == DType::kI32 ? static_cast<float>(t.i32()[i]) : t.f32()[i];
  return v;
}

}  // namespace

std::vector<float> OpArgument::floats() const {
  const DTypeTraits& f = traits(dtype);
  const auto n = static_cast<int64_t>(bytes.size() / f.block_bytes) * f.block_elements;
  std::vector<float> v(static_cast<size_t>(n));
  f.decode(bytes.data(), v.data(), n);
  return v;
}

OpArgument absent() { return {ValueKind::kInput, DType::kF32, {0}, {}}; }

OpArgument floats(Shape shape, const std::vector<float>& values, ValueKind kind) {
  return {kind, DType::kF32, shape, copy_bytes(values)};
}

OpArgument ints(Shape shape, const std::vector<int32_t>& values) {
  return {ValueKind::kInput, DType::kI32, shape, copy_bytes(values)};
}

OpArgument bytes(Shape shape, const std::vector<int8_t>& values) {
  return {ValueKind::kInput, DType::kI8, shape, copy_bytes(values)};
}

OpArgument weights(Shape shape, const std::vector<float>& values, DType dtype) {
  OpArgument a{ValueKind::kWeight, dtype, shape, {}};
  a.bytes.resize(dtype_bytes(dtype, static_cast<int64_t>(values.size())));
  traits(dtype).encode(values.data(), nullptr, a.bytes.data(), static_cast<int64_t>(values.size()));
  return a;
}

OpArgument state(Shape shape, DType dtype) {
  return {ValueKind::kState, dtype, shape, std::vector<std::byte>(dtype_bytes(dtype, shape.elements()))};
}

std::vector<float> normals(size_t n, uint64_t seed, float deviation) {
  Rng rng(seed);
  std::vector<float> v(n);
  for (float& x : v) x = deviation * rng.normal();
  return v;
}

void for_each_isa_and_threads(const std::function<void(const OpRun&)>& f) {
  for (const std::string& isa : runnable_isas())
    for (const int threads : {1, 2, 3}) {
      CAPTURE(isa);
      CAPTURE(threads);
      f({isa, threads});
    }
}

std::vector<ValueId> add_arguments(Graph& g, const std::vector<OpArgument>& arguments) {
  std::vector<ValueId> in;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const OpArgument& a = arguments[i];
    if (a.bytes.empty()) {
      in.push_back(kNone);
      continue;
    }
    Value v;
    v.name = "in" + std::to_string(i), v.kind = a.kind, v.dtype = a.dtype, v.shape = a.shape;
    if (a.kind == ValueKind::kWeight) v.data = const_cast<std::byte*>(a.bytes.data());
    in.push_back(g.add_value(std::move(v)));
  }
  return in;
}

std::vector<std::vector<float>> run_op(Op op, std::vector<OpArgument>& arguments, const Attrs& attrs, const OpRun& run) {
  Graph g;
  const std::vector<ValueId> in = add_arguments(g, arguments);
  g.add_node(op, in, attrs);
  const std::vector<ValueId> out = g.nodes[0].out;
  for (const ValueId id : out) g.value(id).output = true;
  std::vector<ValueId> results = out;
  if (run.expanded) {
    g = expand_fused(g, nullptr, nullptr);
    for (const Node& n : g.nodes) REQUIRE_FALSE(static_cast<bool>(op_def(n.op).fallback));
    if (!std::any_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.out[0] == out[0]; }))
      results = {g.nodes.back().out[0]}, g.value(results[0]).output = true, g.value(out[0]).output = false;
  }

  BackendOptions options;
  options.isa = run.isa, options.n_threads = run.n_threads, options.exact = run.exact;
  auto backend = create_cpu_backend(options);
  REQUIRE_MESSAGE(backend.ok(), backend.status().message());
  CompileOptions compiled;
  compiled.max_tokens = run.n_tokens, compiled.max_outputs = run.n_outputs, compiled.throughput = run.throughput;
  auto executable = (*backend)->compile(g, compiled);
  REQUIRE_MESSAGE(executable.ok(), executable.status().message());
  const auto bind = [&](size_t i, std::vector<std::byte>& memory) {
    if (in[i] == kNone || arguments[i].kind == ValueKind::kWeight) return;
    const Status s = (*executable)->bind(in[i], {memory.data(), arguments[i].dtype, concrete(arguments[i].shape, run)});
    REQUIRE_MESSAGE(s.ok(), s.message());
  };
  // First over NaN: what the second run leaves unwritten stays NaN, and private scratch of theirs is no zero either.
  std::vector<std::vector<std::byte>> poison;
  for (const OpArgument& a : arguments) {
    poison.push_back(a.bytes);
    if (a.kind == ValueKind::kInput && a.dtype == DType::kF32 && !a.bytes.empty())
      std::memset(poison.back().data(), 0xff, poison.back().size());
  }
  for (size_t i = 0; i < arguments.size(); ++i) bind(i, op == Op::kRoute ? arguments[i].bytes : poison[i]);
  RunShape shape;
  shape.n_tokens = run.n_tokens, shape.n_outputs = run.n_outputs;
  REQUIRE((*executable)->run(shape).ok());
  for (size_t i = 0; i < arguments.size(); ++i) bind(i, arguments[i].bytes);
  const Status s = (*executable)->run(shape);
  REQUIRE_MESSAGE(s.ok(), s.message());
  std::vector<std::vector<float>> found;
  for (const ValueId id : results) {
    auto t = (*executable)->read(id);
    REQUIRE_MESSAGE(t.ok(), t.status().message());
    found.push_back(as_floats(*t));
  }
  return found;
}

double worst_error(const std::vector<float>& found, const std::vector<double>& wanted) {
  REQUIRE(found.size() == wanted.size());
  double worst = 0, largest = 1e-6;
  for (const double w : wanted) largest = std::max(largest, std::fabs(w));
  for (size_t i = 0; i < found.size(); ++i) {
    const double e = std::fabs(static_cast<double>(found[i]) - wanted[i]) / largest;
    if (!(e <= worst)) worst = std::isnan(e) ? std::numeric_limits<double>::infinity() : e;
  }
  return worst;
}

}  // namespace moe::test
