#include "tools/run_chat.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "models/tokenizer/chat_template.h"

namespace moe::tools {
namespace {

// Lines of stdin. Reads the descriptor itself: Ctrl-C must end the wait, and only poll() always returns for a signal.
class LineReader {
 public:
  // Without the newline; nullopt at the end, and when interrupted.
  std::optional<std::string> next() {
    for (;;) {
      if (const size_t newline = buffer_.find('\n'); newline != std::string::npos) return take(newline, newline + 1);
      if (interrupted()) return std::nullopt;
      if (!fill()) return buffer_.empty() || interrupted() ? std::nullopt : take(buffer_.size(), buffer_.size());
    }
  }

 private:
  bool fill() {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, -1) < 0) return errno == EINTR && !interrupted();
    char bytes[4096];
    const ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n > 0) buffer_.append(bytes, static_cast<size_t>(n));
    return n > 0;
  }

  std::optional<std::string> take(size_t length, size_t used) {
    std::string line = buffer_.substr(0, length);
    buffer_.erase(0, used);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return line;
  }

  std::string buffer_;
};

Result<ChatTemplate> choose_template(const RunArguments& a, const Tokenizer& tokenizer) {
  if (!a.chat_template.empty()) return or_usage("--chat-template", parse_chat_template_name(a.chat_template));
  if (tokenizer.chat_template().empty())
    return Status::NotFound(a.model.path + ": the file has no chat template; name one with --chat-template, e.g. chatml");
  Result<ChatTemplate> found = detect_chat_template(tokenizer.chat_template());
  if (!found.ok())
    return Status::NotFound(a.model.path + ": " + found.status().message() + "; name one with --chat-template, e.g. chatml");
  return found;
}

class Conversation {
 public:
  Conversation(Runner& runner, const Tokenizer& tokenizer, ChatTemplate chat_template)
      : runner_(runner), tokenizer_(tokenizer), template_(chat_template) {
    for (const std::string_view s : chat_stop_strings(chat_template)) stop_.emplace_back(s);
    if (const std::string& system = runner.arguments().system; !system.empty()) messages_.push_back({"system", system});
  }

  // One turn and its answer. The tokens of earlier turns are in the session already: only what is new gets evaluated.
  Status turn(const std::string& text) {
    messages_.push_back({"user", text});
    MOE_ASSIGN(const std::vector<Token> prompt, encode());
    if (const Status s = runner_.evaluate(prompt); !s.ok()) {
      messages_.pop_back();  // never answered
      return s;
    }
    std::string answer;
    MOE_ASSIGN(const GenerateResult result, runner_.generate(stop_, [&](Token, std::string_view piece) {
      answer += piece;
      std::fwrite(piece.data(), 1, piece.size(), stdout);
      std::fflush(stdout);
      return true;
    }));
    std::fputs("\n", stdout);
    std::fflush(stdout);
    if (result.reason == StopReason::kContextFull)
      std::fprintf(stderr, "(context full: all of %d tokens are used; --ctx makes room for longer conversations)\n",
                   runner_.session().options().n_ctx);
    messages_.push_back({"assistant", chat_history_text(template_, answer)});
    return Status::Ok();
  }

 private:
  Result<std::vector<Token>> encode() const {
    const std::string eos(tokenizer_.piece(tokenizer_.eos(), true));
    const std::string text = format_chat(template_, messages_, true, eos);
    const bool add_special = !runner_.arguments().no_bos;
    MOE_ASSIGN(std::vector<Token> tokens, tokenizer_.encode(text, {.add_special = add_special, .parse_special = true}));
    if (add_special && tokenizer_.add_eos()) tokens.pop_back();  // the conversation goes on
    return tokens;
  }

  Runner& runner_;
  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  std::vector<std::string> stop_;
  std::vector<ChatMessage> messages_;
};

}  // namespace

Status run_chat(Runner& runner) {
  const RunArguments& a = runner.arguments();
  const Tokenizer* tokenizer = runner.model().tokenizer();
  if (!tokenizer) return runner.model().tokenizer_status();
  MOE_ASSIGN(const ChatTemplate chat_template, choose_template(a, *tokenizer));
  if (!a.session.empty()) MOE_TRY(runner.restore(a.session));
  Conversation conversation(runner, *tokenizer, chat_template);
  LineReader lines;
  std::optional<std::string> line = a.prompt;
  const bool terminal = is_terminal(stdin);
  if (terminal)
    std::fprintf(stderr, "(%s template; a line is a turn; Ctrl-C stops an answer; /exit leaves)\n",
                 std::string(chat_template_name(chat_template)).c_str());
  for (;;) {
    catch_interrupts();
    if (!line) {
      if (terminal) std::fputs("> ", stderr);
      line = lines.next();
    }
    if (!line || *line == "/exit") break;
    if (!line->empty()) {
      const Status status = conversation.turn(*line);
      if (!status.ok() && status.code() != StatusCode::kCancelled) return status;
    }
    line.reset();
  }
  if (terminal) std::fputs("\n", stderr);
  return Status::Ok();
}

}  // namespace moe::tools
