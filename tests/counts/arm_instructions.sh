#!/bin/sh
# How many instructions ARM's int8 dot products execute for 1,000 multiply-adds, everything included (a call of 64 rows of 2,048
# elements), counted by qemu with count_plugin.c: numbers that are the same every time, on any machine. Each must stay below
# its bound, a few percent above what GCC 12 makes of the kernels today; a tile that spills its registers exceeds it.
#
#   BUILD=build/release-aarch64 CXX=aarch64-linux-gnu-g++ tests/counts/arm_instructions.sh [--table]
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build/release-aarch64}
cxx=${CXX:-aarch64-linux-gnu-g++}
emulator=qemu-aarch64

skip() {
  echo "skip arm_instructions $*"
  exit 0
}
case $($cxx -dumpmachine 2> /dev/null) in
  aarch64*) ;;
  *) skip "$cxx does not compile for aarch64" ;;
esac
for tool in cc "$emulator"; do command -v "$tool" > /dev/null || skip "$tool is not installed"; done
[ -e "$build/lib/libmoe.a" ] || skip "$build/lib/libmoe.a is not built"

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
$cxx -std=c++20 -O1 -static -I. -Icore/include tests/counts/kernel_calls.cpp "$build/lib/libmoe.a" -pthread -o "$folder/calls" || {
  echo "FAIL arm_instructions_build kernel_calls.cpp does not build"
  exit 1
}

# An emulator takes plugins of some versions of its interface.
rc=1
for version in 1 2 3 4; do
  cc -shared -fPIC -O2 -DPLUGIN_VERSION=$version tests/counts/count_plugin.c -o "$folder/count.so" || skip "cc makes no plugin"
  "$emulator" -cpu max -plugin "$folder/count.so" "$folder/calls" > "$folder/out" 2> "$folder/err"
  rc=$?
  grep -q 'plugin' "$folder/err" || break
done
grep 'plugin' "$folder/err" && skip "$emulator takes no such plugin"
[ $rc = 0 ] || {
  echo "FAIL arm_instructions_run exit status $rc; $(tail -n 1 "$folder/err")"
  exit 1
}

# <count> <isa> <format> <tokens> <multiply-adds>  →  <isa> <format> <tokens> <instructions for 1,000>
awk 'NF == 5 { printf "%s %s %d %.1f\n", $2, $3, $4, 1000 * $1 / $5 }' "$folder/out" > "$folder/counts"
if [ "${1:-}" = --table ]; then
  echo "| | 1 token | 2 | 4 | 64 |"
  echo "|---|---|---|---|---|"
  awk '{ row = $1 " " $2; if (!(row in cells)) order[++n] = row; cells[row] = cells[row] " " int($4 + 0.5) " |" }
    END { for (i = 1; i <= n; ++i) print "| " order[i] " |" cells[order[i]] }' "$folder/counts"
  exit 0
fi

# <isa> <format> <bound for 1 token> <2> <4> <64>
bounds='
neon q8_0 776 517 390 286
neon q4_0 940 582 407 257
neon q4_1 1073 657 452 276
neon q5_0 1289 766 509 281
neon q5_1 1465 853 550 283
neon q2_k 955 643 493 367
neon q3_k 1383 845 577 340
neon q4_k 828 535 391 273
neon q5_k 1072 657 452 276
neon q6_k 1262 785 547 338
neon iq4_nl 972 614 438 289
neon mxfp4 1124 674 453 260
neon_dot q8_0 623 445 277 133
neon_dot q4_0 676 507 308 135
neon_dot q4_1 724 585 354 154
neon_dot q5_0 1146 712 422 148
neon_dot q5_1 1226 816 470 161
neon_dot q2_k 984 504 336 194
neon_dot q3_k 1318 705 419 168
neon_dot q4_k 676 448 286 150
neon_dot q5_k 939 599 361 154
neon_dot q6_k 1123 682 408 168
neon_dot iq4_nl 676 508 309 135
neon_dot mxfp4 866 601 355 138
neon_i8mm q8_0 623 397 243 114
neon_i8mm q4_0 676 485 287 117
neon_i8mm q4_1 723 568 332 141
neon_i8mm q5_0 1146 662 377 132
neon_i8mm q5_1 1226 771 433 147
neon_i8mm q2_k 984 517 332 188
neon_i8mm q3_k 1318 693 409 154
neon_i8mm q4_k 676 444 270 137
neon_i8mm q5_k 939 581 338 141
neon_i8mm q6_k 1123 648 387 153
neon_i8mm iq4_nl 676 485 287 117
neon_i8mm mxfp4 866 578 334 120
'
case $($cxx -dumpversion) in
  12*) ;;
  *) skip "the bounds are those of GCC 12; --table shows what $cxx makes" ;;
esac
printf '%s\n' "$bounds" | awk '
  FILENAME == ARGV[1] { count[$1, $2, $3] = $4; next }
  NF == 6 {
    name = "arm_instructions_" $1 "_" $2
    split("1 2 4 64", tokens)
    worst = ""
    for (i = 1; i <= 4; ++i) {
      found = count[$1, $2, tokens[i]]
      if (found == "" || found > $(2 + i))
        worst = worst " " tokens[i] " tokens: " (found == "" ? "nothing" : found) " instructions for 1,000 multiply-adds, at most " $(2 + i) " wanted;"
    }
    print worst == "" ? "ok " name : "FAIL " name worst
  }' "$folder/counts" -
