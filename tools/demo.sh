#!/bin/sh
# What `make demo` shows: a model made on the spot, a prompt, text, speed, and which experts the router chose; then the same run
# with fewer experts a token. BUILD is the folder that bin/ lies in.
set -eu
cd "$(dirname "$0")/.."
bin=${BUILD:-build}/bin
model=${BUILD:-build}/demo.gguf
prompt="Mixture-of-Experts models route every token to"
tokens=64
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT

bold=
plain=
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() { "$bin/moe-run" "$model" -p "$prompt" -n $tokens --seed 1 --ignore-eos "$@"; }
show() { echo "\$ $bin/moe-run $model -p \"$prompt\" -n $tokens --seed 1 --ignore-eos $*"; }
speed() { sed -n 's/^# .*| gen [0-9]* tok \([0-9.]*\) tok.*/\1/p' "$summary"; }

step "1. Make a model: OLMoE's shape, 4 layers of 32 experts, 8 used a token, random weights in q8_0"
"$bin/moe-inspect" synth "$model" --arch olmoe --type q8_0 --seed 1 --set n_layer=4 --set d_model=512 --set n_head=8 \
  --set n_kv_head=8 --set n_expert=32 --set n_expert_used=8 --set d_ff_expert=256

step "2. Run it. Nobody trained these weights, so it talks nonsense (one byte a token): watch speed and experts, not words"
show --heatmap
run --heatmap

step "3. The same with 2 experts a token instead of 8: one option, no other file"
show --experts 2
run > /dev/null 2> "$summary"
all=$(speed)
run --experts 2 > /dev/null 2> "$summary"
few=$(speed)
grep '^# ' "$summary"
awk -v all="$all" -v few="$few" 'BEGIN { printf "8 experts: %s tok/s   2 experts: %s tok/s   %.2f times as fast\n", all, few, few / all }'

step "Next: a real model"
echo "$bin/moe-run MODEL.gguf --chat        any GGUF file of: llama (Mixtral), olmoe, qwen2moe, qwen3moe, granitemoe, gpt-oss, deepseek2"
echo "$bin/moe-run --help"
