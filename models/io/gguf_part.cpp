#include "models/io/gguf_part.h"

#include <algorithm>

#include "models/io/gguf_format.h"

namespace moe {
namespace {

constexpr uint64_t kMinTensorRecord = 8 + 1 + 4 + 8 + 4 + 8;  // name length, one character, n_dims, one dimension, type, offset

// A row of the tensor table.
struct Record {
  std::string name;
  uint32_t type = 0;
  std::vector<int64_t> shape;  // outermost first
  uint64_t offset = 0;         // from the start of the data section
  uint64_t bytes = 0;          // 0 where nobody knows the type
};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), reader_(bytes), name_(name) {}

  Result<GgufPart> parse() {
    uint64_t n_tensors = 0, n_keys = 0;
    MOE_TRY(read_preamble(n_tensors, n_keys).Annotate(name_));
    MOE_ASSIGN(part_.metadata, Metadata::decode(reader_, n_keys, name_));
    MOE_TRY(read_table(n_tensors));
    MOE_ASSIGN(const uint32_t alignment, part_.metadata.get_or<uint32_t>("general.alignment", kGgufDefaultAlignment));
    MOE_TRY(check_gguf_alignment(alignment).Annotate(name_));
    // Padding may be missing where no data follow, so the section may begin at the end of the file.
    const uint64_t begin = std::min<uint64_t>((reader_.position() + alignment - 1) / alignment * alignment, bytes_.size());
    data_ = bytes_.subspan(static_cast<size_t>(begin));
    for (const Record& r : records_) MOE_TRY(check_place(r, alignment).Annotate(tensor_text(r.name)));
    MOE_TRY(check_overlaps());
    for (Record& r : records_) add_tensor(r);
    return std::move(part_);
  }

 private:
  std::string tensor_text(std::string_view tensor) const { return name_ + ": tensor '" + printable(tensor) + "'"; }

  //  G G U F | version u32 | number of tensors u64 | number of keys u64
  Status read_preamble(uint64_t& n_tensors, uint64_t& n_keys) {
    std::string_view magic;
    if (!reader_.read_view(std::min(kGgufMagic.size(), bytes_.size()), magic) || magic != kGgufMagic) {
      return Status::Corrupt("wanted a GGUF file, found one that begins with '" + printable(magic) + "'");
    }
    MOE_TRY(read_field(reader_, "version", part_.version));
    MOE_TRY(check_version(part_.version));
    MOE_TRY(read_field(reader_, "tensor count", n_tensors));
    return read_field(reader_, "key count", n_keys);
  }

  static Status check_version(uint32_t version) {
    if (version == 2 || version == kGgufVersion) return Status::Ok();
    const uint32_t swapped = __builtin_bswap32(version);
    if (swapped >= 1 && swapped <= kGgufVersion) {
      return Status::Unsupported("wanted little-endian GGUF, found a big-endian file (version " + std::to_string(swapped) +
                                 ")");
    }
    return Status::Unsupported("wanted GGUF version 2 or 3, found version " + std::to_string(version));
  }

  Status read_table(uint64_t n) {
    const uint64_t most = std::min(kGgufMaxRecords, static_cast<uint64_t>(reader_.remaining()) / kMinTensorRecord);
    if (n > most) {
      return Status::Corrupt(name_ + ": wanted at most " + std::to_string(most) + " tensors in " +
                             std::to_string(reader_.remaining()) + " bytes, found a count of " + std::to_string(n));
    }
    for (uint64_t i = 0; i < n; ++i) {
      Record r;
      const std::string number = name_ + ": tensor " + std::to_string(i + 1) + " of " + std::to_string(n);
      MOE_TRY(read_name(r).Annotate(number));
      MOE_TRY(read_record(r).Annotate(tensor_text(r.name)));
      records_.push_back(std::move(r));
    }
    return Status::Ok();
  }

  Status read_name(Record& r) {
    std::string_view name;
    MOE_TRY(read_gguf_string(reader_, "tensor name", name));
    MOE_TRY(check_gguf_name(name, kGgufMaxNameBytes));
    r.name = name;
    return Status::Ok();
  }

