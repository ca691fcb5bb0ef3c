#include "models/train/dataset.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "core/rng.h"
#include "tests/models/train/token_fixture.h"

using namespace moe;
using namespace moe::test;

namespace {

// Document d of `n` tokens or fewer, each token a number of its own (up to 60000): d's tokens can be told from all others.
Documents distinct_documents(uint64_t seed, int n_documents, uint64_t longest) {
  Rng rng(seed);
  Documents documents;
  Token next = 0;
  for (int d = 0; d < n_documents; ++d) {
    documents.emplace_back();
    for (uint64_t n = 1 + rng.below(longest); n > 0; --n) documents.back().push_back(next++);
  }
  return documents;
}

struct Files {
  TempFolder folder;
  std::vector<std::pair<std::string, double>> corpora;  // path, weight

  void add(const std::string& name, const Documents& documents, double weight, uint64_t vocabulary = 7) {
    corpora.emplace_back(write_token_file(folder, name, documents, 60000, vocabulary), weight);
  }
  Result<Dataset> open(const DatasetOptions& options) const {
    std::vector<DatasetCorpus> list;
    for (const auto& [path, weight] : corpora)
      list.push_back({path.substr(path.rfind('/') + 1), TokenFile::open(path).value(), weight});
    return Dataset::create(std::move(list), options);
  }
};

// What every batch must be: whole rows, sequences in one row each, positions from 0, targets that follow in the document.
void check_batch(const DatasetBatch& b, int context, const std::vector<Documents>& corpora) {
  const size_t n = static_cast<size_t>(b.rows) * static_cast<size_t>(context);
  REQUIRE((b.tokens.size() == n && b.targets.size() == n && b.positions.size() == n && b.slots.size() == n));
  REQUIRE(b.corpus.size() == static_cast<size_t>(b.rows));
  int sequences = 0;
  int64_t targets = 0;
  for (size_t i = 0; i < n; ++i) {
    const size_t row = i / static_cast<size_t>(context);
    const bool opens = i % static_cast<size_t>(context) == 0 || b.slots[i] != b.slots[i - 1];
    sequences += opens;
    CHECK(b.slots[i] == sequences - 1);
    CHECK(b.positions[i] == (opens ? 0 : b.positions[i - 1] + 1));
    targets += b.targets[i] >= 0;
    if (b.targets[i] < 0) continue;
    CHECK(b.targets[i] == b.tokens[i] + 1);  // in a document tokens count up
    if (!opens) CHECK(b.tokens[i] == b.tokens[i - 1] + 1);
    const Documents& documents = corpora[static_cast<size_t>(b.corpus[row])];
    CHECK(std::any_of(documents.begin(), documents.end(),
                      [&](const auto& d) { return d.front() <= b.tokens[i] && b.targets[i] <= d.back(); }));
  }
  CHECK(b.n_sequences == sequences);
  CHECK(b.n_targets == targets);
}

std::vector<Token> targets_of_one_epoch(Dataset& dataset, int context, const std::vector<Documents>& corpora) {
  std::vector<Token> targets;
  DatasetBatch batch;
  for (;;) {
    REQUIRE(dataset.next(3, batch).ok());
    check_batch(batch, context, corpora);
    if (batch.rows == 0) break;
    for (const int32_t t : batch.targets)
      if (t >= 0) targets.push_back(t);
  }
  return targets;
}

std::vector<Token> wanted_targets(const Documents& documents) {
  std::vector<Token> wanted;
  for (const auto& d : documents) wanted.insert(wanted.end(), d.begin() + 1, d.end());
  return wanted;
}

}  // namespace

TEST_CASE("an epoch has every token but its document's first as a target once") {
  const Documents documents = distinct_documents(1, 60, 40);
  Files files;
  files.add("a", documents, 1);
  for (const uint64_t span : {0, 1, 7, 64, 100000}) {
    for (const int context : {1, 8, 33, 5000}) {
      for (const bool shuffle : {false, true}) {
        Dataset d = files.open({.context = context, .seed = 3, .span = span, .shuffle = shuffle, .max_epochs = 1}).value();
        std::vector<Token> targets = targets_of_one_epoch(d, context, {documents});
        if (span < 100000) CHECK((targets == wanted_targets(documents)) != shuffle);  // else there is one unit
        std::sort(targets.begin(), targets.end());
        CHECK(targets == wanted_targets(documents));
        CHECK(d.n_targets(0) == targets.size());
        CHECK(d.position().corpora[0].targets == targets.size());
      }
    }
  }
}

TEST_CASE("rows are those of the drawing in dataset.h") {
  Files files;
  files.add("a", {{1, 2, 3, 4, 5, 6}, {11, 12, 13}}, 1);
  Dataset d = files.open({.context = 4, .shuffle = false, .max_epochs = 1}).value();
  DatasetBatch b;
  REQUIRE(d.next(2, b).ok());
  CHECK(b.tokens == std::vector<Token>{1, 2, 3, 4, 5, 11, 12, 0});
  CHECK(b.targets == std::vector<int32_t>{2, 3, 4, 5, 6, 12, 13, -1});
  CHECK(b.positions == std::vector<int32_t>{0, 1, 2, 3, 0, 0, 1, 0});
  CHECK(b.slots == std::vector<int32_t>{0, 0, 0, 0, 1, 2, 2, 3});
  CHECK(b.n_sequences == 4);
  CHECK(b.n_targets == 7);
}

