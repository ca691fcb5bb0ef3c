#!/bin/sh
# Fronts at the command line: which point programs run, quantise and refuse; profiles that moe-bench calibrate writes.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/program_checks.sh
. tests/program_checks.sh

try "$bin/moe-inspect" synth "$work/m.gguf" --arch olmoe --set n_layer=2 --seed 1
check front_synth_model 0
try "$bin/moe-inspect" "$work/m.gguf" topology --experts 1 -o "$work/p0.json"
check front_makes_a_topology 0
hash=$(sed -n 's/.*"model_hash": "\([0-9a-f]*\)".*/\1/p' "$work/p0.json")

# point NAME TOPOLOGY KL LATENCY BYTES KEPT
point() {
  printf '{"name":"%s","topology":%s,"hash":"00000000000000aa","selection":{"kl":%s},' "$1" "$2" "$3"
  printf '"held_out":{"kl":%s,"kl_error":null,"perplexity":null,"worst_domain_kl":null,"domain_kl":{}},' "$3"
  printf '"costs":{"active_flops":null,"expert_flops":null,"bytes_per_token":null,"resident_bytes":%s,' "$5"
  printf '"latency_ms":%s,"kept_share":%s,"k_mean":null,"load_cv":null,"diversity":null},"measured":null}' "$4" "$6"
}
front() { # HASH
  printf '{"format":"moe-front","version":1,"model":{"name":"m","hash":"%s","bytes":1},"seed":1,' "$1"
  printf '"algorithm":"nsga2","device":null,"objectives":[],"texts":[],"full":'
  point full null 0 10 9000000 1
  printf ',"baselines":[],"points":['
  point p0 '"p0.json"' 0.25 4 5000000 0.5
  printf '],"spent":{"token_layers":1,"generations":1,"evaluations":1,"seconds":1}}'
}
front "$hash" > "$work/front.json"

try "$bin/moe-run" "$work/m.gguf" --tokens "1 2 3" -n 4 --greedy --topology "$work/p0.json" --json
check front_run_by_topology 0
logits=$(grep '"logits_hash"' "$work/out")
try "$bin/moe-run" "$work/m.gguf" --tokens "1 2 3" -n 4 --greedy --front "$work/front.json" --target-latency 5 --json
check front_run_says_which_point_and_why 0 err "p0: kl 0.2500 nats a token on held-out text, the smallest of 1 with at most 5.000 ms"
is front_run_uses_its_topology "$(grep '"logits_hash"' "$work/out")" "$logits"
try "$bin/moe-run" "$work/m.gguf" --tokens 1 -n 1 --front "$work/front.json" --memory-limit 20MB
check front_run_takes_the_full_model_where_it_fits 0 err "full: kl 0.0000"
try "$bin/moe-run" "$work/m.gguf" --tokens 1 -n 1 --front "$work/front.json" --memory-limit 1MB
check front_run_names_the_nearest 1 err "nearest is p0, 5.00 MB"
try "$bin/moe-run" "$work/m.gguf" --tokens 1 -n 1 --front "$work/front.json"
check front_wants_a_wish 2 err "--target-latency"
try "$bin/moe-run" "$work/m.gguf" --tokens 1 -n 1 --target-latency 5
check front_is_needed_by_its_wishes 2 err "--front"
try "$bin/moe-eval" "$work/m.gguf" -f README.md --ctx 32 --chunks 1 --front "$work/front.json" --experts-kept 50%
check front_eval_picks 0 err "p0: kl"
try "$bin/moe-quantize" "$work/m.gguf" "$work/small.gguf" --front "$work/front.json" --point p0 --dry-run
check front_quantize_picks 0
front 00000000000000aa > "$work/front.json"
try "$bin/moe-run" "$work/m.gguf" --tokens 1 -n 1 --front "$work/front.json" --memory-limit 20MB
check front_of_another_model_is_refused 1 err "wanted a front of this model"

# --- moe-bench calibrate ---

try "$bin/moe-bench" calibrate "$work/m.gguf" --rounds 1 -n 4 -d 4 -t 1 --name here -o "$work/device.json"
check calibrate_prints_what_it_measured 0 out "held back" out "# ms = "
check calibrate_writes_a_profile 0 device.json '"name": "here"' device.json '"ms_per_expert"'
try "$bin/moe-bench" topology "$work/m.gguf" --topology "$work/p0.json" --device-profile "$work/device.json" --rounds 1 -n 4 -d 4 -t 1
check topology_compares_three_ways_to_run 0 out full out masked out specialised out "modelled ms" out "# medians of 1 processes each"
try "$bin/moe-bench" topology "$work/m.gguf" --rounds 1
check topology_wants_a_topology 2 err "wanted --topology"
