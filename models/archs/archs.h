// The rows of the architecture table, one file each.
#pragma once

#include "models/arch.h"

namespace moe {

extern const ArchDef kLlamaArch;       // llama.cpp
extern const ArchDef kOlmoeArch;       // olmoe.cpp
extern const ArchDef kQwen2MoeArch;    // qwen2moe.cpp
extern const ArchDef kQwen3MoeArch;    // qwen3moe.cpp
extern const ArchDef kGraniteMoeArch;  // granitemoe.cpp
extern const ArchDef kGptOssArch;      // gpt_oss.cpp
extern const ArchDef kDeepseek2Arch;   // deepseek2.cpp

}  // namespace moe