TEST_CASE("training and held-out documents are two parts of the whole") {
  const Documents documents = distinct_documents(2, 500, 9);
  Files files;
  files.add("a", documents, 1);
  for (const uint64_t span : {0, 50}) {
    DatasetOptions o = {.context = 16, .held_out = 0.2, .span = span, .max_epochs = 1};
    Dataset train = files.open(o).value();
    o.split = DatasetSplit::kHeldOut;
    Dataset held_out = files.open(o).value();
    CHECK(train.n_documents(0) + held_out.n_documents(0) == 500);
    CHECK(held_out.n_documents(0) > 70);
    CHECK(held_out.n_documents(0) < 130);
    std::vector<Token> all = targets_of_one_epoch(train, 16, {documents});
    CHECK(all.size() == train.n_targets(0));
    const std::vector<Token> others = targets_of_one_epoch(held_out, 16, {documents});
    all.insert(all.end(), others.begin(), others.end());
    std::sort(all.begin(), all.end());
    CHECK(all == wanted_targets(documents));
  }
}

TEST_CASE("of few documents one at least is held out and one at least trains") {
  for (const double share : {1e-9, 0.999999})
    for (const int n : {2, 3, 7}) {
      Files files;
      files.add("a", distinct_documents(static_cast<uint64_t>(n), n, 9), 1);
      DatasetOptions o = {.context = 16, .held_out = share, .max_epochs = 1};
      const auto few = static_cast<uint64_t>(share < 0.5 ? n - 1 : 1);
      CHECK(files.open(o).value().n_documents(0) == few);
      o.split = DatasetSplit::kHeldOut;
      CHECK(files.open(o).value().n_documents(0) == static_cast<uint64_t>(n) - few);
    }
  Files files;  // equal documents stay together, and one alone trains
  files.add("a", {{1, 2, 3}, {1, 2, 3}}, 1);
  CHECK(files.open({.context = 16, .held_out = 0.01}).value().n_documents(0) == 2);
  CHECK(!files.open({.context = 16, .held_out = 0.01, .split = DatasetSplit::kHeldOut}).ok());
}

TEST_CASE("corpora take turns by their weights, to within a row") {
  const std::vector<Documents> corpora = {distinct_documents(3, 20, 30), distinct_documents(4, 200, 30),
                                          distinct_documents(5, 50, 5)};
  Files files;
  files.add("a", corpora[0], 1);
  files.add("b", corpora[1], 2.5);
  files.add("c", corpora[2], 0.5);
  Dataset d = files.open({.context = 32, .seed = 1}).value();
  DatasetBatch b;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(d.next(4, b).ok());
    CHECK(b.rows == 4);
    CHECK(b.n_targets == 4 * 32);
    check_batch(b, 32, corpora);
  }
  const auto& at = d.position().corpora;
  CHECK(at[0].rows == 100);
  CHECK(at[1].rows == 250);
  CHECK(at[2].rows == 50);
  CHECK(at[2].targets == 50 * 32);
  CHECK(at[0].epoch == at[0].targets / d.n_targets(0));
}

TEST_CASE("a run goes on from a saved position with the same rows") {
  const std::vector<Documents> corpora = {distinct_documents(6, 40, 50), distinct_documents(7, 9, 300)};
  Files files;
  files.add("a", corpora[0], 1);
  files.add("b", corpora[1], 0.3);
  for (const uint64_t span : {0, 40}) {
    const DatasetOptions o = {.context = 24, .seed = 11, .held_out = 0.1, .span = span};
    Dataset whole = files.open(o).value();
    DatasetBatch wanted, found;
    for (int i = 0; i < 60; ++i) {
      ByteWriter saved;
      whole.position().encode(saved);
      REQUIRE(whole.next(3, wanted).ok());
      ByteReader r(saved.bytes());
      const DatasetPosition position = DatasetPosition::decode(r).value();
      Dataset resumed = files.open(o).value();
      REQUIRE(resumed.seek(position).ok());
      REQUIRE(resumed.next(3, found).ok());
      CHECK(found.tokens == wanted.tokens);
      CHECK(found.targets == wanted.targets);
      CHECK(found.positions == wanted.positions);
      CHECK(found.slots == wanted.slots);
      CHECK(found.corpus == wanted.corpus);
      CHECK(resumed.position() == whole.position());
    }
  }
}

