#include "tools/markdown.h"

#include "core/check.h"
#include "tools/common.h"

namespace moe::tools {

std::string MarkdownTable::row(const std::vector<std::string>& cells) const {
  MOE_CHECK(cells.size() == columns_.size());
  std::string out = "|";
  for (size_t i = 0; i < cells.size(); ++i) {
    const size_t width = std::max(columns_[i].width, display_width(columns_[i].title)), used = display_width(cells[i]);
    const std::string blanks(width > used ? width - used : 0, ' ');
    out += " " + (columns_[i].right ? blanks + cells[i] : cells[i] + blanks) + " |";
  }
  return out + "\n";
}

std::string MarkdownTable::head() const {
  std::vector<std::string> titles;
  std::string line = "|";
  for (const Column& c : columns_) {
    titles.push_back(c.title);
    const size_t width = std::max(c.width, display_width(c.title));
    line += (c.right ? " " : " :") + std::string(width - 1, '-') + (c.right ? ": |" : " |");
  }
  return row(titles) + line + "\n";
}

}  // namespace moe::tools
