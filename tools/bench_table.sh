#!/bin/sh
# Measures models beside other engines and writes the table that README.md shows: what `make bench` runs.
#
#   MODELS="a.gguf b.gguf"               files to measure; none: two small ones are made
#   PEERS="llama.cpp=/opt/llama-bench"   other engines, NAME=COMMAND each without blanks; see moe-bench --vs
#   DEEP_MODELS="a.gguf"                 files to measure behind 4,096 tokens of context as well, beside
#   DEEP_PEERS="ik=/opt/llama-sweep-bench"
#   BENCH_ARGS="-p 512 -n 128"  DEEP_ARGS="-d 4096"  REPETITIONS=5  THREADS=2
#
# Results go to $BUILD/bench.md. With MODELS they also replace what stands between the two `bench` comments of README.md.
set -eu
cd "$(dirname "$0")/.."
build=$(realpath "${BUILD:-build}")
bin=$build/bin
table=$build/bench.md
log=$build/bench.log
tests=${BENCH_ARGS:--p 512 -n 128}
deep=${DEEP_ARGS:--d 4096}
repetitions=${REPETITIONS:-5}

# Files of about the shape of real ones, larger than caches.
make_models() {
  for type in q8_0 q4_k_m; do
    file=$build/bench-$type.gguf
    [ -f "$file" ] || "$bin/moe-inspect" synth "$file" --arch qwen3moe --type $type --seed 1 --set n_layer=4 --set d_model=1024 \
      --set n_head=16 --set n_kv_head=4 --set head_dim=64 --set n_expert=64 --set n_expert_used=8 --set d_ff_expert=512 \
      --set n_ctx_train=8192 >&2
    echo "$file"
  done
}

# measure MODEL PEERS OPTION…: adds what moe-bench prints to the log. Peers may leave files of their own where they run.
measure() {
  model=$(realpath "$1") peers=$2
  shift 2
  for peer in $peers; do set -- "$@" --vs "$peer"; done
  [ -z "$peers" ] || set -- "$@" --vs-may-fail
  [ -z "${THREADS:-}" ] || set -- "$@" -t "$THREADS"
  (cd "$build" && bin/moe-bench "$model" "$@" -r "$repetitions" --seed 1) >> "$log"
}

# Tables of several calls in one: heads but the first are left out. Calls with other peers have another head, which stays.
join() {
  awk '/^\| model / { if ($0 == head) { skip = 1; next } print (head ? "\n" : "") $0; head = $0; next }
       skip { skip = 0; next }
       /^\|/ { print }'
}

named() { # WORD…: files and commands without their folders
  for word in "$@"; do
    case $word in
    *=*) printf ' %s=%s' "${word%%=*}" "${word##*/}" ;;
    *) printf ' %s' "${word##*/}" ;;
    esac
  done | sed 's/^ //'
}

how="means, ± the deviation"
[ -z "${PEERS:-}" ] || how="medians, peers in turns, ± half of what lies between the slowest and the fastest"
models=${MODELS:-$(make_models)}
: > "$log"
for model in $models; do
  # shellcheck disable=SC2086  # words on purpose
  measure "$model" "${PEERS:-}" $tests
done
for model in ${DEEP_MODELS:-}; do
  # shellcheck disable=SC2086
  measure "$model" "${DEEP_PEERS:-}" $tests $deep
done

{
  join < "$log"
  printf '\n%s, %s, %s; %s runs: %s.\n' \
    "$(sed -n '1s/^moe-bench [^:]*: //p' "$log")" "$(${CXX:-c++} --version | head -n 1)" "$(date -u +%Y-%m-%d)" "$repetitions" "$how"
  printf 'Ceilings of the first run (read changes from run to run): %s.\n' "$(sed -n 's/^ceilings: //p' "$log" | head -n 1)"
  # shellcheck disable=SC2016,SC2086
  printf 'Made by `make bench MODELS="%s"%s%s`.\n' "$(named $models)" "${PEERS:+ PEERS=\"$(named $PEERS)\"}" \
    "${DEEP_MODELS:+ DEEP_MODELS=\"$(named $DEEP_MODELS)\" DEEP_PEERS=\"$(named ${DEEP_PEERS:-})\"}"
} > "$table"

if [ -n "${MODELS:-}" ]; then
  awk -v table="$table" '/^<!-- bench: / { print; print ""; while ((getline line < table) > 0) print line; print ""; inside = 1; next }
       /^<!-- end of bench -->/ { inside = 0 }
       !inside { print }' README.md > "$table.readme"
  mv "$table.readme" README.md
  echo "README.md: section replaced" >&2
fi
cat "$table"
