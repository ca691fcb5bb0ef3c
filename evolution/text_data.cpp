#include "evolution/text_data.h"

#include <algorithm>

#include "evolution/hash_chain.h"
#include "evolution/streams.h"

namespace moe {
namespace {

constexpr int64_t kFewestTokens = 64;  // of a domain
constexpr size_t kShortest = 4;        // chunks of fewer tokens are left out
constexpr size_t kMostSequences = 8;   // of one block: a pass has room for each to be the longest
constexpr int64_t kParts = 20;         // longer documents than this part of a domain are cut
constexpr double kCalibrationShare = 0.6, kSelectShare = 0.2;

// A document, or a part of a long one.
struct Piece {
  std::span<const Token> tokens;
  uint64_t hash = 0;
  int split = 0;
};

uint64_t hash_tokens(std::span<const Token> tokens) {
  uint64_t h = tokens.size();
  for (const Token t : tokens) h = chained(h, static_cast<uint32_t>(t));
  return h;
}

void set_hash(TextBlock& b) {
  b.hash = chained(hash_tokens(b.tokens), b.lengths.size());
  for (const int n : b.lengths) b.hash = chained(b.hash, static_cast<uint64_t>(n));
  for (const int32_t r : b.rows) b.hash = chained(b.hash, static_cast<uint64_t>(r));
}

Status check(std::span<const TextDomain> domains, const TextDataOptions& o) {
  if (domains.empty()) return Status::InvalidArgument("texts: wanted one domain or more, found none");
  if (o.n_ctx < 8 || o.block_tokens < o.n_ctx || o.context < 0)
    return Status::InvalidArgument(
        "texts: wanted chunks of 8 tokens or more, blocks of no less and a context of 0 or more, found " +
        std::to_string(o.n_ctx) + ", " + std::to_string(o.block_tokens) + " and " + std::to_string(o.context));
  for (const TextDomain& d : domains)
    for (const auto& document : d.documents)
      for (const Token t : document)
        if (t < 0) return Status::InvalidArgument("texts: " + d.name + ": wanted token ids, found " + std::to_string(t));
  return Status::Ok();
}

int64_t count_tokens(const TextDomain& d) {
  int64_t n = 0;
  for (const auto& document : d.documents) n += static_cast<int64_t>(document.size());
  return n;
}

// In the order of their hashes, which is a shuffle that nobody chose.
std::vector<Piece> pieces_of(const TextDomain& d, int n_ctx) {
  const int64_t total = count_tokens(d), part = std::max<int64_t>(total / kParts, static_cast<int64_t>(kShortest));
  const auto longest = static_cast<size_t>(part > n_ctx ? (part + n_ctx - 1) / n_ctx * n_ctx : part);
  std::vector<Piece> pieces;
  for (const auto& document : d.documents)
    for (size_t begin = 0; begin < document.size(); begin += longest) {
      const auto tokens = std::span(document).subspan(begin, std::min(longest, document.size() - begin));
      if (tokens.size() >= kShortest) pieces.push_back({tokens, hash_tokens(tokens)});
    }
  std::stable_sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.hash < b.hash; });
  return pieces;
}

int split_at(double share) { return share < kCalibrationShare ? 0 : share < kCalibrationShare + kSelectShare ? 1 : 2; }

bool is_fair(const std::vector<Piece>& pieces) {
  double n[3] = {}, total = 0;
  for (const Piece& p : pieces)
    n[p.split] += static_cast<double>(p.tokens.size()), total += static_cast<double>(p.tokens.size());
  const double other = 1 - kCalibrationShare - kSelectShare;
  return n[0] >= kCalibrationShare / 2 * total && n[1] >= kSelectShare / 2 * total && n[2] >= other / 2 * total;
}

// By hash alone, so that more text leaves older documents where they were. Where that leaves a split with less than half of its
// share, by rank.
void assign_splits(std::vector<Piece>& pieces) {
  double total = 0, before = 0;
  for (Piece& p : pieces) {
    p.split = split_at(static_cast<double>(p.hash >> 11) * 0x1p-53);
    total += static_cast<double>(p.tokens.size());
  }
  if (is_fair(pieces)) return;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const bool again = i > 0 && pieces[i].hash == pieces[i - 1].hash;
    pieces[i].split = again ? pieces[i - 1].split : split_at(before / total);
    before += static_cast<double>(pieces[i].tokens.size());
  }
}

