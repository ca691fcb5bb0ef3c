#!/bin/sh
# The bundled model as its users meet it: found by name, small enough, English to it is no noise, and it serves smaller budgets.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh
model=models/zoo/mosaic/mosaic.gguf

cat > "$work/text" << 'END'
The town lies on the north bank of the river, about twelve miles from the sea. It was founded in the middle of the nineteenth
century, when the railway was built, and for many years most of its people worked in the mills. In 1921 the population was
8,450. The first school was opened by the church in 1868, and a new building was added after the war. Today the area is known
for its gardens, its old stone bridge and a museum of local history, which is open to the public from April to October.

“I do not know what you mean,” said the old man, and he looked at her for a long time without another word. She went to the
window. It was almost dark, and the rain had begun to fall again upon the road. “You must not think that I am angry with you,”
she answered at last; “but I cannot stay in this house any longer, and my brother will be here in the morning.” He was silent.
The door of the little room was open, and from below came the voices of the children, who had been told to go to bed.

A cell is the smallest unit of life. All living things are made of one or more cells, and every cell comes from another cell.
Plants use the energy of the sun to make sugar from water and carbon dioxide; animals get their energy from the food that they
eat. When a cell divides, each of the two new cells receives a copy of the genetic information of the first one.
END

try "$bin/moe-run" --zoo
check mosaic_is_listed 0 out mosaic out qwen3moe out '17 M weights for every budget'
is mosaic_is_at_most_25_MB "$(($(wc -c < $model) <= 25000000))" 1
try "$bin/moe-run" mosaic -p "The city of" -n 24 --greedy -t 1
check mosaic_runs_by_name 0 out "The city of"
cp "$work/out" "$work/one_thread"
try "$bin/moe-run" mosaic -p "The city of" -n 24 --greedy -t 2
same mosaic_does_not_depend_on_threads "$work/out" "$work/one_thread"

# nll OPTION…: of the text, nats a token
nll() {
  try "$bin/moe-eval" mosaic -f "$work/text" --ctx 128 --json "$@"
  sed -n 's/^ *"nll": \([^,]*\),*$/\1/p' "$work/out" | head -n 1
}
# at_most NAME NUMBER BOUND
at_most() {
  if awk -v n="${2:-none}" -v bound="$3" 'BEGIN { exit !(n > 0 && n <= bound) }'; then echo "ok $1"; else echo "FAIL $1 '$2', wanted at most $3"; fi
}
full=$(nll)
at_most mosaic_knows_english "$full" 4.3 # a vocabulary of 6,144: knowing nothing is 8.7
at_most mosaic_serves_2_experts "$(nll --experts 2)" "$(echo "$full" | awk '{ print $1 + 0.1 }')"
at_most mosaic_serves_half_width "$(nll --width 0.5)" "$(echo "$full" | awk '{ print $1 + 0.15 }')"
at_most mosaic_serves_both "$(nll --experts 2 --width 0.5)" "$(echo "$full" | awk '{ print $1 + 0.2 }')"

# The routings that were evolved for it, under masks and as files of their own.
try "$bin/moe-run" --zoo --json
check mosaic_has_a_front 0 out 'mosaic/topologies/front.json"'
at_most mosaic_evolved_to_14_MB "$(nll --front mosaic --memory-limit 14MB)" "$(echo "$full" | awk '{ print $1 + 0.1 }')"
evolved=$(nll --front mosaic --memory-limit 11MB)
at_most mosaic_evolved_to_11_MB "$evolved" "$(echo "$full" | awk '{ print $1 + 0.25 }')"
try "$bin/moe-quantize" mosaic "$work/small.gguf" --front mosaic --memory-limit 11MB
check mosaic_file_of_11_MB 0
is mosaic_file_is_at_most_11_MB "$(($(wc -c < "$work/small.gguf") <= 11300000))" 1 # with 0.2 MB of vocabulary
try "$bin/moe-eval" "$work/small.gguf" -f "$work/text" --ctx 128 --json
is mosaic_file_says_what_masks_say "$(sed -n 's/^ *"nll": \([^,]*\),*$/\1/p' "$work/out" | head -n 1)" "$evolved"
