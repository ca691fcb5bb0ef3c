#!/bin/sh
# Runs tests and ends with the line "N passed, M failed"; exits 1 when M is not 0.
#
#   tests/run_tests.sh [SCRIPT…] [-- DOCTEST_PROGRAM [ARGUMENT…]]
#
# A doctest program counts its test cases. A script prints one line a test, "ok NAME", "FAIL NAME reason" or
# "skip NAME reason", and is counted by them. What dies without saying so is one more failure.
# RUN is put before a doctest program (an emulator); BUILD, CXX, NM and MAKE are passed on to the scripts.
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C

passed=0
failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.rc"' EXIT

# Runs a command, shows its output and keeps it in $log; sets rc.
capture() {
  { "$@" 2>&1; echo $? > "$log.rc"; } | tee "$log"
  rc=$(cat "$log.rc")
}

count_doctest() {
  # [doctest] test cases:  12 |  11 passed | 1 failed | 0 skipped
  counts=$(sed -n 's/^\[doctest\] test cases: *[0-9]* *| *\([0-9]*\) passed *| *\([0-9]*\) failed.*/\1 \2/p' "$log" | tail -n 1)
  if [ -z "$counts" ]; then
    echo "FAIL $1 ended without a summary, exit status $rc"
    failed=$((failed + 1))
    return
  fi
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
  if [ "${counts% *}" = 0 ] && [ "${counts#* }" = 0 ]; then
    echo "FAIL $1 ran no test case"
    failed=$((failed + 1))
  elif [ "$rc" != 0 ] && [ "${counts#* }" = 0 ]; then
    echo "FAIL $1 exit status $rc after its summary"
    failed=$((failed + 1))
  fi
}

count_script() {
  ok=$(grep -c '^ok ' "$log")
  bad=$(grep -c '^FAIL ' "$log")
  if [ "$rc" != 0 ] && [ "$bad" = 0 ]; then
    echo "FAIL $1 exit status $rc"
    bad=1
  elif [ "$ok" = 0 ] && [ "$bad" = 0 ] && ! grep -q '^skip ' "$log"; then
    echo "FAIL $1 reported nothing"
    bad=1
  fi
  passed=$((passed + ok))
  failed=$((failed + bad))
}

while [ $# -gt 0 ] && [ "$1" != -- ]; do
  capture "$1"
  count_script "$1"
  shift
done
if [ $# -gt 1 ]; then
  shift
  # shellcheck disable=SC2086  # RUN is words on purpose
  capture ${RUN:-} "$@"
  count_doctest "$1"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
