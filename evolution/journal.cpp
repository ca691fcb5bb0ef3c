#include "evolution/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/file.h"
#include "evolution/json_fields.h"

namespace moe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr size_t kMostBytes = size_t{1} << 30, kMostLine = size_t{256} << 20;
constexpr size_t kMostChildren = size_t{1} << 20, kMostLayers = 4096, kMostDomains = 4096, kMostOperators = 32768;
constexpr std::string_view kOpening = "{\"sum\":\"";
constexpr size_t kSumDigits = 16;

uint64_t sum_of(std::string_view bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : bytes) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

std::string hex(uint64_t value) {
  char digits[kSumDigits + 1];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

// {"sum":"…","kind":{…}} and a newline.
std::string line_of(const char* kind, const std::string& object) {
  const std::string rest = "\"" + std::string(kind) + "\":" + object + "}";
  return std::string(kOpening) + hex(sum_of(rest)) + "\"," + rest + "\n";
}

// --- Evaluations and records as JSON: the tables are read and written alike ---

template <class T>
struct Number {
  const char* name;
  double T::*value;
};
constexpr Number<Evaluation> kNumbers[] = {{"active_flops", &Evaluation::active_flops},
                                           {"expert_flops", &Evaluation::expert_flops},
                                           {"bytes_per_token", &Evaluation::bytes_per_token},
                                           {"resident_bytes", &Evaluation::resident_bytes},
                                           {"latency_ms", &Evaluation::latency_ms},
                                           {"kept_share", &Evaluation::kept_share},
                                           {"k_mean", &Evaluation::k_mean},
                                           {"load_cv", &Evaluation::load_cv},
                                           {"diversity", &Evaluation::diversity},
                                           {"layer_error", &Evaluation::layer_error},
                                           {"kl", &Evaluation::kl},
                                           {"kl_error", &Evaluation::kl_error},
                                           {"worst_domain_kl", &Evaluation::worst_domain_kl},
                                           {"nll", &Evaluation::nll},
                                           {"accuracy", &Evaluation::accuracy}};

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }
Json numbers(const std::vector<double>& values) {
  Json all = Json::array();
  for (const double x : values) all.push_back(number(x));
  return all;
}

Json json_of(const Evaluation& e) {
  Json j = Json::object();
  for (const auto& n : kNumbers)
    if (std::isfinite(e.*n.value)) j[n.name] = e.*n.value;
  if (!e.layer_errors.empty()) j["layer_errors"] = numbers(e.layer_errors);
  if (!e.domain_kl.empty()) j["domain_kl"] = numbers(e.domain_kl);
  j["tokens"] = e.tokens;
  if (e.dropped) j["dropped"] = true;
  return j;
}

Json json_of(const std::vector<Evaluation>& evaluations) {
  Json all = Json::array();
  for (const Evaluation& e : evaluations) all.push_back(json_of(e));
  return all;
}

Json json_of(const SearchStatistics& s) {
  return {{"best", numbers(s.best)},
          {"hypervolume", number(s.hypervolume)},
          {"diversity", number(s.diversity)},
          {"unique_layers", s.unique_layers},
          {"duplicates", s.duplicates},
          {"rank_screen", number(s.rank_screen)},
          {"rank_learnt", number(s.rank_learnt)},
          {"mutation_share", numbers(s.mutation_share)},
          {"crossover_share", numbers(s.crossover_share)}};
}

std::vector<double> read_numbers(const JsonField& field, size_t most) {
  std::vector<double> all;
  for (const JsonField& item : field.items(0, most)) all.push_back(item.number_or_nan());
  return all;
}

Evaluation read_evaluation(const JsonField& field) {
  Evaluation e;
  for (const auto& n : kNumbers)
    if (field.has(n.name)) e.*n.value = field[n.name].number();
  if (field.has("layer_errors")) e.layer_errors = read_numbers(field["layer_errors"], kMostLayers);
  if (field.has("domain_kl")) e.domain_kl = read_numbers(field["domain_kl"], kMostDomains);
  e.tokens = field["tokens"].integer(0, INT64_MAX);
  e.dropped = field.has("dropped") && field["dropped"].boolean();
  return e;
}

