#!/bin/sh
# A file's name is unique in the repository, so that a name in a message, a commit or a search means one thing. Names that a
# tool or the architecture fixes (README.md, CMakeLists.txt, registry.*), test data and fuzz seeds may repeat.
set -u
cd "$(dirname "$0")/../.." || exit 1

if ! files=$(git ls-files --cached --others --exclude-standard 2> /dev/null); then
  files=$(find . -type f ! -path './build*' ! -path './.git/*' | sed 's|^\./||')
fi
twice=$(printf '%s\n' "$files" | grep -vE '^tests/(data|golden|fuzz/corpus)/|(^|/)(README\.md|CMakeLists\.txt|\.gitignore|registry\.(cpp|h))$' |
  awk -F/ '{ where[$NF] = where[$NF] " " $0; ++count[$NF] } END { for (n in count) if (count[n] > 1) print n ":" where[n] }' | sort)
if [ -n "$twice" ]; then
  printf '%s\n' "$twice"
  echo "FAIL unique_names $(printf '%s\n' "$twice" | wc -l) names are used twice"
else
  echo "ok unique_names"
fi

# So is that of a type within its namespace: of two with one name a program takes either one's functions for both. Types in
# unnamed namespaces and nested ones may repeat.
twice=$(printf '%s\n' "$files" | grep -E '\.(h|cpp)$' | xargs awk '
  FNR == 1 { depth = 0; hidden = 0 }
  /^(inline )?namespace/ { space[++depth] = $0 ~ /namespace \{/ ? "" : $(NF - 1); hidden += $0 ~ /namespace \{/; next }
  /^\} *\/\/ namespace/ { hidden -= space[depth] == ""; --depth; next }
  /^(struct|class) [A-Za-z0-9_]+( final)?( : .*)? \{/ && depth > 0 && hidden == 0 {
    name = space[depth] "::" $2
    if (where[name] != "" && last[name] != FILENAME) ++count[name]
    last[name] = FILENAME; where[name] = where[name] " " FILENAME
  }
  END { for (n in count) print n ":" where[n] }' | sort)
if [ -n "$twice" ]; then
  printf '%s\n' "$twice"
  echo "FAIL unique_types $(printf '%s\n' "$twice" | wc -l) types are defined twice"
else
  echo "ok unique_types"
fi
