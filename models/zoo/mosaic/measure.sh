#!/bin/sh
# The tables of card.md: perplexity and bits a byte of the model on each kind of text it was trained on, at the budgets it serves,
# and which experts each kind uses. The texts are the test parts of the corpora, which training never sees; DATA is as in
# prepare.sh.
#
#   usage: measure.sh DATA [MODEL [FOLDER_OF_PROGRAMS]]
set -eu
data=${1:?usage: measure.sh DATA [MODEL [FOLDER_OF_PROGRAMS]]}
model=${2:-mosaic}
eval=${3:+$3/}moe-eval
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Records of strings as text: what stands between the quotes, without its escapes.
plain() { sed -e 's/\\n/\n/g; s/\\t/\t/g; s/\\"/"/g; s/\\\\/\\/g'; }
cat "$data/wikipedia-en/test.txt" "$data/textbooks-en/test.txt" > "$work/encyclopedia"
cat "$data/novels-en/test.txt" > "$work/fiction"
for language in c cpp go javascript-typescript php python ruby rust shell-web; do cat "$data/code/$language/test.txt"; done > "$work/code"
sed -nE 's/^\{"instruction": "(.*)", "input": "(.*)", "output": "(.*)", "source": "(gpteacher_|t0|self_instruct).*$/Instruction: \1\\n\2\\nResponse: \3\\n/p' \
  "$data/instruct/test.jsonl" | plain > "$work/instructions"
cat "$data/dialogue-en/test.txt" > "$work/dialogue"
sed -nE 's/^.*"question": "(.*)", "answer": "(.*)"\}$/Question: \1\\nAnswer: \2\\n/p' "$data/tasks/gsm8k/test.jsonl" | plain > "$work/arithmetic"
domains="encyclopedia fiction code instructions dialogue arithmetic"

value() { sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$work/json" | head -n 1; }
measure() { # DOMAIN OPTION…
  domain=$1
  shift
  grep -v '^<|endoftext|>$' "$work/$domain" > "$work/text"
  "$eval" "$model" -f "$work/text" --ctx 512 --chunks 30 --json "$@" > "$work/json" 2> "$work/err" || { cat "$work/err" >&2; exit 1; }
}

echo '| text | tokens | perplexity | bits/byte | 2 experts | half width | 2 experts, half width |'
echo '|---|---:|---:|---:|---:|---:|---:|'
for domain in $domains; do
  measure "$domain" --stats "$work/$domain.json"
  full=$(value perplexity) bits=$(value bits_per_byte) n=$(value n_tokens)
  row=
  for options in "--experts 2" "--width 0.5" "--experts 2 --width 0.5"; do
    # shellcheck disable=SC2086
    measure "$domain" $options
    row="$row $(value perplexity)"
  done
  echo "$domain $n $full $bits$row" | awk '{ printf "| %s | %s | %.2f | %.3f |", $1, $2, $3, $4
    for (i = 5; i <= 7; i++) printf " %.2f (%+.1f %%) |", $i, 100 * ($i / $3 - 1); print "" }'
done

echo
echo 'The two experts that each kind of text uses most, with their share of its tokens times experts, and how evenly all kinds'
echo 'together, each with the same weight, use the experts of a layer (standard deviation / mean).'
echo
printf '| layer |'
for domain in $domains; do printf ' %s |' "$domain"; done
echo ' evenness |'
echo "|---|---|---|---|---|---|---|---:|"
for domain in $domains; do
  sed -n 's/.*"layer":\([0-9]*\),.*"use":\[\([0-9,]*\)\].*/\1 \2/p' "$work/$domain.json" | sed "s/^/$domain /"
done | awk '{
    n = split($3, use, ","); sum = 0; first = 1; second = 0
    for (e = 1; e <= n; e++) sum += use[e]
    for (e = 1; e <= n; e++) share[$2, e] += use[e] / sum
    for (e = 2; e <= n; e++) if (use[e] > use[first]) first = e
    for (e = 1; e <= n; e++) if (e != first && (second == 0 || use[e] > use[second])) second = e
    cell[$2, ++columns[$2]] = sprintf("%d (%.0f %%), %d (%.0f %%)", first - 1, 100 * use[first] / sum, second - 1, 100 * use[second] / sum)
    if ($2 + 1 > layers) layers = $2 + 1
    experts[$2] = n
  }
  END {
    for (l = 0; l < layers; l++) {
      if (!(l in experts)) continue
      n = experts[l]; mean = columns[l] / n; squares = 0
      for (e = 1; e <= n; e++) squares += (share[l, e] - mean) ^ 2
      printf "| %d |", l
      for (c = 1; c <= columns[l]; c++) printf " %s |", cell[l, c]
      printf " %.2f |\n", sqrt(squares / n) / mean
    }
  }'