std::vector<Evaluation> read_evaluations(const JsonField& field) {
  std::vector<Evaluation> all;
  for (const JsonField& item : field.items(0, kMostChildren)) all.push_back(read_evaluation(item));
  return all;
}

SearchStatistics read_statistics(const JsonField& field) {
  SearchStatistics s;
  s.best = read_numbers(field["best"], kMostObjectives);
  s.hypervolume = field["hypervolume"].number_or_nan();
  s.diversity = field["diversity"].number_or_nan();
  s.unique_layers = field["unique_layers"].unsigned_integer();
  s.duplicates = field["duplicates"].unsigned_integer();
  s.rank_screen = field.has("rank_screen") ? field["rank_screen"].number_or_nan() : kNotMeasured;
  s.rank_learnt = field.has("rank_learnt") ? field["rank_learnt"].number_or_nan() : kNotMeasured;
  s.mutation_share = read_numbers(field["mutation_share"], kMostOperators);
  s.crossover_share = read_numbers(field["crossover_share"], kMostOperators);
  return s;
}

GenerationRecord read_record(const JsonField& field) {
  GenerationRecord r;
  r.generation = static_cast<uint32_t>(field["generation"].integer(0, UINT32_MAX));
  for (const JsonField& item : field["picked"].items(0, kMostChildren))
    r.picked.push_back(static_cast<uint32_t>(item.integer(0, UINT32_MAX)));
  r.children_hash = field["children_hash"].hex();
  r.rescored = read_evaluations(field["rescored"]);
  r.evaluations = read_evaluations(field["evaluations"]);
  r.confirmed = read_evaluations(field["confirmed"]);
  r.token_layers = field["token_layers"].number(0);
  r.seconds = field["seconds"].number(0);
  r.statistics = read_statistics(field["statistics"]);
  return r;
}

// --- Lines ---

struct Reader {
  std::string name;
  JournalText text;
  bool opened = false;

  Status add(std::string_view line) {
    const size_t rest_at = kOpening.size() + kSumDigits + 2;
    if (line.size() < rest_at || !line.starts_with(kOpening) || line.substr(rest_at - 2, 2) != "\",")
      return Status::Corrupt("wanted {\"sum\":\"16 digits\",…, found another line");
    const std::string_view rest = line.substr(rest_at);
    const std::string wanted = hex(sum_of(rest));
    if (line.substr(kOpening.size(), kSumDigits) != wanted)
      return Status::Corrupt("wanted the sum " + wanted + ", found " + std::string(line.substr(kOpening.size(), kSumDigits)) +
                             ": the line was changed");
    MOE_ASSIGN(const JsonDocument document, JsonDocument::parse(line, "record", {kMostLine, 12}));
    const JsonField root = document.root();
    if (!opened) {
      read_opening(root["journal"]);
      opened = true;
    } else if (root.has("generation")) {
      GenerationRecord record = read_record(root["generation"]);
      if (document.status().ok() && record.generation != text.generations.size())
        return Status::Corrupt("wanted generation " + std::to_string(text.generations.size()) + ", found " +
                               std::to_string(record.generation));
      text.generations.push_back(std::move(record));
    } else {
      text.end = root["end"].json();
    }
    return document.status();
  }

  void read_opening(const JsonField& field) {
    if (field["format"].text(100) != "moe-journal") field["format"].refuse("moe-journal");
    if (field["version"].integer(1, INT32_MAX) != kVersion) field["version"].refuse(std::to_string(kVersion));
    text.settings = field["settings"].json();
  }
};

Status failed(const std::string& path, const char* what, int error) {
  return Status::Io(path + ": " + what + ": " + std::strerror(error));
}

