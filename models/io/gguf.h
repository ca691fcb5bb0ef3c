// GGUF model files: GgufFile reads them through a mapping, GgufWriter streams them out. README.md has the byte layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/file.h"
#include "core/status.h"
#include "models/io/metadata.h"
#include "tensor/dtype.h"

namespace moe {

// What a checkpoint has beside the model: tensors and keys that begin so. Models do not read them, copies leave them out.
inline constexpr std::string_view kTrainingTensors = "adam.", kTrainingKeys = "moe.train.";

struct TensorInfo {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;  // outermost first: GGUF's order reversed, e.g. (n_experts, n_out, n_in); 1 to 4 of them
  std::span<const std::byte>
      data;  // all of it, inside the file; at a multiple of 8 from the file's start, so aligned in a mapping
};

// A tensor in a format that dtypes.def lacks: it can be listed, not read.
struct UnsupportedTensor {
  std::string name;
  uint32_t gguf_type;          // as in the file
  std::string type_name;       // "iq2_xxs", or "type 99" where ggml has no such type either
  std::vector<int64_t> shape;  // outermost first
};

// A whole model, all parts of a split one together. Move-only; owns its mappings. Reading one from several threads is safe.
class GgufFile {
 public:
  // Versions 2 and 3. Any part of a split model NAME-00002-of-00003.gguf opens all of it.
  static Result<GgufFile> open(const std::string& path);
  // One file in memory, which the caller keeps alive; `name` opens the messages. Parts of a split model are refused.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, std::string name);

  GgufFile(GgufFile&&) = default;
  GgufFile& operator=(GgufFile&&) = default;

  const std::string& name() const { return name_; }                 // the path that was opened
  uint32_t version() const { return version_; }                     // of the first part
  uint64_t file_bytes() const { return file_bytes_; }               // of all parts
  const Metadata& metadata() const { return metadata_; }            // the first part's, without the split.* keys
  std::span<const TensorInfo> tensors() const { return tensors_; }  // in file order
  std::span<const UnsupportedTensor> unsupported() const { return unsupported_; }

  const TensorInfo* find(std::string_view name) const;  // null when there is none that can be read; O(1)
  // As find, with the reason: kNotFound, or kUnsupported which names the tensor's type.
  Result<const TensorInfo*> require(std::string_view name) const;

  // Identifies a model, e.g. for topologies made for it: equal for equal names, types, shapes and sampled weights of all
  // tensors, whatever their order, the metadata and the split. Reads the first and last 4 KiB of each tensor; README.md defines
  // every byte.
  uint64_t content_hash() const;

 private:
  struct Part;
  GgufFile() = default;
  static Result<Part> open_part(const std::string& path);
  Status add_part(Part part);
  Status add_split(uint32_t no, uint32_t count);
  Status index_tensors();

  std::string name_;
  uint32_t version_ = 0;
  uint64_t file_bytes_ = 0;
  std::vector<MappedFile> mappings_;
  Metadata metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<UnsupportedTensor> unsupported_;
  std::unordered_map<std::string_view, size_t> index_;  // name → position in tensors_, or in unsupported_ behind those
};

// Writes a file in one pass: header, metadata and tensor table in create(), then the tensors' bytes in the order of `tensors`.
// Nothing is seen under `path` before commit(). Not thread-safe.
class GgufWriter {
 public:
  struct TensorSpec {
    std::string name;  // at most 63 bytes
    DType dtype;
    std::vector<int64_t> shape;  // outermost first; whole blocks in the last dimension
  };
  // The alignment is the metadata's general.alignment, else 32.
  static Result<GgufWriter> create(const std::string& path, const Metadata& metadata, std::vector<TensorSpec> tensors);

  // The next bytes of the current tensor: all of it or a piece. The next tensor begins when the current one is full.
  Status write_tensor(const void* data, size_t bytes);
  // An error when bytes are missing; then, and without commit(), no file appears.
  Status commit();

 private:
  struct Pending {
    std::string name;
    uint64_t bytes;
  };
  GgufWriter(std::string path, AtomicFile file, uint64_t alignment)
      : path_(std::move(path)), file_(std::move(file)), alignment_(alignment) {}
  Status pad();

  std::string path_;
  AtomicFile file_;
  uint64_t alignment_;
  std::vector<Pending> tensors_;
  size_t current_ = 0;    // in tensors_
  uint64_t written_ = 0;  // bytes of the current tensor
};

}  // namespace moe
