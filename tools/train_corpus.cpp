#include "tools/train_corpus.h"

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/io/gguf.h"
#include "models/tokenizer/tokenizer.h"
#include "models/train/bpe_trainer.h"
#include "models/train/token_file.h"

namespace moe::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBatchBytes = 8 << 20;  // of text that all threads work on at once

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// --- Options ---

void add_text_options(CLI::App& app, CorpusArguments::Text& a) {
  app.add_option("FILES", a.files, "files of text, plain or .xz; - is standard input")->required();
  app.add_option("--format", a.kind, "auto: jsonl for names that end so, else separator")
      ->check(CLI::IsMember({"auto", "whole", "separator", "blank", "jsonl"}))
      ->capture_default_str();
  app.add_option("--separator", a.separator, "the line between two documents")->capture_default_str();
  app.add_option("--layout", a.layout,
                 "the text of a JSON object, {NAME} is a field, {NAME?} one that may be absent: 'Q: {question}\\nA: {answer}'")
      ->capture_default_str();
  app.add_option("--invalid", a.invalid, "bytes that are not UTF-8: keep, or replace by U+FFFD")
      ->check(CLI::IsMember({"keep", "replace"}))
      ->capture_default_str();
  app.add_option("--max-document", a.most_mib, "MiB; longer documents are cut into several")
      ->check(CLI::Range(0.001, 512.0))
      ->capture_default_str();
}

TextFormat format_of(const CorpusArguments::Text& a, const std::string& file) {
  TextFormat f;
  const bool json_name = file.ends_with(".jsonl") || file.ends_with(".jsonl.xz");
  if (a.kind == "whole") f.kind = TextKind::kWhole;
  if (a.kind == "blank") f.kind = TextKind::kBlankLines;
  if (a.kind == "jsonl" || (a.kind == "auto" && json_name)) f.kind = TextKind::kJsonl;
  f.separator = unescape(a.separator);
  f.layout = unescape(a.layout);
  f.replace_invalid = a.invalid == "replace";
  f.most_bytes = static_cast<size_t>(a.most_mib * (1 << 20));
  return f;
}

void check_out(const CorpusArguments& a) {
  for (const std::string& file : a.text.files) {
    std::error_code none;
    if (file != "-" && std::filesystem::equivalent(file, a.out, none)) usage_error("--out is one of the FILES: " + a.out);
  }
}

// --- Reading ---

// Stored bytes of all files, 0 when one has no size.
double stored_bytes(const std::vector<std::string>& files) {
  double sum = 0;
  for (const std::string& file : files) {
    std::error_code error;
    const auto size = std::filesystem::file_size(file, error);
    if (error) return 0;
    sum += static_cast<double>(size);
  }
  return sum;
}

// Reads all files and calls `work` with the documents, some megabytes at a time.
using Work = std::function<Status(std::span<const std::string_view> documents)>;
Status for_batches(const CorpusArguments::Text& a, Progress& progress, TextCounts& counts, const Work& work) {
  std::vector<std::string> batch;
  size_t bytes = 0;
  const auto flush = [&]() -> Status {
    const std::vector<std::string_view> views(batch.begin(), batch.end());
    MOE_TRY(work(views));
    batch.clear(), bytes = 0;
    return Status::Ok();
  };
  double before = 0;
  for (const std::string& file : a.files) {
    MOE_ASSIGN(const std::unique_ptr<ByteSource> source, a.open(file));
    const auto add = [&](std::string_view text) -> Status {
      if (interrupted()) return interrupted_status();
      batch.emplace_back(text);
      bytes += text.size();
      progress.update(before + static_cast<double>(source->consumed()), file);
      return bytes >= kBatchBytes ? flush() : Status::Ok();
    };
    MOE_TRY(read_documents(*source, file, format_of(a, file), add, counts));
    before += static_cast<double>(source->consumed());
  }
  return flush();
}

void warn_of(const TextCounts& counts, const CorpusArguments::Text& a, const Program& program) {
  if (counts.cuts > 0)
    program.warn(format_grouped(static_cast<int64_t>(counts.cuts)) + " cuts in documents of more than " +
                 format_fixed(a.most_mib, a.most_mib < 1 ? 3 : 0) + " MiB (--max-document)");
}

// --- tokenizer ---

