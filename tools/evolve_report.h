// moe-evolve report: what a search did and found, as a page that any browser opens without a network, and a routing matrix.
//
//   DIR/journal.jsonl  ─┐
//   DIR/front.json      ├──►  DIR/report.html   front, convergence, hypervolume, operators, layers, held-out table
//   DIR/p00.json …      │     DIR/matrix.png    the topology of the chosen point (evolve_matrix.h)
//   DIR/analysis.json  ─┘
//
// Journal or front may be missing, as of a run that is under way; analysis.json may be missing too: the page then says less.
#pragma once

#include <string>

#include "evolution/journal.h"
#include "tools/common.h"
#include "tools/evolve_analysis.h"
#include "tools/front_file.h"

namespace moe::tools {

struct ReportArguments {
  std::string folder;
  std::string page = {};    // "": FOLDER/report.html
  std::string matrix = {};  // "": FOLDER/matrix.png, where this build can write PNG files
  std::string point = {};   // whose matrix; "": the point in the middle of the front
};

struct ReportFacts {
  std::string page, matrix;  // files that were written; matrix "": none
  std::string point;         // of the matrix
  size_t generations = 0, points = 0, candidates = 0;
  size_t page_bytes = 0;
};

// kNotFound without journal and front; kCorrupt where a file is damaged; kNotFound for a point that the front lacks.
Result<ReportFacts> write_report(const ReportArguments& arguments);

// What a page is made of. Either pointer may be null.
struct ReportSource {
  const JournalText* journal = nullptr;
  const FrontFile* front = nullptr;
  const RunAnalysis* analysis = nullptr;
  std::string folder = {};                                               // for command lines
  std::vector<std::pair<std::string, RoutingTopology>> topologies = {};  // of points, by name
};
std::string report_page(const ReportSource& source);

// Declares the subcommand "report".
void add_report(CLI::App& app, ReportArguments& arguments);
Status report_command(const Program& program, const ReportArguments& arguments);

}  // namespace moe::tools
