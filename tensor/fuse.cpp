// Rewrites simple ops to fused ones. One walk over the list suffices: a pattern is looked for at its last node, so what it
// absorbs may be the result of an earlier rewrite (linear, then scale, then add). The fused node takes the last node's place,
// where everything it reads exists already.
#include "tensor/fuse.h"

#include <algorithm>
#include <optional>

namespace moe {
namespace {

// What the patterns ask about the graph, kept up to date over rewrites.
class View {
 public:
  explicit View(const Graph& g) : g_(g), maker_(g.values.size()), reads_(g.values.size()) {
    for (const Node& n : g.nodes) add(n);
  }

  void add(const Node& n) {
    for (const ValueId id : n.in)
      if (id != kNone) reads_[index(id)].push_back(&n);
    for (const ValueId id : n.out) maker_[index(id)] = &n;
  }
  void remove(const Node& n) {
    for (const ValueId id : n.in)
      if (id != kNone) std::erase(reads_[index(id)], &n);
    for (const ValueId id : n.out) maker_[index(id)] = nullptr;
  }

  const Value& value(ValueId id) const { return g_.value(id); }
  const std::vector<const Node*>& readers(ValueId id) const { return reads_[index(id)]; }  // once a read

  // The node of kind `op` that makes `id`, if id has just so many readers and is no output; else null.
  const Node* inner(ValueId id, Op op, size_t n_readers = 1) const {
    const Node* n = maker_[index(id)];
    return n && n->op == op && readers(id).size() == n_readers && !value(id).output ? n : nullptr;
  }

