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
