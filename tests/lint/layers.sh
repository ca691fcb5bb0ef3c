#!/bin/sh
# core <- tensor <- backends <- models <- evolution <- tools: an include may only point left, and is rooted at the repository.
# The library uses the standard library alone, but for nlohmann/json.hpp in .cpp files; the public headers use nothing else.
set -u
cd "$(dirname "$0")/../.." || exit 1

find core tensor backends models evolution tools -name '*.h' -o -name '*.hpp' -o -name '*.cpp' -o -name '*.inl' -o -name '*.def' \
  2> /dev/null | sort | xargs -r grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null | awk '
  BEGIN {
    n = split("core tensor backends models evolution tools", names, " ")
    for (i = 1; i <= n; ++i) rank[names[i]] = i
  }
  {
    split($0, part, ":")  # file:line:#include "target"
    file = part[1]
    layer = file; sub(/\/.*/, "", layer)
    target = $0; sub(/^[^:]*:[^:]*:[^"<]*/, "", target)
    quoted = substr(target, 1, 1) == "\""
    target = substr(target, 2); sub(/[">].*/, "", target)
    to = target; sub(/\/.*/, "", to)
    is_public = file ~ /^core\/include\//
    is_library = layer != "tools"

    why = ""
    if (quoted) {
      if (to == "moe") to = "core"  # core/include is an include folder of its own
      else if (is_public) why = "a public header includes only <…> and \"moe/…\""
      if (why == "" && !(to in rank)) why = "not rooted at the repository"
      else if (why == "" && rank[to] > rank[layer]) why = "points right: " layer " may not include " to
    } else if (to in rank || to == "moe") {
      why = "our own headers are included with quotes"
    } else if (target ~ /^(CLI|doctest|yaml-cpp|httplib|stb)/ && is_library) {
      why = "the library may not use " target
    } else if (target ~ /^nlohmann\// && is_library && file !~ /\.cpp$/) {
      why = "nlohmann/json stays private to .cpp files of the library"
    } else if (target == "iostream" && is_library) {
      why = "<iostream> brings static constructors and streams that print"
    }
    if (why != "") { printf "%s:%s: \"%s\": %s\n", file, part[2], target, why; ++bad }
    ++count
  }
  END {
    if (count == 0) print "FAIL layers found no include at all"
    else if (bad) printf "FAIL layers %d of %d includes\n", bad, count
    else print "ok layers"
  }'
