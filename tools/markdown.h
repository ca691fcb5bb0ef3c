// Markdown tables that are readable as they stand: cells of fixed widths, so that rows can be printed one by one.
#pragma once

#include <string>
#include <vector>

namespace moe::tools {

class MarkdownTable {
 public:
  struct Column {
    std::string title;
    size_t width;
    bool right;
  };
  explicit MarkdownTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
  std::string head() const;
  std::string row(const std::vector<std::string>& cells) const;

 private:
  std::vector<Column> columns_;
};

}  // namespace moe::tools
