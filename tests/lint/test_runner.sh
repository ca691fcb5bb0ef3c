#!/bin/sh
# tests/run_tests.sh counts what scripts and doctest programs say, and never takes a crash or silence for a success.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# expect NAME WANTED_LAST_LINE ARGUMENT…: what run_tests.sh ends with, and an exit status that agrees with it.
expect() {
  name=$1 wanted=$2
  shift 2
  found=$(RUN='' tests/run_tests.sh "$@" > "$work/out" 2>&1; echo "exit $?")
  found="$(tail -n 1 "$work/out"), $found"
  case $wanted in *' 0 failed') wanted="$wanted, exit 0" ;; *) wanted="$wanted, exit 1" ;; esac
  if [ "$found" = "$wanted" ]; then
    echo "ok test_runner_$name"
  else
    echo "FAIL test_runner_$name wanted '$wanted', found '$found'"
  fi
}

# script NAME BODY
script() {
  printf '#!/bin/sh\n%s\n' "$2" > "$work/$1"
  chmod +x "$work/$1"
}

script good 'echo "ok a"; echo "ok b"; echo "okay, not a result"'
script bad 'echo "ok a"; echo "FAIL b it is wrong"'
script silent ':'
script dies 'echo "ok a"; kill -SEGV $$'
script skips 'echo "skip a not here"'
script doctest_good 'echo "[doctest] test cases:  12 |  12 passed | 0 failed | 3 skipped"'
script doctest_bad 'echo "[doctest] test cases: 12 | 10 passed | 2 failed | 0 skipped"; exit 1'
script doctest_dies 'echo "[doctest] run with --help for options"; kill -SEGV $$'
script doctest_dies_late 'echo "[doctest] test cases: 12 | 12 passed | 0 failed | 0 skipped"; exit 134'
script doctest_empty 'echo "[doctest] test cases: 0 | 0 passed | 0 failed | 9 skipped"'

expect counts_scripts "2 passed, 0 failed" "$work/good" "$work/skips"
expect counts_a_failing_script "3 passed, 1 failed" "$work/good" "$work/bad"
expect counts_a_silent_script "0 passed, 1 failed" "$work/silent"
expect counts_a_crashing_script "1 passed, 1 failed" "$work/dies"
expect adds_scripts_and_programs "14 passed, 0 failed" "$work/good" -- "$work/doctest_good"
expect counts_failing_cases "10 passed, 2 failed" -- "$work/doctest_bad"
expect counts_a_crashing_program "0 passed, 1 failed" -- "$work/doctest_dies"
expect counts_a_crash_after_the_summary "12 passed, 1 failed" -- "$work/doctest_dies_late"
expect counts_an_empty_selection "0 passed, 1 failed" -- "$work/doctest_empty"
