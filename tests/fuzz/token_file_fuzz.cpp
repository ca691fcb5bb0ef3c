// Any bytes as a token file: what opens can be read everywhere, and drawn from for a while.
#include <cstdlib>
#include <cstring>

#include "models/train/dataset.h"

using namespace moe;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// The fuzzer would need ages to find the checksum.
void mend(std::vector<std::byte>& file) {
  uint64_t h = 0xCBF29CE484222325u;
  for (size_t i = 0; i < 56; ++i) h = (h ^ static_cast<uint8_t>(file[i])) * 0x100000001B3u;
  std::memcpy(file.data() + 56, &h, sizeof h);
}

void read_documents(const TokenFile& file) {
  uint64_t tokens = 0;
  for (uint64_t i = 0; i < file.n_documents(); ++i) {
    const uint64_t begin = file.document_begin(i), end = file.document_end(i);
    require(begin == tokens && begin < end);
    require(file.document_of(begin) == i && file.document_of(end - 1) == i);
    std::vector<Token> document(end - begin);
    if (!file.read(begin, document).ok()) return;
    for (const Token t : document) require(t >= 0 && t < file.n_vocab());
    tokens = end;
  }
  require(tokens == file.n_tokens());
}

void draw(TokenFile file, const DatasetOptions& options) {
  std::vector<DatasetCorpus> corpora;
  corpora.push_back({"fuzz", std::move(file), 1});
  auto dataset = Dataset::create(std::move(corpora), options);
  if (!dataset.ok()) return;
  DatasetBatch batch;
  for (int i = 0; i < 4 && dataset->next(2, batch).ok(); ++i) {
    require(batch.rows == 2 && batch.n_targets == 2 * options.context);
    require(dataset->seek(dataset->position()).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  if (size >= 64) mend(bytes);
  const auto parse = [&] { return TokenFile::parse(bytes, "fuzz"); };
  const auto file = parse();
  if (!file.ok()) {
    require(file.status().message().starts_with("fuzz: "));
    return 0;
  }
  read_documents(*file);
  draw(parse().value(), {.context = 7, .seed = size, .held_out = 0.3});
  draw(parse().value(), {.context = 3, .held_out = 0.5, .split = DatasetSplit::kHeldOut, .span = 5});
  return 0;
}