// Packs chunks of one domain into blocks.
class Packer {
 public:
  Packer(int domain, const TextDataOptions& options, std::vector<TextBlock>& blocks)
      : domain_(domain), options_(options), blocks_(blocks) {}

  void add(std::span<const Token> chunk) {
    const size_t bos = options_.bos != kNoToken, n = chunk.size() + bos;
    if (open_ && (blocks_.back().tokens.size() + n > static_cast<size_t>(options_.block_tokens) ||
                  blocks_.back().lengths.size() == kMostSequences))
      close();
    if (!open_) blocks_.emplace_back(), blocks_.back().domain = domain_, open_ = true;
    TextBlock& b = blocks_.back();
    const auto first = static_cast<int32_t>(b.tokens.size());
    if (bos) b.tokens.push_back(options_.bos);
    b.tokens.insert(b.tokens.end(), chunk.begin(), chunk.end());
    b.lengths.push_back(static_cast<int>(n));
    const auto last = static_cast<int32_t>(b.tokens.size()) - 1;
    for (int32_t i = first + std::min(options_.context, static_cast<int>(n / 2)); i < last; ++i)
      b.rows.push_back(i), b.targets.push_back(b.tokens[static_cast<size_t>(i) + 1]);
    b.rows_until.push_back(static_cast<int>(b.rows.size()));
  }

  void close() {
    if (open_) set_hash(blocks_.back());
    open_ = false;
  }

 private:
  const int domain_;
  const TextDataOptions& options_;
  std::vector<TextBlock>& blocks_;
  bool open_ = false;
};

std::vector<TextBlock> blocks_of(const std::vector<Piece>& pieces, int split, int domain, int64_t most,
                                 const TextDataOptions& o) {
  std::vector<TextBlock> blocks;
  Packer packer(domain, o, blocks);
  const auto step = static_cast<size_t>(o.n_ctx - (o.bos != kNoToken));
  int64_t taken = 0;
  for (const Piece& p : pieces) {
    if (p.split != split) continue;
    for (size_t begin = 0; begin < p.tokens.size() && (most == 0 || taken < most); begin += step) {
      const auto chunk = p.tokens.subspan(begin, std::min(step, p.tokens.size() - begin));
      if (chunk.size() < kShortest) break;
      packer.add(chunk), taken += static_cast<int64_t>(chunk.size());
    }
  }
  packer.close();
  return blocks;
}

// One of each list in turn, as long as it has more; at most n in all.
std::vector<int> interleaved(const std::vector<std::vector<int>>& lists, size_t n) {
  std::vector<int> all;
  for (size_t turn = 0, before = 0; all.size() < n; ++turn, before = all.size()) {
    for (const auto& list : lists)
      if (turn < list.size() && all.size() < n) all.push_back(list[turn]);
    if (all.size() == before) break;
  }
  return all;
}

TextSplit join(std::vector<std::vector<TextBlock>> by_domain) {
  TextSplit s;
  std::vector<TextBlock> all;
  std::vector<std::vector<int>> ids(by_domain.size());
  for (size_t d = 0; d < by_domain.size(); ++d)
    for (TextBlock& b : by_domain[d]) ids[d].push_back(static_cast<int>(all.size())), all.push_back(std::move(b));
  s.of_domain.resize(by_domain.size());
  for (const int i : interleaved(ids, all.size())) {
    TextBlock& b = all[static_cast<size_t>(i)];
    s.n_tokens += static_cast<int64_t>(b.tokens.size()), s.n_rows += static_cast<int64_t>(b.rows.size());
    s.of_domain[static_cast<size_t>(b.domain)].push_back(static_cast<int>(s.blocks.size()));
    s.blocks.push_back(std::move(b));
  }
  return s;
}

}  // namespace

