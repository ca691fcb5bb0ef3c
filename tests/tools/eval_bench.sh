#!/bin/sh
# moe-eval and moe-bench as their users see them: what comes out where, exit codes, and numbers that must agree between two runs.
set -u
cd "$(dirname "$0")/../.." || exit 1
bin=${BUILD:-build}/bin
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
model=$folder/model.gguf
text=$folder/text
out=$folder/out
err=$folder/err

# shellcheck disable=SC2086  # RUN is words on purpose
${RUN:-} "$bin/moe-inspect" synth "$model" --arch olmoe --set n_layer=2 --set n_ctx_train=1024 --seed 1 > "$out" 2> "$err" || {
  echo "FAIL eval_bench_synth_model $(head -n 1 "$err")"
  exit 1
}
i=0
while [ $i -lt 40 ]; do
  echo "Line $i of a text in which nothing happens twice but the number changes."
  i=$((i + 1))
done > "$text"

# run PROGRAM ARGUMENT…: leaves stdout in $out, stderr in $err, the exit status in $rc.
run() {
  program=$1
  shift
  # shellcheck disable=SC2086
  ${RUN:-} "$bin/$program" "$@" > "$out" 2> "$err" < /dev/null
  rc=$?
}
test_is() { # NAME CONDITION…
  name=$1
  shift
  if "$@"; then echo "ok $name"; else echo "FAIL $name exit $rc; $(tail -n 1 "$err")"; fi
}
fails() { [ "$rc" = "$1" ] && [ ! -s "$out" ] && grep -q "^$program: .*$2" "$err"; } # CODE TEXT
value() { sed -n "s/^ *\"$1\": \([^,]*\),*$/\1/p" "$out" | head -n 1; }              # KEY of JSON

# --- moe-eval ---

run moe-eval "$model" -f "$text" --ctx 64 --chunks 5
line=$(head -n 1 "$out")
test_is eval_prints_perplexity_error_and_tokens eval 'echo "$line" | grep -q "^perplexity [0-9.]* ± [0-9.]* (155 tokens)  [0-9.]* bits/byte$"'
test_is eval_ends_with_a_summary_line eval 'tail -n 1 "$out" | grep -q "^# olmoe .* 5 chunks of 64, "'
run moe-eval "$model" -f "$text" --ctx 64 --chunks 5 --json --stats "$folder/stats.json"
# The tokenizer of a synthetic model has a token a byte.
test_is eval_bits_per_byte awk -v b="$(value bits_per_byte)" -v n="$(value nll)" 'BEGIN { d = b * log(2) - n; exit !(b > 0 && d * d < 1e-12) }'
test_is eval_writes_router_stats grep -q '"tokens": 315' "$folder/stats.json"
same=yes
for options in "-t 1" "-t 3" "--batch 1" "--batch 7" "--batch 64" "--batch 1000"; do
  # shellcheck disable=SC2086
  run moe-eval "$model" -f "$text" --ctx 64 --chunks 5 $options
  [ "$(head -n 1 "$out")" = "$line" ] || same="no: $options"
done
test_is eval_agrees_for_every_thread_count_and_batch [ "$same" = yes ]

run moe-eval "$model" -f "$text" --ctx 64 --chunks 5 --save-logits "$folder/base"
test_is eval_saves_distributions [ "$(wc -c < "$folder/base")" = $((32 + 4 * 5 * 64 + 5 * 31 * (16 + 2 * 320))) ]
run moe-eval "$model" --kl-against "$folder/base" --json
test_is eval_compares_without_the_text [ "$(value n_tokens)" = 155 ]
test_is eval_of_itself_agrees_on_every_top_token [ "$(value same_top)" = 1.0 ]
test_is eval_of_itself_diverges_by_nothing awk -v kl="$(value mean)" 'BEGIN { exit !(kl < 1e-6) }'
run moe-eval "$model" --kl-against "$folder/base" --json --experts 1
test_is eval_of_another_topology_diverges awk -v kl="$(value mean)" 'BEGIN { exit !(kl > 1e-4) }'
run moe-eval "$model" --kl-against "$folder/base" -f "$text" --chunks 2
test_is eval_compares_a_part [ "$rc" = 0 ]

run moe-eval "$model" --kl-against "$folder/base" --ctx 32
test_is eval_refuses_another_context fails 1 'made with --ctx 64, found --ctx 32'
sed 's/nothing/naught/' "$text" > "$folder/other"
run moe-eval "$model" --kl-against "$folder/base" -f "$folder/other"
test_is eval_refuses_another_text fails 1 'another text'
run moe-eval "$model" --kl-against "$model"
test_is eval_refuses_what_holds_no_distributions fails 1 'not a file of distributions'
run moe-eval "$model" -f /dev/null
test_is eval_refuses_an_empty_text fails 1 'wanted at least 512 tokens'
run moe-eval "$model"
test_is eval_asks_for_a_text fails 2 '\-f TEXT is required'
run moe-eval "$model" -f "$text" --ctx 64 --save-logits "$folder/none/base"
test_is eval_says_where_it_cannot_write fails 1 'none/base'

