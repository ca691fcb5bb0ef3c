// The journal of a search: a line of JSON for what it is, one for each generation, one for how it ended. It is the truth about
// a run; all else (fronts, reports, a run that goes on) is made of it. The only file of this layer.
//
//   {"sum":"…","journal":{"format":"moe-journal","version":1,"settings":{…}}}     first: whose search this is
//   {"sum":"…","generation":{"generation":0,"picked":[…],"evaluations":[…],…}}
//   {"sum":"…","end":{…}}                                                         for people; a run may go on behind it
//
//   sum: FNV-1a, 64 bits, of the bytes of the line behind its comma, in 16 hexadecimal digits
//
// A line is on the disk when append() returns. A process may be killed at any point: a last line that is cut short counts as
// not written. Damage anywhere else is an error with its line. Numbers read back as the same doubles; null is what was not
// measured.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "evolution/search.h"

namespace moe {

struct JournalText {
  std::string settings;                       // JSON as it was given to create(); empty: not one line is whole
  std::vector<GenerationRecord> generations;  // 0, 1, 2 …
  std::string end;                            // JSON of the last line of that kind; empty: none
  size_t whole_bytes = 0;                     // without a last line that is cut short
};

// kNotFound, or kCorrupt with file and line.
Result<JournalText> read_journal(const std::string& path);
// The same of text; `name` opens the messages.
Result<JournalText> parse_journal(std::string_view text, const std::string& name);

// Lines as append() writes them, with the newline.
std::string journal_line(const GenerationRecord& record);

// Writes one. Move-only; not thread-safe.
class Journal {
 public:
  // `settings`: a JSON object. kInvalidArgument where the file is there already: nobody's run is overwritten.
  static Result<Journal> create(const std::string& path, std::string_view settings);
  // Goes on behind what was read; a line that is cut short goes away.
  static Result<Journal> resume(const std::string& path, const JournalText& read);
  Journal(Journal&&) noexcept;
  Journal& operator=(Journal&&) noexcept;
  ~Journal();

  Status append(const GenerationRecord& record);
  Status append_end(std::string_view json);  // a JSON object

 private:
  Journal() = default;
  Status write_line(const std::string& line);
  std::string path_;
  int fd_ = -1;
};

}  // namespace moe