TEST_CASE("rows do not depend on how many are asked for at once") {
  Files files;
  files.add("a", distinct_documents(8, 40, 50), 1);
  Dataset one = files.open({.context = 16}).value(), many = files.open({.context = 16}).value();
  DatasetBatch b;
  std::vector<Token> first;
  for (int i = 0; i < 30; ++i) {
    REQUIRE(one.next(1, b).ok());
    first.insert(first.end(), b.tokens.begin(), b.tokens.end());
  }
  REQUIRE(many.next(30, b).ok());
  CHECK(b.tokens == first);
}

TEST_CASE("seeds and epochs have orders of their own") {
  const Documents documents = distinct_documents(9, 100, 12);
  Files files;
  files.add("a", documents, 1);
  std::set<std::vector<Token>> orders;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    Dataset d = files.open({.context = 1, .seed = seed}).value();
    for (int epoch = 0; epoch < 3; ++epoch) {
      DatasetBatch b;
      REQUIRE(d.next(static_cast<int>(d.n_targets(0)), b).ok());
      orders.insert(b.tokens);
    }
  }
  CHECK(orders.size() == 9);
}

TEST_CASE("positions of other files, options or behind the end are refused") {
  Files files, others;
  files.add("a", {{1, 2, 3}, {4, 5}}, 1);
  others.add("a", {{1, 2, 3}, {4, 6}}, 1);
  Dataset d = files.open({.context = 4}).value();
  const DatasetPosition good = d.position();
  CHECK(d.seek(good).ok());
  CHECK_FALSE(d.seek(others.open({.context = 4}).value().position()).ok());
  CHECK_FALSE(d.seek(files.open({.context = 4, .seed = 1}).value().position()).ok());
  CHECK_FALSE(d.seek(files.open({.context = 4, .span = 1}).value().position()).ok());
  CHECK(d.seek(files.open({.context = 9}).value().position()).ok());
  DatasetPosition bad = good;
  bad.corpora[0].unit = 3;
  CHECK_FALSE(d.seek(bad).ok());
  bad = good, bad.corpora[0].offset = 4;
  CHECK_FALSE(d.seek(bad).ok());
  bad = good, bad.corpora.clear();
  CHECK_FALSE(d.seek(bad).ok());
  ByteWriter w;
  good.encode(w);
  for (size_t n = 0; n < w.size(); ++n) {
    ByteReader r(w.bytes().first(n));
    CHECK(DatasetPosition::decode(r).status().code() == StatusCode::kCorrupt);
  }
}

TEST_CASE("empty and tiny corpora are left out or repeated, and it is said") {
  Files files;
  files.add("none", {}, 1);
  files.add("single", {{1}, {2}}, 1);
  CHECK(files.open({}).status().message() == "dataset: no corpus has a training document of two tokens or more");
  files.add("tiny", {{1, 2, 3}}, 1);
  Dataset d = files.open({.context = 8}).value();
  REQUIRE(d.repairs().size() == 3);
  CHECK(d.repairs()[0] == "corpus 'none' is left out: none of its 0 documents is a training one of two tokens or more");
  CHECK(d.repairs()[2] == "corpus 'tiny': its 2 targets do not fill a row of 8 and come several times in it");
  DatasetBatch b;
  REQUIRE(d.next(2, b).ok());
  CHECK(b.tokens == std::vector<Token>{1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2});
  CHECK(b.n_sequences == 8);
}

TEST_CASE("options and corpora that make no sense are refused by name") {
  Files files;
  const auto message = [&](const DatasetOptions& o) { return files.open(o).status().message(); };
  const auto has = [&](const DatasetOptions& o, const char* words) { return message(o).find(words) != std::string::npos; };
  CHECK(has({}, "wanted a corpus"));
  files.add("a", {{1, 2, 3}}, 1);
  CHECK(has({.context = 0}, "context"));
  CHECK(has({.held_out = 1}, "held_out"));
  CHECK(has({.held_out = -0.1}, "held_out"));
  CHECK(has({.split = DatasetSplit::kHeldOut}, "no document is held out"));
  files.add("b", {{1, 2, 3}}, 0);
  CHECK(has({}, "corpus 'b': wanted a weight above 0"));
  files.corpora.back().second = 1;
  CHECK(files.open({}).ok());
  files.add("c", {{1, 2, 3}}, 1, 8);
  CHECK(has({}, "different vocabularies"));
}

TEST_CASE("a token outside the vocabulary stops the run where it was") {
  const TempFolder folder;
  std::vector<std::byte> bytes = bytes_of(write_token_file(folder, "t", {{1, 2, 3}, {4, 5, 6}}, 1000));
  bytes[64 + 2 * 4 + 1] = std::byte{0xFF};
  std::vector<DatasetCorpus> corpora;
  corpora.push_back({"t", TokenFile::parse(bytes, "t").value(), 1});
  Dataset d = Dataset::create(std::move(corpora), {.context = 2, .shuffle = false}).value();
  DatasetBatch b;
  CHECK(d.next(1, b).ok());
  const DatasetPosition before = d.position();
  CHECK(d.next(1, b).code() == StatusCode::kCorrupt);
  CHECK(d.position() == before);
}
