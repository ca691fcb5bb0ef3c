#!/bin/sh
# An object of backends/cpu/isa/ exports its kernel table and nothing else. A weak symbol in it (W, V or u in nm: an inline
# function or variable that was not inlined) could be the copy the linker picks for the whole program, which then executes
# AVX-512 on a machine that has none. Sanitized objects have two more of the compiler's own, neither of them code: a weak
# pointer to the unwinder's routine, and the byte by which ASAN finds a second definition of the table.
set -u
cd "$(dirname "$0")/../.." || exit 1
objects=${BUILD:-build}/obj/backends/cpu/isa
nm=${NM:-nm}

# avx512_bf16 -> kKernelsAvx512Bf16
table_name() {
  printf '%s\n' "$1" | awk -F_ '{ s = "kKernels"; for (i = 1; i <= NF; ++i) s = s toupper(substr($i, 1, 1)) substr($i, 2); print s }'
}

found=0
for object in "$objects"/*.o; do
  [ -e "$object" ] || continue
  found=1
  isa=$(basename "$object" .o)
  table=$(table_name "$isa")
  sanitized=$("$nm" "$object" | grep -c '__asan_\|__ubsan_')
  weak=$("$nm" -C "$object" | awk -v sanitized="$sanitized" '$2 ~ /^[WVuv]$/ && !(sanitized > 0 && $NF == "DW.ref.__gxx_personality_v0")')
  exported=$("$nm" -gC --defined-only "$object" | awk -v sanitized="$sanitized" -v indicator="^__odr_asan\\..*[0-9]${table}E\$" \
    '$2 !~ /^[WVuv]$/ && !(sanitized > 0 && $NF ~ indicator) { sub(/^[0-9a-f]+ . /, ""); print }')
  if [ -n "$weak" ]; then
    printf '%s\n' "$weak" | head -n 20
    echo "FAIL isa_symbols_$isa $object has $(printf '%s\n' "$weak" | wc -l) weak symbols; make them static or put them in an anonymous namespace"
  elif [ "$exported" != "moe::cpu::$table" ]; then
    printf '%s\n' "$exported" | head -n 20
    echo "FAIL isa_symbols_$isa $object exports the above, wanted moe::cpu::$table alone"
  else
    echo "ok isa_symbols_$isa"
  fi
done
[ "$found" = 1 ] || echo "FAIL isa_symbols no object in $objects; run make first"
