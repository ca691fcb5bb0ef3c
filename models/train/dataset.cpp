#include "models/train/dataset.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/rng.h"
#include "models/train/permutation.h"

namespace moe {
namespace {

constexpr uint32_t kMostCorpora = 1 << 20;

Status refuse(const std::string& what) { return Status::InvalidArgument("dataset: " + what); }

Status check(std::span<const DatasetCorpus> corpora, const DatasetOptions& o) {
  if (corpora.empty()) return refuse("wanted a corpus, found none");
  if (corpora.size() > kMostCorpora) return refuse("too many corpora");
  if (o.context < 1 || o.context > (1 << 24)) return refuse("context: wanted 1 to 2^24, found " + std::to_string(o.context));
  if (!(o.held_out >= 0 && o.held_out < 1))
    return refuse("held_out: wanted a share from 0 to below 1, found " + std::to_string(o.held_out));
  if (o.split == DatasetSplit::kHeldOut && o.held_out == 0) return refuse("held_out is 0: no document is held out");
  for (const DatasetCorpus& c : corpora) {
    if (!(c.weight > 0) || !std::isfinite(c.weight))
      return refuse("corpus '" + c.name + "': wanted a weight above 0, found " + std::to_string(c.weight));
    const TokenFile &file = c.file, &first = corpora.front().file;
    if (file.vocabulary_hash() != first.vocabulary_hash() || file.n_vocab() != first.n_vocab())
      return refuse(file.name() + " and " + first.name() + " were made with different vocabularies");
  }
  return Status::Ok();
}

}  // namespace

// --- Position ---

void DatasetPosition::encode(ByteWriter& w) const {
  w.write<uint64_t>(identity);
  w.write<uint32_t>(static_cast<uint32_t>(corpora.size()));
  w.write<uint32_t>(0);
  for (const Cursor& c : corpora)
    for (const uint64_t v : {c.epoch, c.unit, c.offset, c.targets, c.rows}) w.write<uint64_t>(v);
}

Result<DatasetPosition> DatasetPosition::decode(ByteReader& r) {
  DatasetPosition p;
  uint32_t n = 0, zero = 0;
  if (!r.read(p.identity) || !r.read(n) || !r.read(zero) || zero != 0 || r.remaining() / 40 < n)
    return Status::Corrupt("dataset position: it is cut off");
  p.corpora.resize(n);
  for (Cursor& c : p.corpora)
    for (uint64_t* v : {&c.epoch, &c.unit, &c.offset, &c.targets, &c.rows}) MOE_CHECK(r.read(*v));
  return p;
}

// --- Dataset ---

Result<Dataset> Dataset::create(std::vector<DatasetCorpus> corpora, const DatasetOptions& options) {
  MOE_TRY(check(corpora, options));
  Dataset d(std::move(corpora), options);
  MOE_TRY(d.measure());
  d.position_.identity = d.identity();
  d.position_.corpora.resize(d.corpora_.size());
  return d;
}

// Documents are held out by their hash; the bound moves where that leaves a corpus of few documents without one of either kind.
uint64_t Dataset::held_out_below(const TokenFile& file) const {
  if (options_.held_out == 0) return 0;
  uint64_t least = UINT64_MAX, most = 0;
  for (uint64_t i = 0; i < file.n_documents(); ++i) {
    if (file.document_end(i) - file.document_begin(i) < 2) continue;
    least = std::min(least, file.document_hash(i)), most = std::max(most, file.document_hash(i));
  }
  const auto bound = static_cast<uint64_t>(std::ceil(options_.held_out * 0x1p53)) << 11;
  return least < most ? std::clamp(bound, least + 1, most) : bound;
}

// Two passes over the documents' tables.
Status Dataset::measure() {
  const char* split = options_.split == DatasetSplit::kTrain ? "training" : "held-out";
  uint64_t all = 0;
  for (size_t corpus = 0; corpus < corpora_.size(); ++corpus) {
    const DatasetCorpus& c = corpora_[corpus];
    sizes_.push_back({.held_out_below = held_out_below(c.file)});
    Size& size = sizes_.back();
    for (uint64_t i = 0; i < c.file.n_documents(); ++i) {
      if (!in_split(corpus, i)) continue;
      ++size.documents;
      size.targets += c.file.document_end(i) - c.file.document_begin(i) - 1;
    }
    if (size.targets == 0)
      repairs_.push_back("corpus '" + c.name + "' is left out: none of its " + std::to_string(c.file.n_documents()) +
                         " documents is a " + split + " one of two tokens or more");
    else if (size.targets < static_cast<uint64_t>(options_.context) && options_.max_epochs == 0)
      repairs_.push_back("corpus '" + c.name + "': its " + std::to_string(size.targets) + " targets do not fill a row of " +
                         std::to_string(options_.context) + " and come several times in it");
    all += size.targets;
  }
  if (all > 0) return Status::Ok();
  return refuse(std::string("no corpus has a ") + split + " document of two tokens or more");
}

uint64_t Dataset::identity() const {
  uint64_t h = 0xCBF29CE484222325u;
  const auto add = [&](uint64_t v) { h = std::rotl((h ^ v) * 0x9E3779B97F4A7C15u, 29); };
  for (const uint64_t v : {options_.seed, options_.span, std::bit_cast<uint64_t>(options_.held_out),
                           static_cast<uint64_t>(options_.split), uint64_t{options_.shuffle}})
    add(v);
  for (const DatasetCorpus& c : corpora_) {
    for (const uint64_t v : {c.file.vocabulary_hash(), c.file.n_tokens(), c.file.n_documents()}) add(v);
    if (c.file.n_documents() > 0) add(c.file.document_hash(0)), add(c.file.document_hash(c.file.n_documents() - 1));
  }
  return h;
}

bool Dataset::in_split(size_t corpus, uint64_t document) const {
  const bool held_out = corpora_[corpus].file.document_hash(document) < sizes_[corpus].held_out_below;
  return held_out == (options_.split == DatasetSplit::kHeldOut);
}

uint64_t Dataset::n_units(size_t corpus) const {
  const TokenFile& file = corpora_[corpus].file;
  if (options_.span == 0) return file.n_documents();
  return file.n_tokens() / options_.span + (file.n_tokens() % options_.span != 0);
}

// The tokens of the unit that comes at `index` in an epoch.
Dataset::Range Dataset::unit(size_t corpus, uint64_t epoch, uint64_t index) const {
  const TokenFile& file = corpora_[corpus].file;
  if (options_.shuffle) {
    const Philox4 key = philox4x32(options_.seed, epoch, corpus);
    index = Permutation(n_units(corpus), uint64_t{key.v[0]} << 32 | key.v[1])(index);
  }
  if (options_.span == 0) return {file.document_begin(index), file.document_end(index)};
  const uint64_t begin = index * options_.span;
  return {begin, begin + std::min(options_.span, file.n_tokens() - begin)};
}

bool Dataset::is_used_up(size_t corpus) const {
  return sizes_[corpus].targets == 0 || (options_.max_epochs != 0 && position_.corpora[corpus].epoch >= options_.max_epochs);
}

// The corpus that is furthest behind its weight, of equals the first; −1 when all are used up.
int Dataset::choose() const {
  int best = -1;
  double least = 0;
  for (size_t c = 0; c < corpora_.size(); ++c) {
    if (is_used_up(c)) continue;
    const double drawn = static_cast<double>(position_.corpora[c].targets) / corpora_[c].weight;
    if (best < 0 || drawn < least) best = static_cast<int>(c), least = drawn;
  }
  return best;
}

// The next up to `most` tokens that follow each other in one document and have a target; moves behind them. False when the last
// epoch has ended. A span that ends inside of a document gives its last token the target that follows in the next span.
bool Dataset::next_piece(size_t corpus, uint64_t most, Piece& piece) {
  const TokenFile& file = corpora_[corpus].file;
  DatasetPosition::Cursor& at = position_.corpora[corpus];
  while (!is_used_up(corpus)) {
    if (at.unit == n_units(corpus)) {
      ++at.epoch, at.unit = 0;
      continue;
    }
    const Range range = unit(corpus, at.epoch, at.unit);
    if (at.offset >= range.end - range.begin) {
      ++at.unit, at.offset = 0;
      continue;
    }
    const uint64_t begin = range.begin + at.offset, document = file.document_of(begin);
    const uint64_t end = std::min(file.document_end(document), range.end);
    const uint64_t last = std::min(file.document_end(document) - 1, range.end);  // inputs end here
    if (begin >= last || !in_split(corpus, document)) {
      at.offset = end - range.begin;
      continue;
    }
    piece = {begin, std::min(most, last - begin)};
    at.offset += piece.n;
    return true;
  }
  return false;
}

Status Dataset::append_piece(size_t corpus, const Piece& piece, DatasetBatch& batch) {
  piece_.resize(piece.n + 1);
  MOE_TRY(corpora_[corpus].file.read(piece.begin, piece_));
  batch.tokens.insert(batch.tokens.end(), piece_.begin(), piece_.end() - 1);
  batch.targets.insert(batch.targets.end(), piece_.begin() + 1, piece_.end());
  for (uint64_t i = 0; i < piece.n; ++i) batch.positions.push_back(static_cast<int32_t>(i));
  batch.slots.insert(batch.slots.end(), piece.n, batch.n_sequences++);
  return Status::Ok();
}

// A row of one corpus, not full only when the corpus ends, with nothing in it (filled = 0) when it has ended.
Status Dataset::fill_row(size_t corpus, DatasetBatch& batch, uint64_t& filled) {
  const auto context = static_cast<uint64_t>(options_.context);
  filled = 0;
  for (Piece piece; filled < context && next_piece(corpus, context - filled, piece); filled += piece.n)
    MOE_TRY(append_piece(corpus, piece, batch));
  if (filled == 0) return Status::Ok();
  for (uint64_t i = filled; i < context; ++i) {
    batch.tokens.push_back(0), batch.targets.push_back(-1);
    batch.positions.push_back(static_cast<int32_t>(i - filled)), batch.slots.push_back(batch.n_sequences);
  }
  batch.n_sequences += filled < context;
  batch.n_targets += static_cast<int64_t>(filled);
  batch.corpus.push_back(static_cast<int>(corpus));
  ++batch.rows;
  position_.corpora[corpus].targets += filled;
  ++position_.corpora[corpus].rows;
  return Status::Ok();
}

Status Dataset::fill(int rows, DatasetBatch& batch) {
  while (batch.rows < rows) {
    const int corpus = choose();
    if (corpus < 0) break;
    uint64_t filled = 0;
    MOE_TRY(fill_row(static_cast<size_t>(corpus), batch, filled));
  }
  return Status::Ok();
}

Status Dataset::next(int rows, DatasetBatch& batch) {
  batch.rows = batch.n_sequences = 0, batch.n_targets = 0;
  for (auto* list : {&batch.tokens, &batch.targets, &batch.positions, &batch.slots, &batch.corpus}) list->clear();
  const DatasetPosition before = position_;
  Status status = fill(rows, batch);
  if (!status.ok()) position_ = before;
  return status;
}

Status Dataset::seek(const DatasetPosition& position) {
  if (position.identity != position_.identity || position.corpora.size() != corpora_.size())
    return refuse("the position is one of other files, or of another seed, split, span or held-out share");
  for (size_t c = 0; c < corpora_.size(); ++c) {
    const DatasetPosition::Cursor& at = position.corpora[c];
    const uint64_t n = n_units(c);
    const uint64_t size = at.unit < n ? unit(c, at.epoch, at.unit).end - unit(c, at.epoch, at.unit).begin : 0;
    if (at.unit > n || at.offset > size) return refuse("the position of corpus '" + corpora_[c].name + "' is behind its end");
  }
  position_ = position;
  return Status::Ok();
}

}  // namespace moe
