// What an op makes of inputs of some shapes, or why it refuses them.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/tensor/graph_fixture.h"

namespace moe {

struct OpsFixture : GraphFixture {
  ValueId f32(Shape s) { return input("", s); }
  ValueId i32(Shape s) { return input("", s, DType::kI32); }
  ValueId a8(Shape s) { return input("", s, DType::kA8); }
  ValueId w(Shape s, DType t = DType::kF32) { return weight("", s, t); }

  // The outputs that an op makes of these inputs, "f32(T, 8)", or why it makes none.
  std::string made(Op op, std::vector<ValueId> in, Attrs attrs = NoAttrs{}) const {
    in.resize(op_def(op).inputs.size(), kNone);
    std::vector<Value> out;
    const Status s = infer_outputs(g, Node{op, std::move(in), {}, attrs}, out);
    std::string text;
    for (const Value& v : out) text += (text.empty() ? "" : " ") + std::string(traits(v.dtype).name) + to_string(v.shape);
    return s.ok() ? text : s.message();
  }
};

inline bool starts_with(const std::string& text, const std::string& head) { return text.compare(0, head.size(), head) == 0; }

#define CHECK_REFUSED(text, head)     \
  do {                                \
    const std::string found = (text); \
    CAPTURE(found);                   \
    CHECK(starts_with(found, head));  \
  } while (0)

}  // namespace moe
