#include "core/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/temp_folder.h"

using namespace moe;
using moe::test::TempFolder;
namespace fs = std::filesystem;

namespace {

std::string text_of(const MappedFile& f) { return {reinterpret_cast<const char*>(f.bytes().data()), f.bytes().size()}; }

bool says(const Status& s, const std::string& part) { return s.message().find(part) != std::string::npos; }

int files_in(const TempFolder& folder) {
  int n = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++n;
  return n;
}

// Standard input comes from `path` for the scope.
class StandardInput {
 public:
  explicit StandardInput(const std::string& path) : saved_(::dup(STDIN_FILENO)) {
    const int fd = ::open(path.c_str(), O_RDONLY);
    ::dup2(fd, STDIN_FILENO);
    ::close(fd);
  }
  ~StandardInput() {
    ::dup2(saved_, STDIN_FILENO);
    ::close(saved_);
  }
  StandardInput(const StandardInput&) = delete;
  StandardInput& operator=(const StandardInput&) = delete;

 private:
  int saved_;
};

}  // namespace

TEST_CASE("a mapped file shows the bytes of the file and knows its path") {
  const TempFolder folder;
  const std::string text = std::string("hello\0world", 11) + std::string(10000, 'x');
  const std::string path = folder.write("a.bin", text);
  const auto file = MappedFile::open(path);
  REQUIRE(file.ok());
  CHECK(text_of(*file) == text);
  CHECK(file->path() == path);
}

TEST_CASE("an empty file maps to an empty span") {
  const TempFolder folder;
  const auto file = MappedFile::open(folder.write("empty", ""));
  REQUIRE(file.ok());
  CHECK(file->bytes().empty());
}

TEST_CASE("a mapping moves with its object") {
  const TempFolder folder;
  auto a = MappedFile::open(folder.write("a", "first"));
  auto b = MappedFile::open(folder.write("b", "second"));
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  MappedFile moved(std::move(*a));
  CHECK(text_of(moved) == "first");
  CHECK(a->bytes().empty());
  moved = std::move(*b);
  CHECK(text_of(moved) == "second");
}

TEST_CASE("what cannot be mapped is refused with path and reason, and a named pipe does not block") {
  const TempFolder folder;
  const auto missing = MappedFile::open(folder / "none");
  CHECK(missing.status().code() == StatusCode::kNotFound);
  CHECK(missing.status().message() == (folder / "none") + ": cannot open: No such file or directory");

  const auto directory = MappedFile::open(folder.path());
  CHECK(directory.status().code() == StatusCode::kIo);
  CHECK(says(directory.status(), folder.path() + ": wanted a file, found a directory"));

  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(says(MappedFile::open(folder / "pipe").status(), "wanted a regular file"));
  CHECK(says(MappedFile::open("/dev/null").status(), "wanted a regular file"));
  CHECK(MappedFile::open("").status().message() == "empty file name");
  CHECK(says(MappedFile::open(std::string("a\0b", 3)).status(), "a: the file name goes on after a zero byte"));
  CHECK(MappedFile::open(folder.write("f", "x") + "/g").status().code() == StatusCode::kNotFound);
}

TEST_CASE("a file beyond 4 GiB maps and writes at its far end") {
  const TempFolder folder;
  constexpr size_t kSize = (size_t{1} << 32) + 10;
  const std::string path = folder.write("sparse", "start");
  fs::resize_file(path, kSize);  // a hole: takes no space
  const auto file = MappedFile::open(path);
  REQUIRE(file.ok());
  REQUIRE(file->bytes().size() == kSize);
  CHECK(file->bytes()[0] == std::byte{'s'});
  CHECK(file->bytes()[kSize - 1] == std::byte{0});
}

