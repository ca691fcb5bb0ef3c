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
neon q8_0 869 560 425 286
neon q4_0 940 627 407 257
neon q4_1 1160 712 485 290
neon q5_0 1325 816 522 281
neon q5_1 1543 903 581 297
neon q2_k 988 643 503 367
neon q3_k 1383 845 577 340
neon q4_k 925 594 427 287
neon q5_k 1124 714 487 291
neon q6_k 1326 810 570 338
neon iq4_nl 1024 635 459 289
neon mxfp4 1124 719 453 260
neon_dot q8_0 668 494 304 133
neon_dot q4_0 706 540 327 135
neon_dot q4_1 785 625 377 154
neon_dot q5_0 1182 729 442 148
neon_dot q5_1 1299 848 489 161
neon_dot q2_k 984 504 350 194
neon_dot q3_k 1318 705 432 168
neon_dot q4_k 676 492 311 150
neon_dot q5_k 939 639 384 154
neon_dot q6_k 1123 709 435 168
neon_dot iq4_nl 708 536 326 135
neon_dot mxfp4 909 630 372 138
neon_i8mm q8_0 668 461 282 120
neon_i8mm q4_0 706 524 313 121
neon_i8mm q4_1 785 586 352 141
neon_i8mm q5_0 1182 680 398 132
neon_i8mm q5_1 1299 771 451 147
neon_i8mm q2_k 984 550 347 188
neon_i8mm q3_k 1318 723 423 154
neon_i8mm q4_k 676 492 292 137
neon_i8mm q5_k 939 623 359 141
neon_i8mm q6_k 1123 705 414 153
neon_i8mm iq4_nl 708 528 315 121
neon_i8mm mxfp4 909 622 362 124
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
