// Models by name: `moe-run mosaic` for `moe-run /usr/local/share/moe/zoo/mosaic/mosaic.gguf`. A zoo is a folder with one of
// these for each model:
//
//   mosaic/mosaic.gguf          the model
//   mosaic/card.md              what it is; the first line is "# mosaic: one sentence"
//   mosaic/topologies/*.json    routing topologies made for it, where there are some, and the front.json they are points of
//
// Where two zoos have a model of the same name, the first one counts.
#pragma once

#include <string>
#include <vector>

#include "tools/common.h"

namespace moe::tools {

struct ZooModel {
  std::string name, path;               // path: of the GGUF file
  std::string summary;                  // the card's sentence, or ""
  std::vector<std::string> topologies;  // paths, sorted
  std::string front;                    // path, or ""
};

// Where zoos are looked for, in this order, whether or not they are there: the folders of $MOE_ZOO (separated by ':'), that of
// the source tree a program was built in, that of an installation, ./models/zoo.
std::vector<std::string> zoo_folders(const Program& program);
// Sorted by name. Names with a '.' are left out: they would be taken for files.
std::vector<ZooModel> zoo_models(const std::vector<std::string>& folders);

// What a user gave as a model becomes the path of the file: a name without '/' and '.', where no file has it, is that of a
// model in a zoo. kNotFound lists the names there are.
Status find_model(const Program& program, std::string& model);
// The same for a front.json: a model's name is the front that it came with.
Status find_front(const Program& program, std::string& front);

// moe-run --zoo: the models there are.
Status list_zoo(const Program& program);

}  // namespace moe::tools
