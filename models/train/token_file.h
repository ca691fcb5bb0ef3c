// Files of token ids: a corpus encoded once, read through a mapping as often as training likes. token_file.cpp has the byte
// layout.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "models/tokenizer/tokenizer_data.h"

namespace moe {

// Equal for vocabularies that give every text the same tokens: over model, pre-tokeniser, tokens, types and merges.
uint64_t vocabulary_hash(const TokenizerData& data);

// Streams a file: tokens go to disk as they come, 16 bytes a document stay in memory. Nothing is seen under `path` before
// commit(). Not thread-safe.
class TokenFileWriter {
 public:
  // Tokens take two bytes where n_vocab is at most 65536, else four.
  static Result<TokenFileWriter> create(const std::string& path, uint64_t vocabulary_hash, int n_vocab);

  // A document without tokens is none. kInvalidArgument for tokens outside the vocabulary.
  Status add_document(std::span<const Token> tokens);
  Status commit();

  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_documents() const { return documents_.size() / 2; }

 private:
  TokenFileWriter(std::string path, AtomicFile file) : path_(std::move(path)), file_(std::move(file)) {}
  Status flush();

  std::string path_;
  AtomicFile file_;
  uint64_t vocabulary_hash_ = 0, n_tokens_ = 0;
  uint32_t n_vocab_ = 0, width_ = 2;
  std::vector<std::byte> buffer_;
  std::vector<uint64_t> documents_;  // (n_documents, 2): end, hash
};

// Move-only; owns its mapping. Reading from several threads is safe.
class TokenFile {
 public:
  // Checks all of it but the tokens, which read() checks.
  static Result<TokenFile> open(const std::string& path);
  // A file in memory, which the caller keeps alive; `name` opens the messages.
  static Result<TokenFile> parse(std::span<const std::byte> bytes, std::string name);

  const std::string& name() const { return name_; }
  uint64_t vocabulary_hash() const { return vocabulary_hash_; }
  int n_vocab() const { return n_vocab_; }
  uint64_t n_tokens() const { return n_tokens_; }
  uint64_t n_documents() const { return n_documents_; }

  // Document i is tokens [document_begin(i), document_end(i)), at least one. i < n_documents.
  uint64_t document_begin(uint64_t i) const { return i == 0 ? 0 : document_end(i - 1); }
  uint64_t document_end(uint64_t i) const { return table(i, 0); }
  uint64_t document_hash(uint64_t i) const { return table(i, 1); }  // of its tokens
  uint64_t document_of(uint64_t token) const;                       // token < n_tokens

  // Tokens [first, first + out.size()), which must exist. kCorrupt when one is outside the vocabulary.
  Status read(uint64_t first, std::span<Token> out) const;

 private:
  TokenFile() = default;
  uint64_t table(uint64_t document, int column) const;
  Status check_documents() const;

  std::string name_;
  std::optional<MappedFile> mapping_;
  const std::byte* tokens_ = nullptr;  // (n_tokens) of width_ bytes
  const std::byte* table_ = nullptr;   // (n_documents, 2) u64: end, hash
  uint64_t vocabulary_hash_ = 0, n_tokens_ = 0, n_documents_ = 0;
  int n_vocab_ = 0;
  uint32_t width_ = 2;
};

}  // namespace moe
