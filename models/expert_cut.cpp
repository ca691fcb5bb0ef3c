#include "models/expert_cut.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "models/carving.h"

namespace moe {
namespace {

// Which extent holds an expert's hidden channels.
enum class Channels { kNone, kRows, kTwiceRows, kColumns };

struct Kind {
  const char* suffix;
  bool router;  // a row for each row of the router; else of each expert that has weights
  Channels channels;
};
constexpr Kind kKinds[] = {
    {"ffn_gate_inp.weight", true, Channels::kNone},
    {"ffn_gate_inp.bias", true, Channels::kNone},
    {"exp_probs_b.bias", true, Channels::kNone},
    {"ffn_gate_exps.weight", false, Channels::kRows},
    {"ffn_gate_exps.bias", false, Channels::kRows},
    {"ffn_up_exps.weight", false, Channels::kRows},
    {"ffn_up_exps.bias", false, Channels::kRows},
    {"ffn_gate_up_exps.weight", false, Channels::kTwiceRows},
    {"ffn_gate_up_exps.bias", false, Channels::kTwiceRows},
    {"ffn_down_exps.weight", false, Channels::kColumns},
    {"ffn_down_exps.bias", false, Channels::kNone},
};

Status misshapen(const TensorInfo& t, const std::string& wanted) {
  return Status::Corrupt("tensor '" + t.name + "': wanted " + wanted + ", found " + shape_text(t.shape));
}

// n elements of it lie in bytes of their own.
bool whole_blocks(const TensorInfo& t, int64_t n) { return n % traits(t.dtype).block_elements == 0; }

Status unaligned(const TensorInfo& t) {
  return Status::Unsupported("tensor '" + t.name + "' " + shape_text(t.shape) + ": wanted blocks of " + traits(t.dtype).name +
                             " that hold one expert and whole channels");
}

int64_t elements_behind(const TensorInfo& t, size_t axis) {
  int64_t n = 1;
  for (size_t i = axis + 1; i < t.shape.size(); ++i) n *= t.shape[i];
  return n;
}

uint64_t kept_of_expert(const std::vector<ExpertCut::Run>& runs) {
  uint64_t n = 0;
  for (const ExpertCut::Run& r : runs) n += r.bytes * r.count;
  return n;
}

// Of one expert, whose hidden channels `before` become `after`; shape becomes that of what stays.
Status set_runs(const TensorInfo& t, Channels channels, int before, int after, CutTensor& c) {
  const auto b = static_cast<uint64_t>(before), a = static_cast<uint64_t>(after);
  const auto set = [&](size_t axis, int64_t times) {
    if (t.shape.size() <= axis || t.shape[axis] != times * before)
      return misshapen(t, std::to_string(times * before) + " hidden channels in dimension " + std::to_string(axis));
    c.shape[axis] = times * after;
    return before == after || whole_blocks(t, after * elements_behind(t, axis)) ? Status::Ok() : unaligned(t);
  };
  const uint64_t all = c.cut.expert_bytes;
  switch (channels) {
    case Channels::kNone:
      c.cut.runs = {{0, all, all, 1}};
      return Status::Ok();
    case Channels::kRows:
      MOE_TRY(set(1, 1));
      c.cut.runs = {{0, all * a / b, all, 1}};
      return Status::Ok();
    case Channels::kTwiceRows:  // gate over up
      MOE_TRY(set(1, 2));
      if (a == b) return c.cut.runs = {{0, all, all, 1}}, Status::Ok();
      if (!whole_blocks(t, before * elements_behind(t, 1))) return unaligned(t);
      c.cut.runs = {{0, all / 2 * a / b, all / 2, 2}};
      return Status::Ok();
    case Channels::kColumns:
      MOE_TRY(set(2, 1));
      const uint64_t row = dtype_bytes(t.dtype, before);
      c.cut.runs = {{0, dtype_bytes(t.dtype, after), row, all / row}};
      return Status::Ok();
  }
  return Status::Ok();
}

}  // namespace

uint64_t ExpertCut::bytes() const { return experts.size() * kept_of_expert(runs); }

void ExpertCut::gather(uint64_t offset, std::span<std::byte> out) const {
  const uint64_t kept = kept_of_expert(runs);
  while (!out.empty()) {
    MOE_CHECK(kept > 0);
    uint64_t in_expert = offset % kept;
    const Run* run = runs.data();
    for (; in_expert >= run->bytes * run->count; ++run) in_expert -= run->bytes * run->count;
    const uint64_t in_run = in_expert % run->bytes;
    const uint64_t n = std::min<uint64_t>(run->bytes - in_run, out.size());
    const uint64_t from = static_cast<uint64_t>(experts[offset / kept]) * expert_bytes + run->offset +
                          in_expert / run->bytes * run->stride + in_run;
    std::memcpy(out.data(), data.data() + from, n);
    out = out.subspan(n), offset += n;
  }
}

bool is_expert_tensor(std::string_view suffix) {
  return suffix.find("_exps.") != std::string_view::npos || suffix.starts_with("exp_probs") ||
         suffix.starts_with("ffn_gate_inp.");
}

Result<CutTensor> cut_tensor(const TensorInfo& t, std::string_view suffix, const CarvedLayer& layer, int d_ff) {
  CutTensor c;
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return suffix == k.suffix; });
  if (kind == std::end(kKinds))
    return Status::Unsupported("tensor '" + t.name + "': wanted experts of a kind that can be cut, found one this build lacks");
  if (layer.experts.empty()) return c;
  c.cut.experts = kind->router ? layer.rows : layer.experts;
  if (t.shape.empty() || t.shape[0] <= c.cut.experts.back())
    return misshapen(t, "at least " + std::to_string(c.cut.experts.back() + 1) + " experts");
  if (!whole_blocks(t, elements_behind(t, 0))) return unaligned(t);
  c.shape = t.shape;
  c.shape[0] = static_cast<int64_t>(c.cut.experts.size());
  c.cut.data = t.data;
  c.cut.expert_bytes = t.data.size() / static_cast<uint64_t>(t.shape[0]);
  MOE_TRY(set_runs(t, kind->channels, d_ff, layer.layout.d_ff, c));
  return c;
}

}  // namespace moe
