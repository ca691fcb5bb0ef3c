# For test scripts of programs, which source it in the root of the repository: where programs lie, a folder of the script's own,
# running a command, and what its output must be. Each check prints a line for tests/run_tests.sh.
bin=$(cd "${BUILD:-build}/bin" && pwd) || exit 1
run=${RUN:-}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# Runs a command; its output goes to $work/out and $work/err, its exit status to $rc.
try() {
  # shellcheck disable=SC2086  # RUN is words on purpose
  $run "$@" > "$work/out" 2> "$work/err"
  rc=$?
}

# check NAME STATUS [FILE WORDS]…: the last command ended so, and each file of $work holds the words.
check() {
  name=$1 wanted=$2
  shift 2
  if [ "$rc" != "$wanted" ]; then
    echo "FAIL $name exit status $rc, wanted $wanted: $(head -n 1 "$work/err")"
    return
  fi
  while [ $# -gt 0 ]; do
    if ! grep -qF -e "$2" "$work/$1"; then
      echo "FAIL $name $1 lacks '$2': $(head -n 3 "$work/$1" | tr '\n' '|')"
      return
    fi
    shift 2
  done
  echo "ok $name"
}
lacks() { # NAME WORDS: not in the output
  if grep -qF -e "$2" "$work/out"; then echo "FAIL $1 out has '$2'"; else echo "ok $1"; fi
}
is() { # NAME FOUND WANTED
  if [ "$2" = "$3" ]; then echo "ok $1"; else echo "FAIL $1 '$2', wanted '$3'"; fi
}
same() { # NAME FILE FILE
  if [ -s "$2" ] && cmp -s "$2" "$3"; then echo "ok $1"; else echo "FAIL $1 $2 and $3 differ: $(diff "$2" "$3" 2>&1 | head -n 3 | tr '\n' '|')"; fi
}
absent() { # NAME FILE
  if [ -e "$2" ]; then echo "FAIL $1 $2 exists"; else echo "ok $1"; fi
}
