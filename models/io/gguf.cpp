#include "models/io/gguf.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>

#include "models/io/content_hash.h"
#include "models/io/gguf_part.h"

namespace moe {
namespace {

constexpr const char* kSplitNo = "split.no";                  // this part, from 0
constexpr const char* kSplitCount = "split.count";            // parts
constexpr const char* kSplitTensors = "split.tensors.count";  // tensors in all parts together
constexpr uint32_t kMaxSplits = 65535;                        // the keys are uint16 in files that llama.cpp writes

struct Split {
  uint32_t no = 0;
  uint32_t count = 1;
};

Result<Split> split_of(const Metadata& m) {
  MOE_ASSIGN(const uint32_t count, m.get_or<uint32_t>(kSplitCount, 1));
  if (count <= 1) return Split{};
  MOE_ASSIGN(const uint32_t no, m.get<uint32_t>(kSplitNo));
  if (count > kMaxSplits || no >= count) {
    return Status::Corrupt(m.source() + ": key 'split.no': wanted a part below split.count (at most " +
                           std::to_string(kMaxSplits) + "), found part " + std::to_string(no) + " of " + std::to_string(count));
  }
  return Split{no, count};
}

// "-00002-of-00003.gguf" for part number 1 of 3
std::string split_suffix(uint32_t no, uint32_t count) {
  char text[48];
  const int n = std::snprintf(text, sizeof text, "-%05u-of-%05u.gguf", no + 1, count);
  return {text, static_cast<size_t>(n)};
}

std::string part_text(uint32_t no, uint32_t count) {  // "part 2 of 3"
  return "part " + std::to_string(no + 1) + " of " + std::to_string(count);
}

void hash_tensor(ContentHash& h, std::string_view name, uint32_t type, std::span<const int64_t> shape,
                 std::span<const std::byte> data) {
  const auto head = data.first(std::min(data.size(), ContentHash::kEnd)), rest = data.subspan(head.size());
  h.add(name, type, shape, data.size(), head, rest.last(std::min(rest.size(), ContentHash::kEnd)));
}

}  // namespace

struct GgufFile::Part {
  GgufPart content;
  std::optional<MappedFile> mapping;
  uint64_t bytes = 0;
};

Result<GgufFile::Part> GgufFile::open_part(const std::string& path) {
  MOE_ASSIGN(MappedFile mapping, MappedFile::open(path));
  MOE_ASSIGN(GgufPart content, parse_gguf_part(mapping.bytes(), path));
  const uint64_t bytes = mapping.bytes().size();
  return Part{std::move(content), std::move(mapping), bytes};
}

Status GgufFile::add_part(Part part) {
  GgufPart& p = part.content;
  if (file_bytes_ == 0) {
    version_ = p.version;
    metadata_ = std::move(p.metadata);
  }
  file_bytes_ += part.bytes;
  if (part.mapping) mappings_.push_back(std::move(*part.mapping));
  std::move(p.tensors.begin(), p.tensors.end(), std::back_inserter(tensors_));
  std::move(p.unsupported.begin(), p.unsupported.end(), std::back_inserter(unsupported_));
  if (tensors_.size() + unsupported_.size() <= kGgufMaxRecords) return Status::Ok();
  return Status::Corrupt(name_ + ": wanted at most " + std::to_string(kGgufMaxRecords) + " tensors in all parts, found more");
}

// The last step, once the names no longer move.
Status GgufFile::index_tensors() {
  for (const char* key : {kSplitNo, kSplitCount, kSplitTensors}) metadata_.remove(key);
  const auto add = [&](std::string_view name, size_t position) {
    if (index_.try_emplace(name, position).second) return Status::Ok();
    return Status::Corrupt(name_ + ": tensor '" + printable(name) + "': wanted each tensor once, found it twice");
  };
  for (size_t i = 0; i < tensors_.size(); ++i) MOE_TRY(add(tensors_[i].name, i));
  for (size_t i = 0; i < unsupported_.size(); ++i) MOE_TRY(add(unsupported_[i].name, tensors_.size() + i));
  return Status::Ok();
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, std::string name) {
  GgufFile file;
  file.name_ = std::move(name);
  MOE_ASSIGN(GgufPart content, parse_gguf_part(bytes, file.name_));
  MOE_ASSIGN(const Split split, split_of(content.metadata));
  if (split.count > 1) {
    return Status::Unsupported(file.name_ + ": wanted a whole model in memory, found " + part_text(split.no, split.count));
  }
  MOE_TRY(file.add_part({std::move(content), std::nullopt, bytes.size()}));
  MOE_TRY(file.index_tensors());
  return file;
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  GgufFile file;
  file.name_ = path;
  MOE_ASSIGN(Part named, open_part(path));
  MOE_ASSIGN(const Split split, split_of(named.content.metadata));
  if (split.count <= 1) {
    MOE_TRY(file.add_part(std::move(named)));
  } else {
    MOE_TRY(file.add_split(split.no, split.count));
  }
  MOE_TRY(file.index_tensors());
  return file;
}

// All parts of the model whose part `no` is name_. That one is opened again, in its turn.
Status GgufFile::add_split(uint32_t no, uint32_t count) {
  const std::string suffix = split_suffix(no, count);
  if (!name_.ends_with(suffix)) {
    return Status::Corrupt(name_ + ": wanted a name that ends in '" + suffix +
                           "', as the file's split keys say, found another");
  }
  const std::string prefix = name_.substr(0, name_.size() - suffix.size());
  uint64_t wanted = 0;  // tensors in all parts
  for (uint32_t i = 0; i < count; ++i) {
    const std::string path = prefix + split_suffix(i, count);
    auto part = open_part(path);
    if (!part.ok()) return part.status().Annotate(part_text(i, count) + " of " + name_);
    const Metadata& m = part->content.metadata;
    MOE_ASSIGN(const Split found, split_of(m));
    if (found.no != i || found.count != count) {
      return Status::Corrupt(path + ": wanted " + part_text(i, count) + ", found " + part_text(found.no, found.count));
    }
    if (i == 0) {
      MOE_ASSIGN(wanted, m.get<uint64_t>(kSplitTensors));
    }
    MOE_TRY(add_part(std::move(part).value()));
  }
  const uint64_t found = tensors_.size() + unsupported_.size();
  if (found == wanted) return Status::Ok();
  return Status::Corrupt(name_ + ": key 'split.tensors.count': wanted " + std::to_string(wanted) + " tensors, found " +
                         std::to_string(found) + " in " + std::to_string(count) + " parts");
}

const TensorInfo* GgufFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() || it->second >= tensors_.size() ? nullptr : &tensors_[it->second];
}

Result<const TensorInfo*> GgufFile::require(std::string_view name) const {
  const auto it = index_.find(name);
  const std::string where = name_ + ": tensor '" + printable(name) + "': wanted ";
  if (it == index_.end()) return Status::NotFound(where + "it in the file, found no such tensor");
  if (it->second < tensors_.size()) return &tensors_[it->second];
  return Status::Unsupported(where + "a type this build reads, found " + unsupported_[it->second - tensors_.size()].type_name);
}

uint64_t GgufFile::content_hash() const {
  std::vector<std::pair<std::string_view, size_t>> by_name(index_.begin(), index_.end());
  std::sort(by_name.begin(), by_name.end());
  ContentHash h;
  for (const auto& [name, i] : by_name) {
    if (i < tensors_.size()) {
      hash_tensor(h, name, traits(tensors_[i].dtype).gguf_id, tensors_[i].shape, tensors_[i].data);
    } else {
      const UnsupportedTensor& t = unsupported_[i - tensors_.size()];
      hash_tensor(h, name, t.gguf_type, t.shape, {});
    }
  }
  return h.value();
}

}  // namespace moe
