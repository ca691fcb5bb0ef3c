// Little-endian, nothing between the fields:
//
//     0  "MOETOKEN"
//     8  u32 version, 1          | u32 width: bytes of a token, 2 or 4
//    16  u64 vocabulary hash
//    24  u32 n_vocab             | u32 0
//    32  u64 n_tokens
//    40  u64 n_documents
//    48  u64 0
//    56  u64 checksum: FNV-1a of bytes 0 to 55
//    64  tokens, n_tokens of width bytes, then zeros up to a multiple of 8
//        documents, n_documents of | u64 end, in tokens | u64 hash of the document's tokens |
//
// The ends ascend strictly and the last one is n_tokens. The hash is kept because who is held out depends on it: choosing does
// not read the tokens. It is FNV-1a over the ids as 32-bit words, then MurmurHash3's finaliser.
#include "models/train/token_file.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"

namespace moe {
namespace {

constexpr std::string_view kMagic = "MOETOKEN";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 64, kChecked = 56;
constexpr uint64_t kMostTokens = uint64_t{1} << 60;  // also of documents: bytes stay below 2^64
constexpr size_t kBuffer = 1 << 20;
constexpr uint64_t kFnvStart = 0xCBF29CE484222325u, kFnvPrime = 0x100000001B3u;

// http://www.isthe.com/chongo/tech/comp/fnv/
void add_bytes(uint64_t& hash, const void* data, size_t n) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < n; ++i) hash = (hash ^ bytes[i]) * kFnvPrime;
}

void add_text(uint64_t& hash, std::string_view text) {
  const uint64_t size = text.size();
  add_bytes(hash, &size, sizeof size);
  add_bytes(hash, text.data(), text.size());
}

uint64_t hash_tokens(std::span<const Token> tokens) {
  uint64_t h = kFnvStart;
  for (const Token t : tokens) h = (h ^ static_cast<uint32_t>(t)) * kFnvPrime;
  h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDu;
  h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53u;
  return h ^ h >> 33;
}

uint64_t checksum(std::span<const std::byte> header) {
  uint64_t h = kFnvStart;
  add_bytes(h, header.data(), kChecked);
  return h;
}

uint64_t padded(uint64_t bytes) { return (bytes + 7) / 8 * 8; }

}  // namespace

uint64_t vocabulary_hash(const TokenizerData& data) {
  uint64_t h = kFnvStart;
  add_text(h, data.model);
  add_text(h, data.pre);
  for (const auto* list : {&data.tokens, &data.merges}) {
    const uint64_t n = list->size();
    add_bytes(h, &n, sizeof n);
    for (const std::string& text : *list) add_text(h, text);
  }
  add_bytes(h, data.types.data(), data.types.size() * sizeof(int32_t));
  add_bytes(h, data.scores.data(), data.scores.size() * sizeof(float));
  return h;
}

// --- Writing ---

Result<TokenFileWriter> TokenFileWriter::create(const std::string& path, uint64_t vocabulary_hash, int n_vocab) {
  if (n_vocab < 1)
    return Status::InvalidArgument(path + ": wanted a vocabulary of 1 token or more, found " + std::to_string(n_vocab));
  MOE_ASSIGN(AtomicFile file, AtomicFile::create(path));
  TokenFileWriter w(path, std::move(file));
  w.vocabulary_hash_ = vocabulary_hash;
  w.n_vocab_ = static_cast<uint32_t>(n_vocab);
  w.width_ = n_vocab <= 65536 ? 2 : 4;
  const std::byte header[kHeaderBytes] = {};  // commit() knows its numbers
  MOE_TRY(w.file_.write(header, sizeof header));
  return w;
}

Status TokenFileWriter::flush() {
  MOE_TRY(file_.write(buffer_));
  buffer_.clear();
  return Status::Ok();
}

Status TokenFileWriter::add_document(std::span<const Token> tokens) {
  if (tokens.empty()) return Status::Ok();
  for (const Token t : tokens)
    if (t < 0 || static_cast<uint32_t>(t) >= n_vocab_)
      return Status::InvalidArgument(path_ + ": document " + std::to_string(n_documents()) + ": token " + std::to_string(t) +
                                     " is outside the vocabulary of " + std::to_string(n_vocab_));
  for (const Token t : tokens) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&t);
    buffer_.insert(buffer_.end(), bytes, bytes + width_);
    if (buffer_.size() >= kBuffer) MOE_TRY(flush());
  }
  n_tokens_ += tokens.size();
  documents_.push_back(n_tokens_);
  documents_.push_back(hash_tokens(tokens));
  return Status::Ok();
}

Status TokenFileWriter::commit() {
  buffer_.resize(buffer_.size() + (padded(n_tokens_ * width_) - n_tokens_ * width_));
  MOE_TRY(flush());
  MOE_TRY(file_.write(documents_.data(), documents_.size() * sizeof(uint64_t)));
  ByteWriter header;
  header.write_bytes(kMagic.data(), kMagic.size());
  header.write<uint32_t>(kVersion);
  header.write<uint32_t>(width_);
  header.write<uint64_t>(vocabulary_hash_);
  header.write<uint32_t>(n_vocab_);
  header.write<uint32_t>(0);
  header.write<uint64_t>(n_tokens_);
  header.write<uint64_t>(n_documents());
  header.write<uint64_t>(0);
  header.write<uint64_t>(checksum(header.bytes()));
  MOE_TRY(file_.write_at(0, header.bytes().data(), header.size()));
  return file_.commit();
}

