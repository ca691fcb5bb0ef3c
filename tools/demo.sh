#!/bin/sh
# What `make demo` shows: the bundled model writes, at its full size and at smaller ones that no other file is needed for, with
# speed and quality side by side. BUILD is the folder that bin/ lies in.
set -eu
cd "$(dirname "$0")/.."
bin=${BUILD:-build}/bin
model=models/zoo/mosaic/mosaic.gguf
# shellcheck disable=SC1111  # the quote opens what the model goes on with
prompt="She looked at him and said, “"
style="--temp 0.8 --min-p 0.1 --repeat-penalty 1.1 --seed 3"
summary=$(mktemp)
trap 'rm -f "$summary"' EXIT

bold=
plain=
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { printf '$ %s\n' "$*"; }
value() { sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$summary" | head -n 1; }
speed() { sed -n '/"samples_ts"/,/]/s/^ *\([0-9.][0-9.]*\),*$/\1/p' "$summary" | sort -n | sed -n 3p; } # median of 5

step "1. mosaic, trained by moe-train on this project's own graph: 8 layers of 16 experts, 4 used a token"
show "$bin/moe-run mosaic -p \"$prompt\" -n 96 $style --heatmap"
# shellcheck disable=SC2086  # the style is words on purpose
"$bin/moe-run" "$model" -p "$prompt" -n 96 $style --heatmap

step "2. The same file at other budgets: fewer experts a token, or half of each one's channels"
show "$bin/moe-bench mosaic -p 0 -n 128 OPTIONS; $bin/moe-eval mosaic -f README.md --ctx 256 OPTIONS"
printf '%-28s %10s %12s %10s\n' options 'tok/s' perplexity bits/byte
for options in "" "--experts 2" "--width 0.5" "--experts 2 --width 0.5" "--experts 1 --width 0.25"; do
  # shellcheck disable=SC2086  # options are words on purpose
  "$bin/moe-bench" "$model" -p 0 -n 128 -r 5 --json $options > "$summary" 2> /dev/null
  tokens_per_second=$(speed)
  # shellcheck disable=SC2086
  "$bin/moe-eval" "$model" -f README.md --ctx 256 --json $options > "$summary" 2> /dev/null
  printf '%-28s %10.0f %12.1f %10.3f\n' "${options:-4 experts, full width}" "$tokens_per_second" "$(value perplexity)" "$(value bits_per_byte)"
done

step "Next: what it was trained on and how, and bigger models"
echo "models/zoo/mosaic/card.md"
echo "$bin/moe-run MODEL.gguf --chat        any GGUF file of: llama (Mixtral), olmoe, qwen2moe, qwen3moe, granitemoe, gpt-oss, deepseek2"
echo "$bin/moe-run --help"
