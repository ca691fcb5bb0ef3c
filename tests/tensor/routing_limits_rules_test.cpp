// Shapes and costs of drop_experts and limit_experts.
#include "tests/tensor/ops_fixture.h"

namespace moe {
namespace {

constexpr DropAttrs kDrop{.keep = 2, .layer = 3};

struct LimitRules : OpsFixture {
  ValueId ids = i32({kTokens, 2}), logits = f32({kTokens, 8}), allow = input("", {2, 8}, DType::kI8), classes = i32({kTokens}),
          numbers = f32({4});
};

}  // namespace

TEST_CASE("drop_experts makes logits of logits") {
  LimitRules f;
  CHECK(f.made(Op::kDropExperts, {f.logits, f.numbers, f.allow, f.classes}, kDrop) == "f32(T, 8)");
  CHECK_REFUSED(f.made(Op::kDropExperts, {f.logits, f.f32({3}), f.allow, f.classes}, kDrop), "drop_experts: input drop");
  CHECK_REFUSED(f.made(Op::kDropExperts, {f.logits, f.numbers, f.input("", {2, 7}, DType::kI8), f.classes}, kDrop),
                "drop_experts: input allow");
  CHECK_REFUSED(f.made(Op::kDropExperts, {f.logits, f.numbers, f.allow, f.i32({3})}, kDrop), "drop_experts: input token_class");
  for (const int64_t keep : {0, 9})
    CHECK_REFUSED(f.made(Op::kDropExperts, {f.logits, f.numbers, f.allow, f.classes}, DropAttrs{keep, 0}),
                  "drop_experts: wanted 0 < keep <= experts");
}

TEST_CASE("limit_experts makes ids of ids") {
  LimitRules f;
  CHECK(f.made(Op::kLimitExperts, {f.ids, f.logits, f.allow, f.classes, f.numbers}, LimitAttrs{}) == "i32(T, 2)");
  CHECK_REFUSED(f.made(Op::kLimitExperts, {f.logits, f.logits, f.allow, f.classes, f.numbers}, LimitAttrs{}),
                "limit_experts: input ids");
  CHECK_REFUSED(f.made(Op::kLimitExperts, {f.ids, f.f32({5, 8}), f.allow, f.classes, f.numbers}, LimitAttrs{}),
                "limit_experts: input logits");
  CHECK_REFUSED(f.made(Op::kLimitExperts, {f.ids, f.logits, f.allow, f.classes, f.f32({1})}, LimitAttrs{}),
                "limit_experts: input capacity");
}

TEST_CASE("dropping and limiting stream what they read and write") {
  LimitRules f;
  f.op(Op::kDropExperts, {f.logits, f.numbers, f.allow, f.classes}, kDrop);
  f.op(Op::kLimitExperts, {f.ids, f.logits, f.allow, f.classes, f.numbers}, LimitAttrs{});
  const RunShape run{.n_tokens = 10};
  const Cost drop = cost(f.g, f.g.nodes[0], run), limit = cost(f.g, f.g.nodes[1], run);
  CHECK(drop.bytes_read == 10 * 8 * 4 + 4 * 4 + 16 + 10 * 4);
  CHECK(drop.bytes_written == 10 * 8 * 4);
  CHECK(drop.flops == 20 * 80);
  CHECK(limit.bytes_read == 10 * 2 * 4 + 10 * 8 * 4 + 16 + 10 * 4 + 4 * 4);
  CHECK(limit.bytes_written == 10 * 2 * 4);
  CHECK(limit.flops == 100);
}

}  // namespace moe
