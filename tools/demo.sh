#!/bin/sh
# What `make demo` shows: the bundled model writes; at its full size and at smaller ones that no other file is needed for, with
# speed and quality side by side; with routings that were evolved for it, and the smaller files that they make; and a search of
# half a minute for one text. BUILD is the folder that bin/ lies in.
set -eu
cd "$(dirname "$0")/.."
bin=${BUILD:-build}/bin
model=models/zoo/mosaic/mosaic.gguf
# shellcheck disable=SC1111  # the quote opens what the model goes on with
prompt="She looked at him and said, “"
style="--temp 0.8 --min-p 0.1 --repeat-penalty 1.1 --seed 3"
work=$(mktemp -d)
summary=$work/summary
trap 'rm -rf "$work"' EXIT

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

step "3. Evolved: which experts each layer keeps, how many a token uses, how wide they run; then a file without the rest"
show "$bin/moe-quantize mosaic small.gguf --front mosaic --memory-limit LIMIT; $bin/moe-run small.gguf"
printf '%-28s %10s %12s %10s %10s %12s\n' '' 'tok/s' perplexity bits/byte 'file MB' 'memory MB'
# row NAME KIND MODEL: of what moe-bench topology said of one of full, masked, specialised
row() {
  numbers=$(awk -v kind="\"$2\"," '$1 == "\"name\":" { on = $2 == kind }
    on && $1 == "\"tokens_per_s\":" { t = $2 } on && $1 == "\"file_bytes\":" { f = $2 } on && $1 == "\"resident_bytes\":" { m = $2 }
    END { printf "%d %.1f %.1f", t, f / 1e6, m / 1e6 }' "$work/rows")
  "$bin/moe-eval" "$3" -f README.md --ctx 256 --json > "$summary" 2> /dev/null
  # shellcheck disable=SC2086  # numbers are words on purpose
  set -- "$1" $numbers
  printf '%-28s %10s %12.1f %10.3f %10s %12s\n' "$1" "$2" "$(value perplexity)" "$(value bits_per_byte)" "$3" "$4"
}
first=yes
for limit in 14MB 11MB; do
  "$bin/moe-bench" topology "$model" --front mosaic --memory-limit $limit --keep "$work/small.gguf" --json > "$work/rows" 2> /dev/null
  [ "$first" = no ] || row "the whole model" full "$model"
  first=no
  row "evolved, at most $limit" specialised "$work/small.gguf"
done

step "4. The same for a text of your own: half of the experts, chosen for this README alone, on text that no decision saw"
evolve="run mosaic -f readme=README.md --kept 50% --objectives kl --algorithm genetic --generations 12"
show "$bin/moe-evolve $evolve -o DIR"
# shellcheck disable=SC2086
"$bin/moe-evolve" $evolve --seed 1 --set text.context=128 --set measure.points=0 -o "$work/evolved"

step "Next: what it was trained on and how, and bigger models"
echo "models/zoo/mosaic/card.md"
echo "$bin/moe-run MODEL.gguf --chat        any GGUF file of: llama (Mixtral), olmoe, qwen2moe, qwen3moe, granitemoe, gpt-oss, deepseek2"
echo "$bin/moe-run --help"
