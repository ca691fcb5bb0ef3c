#!/bin/sh
# The static programs for aarch64 (make static CROSS=aarch64-linux-gnu-) under the emulator: they start on processors with and
# without DotProd and I8MM, choose kernels at run time, and give the same logits whatever they choose.
set -u
cd "$(dirname "$0")/../.." || exit 1
bin=${BUILD:-build}/static
emulator=qemu-aarch64
if ! [ -x "$bin/moe-run" ] || ! [ "$(od -An -j18 -N1 -tu1 "$bin/moe-run" | tr -d ' ')" = 183 ]; then # ELF's e_machine
  echo "skip static_aarch64 $bin/moe-run is no aarch64 program"
  exit 0
fi
command -v $emulator > /dev/null || {
  echo "skip static_aarch64 $emulator is not installed"
  exit 0
}
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

$emulator "$bin/moe-inspect" synth "$folder/model.gguf" --arch olmoe --set n_layer=2 --seed 1 --type q4_0 > "$folder/out" 2>&1 || {
  echo "FAIL static_aarch64_synth $(tail -n 1 "$folder/out")"
  exit 1
}

# run CPU ISA: an ISA of "" lets the program choose. Leaves the logits' hash in $hash, the exit status in $rc.
run() {
  env ${2:+MOE_ISA=$2} $emulator -cpu "$1" "$bin/moe-run" "$folder/model.gguf" -p "Hello world" -n 4 --greedy -t 2 \
    > "$folder/out" 2> "$folder/err"
  rc=$?
  hash=$(sed -n 's/^# .*| logits //p' "$folder/err")
}
report() { # NAME CONDITION…
  name=static_aarch64_$1
  shift
  if "$@"; then echo "ok $name"; else echo "FAIL $name exit $rc, logits '$hash' of $wanted; $(tail -n 1 "$folder/err")"; fi
}

run max ""
wanted=$hash
report starts_on_max [ -n "$hash" ]
for cpu in cortex-a53 cortex-a76; do
  run $cpu ""
  report "${cpu}_gives_the_logits_of_max" [ "$hash" = "$wanted" ]
done
for isa in neon neon_dot neon_i8mm; do
  run max $isa
  report "${isa}_gives_the_logits_of_max" [ "$hash" = "$wanted" ]
done
run cortex-a53 neon_dot
report cortex-a53_refuses_dotprod eval '[ $rc != 0 ] && grep -q dotprod "$folder/err"'
run cortex-a76 neon_dot
report cortex-a76_has_dotprod [ "$hash" = "$wanted" ]
run cortex-a76 neon_i8mm
report cortex-a76_refuses_i8mm eval '[ $rc != 0 ] && grep -q i8mm "$folder/err"'
