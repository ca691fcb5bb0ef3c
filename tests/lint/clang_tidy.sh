#!/bin/sh
# clang-tidy finds nothing in the parts that changed against TIDY_BASE (default: where this branch left origin/main, else the
# previous commit) or are not committed yet. TIDY_FILES='a.cpp b.h' checks those instead, TIDY_FILES=all everything.
# A header is checked where a changed or equally named .cpp includes it. Takes TIDY_SECONDS (180) at most; what it did not
# reach is said, not counted.
set -u
cd "$(dirname "$0")/../.." || exit 1
tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || {
  echo "skip clang_tidy clang-tidy is not installed"
  exit 0
}
if ! git rev-parse --verify -q HEAD > /dev/null; then
  echo "skip clang_tidy not a git checkout"
  exit 0
fi

base=${TIDY_BASE:-$(git merge-base HEAD origin/main 2> /dev/null || true)}
if [ -z "$base" ] || [ "$(git rev-parse "$base")" = "$(git rev-parse HEAD)" ]; then
  base=$(git rev-parse --verify -q HEAD~1 || git hash-object -t tree /dev/null)
fi

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
sources=$(env -u MAKEFLAGS -u MAKELEVEL make -s print-sources) || exit 1
known=$(printf '%s\n' "$sources" | awk '$1 != "isa" { print $2 }')

changed() {
  case ${TIDY_FILES:-} in
    all) printf '%s\n' "$known" ;;
    '') { git diff --name-only "$base" -- && git ls-files --others --exclude-standard; } ;;
    *) printf '%s\n' "$TIDY_FILES" | tr ' ' '\n' ;;
  esac
}

# A .cpp of the build stands for itself, a header for the .cpp of the same name. Small files first, instruction sets last.
changed | sed -n 's/\.\(cpp\|h\|hpp\)$/.cpp/p' | sort -u | grep -xF "$known" | while read -r file; do
  [ -e "$file" ] || continue
  case $file in
    backends/cpu/isa/*) echo "1 $(wc -c < "$file") $file" ;;
    *) echo "0 $(wc -c < "$file") $file" ;;
  esac
done | sort -n | awk '{ print $3 }' > "$work/files"
if [ ! -s "$work/files" ]; then
  echo "ok clang_tidy"
  exit 0
fi

# One file; leaves NAME.ok or NAME.bad behind. Called by xargs below.
cat > "$work/one" << 'ONE'
#!/bin/sh
file=$1
name=$WORK/$(printf '%s' "$file" | tr / @)
[ "$(date +%s)" -lt "$DEADLINE" ] || exit 0
flags=$(printf '%s\n' "$SOURCES" | sed -n "s|^isa $(basename "$file" .cpp) ||p")
case $file in backends/cpu/isa/*) ;; *) flags= ;; esac
# shellcheck disable=SC2086  # flags are words
timeout $((DEADLINE - $(date +%s) + 1)) "$TIDY" --quiet "$file" -- \
  -std=c++20 -I. -Icore/include -DNDEBUG -Wall -Wextra -Wshadow $flags > "$name.log" 2> "$name.err"
rc=$?
if [ $rc = 124 ]; then exit 0; fi
if [ $rc = 0 ] && ! grep -qE '(warning|error):' "$name.log"; then
  : > "$name.ok"
else
  cat "$name.log"
  grep -E 'error:' "$name.err"
  : > "$name.bad"
fi
exit 0
ONE
chmod +x "$work/one"
WORK=$work TIDY=$tidy SOURCES=$sources DEADLINE=$(($(date +%s) + ${TIDY_SECONDS:-180}))
export WORK TIDY SOURCES DEADLINE
xargs -P "$(nproc)" -n 1 "$work/one" < "$work/files"

total=$(wc -l < "$work/files")
good=$(find "$work" -name '*.ok' | wc -l)
bad=$(find "$work" -name '*.bad' | wc -l)
echo "clang-tidy: $((good + bad)) of $total changed files checked"
if [ "$bad" != 0 ]; then
  echo "FAIL clang_tidy $bad files have findings"
elif [ "$good" = 0 ]; then
  echo "skip clang_tidy no file finished in ${TIDY_SECONDS:-180} s"
else
  echo "ok clang_tidy"
fi
