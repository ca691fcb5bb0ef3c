#include "models/quantize.h"

#include <cmath>

#include "models/io/gguf_format.h"
#include "models/routing.h"

namespace moe {
namespace {

int64_t count_elements(std::span<const int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

bool is_quantized(DType type) { return traits(type).is_weight && traits(type).block_elements > 1; }

Status decode_piece(const GgufFile& file, const TensorInfo& t, int64_t first, int64_t n, float* out) {
  traits(t.dtype).decode(t.data.data() + dtype_bytes(t.dtype, first), out, n);
  for (int64_t i = 0; i < n; ++i) {
    if (std::isfinite(out[i])) continue;
    return Status::Corrupt(file.name() + ": tensor '" + printable(t.name) + "': wanted finite weights, found " +
                           std::to_string(out[i]) + " at element " + std::to_string(first + i));
  }
  return Status::Ok();
}

// A topology that the file brings must still be one when expert widths are counted in blocks of another format.
Status check_topology(const GgufFile& file, const QuantizePlan& plan) {
  if (!file.metadata().has(kTopologyKey)) return Status::Ok();
  MOE_ASSIGN(const std::string text, file.metadata().get<std::string>(kTopologyKey));
  MOE_ASSIGN(const RoutingTopology topology, topology_from_json(text));
  for (const QuantizePlan::Step& s : plan.steps)
    for (size_t i = 0; i < topology.layers.size(); ++i) {
      if (s.tensor->name != "blk." + std::to_string(i) + ".ffn_down_exps.weight") continue;
      for (const int32_t width : topology.layers[i].width)
        if (width != s.tensor->shape.back() && width % traits(s.type).block_elements != 0)
          return Status::InvalidArgument(
              file.name() + ": tensor '" + s.tensor->name + "': wanted a format whose blocks cut " + std::to_string(width) +
              " hidden channels, as the file's topology leaves an expert, found " + traits(s.type).name);
    }
  return Status::Ok();
}

}  // namespace

Result<QuantizePlan> plan_quantize(const GgufFile& file, const TypeChoiceOptions& options) {
  if (!file.unsupported().empty()) return file.require(file.unsupported().front().name).status();
  if (file.tensors().empty()) return Status::InvalidArgument(file.name() + ": wanted a model, found a file without tensors");
  std::vector<TypeRequest> requests;
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& t : file.tensors()) {
    if (t.name.starts_with(kTrainingTensors)) continue;
    requests.push_back({t.name, t.shape, t.dtype});
    tensors.push_back(&t);
  }
  MOE_ASSIGN(const std::vector<TypeChoice> choices, choose_types(requests, file.metadata(), options));

  QuantizePlan plan;
  plan.metadata = file.metadata();
  for (const MetadataEntry& e : file.metadata().entries())
    if (e.key.starts_with(kTrainingKeys)) plan.metadata.remove(e.key);
  MOE_TRY(set_file_type(options.mix, plan.metadata));
  for (size_t i = 0; i < choices.size(); ++i) {
    const TensorInfo& t = *tensors[i];
    const int64_t n = count_elements(t.shape);
    const DType to = choices[i].type;
    // Decoding to float32 is exact, so that is no second quantisation.
    const bool again = is_quantized(t.dtype) && to != t.dtype && to != DType::kF32;
    plan.steps.push_back({&t, to, dtype_bytes(to, n), again, choices[i].fallback});
    plan.bytes_before += t.data.size();
    plan.bytes_after += plan.steps.back().bytes;
    plan.elements += n;
  }
  MOE_TRY(check_topology(file, plan));
  return plan;
}

Status write_quantized(const GgufFile& file, const QuantizePlan& plan, ThreadPool& pool, const std::string& path,
                       const WeightStream::OnWritten& on_written) {
  std::vector<GgufWriter::TensorSpec> specs;
  for (const QuantizePlan::Step& s : plan.steps) specs.push_back({s.tensor->name, s.type, s.tensor->shape});
  MOE_ASSIGN(GgufWriter writer, GgufWriter::create(path, plan.metadata, std::move(specs)));
  WeightStream stream(pool, writer, on_written);
  for (const QuantizePlan::Step& s : plan.steps) {
    const TensorInfo& t = *s.tensor;
    const auto decode = [&](int64_t first, int64_t n, float* out) { return decode_piece(file, t, first, n, out); };
    if (s.type == t.dtype)
      MOE_TRY(stream.copy(t.name, t.data));
    else
      MOE_TRY(stream.encode(t.name, s.type, count_elements(t.shape), decode));
  }
  return writer.commit();
}

}  // namespace moe
