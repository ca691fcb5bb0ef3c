// moe-run --chat: a conversation over stdin and stdout, one line a turn.
#pragma once

#include "tools/runner.h"

namespace moe::tools {

// Until the end of stdin, /exit, or Ctrl-C while it waits for a turn. Ctrl-C during an answer ends the answer.
Status run_chat(Runner& runner);

}  // namespace moe::tools