Result<std::string> object_text(std::string_view json, const char* what) {
  const Json parsed = Json::parse(json, nullptr, false);
  if (!parsed.is_object()) return Status::InvalidArgument(std::string(what) + ": wanted a JSON object");
  return parsed.dump();
}

}  // namespace

std::string journal_line(const GenerationRecord& r) {
  Json j = {{"generation", r.generation},
            {"picked", r.picked},
            {"children_hash", hex(r.children_hash)},
            {"rescored", json_of(r.rescored)},
            {"evaluations", json_of(r.evaluations)},
            {"confirmed", json_of(r.confirmed)},
            {"token_layers", r.token_layers},
            {"seconds", r.seconds},
            {"statistics", json_of(r.statistics)}};
  return line_of("generation", j.dump());
}

Result<JournalText> parse_journal(std::string_view text, const std::string& name) {
  Reader reader;
  size_t number = 1;
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos) break;  // cut short
    if (const Status s = reader.add(text.substr(at, end - at)); !s.ok())
      return s.Annotate(name + ": line " + std::to_string(number));
    at = end + 1;
    reader.text.whole_bytes = at;
  }
  return std::move(reader.text);
}

Result<JournalText> read_journal(const std::string& path) {
  MOE_ASSIGN(const std::string text, read_text_file(path, kMostBytes));
  return parse_journal(text, path);
}

Result<Journal> Journal::create(const std::string& path, std::string_view settings) {
  MOE_ASSIGN(const std::string object, object_text(settings, "settings"));
  Journal journal;
  journal.path_ = path;
  // A run that was killed before its first line was whole has left nothing.
  if (const Result<std::string> old = read_text_file(path, kMostBytes); old.ok() && old->find('\n') == std::string::npos)
    ::unlink(path.c_str());
  journal.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (journal.fd_ < 0 && errno == EEXIST)
    return Status::InvalidArgument(path + ": there is a journal already; resume it, or choose another place");
  if (journal.fd_ < 0) return failed(path, "cannot create", errno);
  MOE_TRY(journal.write_line(line_of(
      "journal", "{\"format\":\"moe-journal\",\"version\":" + std::to_string(kVersion) + ",\"settings\":" + object + "}")));
  return journal;
}

Result<Journal> Journal::resume(const std::string& path, const JournalText& read) {
  Journal journal;
  journal.path_ = path;
  journal.fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (journal.fd_ < 0) return failed(path, "cannot open", errno);
  struct stat info = {};
  if (::fstat(journal.fd_, &info) != 0) return failed(path, "cannot look at", errno);
  if (static_cast<size_t>(info.st_size) < read.whole_bytes) return Status::Io(path + ": became shorter while it was read");
  if (::ftruncate(journal.fd_, static_cast<off_t>(read.whole_bytes)) != 0) return failed(path, "cannot cut", errno);
  return journal;
}

Journal::Journal(Journal&& o) noexcept : path_(std::move(o.path_)), fd_(std::exchange(o.fd_, -1)) {}

Journal& Journal::operator=(Journal&& o) noexcept {
  std::swap(path_, o.path_);
  std::swap(fd_, o.fd_);
  return *this;
}

Journal::~Journal() {
  if (fd_ >= 0) ::close(fd_);
}

Status Journal::append(const GenerationRecord& record) { return write_line(journal_line(record)); }

Status Journal::append_end(std::string_view json) {
  MOE_ASSIGN(const std::string object, object_text(json, "end"));
  return write_line(line_of("end", object));
}

// What could not be written whole is taken back, so that the next line does not follow half a one.
Status Journal::write_line(const std::string& line) {
  const off_t before = ::lseek(fd_, 0, SEEK_END);
  const auto fail = [&](int error) {
    const Status status = failed(path_, "cannot write", error);
    if (before < 0 || ::ftruncate(fd_, before) != 0) return status.Annotate("the last line is cut short");
    return status;
  };
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(n < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(n);
  }
  // Pipes and some file systems cannot sync; the bytes are with the system all the same.
  if (::fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) return fail(errno);
  return {};
}

}  // namespace moe
