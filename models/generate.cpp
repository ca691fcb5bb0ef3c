#include "models/generate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>

#include "models/tokenizer/stream_decoder.h"

namespace moe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A broken byte becomes U+FFFD, which takes three; up to three bytes wait for the rest of their character.
constexpr size_t kDecoderGrowth = 3, kDecoderWaits = 3;

// Token by token to text that is certain. Without a tokenizer everything is "".
class TextStream {
 public:
  TextStream(const Tokenizer* tokenizer, const GenerateOptions& options, std::span<const std::string> stops)
      : matcher_(stops, tokenizer ? kDecoderGrowth * (tokenizer->longest_piece() + kDecoderWaits) : 0) {
    if (tokenizer) decoder_.emplace(*tokenizer, options.render_special);
  }

  std::string_view feed(Token token) { return decoder_ ? matcher_.feed(decoder_->feed(token)) : std::string_view(); }
  bool stopped() const { return matcher_.matched(); }

  // The rest, into the callback. Two parts: the end of the stream may complete a stop string.
  void finish(const TokenFunction& on_token) {
    if (!decoder_ || stopped()) return;
    const auto give = [&](std::string_view text) {
      if (!text.empty()) on_token(kNoToken, text);
    };
    give(matcher_.feed(decoder_->flush()));
    give(matcher_.flush());
  }

 private:
  std::optional<StreamDecoder> decoder_;
  StopMatcher matcher_;
};

// As the stream of text shows them: text that is not UTF-8 never comes out of it as it is.
Result<std::vector<std::string>> usable_stops(const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (!options.stop.empty() && !tokenizer) return Status::InvalidArgument("stop strings need a model with a tokenizer");
  std::vector<std::string> stops;
  for (const std::string& s : options.stop) {
    if (s.empty()) return Status::InvalidArgument("stop string: wanted at least one character, found none");
    stops.push_back(replace_invalid_utf8(s));
  }
  return stops;
}

}  // namespace

const char* stop_reason_name(StopReason reason) {
  static constexpr std::array<const char*, 5> kNames = {"length", "end of generation", "stop string", "context full",
                                                        "cancelled"};
  return kNames[static_cast<size_t>(reason)];
}

Result<GenerateResult> generate(Session& session, Sampler& sampler, std::span<const Token> prompt,
                                const GenerateOptions& options, const TokenFunction& on_token) {
  const Tokenizer* tokenizer = session.model().tokenizer();
  MOE_ASSIGN(const std::vector<std::string> stops, usable_stops(options, tokenizer));
  if (options.seq < 0 || options.seq >= session.options().n_seqs)
    return Status::InvalidArgument("generate: no sequence " + std::to_string(options.seq));
  TextStream text(tokenizer, options, stops);
  GenerateResult result;

  const auto prompt_start = Clock::now();
  if (!prompt.empty()) {
    MOE_TRY(session.eval_prompt(prompt, options.seq, {}, options.on_progress));
    for (const Token t : prompt) sampler.accept(t);
  } else if (session.n_logits() == 0) {
    return Status::InvalidArgument("generate: the prompt is empty and nothing was evaluated before");
  }
  result.n_prompt = static_cast<int>(prompt.size());
  result.prompt_seconds = seconds_since(prompt_start);

  const auto start = Clock::now();
  while (options.n_predict < 0 || result.n_generated < options.n_predict) {
    const Token token = sampler.sample(session.logits(session.n_logits() - 1));
    if (!options.ignore_eos && tokenizer && tokenizer->is_end_of_generation(token)) {
      result.reason = StopReason::kEndOfGeneration;
      break;
    }
    sampler.accept(token);
    ++result.n_generated;
    const bool go_on = on_token(token, text.feed(token));
    if (!go_on || text.stopped()) {
      result.reason = text.stopped() ? StopReason::kStopString : StopReason::kCallback;
      break;
    }
    if (result.n_generated == options.n_predict) break;
    if (session.length(options.seq) >= session.options().n_ctx) {
      result.reason = StopReason::kContextFull;
      break;
    }
    const BatchToken next{token, options.seq, true};
    MOE_TRY(session.eval({&next, 1}));
    ++result.n_decoded;
  }
  result.generate_seconds = seconds_since(start);
  text.finish(on_token);
  return result;
}

StopMatcher::StopMatcher(std::span<const std::string> stops, size_t longest_feed) : stops_(stops.begin(), stops.end()) {
  size_t longest = 0;
  for (const std::string& s : stops_) longest = std::max(longest, s.size());
  text_.reserve(longest + longest_feed);
}

size_t StopMatcher::first_match() const {
  size_t first = std::string::npos;
  for (const std::string& s : stops_) first = std::min(first, text_.find(s));
  return first;
}

size_t StopMatcher::possible_match() const {
  const std::string_view text = text_;
  size_t start = text.size();
  for (const std::string& s : stops_) {
    const size_t longest = std::min(s.size() - 1, text.size());
    for (size_t i = text.size() - longest; i < start; ++i)
      if (std::string_view(s).starts_with(text.substr(i))) start = i;
  }
  return start;
}

std::string_view StopMatcher::feed(std::string_view text) {
  if (matched_) return {};
  text_.erase(0, released_);
  text_.append(text);
  const size_t match = first_match();
  matched_ = match != std::string::npos;
  released_ = matched_ ? match : possible_match();
  return std::string_view(text_).substr(0, released_);
}

std::string_view StopMatcher::flush() {
  if (matched_) return {};
  text_.erase(0, released_);
  released_ = text_.size();
  return text_;
}

}  // namespace moe