TEST_CASE("an atomic file appears whole at commit, nothing before it, no temporary after it") {
  const TempFolder folder;
  const std::string path = folder.write("out", "old");
  auto file = AtomicFile::create(path);
  REQUIRE(file.ok());
  REQUIRE(file->write("head????", 8).ok());
  REQUIRE(file->write("tail", 4).ok());
  CHECK(file->position() == 12);
  REQUIRE(file->write_at(4, "BODY", 4).ok());
  CHECK(file->position() == 12);
  CHECK(*read_text_file(path) == "old");
  CHECK(files_in(folder) == 2);
  REQUIRE(file->commit().ok());
  CHECK(*read_text_file(path) == "headBODYtail");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("an atomic file that is not committed leaves the old file and no temporary") {
  const TempFolder folder;
  const std::string path = folder.write("out", "old");
  {
    auto file = AtomicFile::create(path);
    REQUIRE(file.ok());
    REQUIRE(file->write("new", 3).ok());
    AtomicFile moved(std::move(*file));
    REQUIRE(moved.write("er", 2).ok());
    auto other = AtomicFile::create(folder / "other");
    REQUIRE(other.ok());
    moved = std::move(*other);  // drops what it held
    CHECK(files_in(folder) == 2);
  }
  CHECK(*read_text_file(path) == "old");
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a replaced file keeps its permissions, a new one gets the ordinary ones") {
  const TempFolder folder;
  const std::string path = folder.write("out", "old");
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  REQUIRE(write_text_file(path, "new").ok());
  CHECK((fs::status(path).permissions() & fs::perms::all) == fs::perms(0640));
  const fs::perms ordinary = fs::status(folder.write("plain", "")).permissions();
  REQUIRE(write_text_file(folder / "fresh", "new").ok());
  CHECK(fs::status(folder / "fresh").permissions() == ordinary);
}

TEST_CASE("writing through a symbolic link replaces the file and keeps the link") {
  const TempFolder folder;
  folder.write("real/file", "old");
  fs::create_symlink("real/file", folder / "link");
  REQUIRE(write_text_file(folder / "link", "new").ok());
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(*read_text_file(folder / "real/file") == "new");
}

TEST_CASE("a name of 255 bytes can be written, a longer one is refused by name") {
  const TempFolder folder;
  const std::string longest = folder / std::string(255, 'n');
  CHECK(write_text_file(longest, "text").ok());
  CHECK(*read_text_file(longest) == "text");
  CHECK(says(write_text_file(longest + "n", "text"), "File name too long"));
  CHECK(files_in(folder) == 1);
}

TEST_CASE("a full disk is an error with path and reason, and it stays") {
  if (!fs::exists("/dev/full")) {
    MESSAGE("skipped: no /dev/full");
    return;
  }
  auto file = AtomicFile::create("/dev/full");
  REQUIRE(file.ok());
  const Status s = file->write("x", 1);
  CHECK(s.code() == StatusCode::kIo);
  CHECK(s.message() == "/dev/full: cannot write: No space left on device");
  CHECK(file->commit().message() == s.message());
}

TEST_CASE("devices are written to, not replaced") {
  CHECK(write_text_file("/dev/null", "text").ok());
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("a path that names an open descriptor goes on where that descriptor stands") {
  const TempFolder folder;
  const std::string path = folder / "log";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT, 0600);
  REQUIRE(fd >= 0);
  REQUIRE(::write(fd, "before ", 7) == 7);
  CHECK(write_text_file("/dev/fd/" + std::to_string(fd), "inside").ok());
  REQUIRE(::write(fd, " after", 6) == 6);
  ::close(fd);
  CHECK(*read_text_file(path) == "before inside after");
  CHECK(says(write_text_file("/dev/fd/" + std::to_string(fd), "x"), "Bad file descriptor"));
}

TEST_CASE("what is written directly has no way back") {
  auto file = AtomicFile::create("/dev/null");
  REQUIRE(file.ok());
  REQUIRE(file->write("head", 4).ok());
  CHECK(file->write_at(0, "HEAD", 4).message() == "/dev/null: cannot write at a position: Illegal seek");
}

TEST_CASE("where nothing can be created the error names the file that was wanted") {
  const TempFolder folder;
  const Status missing = write_text_file(folder / "no/such/file", "text");
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(missing.message() == (folder / "no/such/file") + ": cannot create: No such file or directory");
  CHECK(says(write_text_file(folder.path(), "text"), "wanted a file, found a directory"));
  CHECK(write_text_file("", "text").message() == "empty file name");
}

TEST_CASE("writing beyond what was written, or after commit, is a bug that throws") {
  const TempFolder folder;
  auto file = AtomicFile::create(folder / "out");
  REQUIRE(file.ok());
  REQUIRE(file->write("1234", 4).ok());
  CHECK_THROWS_AS((void)file->write_at(3, "ab", 2), BugError);
  CHECK_THROWS_AS((void)file->write_at(SIZE_MAX, "ab", 2), BugError);
  REQUIRE(file->commit().ok());
  CHECK_THROWS_AS((void)file->write("x", 1), BugError);
  CHECK_THROWS_AS((void)file->commit(), BugError);
}

TEST_CASE("text goes out and comes back, with zero bytes, of any size around the buffer's") {
  const TempFolder folder;
  for (const size_t n : {0, 1, 65535, 65536, 65537, 300000}) {
    std::string text(n, 'a');
    for (size_t i = 0; i < n; ++i) text[i] = static_cast<char>(i * 31 % 256);
    REQUIRE(write_text_file(folder / "text", text).ok());
    CHECK(*read_text_file(folder / "text") == text);
  }
}

TEST_CASE("read_text_file refuses what is larger than allowed, takes exactly what is allowed") {
  const TempFolder folder;
  const std::string path = folder.write("text", "0123456789");
  CHECK(*read_text_file(path, 10) == "0123456789");
  CHECK(*read_text_file(path, SIZE_MAX) == "0123456789");
  const Status s = read_text_file(path, 9).status();
  CHECK(s.code() == StatusCode::kOutOfRange);
  CHECK(s.message() == path + ": wanted at most 9 bytes, found more");
  CHECK(*read_text_file(folder.write("empty", ""), 0) == "");
  CHECK(read_text_file("/dev/zero", 100000).status().code() == StatusCode::kOutOfRange);
}

TEST_CASE("read_text_file names missing files and directories") {
  const TempFolder folder;
  CHECK(read_text_file(folder / "none").status().code() == StatusCode::kNotFound);
  CHECK(says(read_text_file(folder.path()).status(), "wanted a file, found a directory"));
}

TEST_CASE("files of /proc, whose size is said to be 0, are read whole") {
  const auto text = read_text_file("/proc/self/status");
  REQUIRE(text.ok());
  CHECK(text->find("Name:") == 0);
}

TEST_CASE("a dash reads standard input") {
  const TempFolder folder;
  const StandardInput input(folder.write("input", "from outside"));
  CHECK(*read_text_file("-") == "from outside");
}
