// Everything the header holds is known before the first weight: sizes follow from types and shapes. So the file is written
// once, front to back, and no tensor need ever be in memory whole.
#include <set>

#include "models/io/gguf.h"

namespace moe {
namespace {

struct Placed {
  uint64_t offset;  // in the data section
  uint64_t bytes;
};

Status check_keys(const Metadata& m) {
  for (const MetadataEntry& e : m.entries()) {
    MOE_TRY(check_gguf_name(e.key, kGgufMaxNameBytes).Annotate("key '" + printable(e.key) + "'"));
  }
  return Status::Ok();
}

// Where each tensor goes: one behind the other, each at a multiple of the alignment.
Result<std::vector<Placed>> place_tensors(std::span<const GgufWriter::TensorSpec> specs, uint64_t alignment) {
  std::vector<Placed> out;
  std::set<std::string_view> names;
  uint64_t end = 0;
  for (const GgufWriter::TensorSpec& s : specs) {
    const std::string where = "tensor '" + printable(s.name) + "'";
    MOE_TRY(check_gguf_name(s.name, kGgufMaxWrittenNameBytes).Annotate(where));
    if (!names.insert(s.name).second) return Status::Corrupt(where + ": wanted each tensor once, found it twice");
    const DTypeTraits& t = traits(s.dtype);
    if (t.gguf_id == kNoGgufId) return Status::Corrupt(where + ": wanted a type that GGUF has, found " + t.name);
    auto bytes = gguf_tensor_bytes(s.shape, t.block_elements, static_cast<int64_t>(t.block_bytes));
    if (!bytes.ok()) return bytes.status().Annotate(where);
    const uint64_t offset = (end + alignment - 1) / alignment * alignment;
    if (*bytes > (uint64_t{1} << 62) - offset) return Status::Corrupt(where + ": wanted a file below 2^62 bytes, found more");
    end = offset + *bytes;
    out.push_back({offset, *bytes});
  }
  return out;
}

void write_table(ByteWriter& w, std::span<const GgufWriter::TensorSpec> specs, std::span<const Placed> places) {
  for (size_t i = 0; i < specs.size(); ++i) {
    const GgufWriter::TensorSpec& s = specs[i];
    write_gguf_string(w, s.name);
    w.write(static_cast<uint32_t>(s.shape.size()));
    for (size_t d = s.shape.size(); d-- > 0;) w.write(static_cast<uint64_t>(s.shape[d]));
    w.write(traits(s.dtype).gguf_id);
    w.write(places[i].offset);
  }
}

struct Header {
  ByteWriter bytes;
  uint64_t alignment = kGgufDefaultAlignment;
  std::vector<Placed> places;
};

Result<Header> make_header(const Metadata& metadata, std::span<const GgufWriter::TensorSpec> specs) {
  Header h;
  MOE_TRY(check_keys(metadata));
  MOE_ASSIGN(h.alignment, metadata.get_or<uint32_t>("general.alignment", kGgufDefaultAlignment));
  MOE_TRY(check_gguf_alignment(h.alignment));
  MOE_ASSIGN(h.places, place_tensors(specs, h.alignment));
  h.bytes.write_bytes(kGgufMagic.data(), kGgufMagic.size());
  h.bytes.write(kGgufVersion);
  h.bytes.write(static_cast<uint64_t>(specs.size()));
  h.bytes.write(static_cast<uint64_t>(metadata.entries().size()));
  metadata.encode(h.bytes);
  write_table(h.bytes, specs, h.places);
  h.bytes.pad_to(static_cast<size_t>(h.alignment));
  return h;
}

// What a caller asked for is not a broken file: the same message, the other code.
Status as_argument(const std::string& path, const Status& s) { return Status::InvalidArgument(path + ": " + s.message()); }

}  // namespace

Result<GgufWriter> GgufWriter::create(const std::string& path, const Metadata& metadata, std::vector<TensorSpec> tensors) {
  auto header = make_header(metadata, tensors);
  if (!header.ok()) return as_argument(path, header.status());
  MOE_ASSIGN(AtomicFile file, AtomicFile::create(path));
  MOE_TRY(file.write(header->bytes.bytes()));
  GgufWriter writer(path, std::move(file), header->alignment);
  for (size_t i = 0; i < tensors.size(); ++i) {
    writer.tensors_.push_back({std::move(tensors[i].name), header->places[i].bytes});
  }
  return writer;
}

Status GgufWriter::write_tensor(const void* data, size_t bytes) {
  if (current_ == tensors_.size()) {
    return Status::InvalidArgument(path_ + ": wanted " + std::to_string(tensors_.size()) + " tensors, found " +
                                   std::to_string(bytes) + " bytes more");
  }
  const Pending& t = tensors_[current_];
  if (bytes > t.bytes - written_) {
    return Status::InvalidArgument(path_ + ": tensor '" + printable(t.name) + "': wanted at most " +
                                   std::to_string(t.bytes - written_) + " more bytes, found " + std::to_string(bytes));
  }
  MOE_TRY(file_.write(data, bytes));
  written_ += bytes;
  if (written_ < t.bytes) return Status::Ok();
  ++current_;
  written_ = 0;
  return pad();
}

// Each tensor, the last one too, is padded: readers may map whole blocks.
Status GgufWriter::pad() {
  const std::vector<std::byte> zeros(static_cast<size_t>((alignment_ - file_.position() % alignment_) % alignment_));
  return file_.write(zeros);
}

Status GgufWriter::commit() {
  if (current_ == tensors_.size()) return file_.commit();
  return Status::InvalidArgument(path_ + ": tensor '" + printable(tensors_[current_].name) + "': wanted " +
                                 std::to_string(tensors_[current_].bytes) + " bytes, found " + std::to_string(written_));
}

}  // namespace moe
