#include "tensor/ops/op_rules.h"

#include <algorithm>

namespace moe {
namespace {

bool accepts(Accept type, DType t) {
  switch (type) {
    case Accept::kF32:
    case Accept::kGradient:
      return t == DType::kF32;
    case Accept::kActivation:
      return t == DType::kF32 || t == DType::kBF16 || t == DType::kA8;
    case Accept::kWeight:
      return traits(t).is_weight;
    case Accept::kCache:
      return t == DType::kF32 || t == DType::kF16 || t == DType::kQ8_0;
    case Accept::kCopy:
      return t == DType::kBF16;
    case Accept::kI32:
      return t == DType::kI32;
    case Accept::kI8:
      return t == DType::kI8;
  }
  return false;
}

const char* accept_name(Accept type) {
  switch (type) {
    case Accept::kF32:
      return "f32";
    case Accept::kActivation:
      return "f32|bf16|a8";
    case Accept::kWeight:
      return "weight";
    case Accept::kCache:
      return "f32|f16|q8_0";
    case Accept::kI32:
      return "i32";
    case Accept::kI8:
      return "i8";
    case Accept::kGradient:
      return "state of f32";
    case Accept::kCopy:
      return "state of bf16";
  }
  return "?";
}

std::string input_name(Op op, size_t i) {
  std::string name = op_def(op).inputs[i];
  if (name.back() == '?') name.pop_back();
  return name;
}

std::string describe(const Value& v) { return traits(v.dtype).name + to_string(v.shape); }

double power(double base, int64_t n) {  // the same bits on every machine, unlike std::pow
  double result = 1;
  for (; n > 0; n /= 2, base *= base)
    if (n % 2) result *= base;
  return result;
}

}  // namespace

ShapeRule::ShapeRule(const Graph& g, const Node& node, std::vector<Value>& out) : g_(g), node_(node), out_(out) {
  out_.clear();
  let('T', kTokens), let('R', kOutputs), let('1', 1);
}

ShapeRule& ShapeRule::let(char letter, int64_t extent) {
  extent_[static_cast<size_t>(letter)] = extent;
  bound_[static_cast<size_t>(letter)] = true;
  return *this;
}

int64_t ShapeRule::operator[](char letter) const {
  if (!ok()) return 1;
  MOE_CHECK(bound_[static_cast<size_t>(letter)]);
  return extent_[static_cast<size_t>(letter)];
}

ShapeRule& ShapeRule::in(size_t i, Accept type, const char* pattern) {
  if (!ok() || node_.in[i] == kNone) return *this;
  const Value& v = g_.value(node_.in[i]);
  const std::string wanted = accept_name(type) + expand(pattern);  // before match() binds letters
  const bool kind_fits = (type != Accept::kGradient && type != Accept::kCopy) || v.kind == ValueKind::kState;
  if (kind_fits && accepts(type, v.dtype) && match(v.shape, pattern)) return *this;
  status_ = Status::InvalidArgument(std::string(op_name(node_.op)) + ": input " + input_name(node_.op, i) +
                                    (v.name.empty() ? "" : " '" + v.name + "'") + ": wanted " + wanted + ", found " +
                                    describe(v) + "; inputs: " + all_inputs());
  return *this;
}

ShapeRule& ShapeRule::require(bool condition, const std::string& wanted) {
  if (ok() && !condition)
    status_ = Status::InvalidArgument(std::string(op_name(node_.op)) + ": wanted " + wanted + "; inputs: " + all_inputs());
  return *this;
}

ShapeRule& ShapeRule::out(const char* pattern, DType dtype) {
  if (!ok()) return *this;
  Value v;
  v.dtype = dtype;
  for (const char* p = pattern; *p; ++p) {
    if (*p == '*') {
      v.shape = outer_;
      continue;
    }
    MOE_CHECK(v.shape.rank < kMaxRank);
    v.shape.dim[static_cast<size_t>(v.shape.rank++)] = (*this)[*p];
  }
  out_.push_back(std::move(v));
  return *this;
}

bool ShapeRule::match(const Shape& shape, const char* pattern) {
  int at = 0;
  if (*pattern == '*') {
    ++pattern;
    const int inner = static_cast<int>(std::char_traits<char>::length(pattern));
    if (shape.rank < inner) return false;
    Shape outer = shape;
    outer.rank = at = shape.rank - inner;
    if (!outer_bound_) outer_ = outer, outer_bound_ = true;
    if (!(outer_ == outer)) return false;
  }
  for (; *pattern; ++pattern, ++at) {
    const auto letter = static_cast<size_t>(*pattern);
    if (at == shape.rank) return false;
    if (!bound_[letter]) let(*pattern, shape[at]);
    if (extent_[letter] != shape[at]) return false;
  }
  return at == shape.rank;
}

// "(T, o)": bound letters as their extents, the others as they are.
std::string ShapeRule::expand(const char* pattern) const {
  std::string text;
  const auto append = [&](const std::string& extent) { text += (text.empty() ? "" : ", ") + extent; };
  for (; *pattern; ++pattern) {
    const auto letter = static_cast<size_t>(*pattern);
    if (*pattern == '*') {
      const std::string outer = to_string(outer_);
      if (!outer_bound_)
        append("…");
      else if (outer_.rank)
        append(outer.substr(1, outer.size() - 2));
    } else if (bound_[letter]) {
      const std::string extent = to_string(Shape{extent_[letter]});
      append(extent.substr(1, extent.size() - 2));
    } else {
      append(std::string(1, *pattern));
    }
  }
  return "(" + text + ")";
}

std::string ShapeRule::all_inputs() const {
  std::string text;
  for (size_t i = 0; i < node_.in.size(); ++i)
    if (node_.in[i] != kNone)
      text += (text.empty() ? "" : ", ") + input_name(node_.op, i) + " " + describe(g_.value(node_.in[i]));
  if (node_.layer >= 0) text += "; layer " + std::to_string(node_.layer);
  return text;
}

namespace {

double run_rows(const Shape& s, const RunShape& run) {
  if (s.rank == 0) return 1;
  return static_cast<double>(s.per_token() ? run.n_tokens : s.per_output() ? run.n_outputs : s[0]);
}

}  // namespace

double value_elements(const Value& v, const RunShape& run) {
  return run_rows(v.shape, run) * static_cast<double>(v.shape.row_elements());
}

double value_traffic(const Value& v, const RunShape& run) {
  const DTypeTraits& t = traits(v.dtype);
  return value_elements(v, run) / t.block_elements * static_cast<double>(t.block_bytes);
}

double CostView::rows(const Value& v) const { return run_rows(v.shape, run); }

double CostView::out_bytes() const {
  double bytes = 0;
  for (const ValueId id : node.out) bytes += value_traffic(g.value(id), run);
  return bytes;
}

Cost CostView::streaming(double flops) const {
  Cost cost{flops, 0, out_bytes()};
  for (size_t i = 0; i < node.in.size(); ++i) cost.bytes_read += bytes(i);
  return cost;
}

RoutedWork::RoutedWork(const CostView& c, const Value& ids, int64_t n) : n_experts(static_cast<double>(n)) {
  const double capacity = static_cast<double>(ids.shape.last());
  const double k = std::min(c.run.k_mean > 0 ? std::min(c.run.k_mean, capacity) : capacity, n_experts);
  slots = c.rows(ids) * k;
  share = k / capacity;
  experts = n_experts * (1 - power(1 - k / n_experts, static_cast<int64_t>(c.rows(ids))));
}

double RoutedWork::bytes(const Value& stacked) const {
  return stacked.shape.rank == 0 ? 0 : value_traffic(stacked, RunShape{}) * experts / n_experts;
}

ValueId glu_of_merged(Graph& g, ValueId merged, const GluAttrs& attrs, int layer) {
  const int64_t f = g.value(merged).shape.last() / 2;
  const ValueId gate = g.add_node(Op::kSlice, {merged}, GroupAttrs{.begin = 0, .end = f}, layer);
  const ValueId up = g.add_node(Op::kSlice, {merged}, GroupAttrs{.begin = f, .end = 2 * f}, layer);
  return g.add_node(Op::kGlu, {gate, up}, attrs, layer);
}

}  // namespace moe
