// A sequence in a file: its tokens and its cache, to go on later without evaluating them again. Little-endian:
//
//   "MOESESS1" | u64 model hash | u32 dtype of keys (GGUF id) | u32 dtype of values | u32 n tokens | u32 0
//   i32 token ids [n]
//   for each layer, keys then values, for each head: n cells as the cache holds them
//   u64 FNV-1a of everything before it
#include <cstring>

#include "core/bytes.h"
#include "core/file.h"
#include "models/cache_cells.h"
#include "models/session.h"

namespace moe {
namespace {

constexpr char kMagic[8] = {'M', 'O', 'E', 'S', 'E', 'S', 'S', '1'};
constexpr uint64_t kChecksumSeed = 0xcbf29ce484222325u;

uint64_t checksum(uint64_t hash, std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) hash = (hash ^ static_cast<uint64_t>(b)) * 0x100000001b3u;
  return hash;
}

std::string type_name(uint32_t gguf_id) {
  const auto type = dtype_from_gguf(gguf_id);
  return type.ok() ? traits(*type).name : "type " + std::to_string(gguf_id);
}

}  // namespace

Status Session::save(int seq, const std::string& path) const {
  if (seq < 0 || seq >= options_.n_seqs) return Status::InvalidArgument("save: no sequence " + std::to_string(seq));
  MOE_ASSIGN(AtomicFile file, AtomicFile::create(path));
  uint64_t sum = kChecksumSeed;
  const auto put = [&](std::span<const std::byte> bytes) {
    sum = checksum(sum, bytes);
    return file.write(bytes);
  };
  ByteWriter head;
  head.write_bytes(kMagic, sizeof kMagic);
  head.write<uint64_t>(model_.hash());
  head.write<uint32_t>(traits(*options_.cache_k).gguf_id);
  head.write<uint32_t>(traits(*options_.cache_v).gguf_id);
  head.write<uint32_t>(static_cast<uint32_t>(length(seq)));
  head.write<uint32_t>(0);
  head.write_bytes(tokens(seq).data(), tokens(seq).size_bytes());
  MOE_TRY(put(head.bytes()));
  std::vector<std::byte> bytes;
  const auto append = [&](const Buffer& b, size_t offset, size_t count) -> Status {
    bytes.resize(count);
    MOE_TRY(model_.backend().read(b, offset, bytes.data(), count));
    return put(bytes);
  };
  MOE_TRY(for_cells(graph_, cache_k_, cache_v_, seq, length(seq), append));
  MOE_TRY(file.write(&sum, sizeof sum));
  return file.commit();
}

Status Session::restore(int seq, const std::string& path) {
  if (seq < 0 || seq >= options_.n_seqs) return Status::InvalidArgument("restore: no sequence " + std::to_string(seq));
  MOE_ASSIGN(const MappedFile file, MappedFile::open(path));
  ByteReader r(file.bytes());
  const auto corrupt = [&](const std::string& what) { return Status::Corrupt(path + ": " + what); };
  std::string_view magic;
  uint64_t hash = 0, sum = 0;
  uint32_t type_k = 0, type_v = 0, n = 0, zero = 0;
  if (!r.read_view(sizeof kMagic, magic) || magic != std::string_view(kMagic, sizeof kMagic))
    return corrupt("not a session file");
  if (!r.read(hash) || !r.read(type_k) || !r.read(type_v) || !r.read(n) || !r.read(zero))
    return corrupt("the header is cut off");
  if (hash != model_.hash())
    return Status::InvalidArgument(path + ": made for model " + hash_to_hex(hash) + ", this one is " +
                                   hash_to_hex(model_.hash()));
  if (type_k != traits(*options_.cache_k).gguf_id || type_v != traits(*options_.cache_v).gguf_id)
    return Status::InvalidArgument(path + ": cache types differ: wanted " + std::string(traits(*options_.cache_k).name) +
                                   " and " + traits(*options_.cache_v).name + ", found " + type_name(type_k) + " and " +
                                   type_name(type_v));
  if (n > static_cast<uint32_t>(options_.n_ctx))
    return Status::OutOfRange(path + ": holds " + std::to_string(n) + " tokens, the context is " +
                              std::to_string(options_.n_ctx));
  std::span<const std::byte> ids, cells;
  if (!r.read_bytes(size_t{n} * sizeof(Token), ids)) return corrupt("the token ids are cut off");
  std::vector<Token> restored(n);
  if (n > 0) std::memcpy(restored.data(), ids.data(), ids.size());
  for (const Token t : restored)
    if (t < 0 || t >= model_.config().n_vocab) return corrupt("token id " + std::to_string(t) + " is outside the vocabulary");
  size_t wanted = 0;
  const auto count_cells = [&](const Buffer&, size_t, size_t count) {
    wanted += count;
    return Status::Ok();
  };
  MOE_TRY(for_cells(graph_, cache_k_, cache_v_, seq, static_cast<int>(n), count_cells));
  if (r.remaining() != wanted + sizeof sum)
    return corrupt("wanted " + std::to_string(wanted + sizeof sum) + " bytes of cache and checksum, found " +
                   std::to_string(r.remaining()));
  const size_t body = file.bytes().size() - sizeof sum;
  std::memcpy(&sum, file.bytes().data() + body, sizeof sum);
  if (checksum(kChecksumSeed, file.bytes().first(body)) != sum) return corrupt("the checksum differs: the file is damaged");

  sequences_[static_cast<size_t>(seq)].clear();
  const auto put_back = [&](const Buffer& b, size_t offset, size_t count) -> Status {
    MOE_CHECK(r.read_bytes(count, cells));
    return model_.backend().write(const_cast<Buffer&>(b), offset, cells.data(), count);
  };
  MOE_TRY(for_cells(graph_, cache_k_, cache_v_, seq, static_cast<int>(n), put_back));
  sequences_[static_cast<size_t>(seq)].assign(restored.begin(), restored.end());
  return Status::Ok();
}

}  // namespace moe