# --- moe-bench ---

run moe-bench "$model" -p 8,16 -n 2 -d 0,4 -r 2 --seed 1 -o json
test_is bench_json_has_a_row_a_test [ "$(grep -c '"avg_ts"' "$out")" = 6 ]
test_is bench_json_has_a_sample_a_repetition [ "$(sed -n '/"samples_ts"/,/]/p' "$out" | grep -c '^ *[0-9]')" = 12 ]
run moe-bench "$model" -p 8 -n 0 -t 1,2 -b 4,8 -r 1 --seed 1 -o csv
test_is bench_csv_has_a_header_and_a_row_a_test [ "$(wc -l < "$out")" = 5 ]
test_is bench_csv_rows_have_the_headers_fields eval '[ "$(awk -F, "{ print NF }" "$out" | sort -u | wc -l)" = 1 ]'
run moe-bench "$model" -p 0 -n 2 -r 1 --seqs 3 --experts 1 --seed 1
test_is bench_markdown_names_the_test eval 'grep -q "| *tg2 x3 | .* % |$" "$out"'
test_is bench_says_on_what_it_ran eval 'head -n 2 "$out" | grep -q "^ceilings: read [0-9.]* GB/s, int8"'
run moe-bench "$model" -p 8 -n 2 -r 2 --seed 1 --profile
test_is bench_profiles_each_test [ "$(grep -c '^| waiting at barriers ' "$out")" = 2 ]
run moe-bench "$model" -p 8 -n 0 -r 2 --seed 1 --profile --json
test_is bench_profile_shares_add_up eval 'sed -n "s/.*\"share\": \([-0-9.e]*\).*/\1/p" "$out" | awk "{ s += \$1 } END { exit !(s > 0.999 && s < 1.001) }"'
run moe-bench "$model" --profile -o csv
test_is bench_refuses_a_profile_in_csv fails 2 'wanted -o md or json'
cat > "$folder/peer.sh" <<'END'
# Stands for llama-bench: half a token a second, whatever is asked.
while [ $# -gt 0 ]; do
  case $1 in -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; esac
  shift
done
echo "[{\"n_prompt\": $p, \"n_gen\": $n, \"n_depth\": ${d:-0}, \"avg_ts\": 0.5}]"
END
run moe-bench "$model" -p 8 -n 2 -d 0,4 -r 3 --seed 1 --vs "slow=sh $folder/peer.sh" --vs "sh $folder/peer.sh --other"
test_is bench_shows_a_ratio_a_test [ "$(grep -c ' 0.5 ± 0 % | .* 0.5 ± 0 % | ' "$out")" = 4 ]
test_is bench_names_its_peers eval 'grep -q "| *slow t/s | moe / slow | *sh t/s | moe / sh |" "$out"'
run moe-bench "$model" -p 8 -n 0 -r 3 --seed 1 --vs "slow=sh $folder/peer.sh" --json
test_is bench_runs_a_peer_once_a_repetition [ "$(sed -n '/"peers"/,/]/p' "$out" | grep -c '^ *0.5,*$')" = 3 ]
run moe-bench "$model" -p 8 -n 0 -r 1 --vs "bad=echo nothing here;"
test_is bench_says_which_peer_failed fails 1 "vs bad: "
run moe-bench "$model" -p 8 -n 2 -r 1 --vs "bad=false" --vs "slow=sh $folder/peer.sh" --vs-may-fail
test_is bench_goes_on_without_a_failed_peer eval '[ "$rc" = 0 ] && [ "$(grep -c "| *- | *- | *0.5" "$out")" = 2 ]'
test_is bench_warns_of_a_failed_peer eval 'grep -q "warning: pp8: --vs bad: exit status 1" "$err"'
run moe-bench "$model" -p 8 -n 0 --vs "="
test_is bench_refuses_a_peer_without_a_command fails 2 'wanted COMMAND or NAME=COMMAND'
run moe-bench "$model" -p 0 -n 1 -d 2000 -r 1 --seed 1
test_is bench_warns_beyond_the_trained_context eval 'grep -q "warning: tg1 @ d2000: 2001 tokens of context" "$err"'
run moe-bench "$model" -p 0 -n 0
test_is bench_refuses_to_measure_nothing fails 2 'nothing to measure'
run moe-bench
test_is bench_asks_for_a_model fails 2 'MODEL is required'
run moe-bench --ceilings --isa scalar -t 1 --json
test_is bench_measures_ceilings [ "$(value isa)" = '"scalar"' ]
run moe-bench --isa nosuch --ceilings
test_is bench_lists_instruction_sets fails 1 'nosuch'
run moe-bench ops --isa scalar --filter dot_q4_k_a8 --json
test_is bench_measures_kernels_by_name [ "$(grep -c '"kernel": "dot_q4_k_a8_t' "$out")" = 4 ]
run moe-bench ops --isa scalar --filter moe_down_q4_k_t1 --json
test_is bench_measures_whole_ops [ "$(grep -c '"kernel": "moe_down_q4_k_t1"' "$out")" = 1 ]