// --- Reading ---

Result<TokenFile> TokenFile::open(const std::string& path) {
  MOE_ASSIGN(MappedFile mapping, MappedFile::open(path));
  MOE_ASSIGN(TokenFile file, parse(mapping.bytes(), path));
  file.mapping_ = std::move(mapping);  // moving a mapping leaves its bytes where they are
  return file;
}

Result<TokenFile> TokenFile::parse(std::span<const std::byte> bytes, std::string name) {
  TokenFile f;
  f.name_ = std::move(name);
  const auto corrupt = [&](const std::string& what) { return Status::Corrupt(f.name_ + ": " + what); };
  ByteReader r(bytes);
  std::string_view magic;
  if (!r.read_view(kMagic.size(), magic) || magic != kMagic)
    return corrupt("not a token file (its first 8 bytes are not " + std::string(kMagic) + ")");
  uint32_t version = 0, n_vocab = 0, zero = 0;
  uint64_t sum = 0, zeros = 0;
  if (!r.read(version)) return corrupt("the header is cut off");
  if (version != kVersion)
    return Status::Unsupported(f.name_ + ": version: wanted " + std::to_string(kVersion) + ", found " +
                               std::to_string(version));
  if (!r.read(f.width_) || !r.read(f.vocabulary_hash_) || !r.read(n_vocab) || !r.read(zero) || !r.read(f.n_tokens_) ||
      !r.read(f.n_documents_) || !r.read(zeros) || !r.read(sum))
    return corrupt("the header is cut off");
  if (sum != checksum(bytes)) return corrupt("the header's checksum is wrong");
  if (f.width_ != 2 && f.width_ != 4) return corrupt("width: wanted 2 or 4, found " + std::to_string(f.width_));
  const uint32_t most = f.width_ == 2 ? 65536 : INT32_MAX;
  if (n_vocab < 1 || n_vocab > most)
    return corrupt("n_vocab: wanted 1 to " + std::to_string(most) + ", found " + std::to_string(n_vocab));
  if (zero != 0 || zeros != 0) return corrupt("a field that must be 0 is not");
  if (f.n_tokens_ > kMostTokens || f.n_documents_ > f.n_tokens_)
    return corrupt("the header promises " + std::to_string(f.n_tokens_) + " tokens in " + std::to_string(f.n_documents_) +
                   " documents");
  const uint64_t table = kHeaderBytes + padded(f.n_tokens_ * f.width_);  // < 2^63
  if (f.n_documents_ > (UINT64_MAX - table) / 16 || table + f.n_documents_ * 16 != bytes.size())
    return corrupt("wanted " + std::to_string(table) + " bytes and 16 for each of " + std::to_string(f.n_documents_) +
                   " documents, found " + std::to_string(bytes.size()));
  f.n_vocab_ = static_cast<int>(n_vocab);
  f.tokens_ = bytes.data() + kHeaderBytes;
  f.table_ = bytes.data() + table;
  MOE_TRY(f.check_documents());
  return f;
}

uint64_t TokenFile::table(uint64_t document, int column) const {
  uint64_t v;
  std::memcpy(&v, table_ + document * 16 + static_cast<size_t>(column) * 8, sizeof v);
  return v;
}

Status TokenFile::check_documents() const {
  uint64_t before = 0;
  for (uint64_t i = 0; i < n_documents_; ++i) {
    const uint64_t end = document_end(i);
    if (end <= before || end > n_tokens_)
      return Status::Corrupt(name_ + ": document " + std::to_string(i) + ": wanted an end from " + std::to_string(before + 1) +
                             " to " + std::to_string(n_tokens_) + ", found " + std::to_string(end));
    before = end;
  }
  if (before != n_tokens_)
    return Status::Corrupt(name_ + ": the documents end at token " + std::to_string(before) + " of " +
                           std::to_string(n_tokens_));
  return Status::Ok();
}

uint64_t TokenFile::document_of(uint64_t token) const {
  MOE_CHECK(token < n_tokens_);
  uint64_t low = 0, high = n_documents_ - 1;  // the first document whose end is behind the token
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (document_end(middle) > token)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

Status TokenFile::read(uint64_t first, std::span<Token> out) const {
  MOE_CHECK(first <= n_tokens_ && out.size() <= n_tokens_ - first);
  const std::byte* p = tokens_ + first * width_;
  uint32_t highest = 0;
  for (Token& token : out) {
    uint32_t t = 0;
    std::memcpy(&t, p, width_);
    p += width_;
    token = static_cast<Token>(t);
    highest = std::max(highest, t);
  }
  if (highest < static_cast<uint32_t>(n_vocab_)) return Status::Ok();
  return Status::Corrupt(name_ + ": tokens " + std::to_string(first) + " to " + std::to_string(first + out.size() - 1) +
                         ": wanted ids below " + std::to_string(n_vocab_) + ", found " + std::to_string(highest));
}

}  // namespace moe
