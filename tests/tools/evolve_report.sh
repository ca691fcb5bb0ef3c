#!/bin/sh
# Reports at the command line: a page and a matrix from a small run's folder (tests/data/evolve), and what is said where one lacks.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/program_checks.sh
. tests/program_checks.sh

if ! "$bin/moe-evolve" report --help > /dev/null 2>&1; then
  echo "skip evolve_report this moe-evolve has no reports"
  exit 0
fi
mkdir "$work/run"
cp tests/data/evolve/* "$work/run"

try "$bin/moe-evolve" report "$work/run"
check report_writes_a_page 0 out "report.html: 12 generations, 74 candidates, 5 points"
cp "$work/run/report.html" "$work/page"
rc=0
check report_page_has_the_run 0 page '"name":"reap 50 %"' page '"hypervolume"' page '"domain_use"' page '"p03"' page "<!DOCTYPE html>"
is report_page_loads_nothing "$(grep -cE 'https?://|src=|@import|url\(' "$work/page")" 0
try "$bin/moe-evolve" report "$work/run" -o "$work/again.html"
same report_is_the_same_again "$work/page" "$work/again.html"
try "$bin/moe-evolve" report "$work/run" --json
check report_json 0 out '"points": 5' out '"generations": 12'

rm "$work/run/front.json" "$work/run/analysis.json"
try "$bin/moe-evolve" report "$work/run"
check report_of_a_run_that_is_under_way 0 out "12 generations, 74 candidates, 0 points"
try "$bin/moe-evolve" report "$work"
check report_of_nothing 1 err "found neither"