Result<TextData> TextData::create(std::span<const TextDomain> domains, const TextDataOptions& options) {
  MOE_TRY(check(domains, options));
  TextData data;
  data.options_ = options;
  const auto n = static_cast<int64_t>(domains.size());
  const int64_t most[] = {options.calibration_tokens, options.select_tokens, options.test_tokens};
  std::vector<std::vector<TextBlock>> blocks[3];
  for (const TextDomain& d : domains) {
    const auto index = static_cast<int>(data.names_.size());
    data.names_.push_back(d.name);
    std::vector<Piece> pieces = pieces_of(d, options.n_ctx);
    assign_splits(pieces);
    for (int split = 0; split < 3; ++split) {
      blocks[split].push_back(blocks_of(pieces, split, index, (most[split] + n - 1) / n, options));
      if (count_tokens(d) < kFewestTokens || blocks[split].back().empty())
        return Status::InvalidArgument("texts: " + d.name + ": too little text for three parts: wanted " +
                                       std::to_string(kFewestTokens) + " tokens, not all alike, found " +
                                       std::to_string(count_tokens(d)) + " in " + std::to_string(d.documents.size()) +
                                       " documents");
    }
  }
  data.calibration_ = join(std::move(blocks[0])), data.select_ = join(std::move(blocks[1]));
  data.test_ = join(std::move(blocks[2]));
  for (const TextSplit* s : {&data.calibration_, &data.select_, &data.test_}) {
    data.hash_ = chained(data.hash_, s->blocks.size());
    for (const TextBlock& b : s->blocks) data.hash_ = chained(chained(data.hash_, b.hash), static_cast<uint64_t>(b.domain));
  }
  return data;
}

std::vector<int> TextData::minibatch(uint64_t seed, uint32_t text, int n) const {
  Rng rng = stream_of(seed, Purpose::kSample, text);
  std::vector<std::vector<int>> drawn = select_.of_domain;
  for (auto& list : drawn)
    for (size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[rng.below(i)]);
  return interleaved(drawn, static_cast<size_t>(std::max(n, 0)));
}

Result<std::vector<TextBlock>> choice_blocks(std::span<const ChoiceTask> tasks, int n_ctx, int block_tokens, Token bos) {
  std::vector<TextBlock> blocks;
  for (size_t t = 0; t < tasks.size(); ++t) {
    const ChoiceTask& task = tasks[t];
    const auto fail = [&](const std::string& what) {
      return Status::InvalidArgument("task " + std::to_string(t) + ": " + what);
    };
    if (task.choices.size() < 2 || task.answer < 0 || static_cast<size_t>(task.answer) >= task.choices.size())
      return fail("wanted two choices or more and the answer among them, found " + std::to_string(task.choices.size()) +
                  " and answer " + std::to_string(task.answer));
    if (!task.lengths.empty() && task.lengths.size() != task.choices.size())
      return fail("wanted a length for each of " + std::to_string(task.choices.size()) + " choices, found " +
                  std::to_string(task.lengths.size()));
    std::vector<Token> prompt = task.prompt;
    if (bos != kNoToken) prompt.insert(prompt.begin(), bos);
    for (const auto& choice : task.choices) {
      if (choice.empty() || prompt.empty() || choice.size() >= static_cast<size_t>(n_ctx))
        return fail("wanted a prompt, and choices of 1 to " + std::to_string(n_ctx - 1) + " tokens, found " +
                    std::to_string(prompt.size()) + " and " + std::to_string(choice.size()));
      const size_t room = static_cast<size_t>(n_ctx) - choice.size(), n_prompt = std::min(prompt.size(), room);
      const size_t n = n_prompt + choice.size();
      if (blocks.empty() || blocks.back().lengths.size() >= kMostSequences ||
          blocks.back().tokens.size() + n > static_cast<size_t>(std::max(block_tokens, n_ctx)))
        blocks.emplace_back();
      TextBlock& b = blocks.back();
      b.tokens.insert(b.tokens.end(), prompt.end() - static_cast<std::ptrdiff_t>(n_prompt), prompt.end());
      for (const Token token : choice) {
        b.rows.push_back(static_cast<int32_t>(b.tokens.size()) - 1), b.targets.push_back(token);
        b.tokens.push_back(token);
      }
      b.lengths.push_back(static_cast<int>(n)), b.rows_until.push_back(static_cast<int>(b.rows.size()));
    }
  }
  for (TextBlock& b : blocks) set_hash(b);
  return blocks;
}

std::vector<int> chosen(std::span<const ChoiceTask> tasks, std::span<const double> nll) {
  std::vector<int> all;
  size_t at = 0;
  for (const ChoiceTask& task : tasks) {
    size_t best = 0;
    double least = 0;
    for (size_t c = 0; c < task.choices.size(); ++c, ++at) {
      const double length = task.lengths.empty() ? static_cast<double>(task.choices[c].size()) : task.lengths[c];
      const double score = nll[at] / length;
      if (c == 0 || score < least) best = c, least = score;
    }
    all.push_back(static_cast<int>(best));
  }
  return all;
}

}  // namespace moe