Status write_vocabulary(const TokenizerData& data, const std::string& path) {
  MOE_ASSIGN(const Tokenizer usable, Tokenizer::create(data));  // what we write, others can read
  static_cast<void>(usable);
  Metadata metadata(path);
  set_tokenizer(data, metadata);
  MOE_ASSIGN(GgufWriter writer, GgufWriter::create(path, metadata, {}));
  return writer.commit();
}

Result<TrainedBpe> train(const CorpusArguments& a, const WordCounter& words) {
  BpeTrainerOptions options;
  options.n_vocab = a.n_vocab;
  options.specials = a.specials;
  options.min_count = a.min_count;
  options.max_token_bytes = a.max_token_bytes;
  Progress progress("merge", a.n_vocab, Progress::Unit::kCount, "tokens");
  auto trained = train_bpe(words, options, [&](int tokens, int) {
    progress.update(tokens);
    return !interrupted();
  });
  if (!trained.ok() && trained.status().code() == StatusCode::kCancelled) return interrupted_status();
  return trained;
}

Status make_tokenizer(const Program& program, const CorpusArguments& a) {
  const auto start = Clock::now();
  WordCounter words = or_usage("tokenizer", WordCounter::create(a.pre, a.max_words));
  // The smallest training there is finds settings that make no vocabulary before hours of reading.
  if (const auto dry = train(a, words); !dry.ok()) usage_error(dry.status().message());
  ThreadPool pool(program.n_threads());
  TextCounts counts;
  {
    Progress progress("count", stored_bytes(a.text.files), Progress::Unit::kBytes);
    MOE_TRY(for_batches(a.text, progress, counts, [&](std::span<const std::string_view> documents) {
      words.add(documents, pool);
      return Status::Ok();
    }));
  }
  if (counts.documents == 0) return Status::InvalidArgument("the files hold no text");
  MOE_ASSIGN(const TrainedBpe trained, train(a, words));
  MOE_TRY(write_vocabulary(trained.data, a.out));
  warn_of(counts, a.text, program);
  if (words.forgotten() > 0)
    program.warn(format_grouped(static_cast<int64_t>(words.forgotten())) +
                 " occurrences of rare words were forgotten (--max-words)");
  if (!trained.repair.empty()) program.warn(trained.repair);
  const double seconds = seconds_since(start);
  if (program.json())
    print_json({{"out", a.out},
                {"tokens", trained.data.tokens.size()},
                {"merges", trained.data.merges.size()},
                {"documents", counts.documents},
                {"bytes", counts.bytes},
                {"words", words.n_words()},
                {"forgotten", words.forgotten()},
                {"repair", trained.repair},
                {"vocabulary_hash", vocabulary_hash(trained.data)},
                {"seconds", seconds}});
  else
    std::printf("# %s  %s tokens of %s in %s documents (%s words)  %s, %s/s\n", a.out.c_str(),
                format_grouped(static_cast<int64_t>(trained.data.tokens.size())).c_str(),
                format_bytes(static_cast<double>(counts.bytes)).c_str(),
                format_grouped(static_cast<int64_t>(counts.documents)).c_str(),
                format_grouped(static_cast<int64_t>(words.n_words())).c_str(), format_duration(seconds).c_str(),
                format_bytes(static_cast<double>(counts.bytes) / seconds).c_str());
  return Status::Ok();
}

// --- tokens ---

class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, TokenFileWriter& writer, ThreadPool& pool, Token end)
      : tokenizer_(tokenizer), writer_(writer), pool_(pool), end_(end) {}

  // Threads take documents as they come; the file gets them in order.
  Status add(std::span<const std::string_view> documents) {
    encoded_.resize(documents.size());
    failures_.assign(documents.size(), Status::Ok());
    std::atomic<size_t> next = 0;
    auto work = [&](int) {
      for (size_t i = next++; i < documents.size(); i = next++) encode(documents[i], i);
    };
    pool_.run(work);
    for (size_t i = 0; i < documents.size(); ++i) {
      MOE_TRY(failures_[i]);
      MOE_TRY(writer_.add_document(encoded_[i]));
    }
    return Status::Ok();
  }

 private:
  void encode(std::string_view text, size_t i) {
    auto tokens = tokenizer_.encode(text, {.add_special = false, .parse_special = false});
    if (!tokens.ok()) {
      failures_[i] = tokens.status();
      return;
    }
    encoded_[i] = std::move(tokens).value();
    if (end_ != kNoToken) encoded_[i].push_back(end_);
  }

  const Tokenizer& tokenizer_;
  TokenFileWriter& writer_;
  ThreadPool& pool_;
  Token end_;
  std::vector<std::vector<Token>> encoded_;
  std::vector<Status> failures_;
};

