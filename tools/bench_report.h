// Results of moe-bench as Markdown, JSON or CSV.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/bench_model.h"
#include "tools/markdown.h"

namespace moe::tools {

// One row, keys in order. Those of llama-bench have its names, units and meaning (tools/llama-bench of llama.cpp), so that
// scripts made for it work; ours are n_seqs, isa, exact, routing, and what follows samples_ts.
nlohmann::ordered_json bench_json(const Model& model, const BenchArguments& arguments, const BenchResult& result,
                                  const cpu::Ceilings& ceilings);

// Prints results as they come; JSON in one piece at the end.
class BenchReport {
 public:
  explicit BenchReport(const BenchArguments& arguments) : arguments_(arguments) {}
  Status add(const Model& model, const BenchResult& result);
  void finish();  // prints what add() has not

 private:
  Result<const cpu::Ceilings*> ceilings_for(int n_threads);
  void print_markdown(const Model& model, const BenchResult& result, const cpu::Ceilings& ceilings);
  void print_versus(const Model& model, const BenchResult& result, const cpu::Ceilings& ceilings, bool begins);
  void print_csv(const nlohmann::ordered_json& row);

  const BenchArguments& arguments_;
  std::map<int, cpu::Ceilings> ceilings_;  // by threads
  int described_threads_ = 0;              // whose ceilings stand above the table
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

// "read 35.1 GB/s, int8 1101 GMAC/s, …"
std::string ceilings_text(const cpu::Ceilings& ceilings);
// Of one and of all threads, unless others are listed.
Status print_ceilings(const Program& program, const std::string& isa, std::vector<int> threads);

}  // namespace moe::tools
