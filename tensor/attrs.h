// Parameters of ops that are fixed when the graph is built. Each struct lists its fields once, for the text dump:
//   template <class F> void fields(F&& f) const { f("eps", eps); }
#pragma once

#include <cstdint>
#include <variant>

#include "tensor/dtype.h"

namespace moe {

struct NoAttrs {
  template <class F>
  void fields(F&&) const {}
};

struct QuantizeActAttrs {
  DType to = DType::kA8;  // or kBF16
  template <class F>
  void fields(F&& f) const {
    f("to", to);
  }
};

struct ScaleAttrs {  // y = residual + scale · f(x)
  float scale = 1;
  template <class F>
  void fields(F&& f) const {
    f("scale", scale);
  }
};

// Of gradients of weights, grad += scale · dYᵀ X.
struct ProductGradAttrs {
  float scale = 1;
  DType round = DType::kF32;  // what backends may round dY and X to: kBF16 where the product's weight is bfloat16
  template <class F>
  void fields(F&& f) const {
    f("scale", scale), f("round", round);
  }
};

struct MoeGradAttrs {
  bool slots = false;  // a gradient for each slot; otherwise their sum for the token
  template <class F>
  void fields(F&& f) const {
    f("slots", slots);
  }
};

struct NormAttrs {
  float eps = 1e-5f;
  int64_t group = 0;  // consecutive elements normalised together: the row, or one head
  template <class F>
  void fields(F&& f) const {
    f("eps", eps), f("group", group);
  }
};

// Rotary angles of a position (RoFormer, arXiv 2104.09864) with YaRN's frequency blend (arXiv 2309.00071 §3.4):
//   θ_i = base^(−2i/dims) / freq_factor_i; when ext_factor ≠ 0, a ramp over i mixes interpolated θ_i·freq_scale and plain θ_i.
struct RopeTableAttrs {
  int64_t dims = 0;  // rotated elements of a head, even
  float base = 10000;
  float freq_scale = 1;   // 1 / scaling factor
  float ext_factor = 0;   // 1: YaRN, 0: none or linear
  float attn_factor = 1;  // multiplies cos and sin; whoever builds the graph includes YaRN's magnitude correction
  float beta_fast = 32, beta_slow = 1;
  int64_t original_ctx = 0;
  template <class F>
  void fields(F&& f) const {
    f("dims", dims), f("base", base), f("freq_scale", freq_scale), f("ext_factor", ext_factor), f("attn_factor", attn_factor),
        f("beta_fast", beta_fast), f("beta_slow", beta_slow), f("original_ctx", original_ctx);
  }
};

enum class RopeStyle : int { kInterleaved, kHalfSplit };  // pairs (2i, 2i+1) or (i, i + dims/2)

struct RopeAttrs {
  int64_t head_dim = 0;
  int64_t offset = 0;  // first rotated element of a head
  int64_t dims = 0;
  RopeStyle style = RopeStyle::kInterleaved;
  bool inverse = false;  // by the transposed matrix, as reverse passes turn gradients
  template <class F>
  void fields(F&& f) const {
    f("head_dim", head_dim), f("offset", offset), f("dims", dims), f("style", static_cast<int>(style)), f("inverse", inverse);
  }
};

struct GroupAttrs {  // slice and concat inside each of `groups` equal parts of a row (a head each, or 1)
  int64_t groups = 1;
  int64_t begin = 0, end = 0;  // slice: columns kept of each part
  bool shared = false;         // concat: b is one part that every group gets, not one part a group
  template <class F>
  void fields(F&& f) const {
    f("groups", groups), f("begin", begin), f("end", end), f("shared", shared);
  }
};

struct PlaceAttrs {  // the reverse of a slice: columns [begin, end) of each of `groups` parts of `width` columns
  int64_t groups = 1;
  int64_t begin = 0, end = 0, width = 0;
  template <class F>
  void fields(F&& f) const {
    f("groups", groups), f("begin", begin), f("end", end), f("width", width);
  }
};

struct HeadLinearAttrs {  // one small matrix a head: rows [row_begin, row_begin + rows) of the head's block of `block` rows
  int64_t heads = 0, block = 0, row_begin = 0, rows = 0;
  bool transposed = false;  // y = Wᵀx: (rows) in, (n_in of the stored matrix) out
  template <class F>
  void fields(F&& f) const {
    f("heads", heads), f("block", block), f("row_begin", row_begin), f("rows", rows), f("transposed", transposed);
  }
};

struct AttentionAttrs {
  int64_t n_head = 0, n_kv_head = 0, head_dim = 0, v_dim = 0;
  float scale = 1;
  int64_t window = 0;  // keys a query sees, itself included; 0: all
  float softcap = 0;   // s → softcap · tanh(s / softcap); 0: none
  template <class F>
  void fields(F&& f) const {
    f("n_head", n_head), f("n_kv_head", n_kv_head), f("head_dim", head_dim), f("v_dim", v_dim), f("scale", scale),
        f("window", window), f("softcap", softcap);
  }
};

enum class GateUnit : int { kSwiGlu, kGeGlu };  // what the gate passes through: SiLU or GELU (tanh form)

// hidden = unit(gate) · up. With limit > 0 the clamped variant of gpt-oss: g = min(gate, limit), u = clamp(up, ±limit),
// hidden = g · sigmoid(alpha · g) · (u + 1).
struct GluAttrs {
  GateUnit unit = GateUnit::kSwiGlu;
  float alpha = 1;
  float limit = 0;
  template <class F>
  void fields(F&& f) const {
    f("unit", static_cast<int>(unit)), f("alpha", alpha), f("limit", limit);
  }
};

enum class Gating : int {
  kSoftmax,
  kSigmoid,
  kSoftmaxSelected,  // top-k on logits, softmax over the selected
};

struct RouteAttrs {
  int64_t n_experts = 0;
  int64_t k_capacity = 0;  // slots of the output: the largest k a topology may ask for before the session is planned again
  Gating gating = Gating::kSoftmax;
  bool normalize = false;               // selected weights are divided by their sum
  float scale = 1;                      // then multiplied by this
  int64_t n_group = 1, topk_group = 1;  // group-limited top-k (DeepSeek-V2 §2.2.2, V3 §2.1.2)
  int64_t group_top = 2;                // experts of a group whose scores add up to the group's score: 1 in V2, 2 in V3
  template <class F>
  void fields(F&& f) const {
    f("n_experts", n_experts), f("k_capacity", k_capacity), f("gating", static_cast<int>(gating)), f("normalize", normalize),
        f("scale", scale), f("n_group", n_group), f("topk_group", topk_group), f("group_top", group_top);
  }
};

// The logit of an expert that drop_experts takes from a token; with this or less it is nobody's.
inline constexpr float kDroppedLogit = -1e30f;

struct DropAttrs {
  int64_t keep = 1;   // experts that a token keeps at least
  int64_t layer = 0;  // numbers of layers tell their draws apart
  template <class F>
  void fields(F&& f) const {
    f("keep", keep), f("layer", layer);
  }
};

// What becomes of a slot whose expert is full: limit_experts.
enum class Overflow : int { kDrop, kRandom, kNext };

struct LimitAttrs {
  int64_t layer = 0;  // as in DropAttrs
  template <class F>
  void fields(F&& f) const {
    f("layer", layer);
  }
};

// logits = softcap(logit_scale · W x), softcap as in AttentionAttrs; a teacher has its own.
struct CrossEntropyAttrs {
  float logit_scale = 1, softcap = 0;
  float teacher_logit_scale = 1, teacher_softcap = 0;
  DType round = DType::kF32;  // kBF16, set by backends: what a head of bfloat16 is multiplied with is rounded to it
  template <class F>
  void fields(F&& f) const {
    f("logit_scale", logit_scale), f("softcap", softcap), f("teacher_logit_scale", teacher_logit_scale),
        f("teacher_softcap", teacher_softcap), f("round", round);
  }
};

using Attrs = std::variant<NoAttrs, ScaleAttrs, NormAttrs, RopeTableAttrs, RopeAttrs, GroupAttrs, HeadLinearAttrs,
                           AttentionAttrs, GluAttrs, RouteAttrs, QuantizeActAttrs, CrossEntropyAttrs, PlaceAttrs,
                           ProductGradAttrs, MoeGradAttrs, DropAttrs, LimitAttrs>;

// Position of a struct among the alternatives.
template <class T>
size_t attrs_index() {
  return Attrs(T{}).index();
}

}  // namespace moe
