// The texts of a search as tokens: files of text, plain or .jsonl, or token files of moe-train.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"
#include "tools/common.h"
#include "tools/evolve_config.h"
#include "tools/train_text.h"

namespace moe::tools {

// How files of text are opened: the program decides what it can decompress.
using OpenText = std::function<Result<std::unique_ptr<ByteSource>>(const std::string& path)>;

// Of each text the documents within its first text.most bytes, the last of them whole or cut. Errors name the file.
Result<std::vector<TextDomain>> read_domains(const EvolveConfig& config, const Model& model, const OpenText& open);

}  // namespace moe::tools