 private:
  static size_t index(ValueId id) { return static_cast<size_t>(id); }
  const Graph& g_;
  std::vector<const Node*> maker_;
  std::vector<std::vector<const Node*>> reads_;
};

struct Match {
  Node fused;                         // out is the root's
  std::vector<const Node*> absorbed;  // without the root
};
using Found = std::optional<Match>;

float scale_of(const Node& n) { return std::get<ScaleAttrs>(n.attrs).scale; }

// Where ops of the form residual + scale · f keep their residual; 0 for others.
size_t residual_slot(const Node& n) { return n.op == Op::kLinear ? 3 : n.op == Op::kMoeDown ? 6 : 0; }

const Node* inner_product(const View& v, ValueId id) {
  const Node* n = v.inner(id, Op::kLinear);
  return n ? n : v.inner(id, Op::kMoeDown);
}

// linear(x, w, b), add  →  linear(x, w, b, residual); moe_down likewise. Once each: the result has a residual then.
Found fold_residual(const View& v, const Node& add) {
  for (const size_t side : {1, 0}) {
    const ValueId residual = add.in[1 - side];
    const Node* f = inner_product(v, add.in[side]);
    if (!f || f->in[residual_slot(*f)] != kNone || !(v.value(residual).shape == v.value(add.in[side]).shape)) continue;
    Node fused = *f;
    fused.in[residual_slot(*f)] = residual;
    return Match{fused, {f}};
  }
  return std::nullopt;
}

// linear, scale  →  linear with scale; moe_down likewise. Products of two scales would round differently, so only over scale 1.
Found fold_scale(const View& v, const Node& scale) {
  const Node* f = inner_product(v, scale.in[0]);
  if (!f || f->in[residual_slot(*f)] != kNone || scale_of(*f) != 1) return std::nullopt;
  Node fused = *f;
  fused.attrs = scale.attrs;
  return Match{fused, {f}};
}

bool is_plain_linear(const Node* n) { return n && n->in[3] == kNone && scale_of(*n) == 1; }

// linear, linear, glu  →  linear_glu
Found fuse_linear_glu(const View& v, const Node& glu) {
  const Node *gate = v.inner(glu.in[0], Op::kLinear), *up = v.inner(glu.in[1], Op::kLinear);
  if (!is_plain_linear(gate) || !is_plain_linear(up) || gate->in[0] != up->in[0]) return std::nullopt;
  return Match{{Op::kLinearGlu, {gate->in[0], gate->in[1], up->in[1], gate->in[2], up->in[2]}, {}, glu.attrs, glu.layer},
               {gate, up}};
}

// The two slices that cut a row of gate and up in halves, read by this glu alone.
struct Halves {
  const Node *gate = nullptr, *up = nullptr, *merged = nullptr;  // merged: the product that they cut
  Halves(const View& v, const Node& glu, Op product) {
    gate = v.inner(glu.in[0], Op::kSlice), up = v.inner(glu.in[1], Op::kSlice);
    if (!gate || !up || gate->in[0] != up->in[0]) return;
    const int64_t f = v.value(glu.in[0]).shape.last();
    const auto is_half = [&](const Node& slice, int64_t begin) {
      const auto& a = std::get<GroupAttrs>(slice.attrs);
      return a.groups == 1 && a.begin == begin && a.end == begin + f;
    };
    if (is_half(*gate, 0) && is_half(*up, f) && v.value(gate->in[0]).shape.last() == 2 * f)
      merged = v.inner(gate->in[0], product, 2);
  }
};

// linear, slice, slice, glu  →  linear_glu with a merged gate
Found fuse_merged_linear_glu(const View& v, const Node& glu) {
  const Halves h(v, glu, Op::kLinear);
  if (!is_plain_linear(h.merged)) return std::nullopt;
  const Node& m = *h.merged;
  return Match{{Op::kLinearGlu, {m.in[0], m.in[1], kNone, m.in[2], kNone}, {}, glu.attrs, glu.layer}, {h.gate, h.up, h.merged}};
}

// moe_gate_up leaves unused channels and slots unwritten. The width (kNone: all channels) that makes this go unseen, because
// all readers of h route by the same ids and stop at the same width; nothing when there is none.
std::optional<ValueId> hidden_width(const View& v, ValueId h, ValueId ids) {
  std::optional<ValueId> width;
  if (v.value(h).output) return std::nullopt;
  for (const Node* r : v.readers(h)) {
    const bool routed = (r->op == Op::kMoeLinear || r->op == Op::kMoeDown) && r->in[0] == h && r->in[1] == ids;
    if (!routed || (width && *width != r->in[5])) return std::nullopt;  // input 5: cols_used of one, width of the other
    width = r->in[5];
  }
  return width;
}

bool takes_tokens(const View& v, const Node& moe_linear) {  // not hidden rows of slots, and all columns
  return v.value(moe_linear.in[0]).shape.rank == 2 && moe_linear.in[5] == kNone;
}

// moe_linear, moe_linear, glu  →  moe_gate_up
Found fuse_moe_gate_up(const View& v, const Node& glu) {
  const Node *gate = v.inner(glu.in[0], Op::kMoeLinear), *up = v.inner(glu.in[1], Op::kMoeLinear);
  if (!gate || !up || !takes_tokens(v, *gate) || !takes_tokens(v, *up)) return std::nullopt;
  if (gate->in[0] != up->in[0] || gate->in[1] != up->in[1] || gate->in[4] != up->in[4]) return std::nullopt;
  const ValueId x = gate->in[0], ids = gate->in[1], rows_used = gate->in[4];
  const auto width = hidden_width(v, glu.out[0], ids);
  if (!width || (rows_used != kNone && rows_used != *width)) return std::nullopt;
  return Match{{Op::kMoeGateUp, {x, ids, gate->in[2], up->in[2], gate->in[3], up->in[3], *width}, {}, glu.attrs, glu.layer},
               {gate, up}};
}

// moe_linear, slice, slice, glu  →  moe_gate_up with a merged gate
Found fuse_merged_moe_gate_up(const View& v, const Node& glu) {
  const Halves h(v, glu, Op::kMoeLinear);
  if (!h.merged || !takes_tokens(v, *h.merged) || h.merged->in[4] != kNone) return std::nullopt;
  const Node& m = *h.merged;
  const auto width = hidden_width(v, glu.out[0], m.in[1]);
  if (!width) return std::nullopt;
  return Match{{Op::kMoeGateUp, {m.in[0], m.in[1], m.in[2], kNone, m.in[3], kNone, *width}, {}, glu.attrs, glu.layer},
               {h.gate, h.up, h.merged}};
}

// moe_linear, weighted_sum  →  moe_down
Found fuse_moe_down(const View& v, const Node& sum) {
  const Node* down = v.inner(sum.in[0], Op::kMoeLinear);
  if (!down || down->in[1] != sum.in[1] || down->in[4] != kNone || v.value(down->in[0]).shape.rank != 3) return std::nullopt;
  const ValueId h = down->in[0], ids = down->in[1], w = down->in[2], bias = down->in[3], width = down->in[5];
  return Match{{Op::kMoeDown, {h, ids, sum.in[2], w, bias, width, kNone}, {}, ScaleAttrs{}, sum.layer}, {down}};
}

struct Pattern {
  Op root;  // the last node
  Found (*find)(const View&, const Node& root);
};
constexpr Pattern kPatterns[] = {
    {Op::kAdd, fold_residual},          {Op::kScale, fold_scale},     {Op::kGlu, fuse_linear_glu},
    {Op::kGlu, fuse_merged_linear_glu}, {Op::kGlu, fuse_moe_gate_up}, {Op::kGlu, fuse_merged_moe_gate_up},
    {Op::kWeightedSum, fuse_moe_down},
};

// Drops nodes that nothing reads, the marked ones among them. Outputs and writes to states are what a run is for.
void drop_dead(Graph& g, std::vector<bool> dead) {
  std::vector<bool> needed(g.values.size());
  for (size_t i = 0; i < g.values.size(); ++i) needed[i] = g.values[i].output;
  for (size_t i = g.nodes.size(); i-- > 0;) {
    const Node& n = g.nodes[i];
    const auto is_needed = [&](ValueId id) { return needed[static_cast<size_t>(id)]; };
    const auto is_state = [&](ValueId id) { return id != kNone && g.value(id).kind == ValueKind::kState; };
    if (!std::any_of(n.out.begin(), n.out.end(), is_needed) && !std::any_of(n.in.begin(), n.in.end(), is_state)) dead[i] = true;
    if (dead[i]) continue;
    for (const ValueId id : n.in)
      if (id != kNone) needed[static_cast<size_t>(id)] = true;
  }
  std::vector<Node> live;
  for (size_t i = 0; i < g.nodes.size(); ++i)
    if (!dead[i]) live.push_back(std::move(g.nodes[i]));
  g.nodes = std::move(live);
}

}  // namespace

Graph fuse(const Graph& graph, const std::function<bool(const Graph&, const Node&)>& supports) {
  Graph g = graph;
  View view(g);
  std::vector<bool> absorbed(g.nodes.size());
  for (Node& root : g.nodes) {
    for (const Pattern& p : kPatterns) {
      if (root.op != p.root) continue;
      Found match = p.find(view, root);
      if (!match) continue;
      match->fused.out = root.out;
      if (!supports(g, match->fused)) continue;
      for (const Node* n : match->absorbed) {
        view.remove(*n);
        absorbed[static_cast<size_t>(n - g.nodes.data())] = true;
      }
      view.remove(root);
      root = std::move(match->fused);
      view.add(root);
      break;
    }
  }
  drop_dead(g, std::move(absorbed));
  return g;
}

}  // namespace moe
