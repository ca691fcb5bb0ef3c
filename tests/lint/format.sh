#!/bin/sh
# Every tracked C++ file is as clang-format 14 leaves it.
set -u
cd "$(dirname "$0")/../.." || exit 1
format=$(command -v clang-format-14 || command -v clang-format) || {
  echo "skip format clang-format is not installed"
  exit 0
}

list=$(mktemp) || exit 1
trap 'rm -f "$list"' EXIT
if ! git ls-files '*.h' '*.hpp' '*.cpp' '*.inl' > "$list" 2> /dev/null || [ ! -s "$list" ]; then
  echo "skip format not a git checkout"
  exit 0
fi

bad=0
while read -r file; do
  [ -e "$file" ] || continue
  if ! "$format" --dry-run -Werror "$file" > /dev/null 2>&1; then
    echo "$file: clang-format -i $file"
    bad=$((bad + 1))
  fi
done < "$list"
if [ "$bad" = 0 ]; then
  echo "ok format"
else
  echo "FAIL format $bad files"
fi
