#include "tools/run_options.h"

#include <algorithm>
#include <charconv>

namespace moe::tools {
namespace {

constexpr size_t kLogitsBytes = size_t{64} << 20;  // most memory for the rows of logits that --logits-out makes at once

void add_prompt_options(CLI::App& app, RunArguments& a) {
  auto* prompt = app.add_option("--prompt,-p", a.prompt, "text to go on from; with --chat: the first turn");
  auto* file = app.add_option("--file,-f", a.prompt_file, "file with that text, - for stdin; a newline at its end is left out");
  auto* tokens = app.add_option("--tokens", a.tokens, "token ids to go on from, \"1 2 3\"; nothing is added to them");
  prompt->excludes(file)->excludes(tokens), file->excludes(tokens);
  app.add_option("--n-predict,-n", a.n_predict, "tokens to generate; 0: evaluate the prompt only; -1: until the model ends")
      ->check(CLI::Range(-1, 1 << 30))
      ->capture_default_str();
  app.add_option("--stop", a.stop, "text at which the answer ends; may be given several times")
      ->allow_extra_args(false)
      ->check([](const std::string& text) { return text.empty() ? "wanted at least one character" : ""; });
  app.add_flag("--ignore-eos", a.ignore_eos, "go on where the model would end");
  app.add_flag("--no-bos", a.no_bos, "no begin-of-text token, even where the model wants one");
}

void add_session_options(CLI::App& app, RunArguments& a) {
  const auto types = CLI::IsMember({"auto", "f32", "f16", "q8_0"});
  app.add_option("--cache-type-k", a.cache_type_k, "format of keys; default: --cache-type")->check(types);
  app.add_option("--cache-type-v", a.cache_type_v, "format of values; default: --cache-type")->check(types);
  app.add_option("--ctx,-c", a.n_ctx, "tokens the context holds; 0: as many as the model was trained for, at most 4096")
      ->check(CLI::Range(0, 1 << 30));
  app.add_option("--batch,-b", a.batch, "tokens of the prompt evaluated at once")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--session", a.session, "go on from a file of --save-session: what it holds is not evaluated again");
  app.add_option("--save-session", a.save_session, "write tokens and cache to this file at the end");
}

void add_sampling_options(CLI::App& app, RunArguments& a) {
  SamplerOptions& s = a.sampling;
  const auto add = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->group("Sampling")->capture_default_str();
  };
  add("--temp", s.temperature, "temperature; 0: greedy");
  add("--top-k", s.top_k, "keep the k best tokens; 0: all");
  add("--top-p", s.top_p, "keep the fewest tokens whose probabilities reach this; 1: all");
  add("--min-p", s.min_p, "keep tokens with this share of the best one's probability; 0: all");
  add("--typical", s.typical_p, "locally typical sampling; 1: off");
  add("--repeat-penalty", s.repeat_penalty, "make recent tokens less likely; 1: off");
  add("--repeat-last-n", s.penalty_last_n, "how many tokens count as recent");
  add("--frequency-penalty", s.frequency_penalty, "taken off a logit for every time its token was seen recently");
  add("--presence-penalty", s.presence_penalty, "taken off the logit of every token seen recently");
  app.add_option("--logit-bias", a.logit_bias, "ID=V: add V to this token's logit, -inf bans it; may be given several times")
      ->allow_extra_args(false)
      ->group("Sampling");
  app.add_flag("--greedy", a.greedy, "always the most likely token, the same as --temp 0")->group("Sampling");
}

void add_chat_options(CLI::App& app, RunArguments& a) {
  auto* chat = app.add_flag("--chat", a.chat, "a conversation: every line of stdin is a turn; /exit or Ctrl-C leaves");
  app.add_option("--system", a.system, "what the model is told before the conversation")->needs(chat)->group("Chat");
  app.add_option("--chat-template", a.chat_template, "how turns are written, e.g. chatml; default: the file's")
      ->needs(chat)
      ->group("Chat");
  chat->group("Chat")->excludes("--file")->excludes("--tokens")->excludes("--json");
}

void add_output_options(CLI::App& app, RunArguments& a) {
  const auto add = [&](const char* name, auto& value, const char* help) {
    if constexpr (std::is_same_v<decltype(value), bool&>)
      return app.add_flag(name, value, help)->group("Output");
    else
      return app.add_option(name, value, help)->group("Output");
  };
  add("--special", a.special, "show control tokens");
  add("--no-display-prompt", a.no_display_prompt, "print what was generated only");
  add("--verbose-prompt", a.verbose_prompt, "list the tokens of the prompt on stderr");
  add("--logits-out", a.logits_out, "write the logits of every token of the prompt: float32, tokens x vocabulary")
      ->excludes("--session")
      ->excludes("--chat");
  add("--stats", a.stats, "write what the routers did as JSON (models/README.md)");
  add("--heatmap", a.heat_map, "draw how much each expert was used, on stderr");
}

std::optional<DType> cache_type(const std::string& name, const RunArguments& a) {
  return or_usage("--cache-type", parse_cache_type(name.empty() ? a.model.cache_type : name));
}

bool is_separator(char c) { return c == ' ' || c == ',' || c == '\n' || c == '\t' || c == '\r'; }

}  // namespace

void add_run_options(CLI::App& app, RunArguments& a) {
  add_model_options(app, a.model, false);
  app.add_flag("--zoo", a.zoo, "list the models that have a name");
  add_topology_options(app, a.model);
  add_prompt_options(app, a);
  add_session_options(app, a);
  add_sampling_options(app, a);
  add_chat_options(app, a);
  add_output_options(app, a);
}

std::vector<Token> parse_tokens(const std::string& text) {
  std::vector<Token> tokens;
  const char *p = text.data(), *const end = p + text.size();
  for (;;) {
    p = std::find_if_not(p, end, is_separator);
    if (p == end) return tokens;
    const char* const stop = std::find_if(p, end, is_separator);
    Token token = 0;
    if (const auto [rest, error] = std::from_chars(p, stop, token); error != std::errc() || rest != stop)
      usage_error("--tokens: wanted token ids as in \"1 2 3\", found '" + std::string(p, stop) + "'");
    tokens.push_back(token);
    p = stop;
  }
}

std::pair<Token, float> parse_logit_bias(const std::string& text) {
  std::pair<Token, float> bias;
  const char *const begin = text.data(), *const end = begin + text.size(), *const equals = std::find(begin, end, '=');
  const auto parse = [](const char* from, const char* to, auto& value) {
    const auto [rest, error] = std::from_chars(from, to, value);
    return error == std::errc() && rest == to;
  };
  if (equals == end || !parse(begin, equals, bias.first) || !parse(equals + 1 + (equals[1] == '+'), end, bias.second))
    usage_error("--logit-bias: wanted ID=V as in 42=-1.5, found '" + text + "'");
  return bias;
}

SessionOptions session_options(const RunArguments& a, int n_vocab) {
  SessionOptions o;
  o.n_ctx = a.n_ctx, o.max_batch = a.batch;
  o.cache_k = cache_type(a.cache_type_k, a), o.cache_v = cache_type(a.cache_type_v, a);
  o.observe_router = !a.stats.empty();
  if (!a.logits_out.empty()) {
    const size_t rows = kLogitsBytes / (sizeof(float) * static_cast<size_t>(std::max(1, n_vocab)));
    o.max_outputs = std::min(a.batch, static_cast<int>(std::max<size_t>(1, rows)));
  }
  return o;
}

}  // namespace moe::tools