  //  name | n_dims u32 | n_dims × dimension u64, innermost first | type u32 | offset u64
  Status read_record(Record& r) {
    uint32_t n_dims = 0;
    MOE_TRY(read_field(reader_, "dimension count", n_dims));
    if (n_dims < 1 || n_dims > kGgufMaxDims) {
      return Status::Corrupt("wanted 1 to " + std::to_string(kGgufMaxDims) + " dimensions, found " + std::to_string(n_dims));
    }
    r.shape.resize(n_dims);
    for (uint32_t i = n_dims; i-- > 0;) MOE_TRY(read_field(reader_, "dimension", r.shape[i]));
    MOE_TRY(read_field(reader_, "tensor type", r.type));
    MOE_TRY(read_field(reader_, "offset", r.offset));
    return set_bytes(r);
  }

  static Status set_bytes(Record& r) {
    int64_t block_elements = 1, block_bytes = 0;  // of a type nobody knows: the shape alone is checked
    if (const auto dtype = dtype_from_gguf(r.type); dtype.ok()) {
      block_elements = traits(*dtype).block_elements;
      block_bytes = static_cast<int64_t>(traits(*dtype).block_bytes);
    } else if (const ForeignTensorType* foreign = find_foreign_type(r.type)) {
      block_elements = foreign->block_elements;
      block_bytes = foreign->block_bytes;
    }
    MOE_ASSIGN(r.bytes, gguf_tensor_bytes(r.shape, block_elements, block_bytes));
    return Status::Ok();
  }

  Status check_place(const Record& r, uint32_t alignment) const {
    if (r.offset % alignment != 0) {
      return Status::Corrupt("wanted an offset that is a multiple of " + std::to_string(alignment) + ", found " +
                             std::to_string(r.offset));
    }
    if (r.offset > data_.size() || r.bytes > data_.size() - r.offset) {
      return Status::Corrupt("wanted " + std::to_string(r.bytes) + " bytes at offset " + std::to_string(r.offset) +
                             " of the data section, found " + std::to_string(data_.size()) + " bytes in it");
    }
    return Status::Ok();
  }

  Status check_overlaps() const {
    std::vector<const Record*> by_offset;
    for (const Record& r : records_) by_offset.push_back(&r);
    std::sort(by_offset.begin(), by_offset.end(),
              [](const Record* a, const Record* b) { return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes); });
    for (size_t i = 1; i < by_offset.size(); ++i) {
      const Record &a = *by_offset[i - 1], &b = *by_offset[i];
      if (a.offset + a.bytes <= b.offset) continue;
      return Status::Corrupt(tensor_text(b.name) + ": wanted bytes of its own, found offset " + std::to_string(b.offset) +
                             " inside tensor '" + printable(a.name) + "', which ends at " + std::to_string(a.offset + a.bytes));
    }
    return Status::Ok();
  }

  void add_tensor(Record& r) {
    if (const auto dtype = dtype_from_gguf(r.type); dtype.ok()) {
      const auto data = data_.subspan(static_cast<size_t>(r.offset), static_cast<size_t>(r.bytes));
      part_.tensors.push_back({std::move(r.name), *dtype, std::move(r.shape), data});
      return;
    }
    const ForeignTensorType* foreign = find_foreign_type(r.type);
    std::string type_name = foreign ? foreign->name : "type " + std::to_string(r.type);
    part_.unsupported.push_back({std::move(r.name), r.type, std::move(type_name), std::move(r.shape)});
  }

  std::span<const std::byte> bytes_;
  ByteReader reader_;
  const std::string& name_;
  GgufPart part_;
  std::vector<Record> records_;
  std::span<const std::byte> data_;  // the data section
};

}  // namespace

Result<GgufPart> parse_gguf_part(std::span<const std::byte> bytes, const std::string& name) {
  return Parser(bytes, name).parse();
}

}  // namespace moe
