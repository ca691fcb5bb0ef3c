// Text to token ids and back, with the tokenizer of a file that need not hold anything else.
#include <charconv>
#include <nlohmann/json.hpp>

#include "models/io/gguf_format.h"
#include "models/tokenizer/tokenizer.h"
#include "tools/inspect.h"

namespace moe::tools {
namespace {

using Json = nlohmann::ordered_json;

Result<Tokenizer> open_tokenizer(const std::string& path) {
  MOE_ASSIGN(const GgufFile file, GgufFile::open(path));
  MOE_ASSIGN(TokenizerData data, TokenizerData::from_metadata(file.metadata()));
  auto tokenizer = Tokenizer::create(std::move(data));
  if (!tokenizer.ok()) return tokenizer.status().Annotate(path);
  return tokenizer;
}

// "10 20 30", also with commas.
Result<std::vector<int>> parse_ids(const std::string& text, const std::string& where) {
  std::vector<int> ids;
  for (size_t at = text.find_first_not_of(" \t\r\n,"); at != std::string::npos; at = text.find_first_not_of(" \t\r\n,", at)) {
    int id = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), id);
    const size_t stop = std::min(text.find_first_of(" \t\r\n,", at), text.size());
    if (error != std::errc() || end != text.data() + stop)
      return Status::InvalidArgument(where + ": wanted token ids, found '" + printable(text.substr(at, stop - at)) + "'");
    ids.push_back(id);
    at = stop;
  }
  return ids;
}

}  // namespace

Status inspect_tokenize(const Program& program, const std::string& path, const TokenizeArguments& a) {
  if (a.file.empty() != a.has_text) usage_error("tokenize: wanted one of -f FILE and -p TEXT");
  MOE_ASSIGN(const Tokenizer tokenizer, open_tokenizer(path));
  std::string text = a.text;
  if (!a.has_text) {
    MOE_ASSIGN(text, read_text_file(a.file));
  }
  MOE_ASSIGN(std::vector<Token> ids, tokenizer.encode(text, {false, a.special}));
  if (a.bos) {
    if (tokenizer.bos() == kNoToken) return Status::NotFound(path + ": --bos: this vocabulary has no such token");
    ids.insert(ids.begin(), tokenizer.bos());
  }
  if (program.json()) {
    Json pieces = Json::array();
    for (const Token id : ids) pieces.push_back(std::string(tokenizer.piece(id, true)));
    print_json({{"n_tokens", ids.size()}, {"tokens", ids}, {"pieces", std::move(pieces)}});
    return Status::Ok();
  }
  std::string line;
  for (const Token id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stdout);
  return Status::Ok();
}

// The bytes exactly, so that they can be compared; only a terminal gets a newline behind them.
Status inspect_detokenize(const Program& program, const std::string& path, const DetokenizeArguments& a) {
  if (a.file.empty() == a.ids.empty()) usage_error("detokenize: wanted ids, or -f FILE with ids");
  MOE_ASSIGN(const Tokenizer tokenizer, open_tokenizer(path));
  std::vector<int> ids;
  for (const std::string& text : a.ids) {
    const std::vector<int> some = or_usage("detokenize", parse_ids(text, "IDS"));
    ids.insert(ids.end(), some.begin(), some.end());
  }
  if (!a.file.empty()) {
    MOE_ASSIGN(const std::string text, read_text_file(a.file));
    MOE_ASSIGN(ids, parse_ids(text, a.file));
  }
  for (const int id : ids) {
    if (id < 0 || id >= tokenizer.n_vocab())
      return Status::InvalidArgument(path + ": wanted token ids from 0 to " + std::to_string(tokenizer.n_vocab() - 1) +
                                     ", found " + std::to_string(id));
  }
  const std::string text = tokenizer.decode(ids, a.special);
  if (program.json()) {
    print_json({{"text", text}});
    return Status::Ok();
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (is_terminal(stdout)) std::fputc('\n', stdout);
  return Status::Ok();
}

}  // namespace moe::tools