Status make_tokens(const Program& program, const CorpusArguments& a) {
  const auto start = Clock::now();
  MOE_ASSIGN(const GgufFile file, GgufFile::open(a.tokenizer));
  MOE_ASSIGN(TokenizerData data, TokenizerData::from_metadata(file.metadata()));
  const uint64_t hash = vocabulary_hash(data);
  auto made = Tokenizer::create(std::move(data));
  if (!made.ok()) return made.status().Annotate(a.tokenizer);
  const Tokenizer& tokenizer = *made;
  const Token end = a.no_end ? kNoToken : tokenizer.eos();
  if (!a.no_end && end == kNoToken)
    return Status::NotFound(a.tokenizer +
                            ": the vocabulary has no end-of-sequence token to end documents with\n  say --no-end");
  MOE_ASSIGN(TokenFileWriter writer, TokenFileWriter::create(a.out, hash, tokenizer.n_vocab()));
  ThreadPool pool(program.n_threads());
  Encoder encoder(tokenizer, writer, pool, end);
  TextCounts counts;
  {
    Progress progress("tokens", stored_bytes(a.text.files), Progress::Unit::kBytes);
    MOE_TRY(for_batches(a.text, progress, counts, [&](std::span<const std::string_view> d) { return encoder.add(d); }));
  }
  if (counts.documents == 0) return Status::InvalidArgument("the files hold no text");
  MOE_TRY(writer.commit());
  warn_of(counts, a.text, program);
  const double seconds = seconds_since(start), bytes = static_cast<double>(counts.bytes);
  const double per_token = bytes / static_cast<double>(writer.n_tokens());
  if (program.json())
    print_json({{"out", a.out},
                {"tokens", writer.n_tokens()},
                {"documents", writer.n_documents()},
                {"bytes", counts.bytes},
                {"bytes_per_token", per_token},
                {"cuts", counts.cuts},
                {"vocabulary_hash", hash},
                {"seconds", seconds}});
  else
    std::printf("# %s  %s tokens in %s documents  %s bytes/token  %s, %s/s\n", a.out.c_str(),
                format_grouped(static_cast<int64_t>(writer.n_tokens())).c_str(),
                format_grouped(static_cast<int64_t>(writer.n_documents())).c_str(), format_fixed(per_token, 2).c_str(),
                format_duration(seconds).c_str(), format_bytes(bytes / seconds).c_str());
  return Status::Ok();
}

}  // namespace

void add_corpus_commands(CLI::App& app, CorpusArguments& a) {
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "trains a byte-level BPE vocabulary: a GGUF file without weights");
  add_text_options(*tokenizer, a.text);
  tokenizer->add_option("-o,--out", a.out, "GGUF file to write")->required();
  tokenizer->add_option("--vocab", a.n_vocab, "tokens: 256 bytes, special tokens and merges together")->capture_default_str();
  tokenizer->add_option("--pre", a.pre, "how text is cut into words: gpt-2, llama-bpe, qwen2, gpt-4o …")->capture_default_str();
  tokenizer->add_option("--special", a.specials, "special token, repeatable; the first one ends documents")
      ->allow_extra_args(false)
      ->capture_default_str();
  tokenizer->add_option("--min-count", a.min_count, "a pair that occurs less often is not merged")->capture_default_str();
  tokenizer->add_option("--max-token-bytes", a.max_token_bytes, "of the longest token")->capture_default_str();
  tokenizer->add_option("--max-words", a.max_words, "different words kept; the rarest are forgotten")->capture_default_str();

  CLI::App* tokens = app.add_subcommand("tokens", "encodes text: a file of tokens for training");
  add_text_options(*tokens, a.text);
  tokens->add_option("-o,--out", a.out, "token file to write")->required();
  tokens->add_option("--tokenizer", a.tokenizer, "GGUF file with the vocabulary")->required();
  tokens->add_flag("--no-end", a.no_end, "documents do not end in the end-of-sequence token");
}

Status run_corpus_command(Program& program, const CorpusArguments& a) {
  check_out(a);
  catch_interrupts();
  return program.app().got_subcommand("tokenizer") ? make_tokenizer(program, a) : make_tokens(program, a);
}

}  // namespace moe::tools
