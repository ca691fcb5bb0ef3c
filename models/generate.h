// The loop around a session and a sampler: evaluates a prompt, then draws tokens until something says stop. Text comes out as
// whole characters, and never a part of a stop string.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/sampler.h"
#include "models/session.h"

namespace moe {

enum class StopReason {
  kLength,           // n_predict tokens were made
  kEndOfGeneration,  // the model drew a token that ends its turn
  kStopString,
  kContextFull,
  kCallback,  // on_token returned false
};
const char* stop_reason_name(StopReason reason);  // "length", "end of generation", "stop string", "context full", "cancelled"

struct GenerateOptions {
  int n_predict = -1;  // tokens to draw; −1: until something else stops
  int seq = 0;
  std::vector<std::string> stop;          // may span tokens; where several match, the one that begins first; needs a tokenizer
  bool ignore_eos = false;                // end-of-generation tokens are tokens like others
  bool render_special = false;            // control tokens appear in the text
  Session::ProgressFunction on_progress;  // of the prompt, see eval_prompt()
};

// Called once a token, in order, with the text that became certain: whole UTF-8 characters, "" while a character or what may be
// a stop string is open, or for a model without a tokenizer. Text left at the end comes in one more call with kNoToken, whose
// answer does not count. The view is valid inside the call. Returning false stops.
using TokenFunction = std::function<bool(Token token, std::string_view text)>;

struct GenerateResult {
  int n_prompt = 0;     // tokens evaluated before the first draw
  int n_generated = 0;  // tokens given to the callback
  int n_decoded = 0;    // generated tokens that were evaluated: all but the last one unless the context was full before it
  StopReason reason = StopReason::kLength;
  double prompt_seconds = 0;
  double generate_seconds = 0;  // of n_decoded evaluations, with drawing and the callback
};

// Appends `prompt` to the sequence, shows it to the sampler, evaluates it, and generates. An empty prompt goes on from the
// last row of logits of the session's last eval(), whose tokens the sampler must have accepted. Afterwards the session holds
// prompt and generated tokens except the last one, which nothing was drawn from: it belongs in front of whatever is evaluated
// next. The token that ended the generation is not given to the callback. Allocates before the first token only. Errors: those
// of Session::eval_prompt(); kInvalidArgument for an empty or useless stop string, or nothing to go on from.
Result<GenerateResult> generate(Session& session, Sampler& sampler, std::span<const Token> prompt,
                                const GenerateOptions& options, const TokenFunction& on_token);

// Holds back the end of a text for as long as it may turn out to begin a stop string. Allocates in the constructor only. Not
// thread-safe.
class StopMatcher {
 public:
  // `longest_feed`: the most bytes that one feed() brings. Stop strings must not be empty.
  StopMatcher(std::span<const std::string> stops, size_t longest_feed);

  // The text that is certain now, up to a stop string that is complete. Valid until the next call; after a match nothing more
  // comes out.
  std::string_view feed(std::string_view text);
  std::string_view flush();  // what was held back, once no more text comes
  bool matched() const { return matched_; }

 private:
  size_t first_match() const;     // where the first complete stop string begins, or npos
  size_t possible_match() const;  // where the longest end of text_ that begins a stop string starts, or its size

  std::vector<std::string> stops_;
  std::string text_;     // what was held back, and what came after it
  size_t released_ = 0;  // bytes of text_ that the last call gave out
  bool matched_ = false;
};

}  // namespace moe
