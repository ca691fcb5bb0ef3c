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
neon q8_0 759 508 385 284
neon q4_0 919 582 402 256
neon q4_1 1073 657 447 275
neon q5_0 1267 766 500 278
neon q5_1 1465 853 545 281
neon q2_k 935 634 488 366
neon q3_k 1361 834 572 339
neon q4_k 828 547 386 271
neon q5_k 1072 657 448 275
neon q6_k 1246 776 542 336
neon iq4_nl 958 608 434 287
neon mxfp4 1110 674 449 259
neon_dot q8_0 502 433 271 133
neon_dot q4_0 582 496 303 135
neon_dot q4_1 680 575 349 154
neon_dot q5_0 1059 703 417 147
neon_dot q5_1 1178 802 464 161
neon_dot q2_k 878 494 330 194
neon_dot q3_k 1199 691 413 168
neon_dot q4_k 558 435 280 150
neon_dot q5_k 794 586 355 154
neon_dot q6_k 987 668 402 167
neon_dot iq4_nl 614 497 304 135
neon_dot mxfp4 821 591 350 138
neon_i8mm q8_0 502 385 238 114
neon_i8mm q4_0 582 473 282 117
neon_i8mm q4_1 680 561 329 141
neon_i8mm q5_0 1059 654 372 132
neon_i8mm q5_1 1178 755 426 147
neon_i8mm q2_k 878 507 327 187
neon_i8mm q3_k 1199 686 406 154
neon_i8mm q4_k 558 430 263 137
neon_i8mm q5_k 794 566 331 141
neon_i8mm q6_k 987 639 382 153
neon_i8mm iq4_nl 614 469 280 117
neon_i8mm mxfp4 821 562 326 120
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
