// What training does around a router: experts taken away from tokens before it chooses, and full experts after it has.
#include "tensor/autodiff.h"
#include "tensor/ops/op_rules.h"

namespace moe {
namespace {

// Router dropout. logits (T, E), drop f32 (4) = {p, seed, 0, 0}, and the tables of route: allow i8 (C, E), token_class i32 (T)
// → logits (T, E). Expert e of token t becomes kDroppedLogit where allow[class of t][e] and
//
//   draw(t, e) < p,   draw(t, e) = (word e mod 4 of Philox4x32-10(key, t, ⌊e / 4⌋) >> 8) / 2^24   (core/rng.h)
//                     key = layer in the high, the bits of the float `seed` in the low 32 bits; counter low t, high ⌊e / 4⌋
//
// but not for the `keep` largest draws among the experts allowed, equal ones in ascending order of e.
// The gradient of the logits is that of the result: its only reader, route, gives 0 for what was dropped.
constexpr int64_t kNumbers = 4;  // of drop and capacity

Status infer_drop_experts(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.let('D', kNumbers);
  rule.in(0, Accept::kF32, "NE").in(1, Accept::kF32, "D").in(2, Accept::kI8, "CE").in(3, Accept::kI32, "N");
  const int64_t keep = std::get<DropAttrs>(n.attrs).keep;
  rule.require(!rule.ok() || (keep > 0 && keep <= rule['E']), "0 < keep <= experts");
  return rule.out("NE").status();
}

Cost cost_drop_experts(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(20 * c.elements(0));  // a quarter of ten rounds of four products and four words
}

Status gradient_drop_experts(GradientBuilder& b, const Node&) {
  b.give(0, b.dy());
  return Status::Ok();
}

// Capacity of experts. ids i32 (T, K) of route, the logits (T, E) and tables that route saw, capacity f32 (4) = {factor,
// overflow, seed, 0} → ids i32 (T, K). An expert takes
//
//   ceil(factor · S / E) slots at most, S: those in use, of ids ≥ 0; in float32, from the left
//
// slot 0 of all tokens first, tokens ascending, then slot 1, … (GShard, arXiv 2006.16668, algorithm 1). Where its expert is
// full a slot gets, after all others have got theirs and in the same order, by `overflow` (attrs.h):
//   kDrop    (and what is none of these) −1: the expert's part is missing (Switch Transformers, arXiv 2101.03961 §2.2)
//   kRandom  candidate ⌊r · n / 2^32⌋ of its n candidates, r = word 0 of Philox4x32-10(key, t, 2^32 + slot), key as above
//   kNext    the candidate of the largest logit (§B there: no token left behind)
// Candidates are the experts that the token may use, whose logit is above kDroppedLogit, that have room and that the token does
// not use yet, ascending; without one the slot gets −1. Of equal logits the lower id wins. Weights of slots are not touched.
// factor ≤ 0: no limit.
Status infer_limit_experts(const Graph& g, const Node& n, std::vector<Value>& out) {
  ShapeRule rule(g, n, out);
  rule.let('P', kNumbers);
  rule.in(0, Accept::kI32, "NK").in(1, Accept::kF32, "NE").in(2, Accept::kI8, "CE").in(3, Accept::kI32, "N");
  return rule.in(4, Accept::kF32, "P").out("NK", DType::kI32).status();
}

Cost cost_limit_experts(const Graph& g, const Node& n, const RunShape& run) {
  const CostView c{g, n, run};
  return c.streaming(c.elements(0) + c.elements(1));  // few slots overflow: one look at each logit
}

}  // namespace

OpDef drop_experts_op() {
  return {.op = Op::kDropExperts,
          .name = "drop_experts",
          .inputs = {"logits", "drop", "allow", "token_class"},
          .outputs = {"logits"},
          .attrs = attrs_index<DropAttrs>(),
          .infer = infer_drop_experts,
          .cost = cost_drop_experts,
          .gradient = gradient_drop_experts};
}

OpDef limit_experts_op() {
  return {.op = Op::kLimitExperts,
          .name = "limit_experts",
          .inputs = {"ids", "logits", "allow", "token_class", "capacity"},
          .outputs = {"ids"},
          .attrs = attrs_index<LimitAttrs>(),
          .infer = infer_limit_experts,
          .cost = cost_limit_experts};
}

}  // namespace moe
