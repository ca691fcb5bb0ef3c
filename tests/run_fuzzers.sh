#!/bin/sh
# Runs the fuzz targets of $BUILD/bin for FUZZ_SECONDS (60) each, as many at a time as there are processors, and ends with
# "N passed, M failed". Seeds are read from tests/fuzz/corpus/<name>/ for tests/fuzz/<name>_fuzz.cpp; what a run learns is kept
# in $BUILD/corpus/<name>/, and an input that fails in $BUILD/artifacts/.
set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C
BUILD=${BUILD:-build/fuzz}
FUZZ_SECONDS=${FUZZ_SECONDS:-60}
export BUILD FUZZ_SECONDS
mkdir -p "$BUILD/corpus" "$BUILD/artifacts" "$BUILD/logs"
rm -f "$BUILD"/logs/*

cat > "$BUILD/logs/one.sh" << 'EOS'
name=$(basename "$1" _fuzz)
corpus=$BUILD/corpus/$name
log=$BUILD/logs/$name
mkdir -p "$corpus"
seeds=tests/fuzz/corpus/$name
[ -d "$seeds" ] || seeds=
"$1" -max_total_time="$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 \
  -artifact_prefix="$BUILD/artifacts/$name-" "$corpus" $seeds > "$log" 2>&1
if [ $? = 0 ]; then
  echo "ok fuzz_$name $(sed -n 's/^stat::number_of_executed_units: */executions /p' "$log")"
else
  tail -n 60 "$log"
  echo "FAIL fuzz_$name the input is in $BUILD/artifacts/"
fi
EOS

for fuzzer in "$BUILD"/bin/*_fuzz; do
  [ -x "$fuzzer" ] && printf '%s\n' "$fuzzer"
done | xargs -r -P "$(nproc)" -n 1 sh "$BUILD/logs/one.sh" | tee "$BUILD/logs/results"

passed=$(grep -c '^ok ' "$BUILD/logs/results")
failed=$(grep -c '^FAIL ' "$BUILD/logs/results")
if [ "$passed$failed" = 00 ]; then
  echo "FAIL no fuzz target in $BUILD/bin"
  failed=1
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
