// moe-run: a model file and a prompt go in, text comes out.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "models/tokenizer/stream_decoder.h"
#include "tools/run_chat.h"
#include "tools/runner.h"
#include "tools/zoo.h"

using namespace moe;
using namespace moe::tools;

namespace {

std::string without_last_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

// The text to go on from: -p, -f or piped stdin. nullopt when there is none.
Result<std::optional<std::string>> prompt_text(const RunArguments& a) {
  if (a.prompt) return std::optional(*a.prompt);
  if (!a.prompt_file && is_terminal(stdin)) return std::optional<std::string>();
  MOE_ASSIGN(std::string text, read_text_file(a.prompt_file.value_or("-")));
  if (!a.prompt_file && text.empty()) return std::optional<std::string>();
  return std::optional(without_last_newline(std::move(text)));
}

Result<std::vector<Token>> encode(const Model& model, const RunArguments& a, const std::string& text) {
  const Tokenizer* tokenizer = model.tokenizer();
  if (!tokenizer)
    return Status::Unsupported(model.tokenizer_status().message() + "; give token ids instead: --tokens \"1 2 3\"");
  MOE_ASSIGN(std::vector<Token> tokens, tokenizer->encode(text, {.add_special = !a.no_bos, .parse_special = true}));
  if (!a.no_bos && tokenizer->add_eos() && !tokens.empty()) tokens.pop_back();  // the text goes on
  return tokens;
}

// Empty only where a restored session is to go on as it is.
Result<std::vector<Token>> prompt_tokens(const Model& model, const RunArguments& a) {
  if (a.tokens) return parse_tokens(*a.tokens);
  MOE_ASSIGN(const std::optional<std::string> text, prompt_text(a));
  if (text) return encode(model, a, *text);
  return std::vector<Token>();
}

// A token's bytes so that they fit on a line.
std::string escaped(std::string_view bytes) {
  std::string text;
  char code[8];
  for (const char c : bytes) {
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '\'' && c != '\\') {
      text += c;
    } else {
      std::snprintf(code, sizeof code, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      text += code;
    }
  }
  return text;
}

void list_tokens(const Tokenizer* tokenizer, std::span<const Token> tokens) {
  std::fprintf(stderr, "%zu tokens of the prompt\n", tokens.size());
  for (const Token t : tokens)
    std::fprintf(stderr, "%8d  '%s'\n", t, tokenizer ? escaped(tokenizer->piece(t, true)).c_str() : "");
}

std::string ids_text(std::span<const Token> tokens) {
  std::string text;
  for (const Token t : tokens) text += (text.empty() ? "" : " ") + std::to_string(t);
  return text;
}

// What goes to stdout while the run goes on: text, or ids for a model without a tokenizer.
class Output {
 public:
  Output(const Tokenizer* tokenizer, bool silent) : tokenizer_(tokenizer), silent_(silent) {}

  void prompt(std::span<const Token> tokens, bool special) {
    put(tokenizer_ ? replace_invalid_utf8(tokenizer_->decode(tokens, special)) : ids_text(tokens));
  }
  void token(Token token, std::string_view piece) {
    text_ += piece;
    if (tokenizer_)
      put(piece);
    else
      put((last_ == '\n' ? "" : " ") + std::to_string(token));
  }
  void end_line() {
    if (last_ != '\n') put("\n");
  }
  const std::string& text() const { return text_; }  // generated

 private:
  void put(std::string_view text) {
    if (silent_ || text.empty()) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    last_ = text.back();
  }

