#include "tools/zoo.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "models/io/gguf.h"
#include "models/io/gguf_format.h"
#include "tools/model_options.h"

namespace moe::tools {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr size_t kMostCardBytes = size_t{1} << 20;
constexpr size_t kMostSentence = 160;
constexpr const char* kFront = "front.json";

// Where the program lies, or "" where the system does not say.
fs::path program_folder(const Program& program) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error) return self.parent_path();
  const std::string& typed = program.invoked_as();
  if (typed.find('/') == std::string::npos) return {};
  const fs::path real = fs::canonical(typed, error);
  return error ? fs::path() : real.parent_path();
}

bool could_be_name(const std::string& text) { return !text.empty() && text.find_first_of("/.") == std::string::npos; }

// "# mosaic: one sentence" without what stands before it.
std::string sentence_of(const fs::path& card, const std::string& name) {
  const Result<std::string> text = read_text_file(card.string(), kMostCardBytes);
  if (!text.ok()) return "";
  std::string_view line = std::string_view(*text).substr(0, text->find_first_of("\r\n"));
  for (const std::string& before : {std::string("#"), std::string(" "), name, std::string(":"), std::string(" ")}) {
    if (line.starts_with(before)) line.remove_prefix(before.size());
  }
  return printable(line, kMostSentence);
}

std::vector<std::string> topologies_in(const fs::path& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".json" && it->path().filename() != kFront) paths.push_back(it->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::vector<std::string> names_of(const std::vector<ZooModel>& models) {
  std::vector<std::string> names;
  names.reserve(models.size());
  for (const ZooModel& m : models) names.push_back(m.name);
  return names;
}

// What a list says of a model's file.
struct Listed {
  std::string arch, damage;  // damage: why the file cannot be read, or ""
  int64_t parameters = 0;
  uint64_t bytes = 0;
};

Listed look_at(const ZooModel& model) {
  const Result<GgufFile> file = GgufFile::open(model.path);
  if (!file.ok()) return {.arch = "", .damage = file.status().message()};
  const auto arch = file->metadata().get_or<std::string>("general.architecture", "none");
  return {.arch = arch.ok() ? printable(*arch) : "none",
          .damage = "",
          .parameters = parameter_count(*file),
          .bytes = file->file_bytes()};
}

void print_zoo_json(const std::vector<ZooModel>& models, const std::vector<std::string>& folders) {
  Json list = Json::array();
  for (const ZooModel& m : models) {
    const Listed l = look_at(m);
    Json row = {{"name", m.name}, {"path", m.path}};
    if (l.damage.empty())
      row.update({{"arch", l.arch}, {"parameters", l.parameters}, {"file_bytes", l.bytes}});
    else
      row["error"] = l.damage;
    row["summary"] = m.summary;
    row["topologies"] = m.topologies;
    if (!m.front.empty()) row["front"] = m.front;
    list.push_back(row);
  }
  print_json({{"models", list}, {"folders", folders}});
}

void print_zoo(const std::vector<ZooModel>& models) {
  Table table({Table::kLeft, Table::kLeft, Table::kRight, Table::kRight, Table::kLeft});
  for (const ZooModel& m : models) {
    const Listed l = look_at(m);
    if (l.damage.empty())
      table.row({m.name, l.arch, format_count(static_cast<double>(l.parameters)), format_bytes(static_cast<double>(l.bytes)),
                 m.summary});
    else
      table.row({m.name, "?", "?", "?", l.damage});
  }
  std::fputs(table.text().c_str(), stdout);
}

// The path of that member, where `given` is a name and no file has it.
Status find_by_name(const Program& program, std::string& given, const char* what, std::string ZooModel::*path) {
  std::error_code none;
  const bool exists = fs::exists(given, none);
  if (!could_be_name(given) || (exists && !fs::is_directory(given, none))) return Status::Ok();
  const std::vector<std::string> folders = zoo_folders(program);
  std::vector<ZooModel> models = zoo_models(folders);
  std::erase_if(models, [&](const ZooModel& m) { return (m.*path).empty(); });
  for (const ZooModel& m : models) {
    if (m.name != given) continue;
    given = m.*path;
    return Status::Ok();
  }
  if (exists) return Status::Ok();  // opening it will say what is wrong with a folder
  return Status::NotFound(
      given + ": no such file, and no such " + what + " in a zoo\n  " +
      (models.empty() ? "no zoo is in " + joined(folders, ", ") : "there are: " + joined(names_of(models), ", ")));
}

}  // namespace

std::vector<std::string> zoo_folders(const Program& program) {
  std::vector<std::string> folders;
  const auto add = [&](const fs::path& folder) {
    const std::string path = folder.lexically_normal().string();
    if (std::find(folders.begin(), folders.end(), path) == folders.end()) folders.push_back(path);
  };
  const char* set = std::getenv("MOE_ZOO");
  for (std::string rest = set ? set : ""; !rest.empty();) {
    const size_t end = std::min(rest.find(':'), rest.size());
    if (end > 0) add(rest.substr(0, end));
    rest.erase(0, end + 1);
  }
  if (const fs::path folder = program_folder(program); !folder.empty()) {
    add(folder / "../../models/zoo");  // of build/bin
    add(folder / "../share/moe/zoo");  // of /usr/local/bin
  }
  add("./models/zoo");
  return folders;
}

std::vector<ZooModel> zoo_models(const std::vector<std::string>& folders) {
  std::map<std::string, ZooModel> found;
  for (const std::string& folder : folders) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const fs::path& home = it->path();
      const std::string name = home.filename().string();
      const fs::path file = home / (name + ".gguf");
      std::error_code none;
      if (!could_be_name(name) || found.contains(name) || !fs::is_regular_file(file, none)) continue;
      const fs::path front = home / "topologies" / kFront;
      found[name] = {name, file.string(), sentence_of(home / "card.md", name), topologies_in(home / "topologies"),
                     fs::is_regular_file(front, none) ? front.string() : ""};
    }
  }
  std::vector<ZooModel> models;
  models.reserve(found.size());
  for (auto& [name, model] : found) models.push_back(std::move(model));
  return models;
}

Status find_model(const Program& program, std::string& model) { return find_by_name(program, model, "model", &ZooModel::path); }
Status find_front(const Program& program, std::string& front) {
  return find_by_name(program, front, "model with a front", &ZooModel::front);
}

Status list_zoo(const Program& program) {
  const std::vector<std::string> folders = zoo_folders(program);
  const std::vector<ZooModel> models = zoo_models(folders);
  if (program.json())
    print_zoo_json(models, folders);
  else if (models.empty())
    std::printf("no models; looked into %s\n", joined(folders, ", ").c_str());
  else
    print_zoo(models);
  return Status::Ok();
}

}  // namespace moe::tools
