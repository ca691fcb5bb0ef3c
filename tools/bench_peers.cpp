#include "tools/bench_peers.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "tools/common.h"

namespace moe::tools {
namespace {

using Json = nlohmann::json;

constexpr int kSweepPrompt = 512;  // llama-sweep-bench generates behind prompts of this length

std::string shell_word(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of(" \n\r");
  if (end == std::string::npos) return "";
  const size_t begin = text.find_last_of("\n\r", end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

Result<std::string> sweep_command(const std::string& common, const BenchTest& t) {
  const int step = t.n_prompt > 0 ? t.n_prompt : kSweepPrompt, n_gen = t.n_gen > 0 ? t.n_gen : 1;
  if (t.n_depth % step != 0)
    return Status::Unsupported("llama-sweep-bench goes in steps of " + std::to_string(step) +
                               " tokens: wanted a depth that is a multiple of it, found " + std::to_string(t.n_depth));
  const std::string n = std::to_string(step);
  return common + " -c " + std::to_string(t.n_depth + std::max(step, n_gen)) + " -b " + n + " -ub " + n + " -n " +
         std::to_string(n_gen) + " --output-format jsonl";
}

// What a command wrote, and how it ended.
struct Output {
  std::string out, err;
  int status = 0;  // of waitpid()
};

struct PipeCloser {
  void operator()(std::FILE* f) const { pclose(f); }
};

Result<Output> run_shell(const std::string& command) {
  std::string path = (std::filesystem::temp_directory_path() / "moe-bench-XXXXXX").string();
  const int fd = mkstemp(path.data());
  if (fd < 0) return Status::Io(path + ": cannot be made, for what a peer writes to stderr");
  close(fd);
  Output output;
  std::unique_ptr<std::FILE, PipeCloser> pipe(popen(("{ " + command + "\n} < /dev/null 2> " + shell_word(path)).c_str(), "r"));
  if (!pipe) return Status::Io("cannot start a shell");
  char bytes[4096];
  while (const size_t n = std::fread(bytes, 1, sizeof bytes, pipe.get())) output.out.append(bytes, n);
  output.status = pclose(pipe.release());
  if (const auto text = read_text_file(path); text.ok()) output.err = *text;
  unlink(path.c_str());
  return output;
}

}  // namespace

Result<Peer> parse_peer(const std::string& text) {
  const size_t equals = text.find('=');
  Peer peer;
  if (equals != std::string::npos && equals < text.find_first_of(" /")) {
    peer = {text.substr(0, equals), text.substr(equals + 1)};
  } else {
    const std::string program = text.substr(0, text.find(' '));
    peer = {program.substr(program.rfind('/') + 1), text};
  }
  if (peer.name.empty() || peer.command.find_first_not_of(' ') == std::string::npos)
    return Status::InvalidArgument("wanted COMMAND or NAME=COMMAND, found '" + text + "'");
  return peer;
}

Result<std::string> peer_command(const Peer& peer, const std::string& model, const BenchTest& t, int n_threads) {
  if (t.n_seqs > 1) return Status::Unsupported("llama-bench generates one sequence: leave out --seqs");
  const std::string common = peer.command + " -m " + shell_word(model) + " -t " + std::to_string(n_threads);
  if (peer.sweeps()) return sweep_command(common, t);
  return common + " -p " + std::to_string(t.n_prompt) + " -n " + std::to_string(t.n_gen) + " -r 1 -o json" +
         (t.n_depth > 0 ? " -d " + std::to_string(t.n_depth) : "");
}

// An array with an object a test.
Result<double> parse_llama_bench(std::string_view text, const BenchTest& t) {
  const Json rows = Json::parse(text, nullptr, false);
  if (!rows.is_array()) return Status::Corrupt("wanted llama-bench's JSON, an array of tests");
  for (const Json& row : rows) {
    const auto is = [&](const char* key, int wanted) {
      const auto it = row.find(key);
      return it == row.end() ? wanted == 0 : it->is_number() && it->get<double>() == wanted;
    };
    if (!row.is_object() || !is("n_prompt", t.n_prompt) || !is("n_gen", t.n_gen) || !is("n_depth", t.n_depth)) continue;
    if (const auto rate = row.find("avg_ts"); rate != row.end() && rate->is_number() && rate->get<double>() > 0)
      return rate->get<double>();
    return Status::Corrupt("wanted a positive number as avg_ts of " + t.name());
  }
  return Status::Corrupt("wanted test " + t.name() + " in llama-bench's JSON, found none");
}

// An object a line, among lines of other text: {"pp": 512, "tg": 128, "n_kv": 4096, "speed_pp": 201.5, "speed_tg": 36.1, …}
Result<double> parse_sweep_bench(std::string_view text, const BenchTest& t) {
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (!line.starts_with('{')) continue;
    const Json row = Json::parse(line, nullptr, false);
    const auto number = [&](const char* key) {
      const auto it = row.is_object() ? row.find(key) : row.end();
      return it != row.end() && it->is_number() ? it->get<double>() : -1.0;
    };
    if (number("n_kv") != t.n_depth || number(t.n_prompt > 0 ? "pp" : "tg") != t.tokens()) continue;
    if (const double rate = number(t.n_prompt > 0 ? "speed_pp" : "speed_tg"); rate > 0) return rate;
  }
  return Status::Corrupt("wanted a line of llama-sweep-bench's JSON with n_kv " + std::to_string(t.n_depth) + " for " +
                         t.name() + ", found none");
}

Result<double> run_peer(const Peer& peer, const std::string& model, const BenchTest& test, int n_threads) {
  const auto failed = [&](const std::string& what, const std::string& err) {
    const std::string line = last_line(err);
    return Status::Unsupported("--vs " + peer.name + ": " + what + (line.empty() ? "" : "; it says: " + line));
  };
  const auto command = peer_command(peer, model, test, n_threads);
  if (!command.ok()) return failed(command.status().message(), "");
  MOE_ASSIGN(const Output output, run_shell(*command));
  if (interrupted()) return interrupted_status();
  if (WIFSIGNALED(output.status)) return failed("ended by signal " + std::to_string(WTERMSIG(output.status)), output.err);
  if (const int code = WEXITSTATUS(output.status); code != 0) return failed("exit status " + std::to_string(code), output.err);
  auto rate = peer.sweeps() ? parse_sweep_bench(output.out + "\n" + output.err, test) : parse_llama_bench(output.out, test);
  return rate.ok() ? rate : failed(rate.status().message(), output.err);
}

double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::sort(x.begin(), x.end());
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

double spread(const std::vector<double>& x) {
  if (x.empty()) return 0;
  const auto [least, most] = std::minmax_element(x.begin(), x.end());
  return (*most - *least) / 2 / median(x);
}

}  // namespace moe::tools
