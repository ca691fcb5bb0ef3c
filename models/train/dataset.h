// Rows of tokens for training, drawn from a weighted mixture of token files.
//
// Goals: the same rows for the same files, options and position on every machine; a position of a few numbers that a run saves
// and goes on from, bit for bit; memory that does not grow with the corpora. Non-goals: reading ahead (the files are mapped).
//
// Each corpus is walked in epochs. An epoch visits its units, documents or spans of so many tokens, each once, in an order that
// only seed, corpus and epoch decide. A row belongs to one corpus: the one that is furthest behind its share. It is filled with
// what comes next there, so a row holds pieces of one or more documents, each a sequence of its own whose positions start at 0:
//
//   document A: a b c d e f   document B: x y z                          context = 4
//   row 0   tokens a b c d   targets b c d e   positions 0 1 2 3   slots 0 0 0 0
//   row 1   tokens e x y …   targets f y z …   positions 0 0 1 …   slots 1 2 2 …
//
// Every token but its document's first is a target exactly once an epoch; none is ever the target of another document's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/bytes.h"
#include "models/train/token_file.h"

namespace moe {

enum class DatasetSplit : uint8_t { kTrain, kHeldOut };

struct DatasetOptions {
  int context = 512;  // tokens, and targets, of a row
  uint64_t seed = 0;
  // Share of the documents, by the hash of their tokens: equal documents are on one side. Where a share above 0 leaves a corpus
  // of two documents or more without any of one kind, that kind gets the one nearest to the bound.
  double held_out = 0;
  DatasetSplit split = DatasetSplit::kTrain;
  uint64_t span = 0;        // 0: documents are shuffled whole; else the file in pieces of so many tokens, for long documents
  bool shuffle = true;      // false: units in the file's order
  uint64_t max_epochs = 0;  // of every corpus; then it is used up. 0: no end
};

struct DatasetCorpus {
  std::string name;
  TokenFile file;
  double weight = 1;  // its share of the targets, relative to the others'
};

// Where a run is; also what it has seen of each corpus. A plain value.
struct DatasetPosition {
  struct Cursor {
    uint64_t epoch = 0;    // epochs done
    uint64_t unit = 0;     // of this epoch, in shuffled order
    uint64_t offset = 0;   // tokens of the unit that are done
    uint64_t targets = 0;  // so far, over all epochs
    uint64_t rows = 0;     // so far
    bool operator==(const Cursor&) const = default;
  };
  uint64_t identity = 0;  // of the files and of the options that decide the order
  std::vector<Cursor> corpora;
  bool operator==(const DatasetPosition&) const = default;

  // | u64 identity | u32 n | u32 0 | n of the five numbers of a cursor, u64 each |
  void encode(ByteWriter& writer) const;
  static Result<DatasetPosition> decode(ByteReader& reader);
};

// Shapes for T = rows · context tokens.
struct DatasetBatch {
  int rows = 0, n_sequences = 0;
  int64_t n_targets = 0;           // those that are not −1
  std::vector<Token> tokens;       // (T)
  std::vector<int32_t> targets;    // (T): the token that follows in the document; −1: none, at the filling of a last row
  std::vector<int32_t> positions;  // (T): inside of the sequence
  std::vector<int32_t> slots;      // (T): the sequence, from 0
  std::vector<int> corpus;         // (rows)
};

// Move-only; not thread-safe.
class Dataset {
 public:
  // kInvalidArgument: no corpus, weights that are not positive, files of different vocabularies, options out of range, or no
  // corpus that has a document of two tokens in this split. A corpus without such a document beside others is left out, and one
  // that does not fill a row comes several times in it: repairs() says so.
  static Result<Dataset> create(std::vector<DatasetCorpus> corpora, const DatasetOptions& options);

  // The next `rows` rows; fewer, down to 0, only when max_epochs ends all corpora. A last row that is not full ends in a
  // sequence without targets. kCorrupt for tokens outside the vocabulary: the position then stays where it was.
  Status next(int rows, DatasetBatch& batch);

  const DatasetPosition& position() const { return position_; }
  // kInvalidArgument for a position of other files or options. Context, weights and max_epochs may have changed.
  Status seek(const DatasetPosition& position);

  const DatasetOptions& options() const { return options_; }
  int n_vocab() const { return corpora_.front().file.n_vocab(); }
  uint64_t vocabulary_hash() const { return corpora_.front().file.vocabulary_hash(); }
  std::span<const DatasetCorpus> corpora() const { return corpora_; }
  // Of one epoch of this split.
  uint64_t n_documents(size_t corpus) const { return sizes_[corpus].documents; }
  uint64_t n_targets(size_t corpus) const { return sizes_[corpus].targets; }
  const std::vector<std::string>& repairs() const { return repairs_; }

 private:
  struct Size {
    uint64_t documents = 0, targets = 0;
    uint64_t held_out_below = 0;  // of both splits: the hashes that are held out
  };
  struct Piece {  // inputs [begin, begin + n) of the file
    uint64_t begin, n;
  };
  struct Range {
    uint64_t begin, end;
  };

  Dataset(std::vector<DatasetCorpus> corpora, const DatasetOptions& options)
      : corpora_(std::move(corpora)), options_(options) {}
  Status measure();
  uint64_t identity() const;
  uint64_t held_out_below(const TokenFile& file) const;
  bool in_split(size_t corpus, uint64_t document) const;
  uint64_t n_units(size_t corpus) const;
  Range unit(size_t corpus, uint64_t epoch, uint64_t index) const;
  bool is_used_up(size_t corpus) const;
  int choose() const;
  bool next_piece(size_t corpus, uint64_t most, Piece& piece);
  Status append_piece(size_t corpus, const Piece& piece, DatasetBatch& batch);
  Status fill_row(size_t corpus, DatasetBatch& batch, uint64_t& filled);
  Status fill(int rows, DatasetBatch& batch);

  std::vector<DatasetCorpus> corpora_;
  DatasetOptions options_;
  std::vector<Size> sizes_;
  std::vector<std::string> repairs_;
  DatasetPosition position_;
  std::vector<Token> piece_;
};

}  // namespace moe