  const Tokenizer* tokenizer_;
  bool silent_;
  std::string text_;
  char last_ = '\n';
};

nlohmann::ordered_json to_json(const Runner& runner, size_t n_prompt, const std::string& text, const GenerateResult& result) {
  const Runner::Totals& t = runner.totals();
  const std::span<const Token> tokens = runner.tokens();
  nlohmann::ordered_json j;
  j["model"] = runner.arguments().model.path;
  j["prompt_tokens"] = tokens.first(n_prompt);
  j["tokens"] = tokens.subspan(n_prompt);
  j["text"] = text;
  j["stop_reason"] = stop_reason_name(result.reason);
  if (runner.seed()) j["seed"] = *runner.seed();
  j["timings"] = {{"load_seconds", runner.model().load_seconds()},
                  {"prompt_n", t.n_prompt},
                  {"prompt_seconds", t.prompt_seconds},
                  {"prompt_tokens_per_second", t.prompt_rate()},
                  {"generated_n", t.n_generated},
                  {"generate_seconds", t.generate_seconds},
                  {"generate_tokens_per_second", t.generate_rate()}};
  j["bytes_per_token"] = runner.bytes_per_token();
  j["gb_per_second"] = runner.bytes_per_token() * t.generate_rate() / 1e9;
  j["peak_bytes"] = peak_memory_bytes();
  j["experts_per_token"] = runner.stats().summarize(runner.topology()).k_mean;
  j["logits_hash"] = hash_to_hex(t.logits_hash);
  return j;
}

Status run_prompt(Runner& runner, bool json) {
  const RunArguments& a = runner.arguments();
  const Tokenizer* tokenizer = runner.model().tokenizer();
  MOE_ASSIGN(std::vector<Token> prompt, prompt_tokens(runner.model(), a));
  const bool show_prompt = !prompt.empty() && !a.no_display_prompt;
  if (!a.session.empty()) {
    MOE_TRY(runner.restore(a.session));
    if (prompt.empty()) prompt.assign(runner.session().tokens().begin(), runner.session().tokens().end());
  }
  if (prompt.empty()) usage_error("the prompt is empty; give one with -p TEXT, -f FILE, --tokens \"1 2 3\" or through a pipe");
  if (a.verbose_prompt) list_tokens(tokenizer, prompt);

  catch_interrupts();
  Output output(tokenizer, json);
  MOE_TRY(runner.evaluate(prompt));
  if (show_prompt) output.prompt(prompt, a.special);
  MOE_ASSIGN(const GenerateResult result, runner.generate({}, [&](Token token, std::string_view piece) {
    output.token(token, piece);
    return true;
  }));
  output.end_line();
  if (json) print_json(to_json(runner, prompt.size(), output.text(), result));
  if (result.reason == StopReason::kContextFull)
    std::fprintf(stderr, "context full: all of %d tokens are used; raise --ctx to go on\n", runner.session().options().n_ctx);
  return Status::Ok();
}

Status report(Runner& runner, AtomicFile* stats) {
  const RunArguments& a = runner.arguments();
  if (!a.save_session.empty()) MOE_TRY(runner.save(a.save_session));
  if (stats) {
    const std::string text = runner.stats().to_json(runner.topology());
    MOE_TRY(stats->write(text.data(), text.size()));
    MOE_TRY(stats->commit());
  }
  if (a.heat_map) {
    const int columns = terminal_columns() - 45;  // what stands left and right of the cells
    const bool color = is_terminal(stderr) && !std::getenv("NO_COLOR");
    std::fputs(runner.stats().heat_map(columns, color).c_str(), stderr);
  }
  std::fprintf(stderr, "%s\n", runner.summary().c_str());
  return interrupted() && !a.chat ? interrupted_status() : Status::Ok();
}

}  // namespace

int main(int argc, char** argv) {
  Program program("moe-run", "Runs a Mixture-of-Experts model: continues a prompt, or holds a conversation.");
  RunArguments arguments;
  add_run_options(program.app(), arguments);
  return program.run(argc, argv, [&]() -> Status {
    if (arguments.zoo) return list_zoo(program);
    if (arguments.model.path.empty()) usage_error("MODEL is required; --zoo lists those that have a name");
    MOE_TRY(find_model(program, arguments.model.path));
    MOE_TRY(pick_topology(program, arguments.model));
    MOE_ASSIGN(const std::unique_ptr<Runner> runner, Runner::create(program, arguments));
    std::optional<AtomicFile> stats;  // opened first: a bad path is no news to hear after an hour
    if (!arguments.stats.empty()) {
      MOE_ASSIGN(stats, AtomicFile::create(arguments.stats));
    }
    if (!arguments.save_session.empty()) MOE_TRY(AtomicFile::create(arguments.save_session).status());
    MOE_TRY(arguments.chat ? run_chat(*runner) : run_prompt(*runner, program.json()));
    return report(*runner, stats ? &*stats : nullptr);
  });
}
