#!/bin/sh
# moe-run as its users see it: what comes out where, exit codes, and numbers that must agree between two runs.
# shellcheck disable=SC2016,SC2034  # test_is evaluates conditions
set -u
cd "$(dirname "$0")/../.." || exit 1
bin=${BUILD:-build}/bin
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
model=$folder/model.gguf
out=$folder/out
err=$folder/err

# shellcheck disable=SC2086  # RUN is words on purpose
${RUN:-} "$bin/moe-inspect" synth "$model" --arch olmoe --set n_layer=2 --set n_ctx_train=1024 --seed 1 > "$out" 2> "$err" || {
  echo "FAIL moe_run_synth_model $(head -n 1 "$err")"
  exit 1
}

# run ARGUMENT…: leaves stdout in $out, stderr in $err, the exit status in $rc; stdin is the caller's.
run() {
  # shellcheck disable=SC2086
  ${RUN:-} "$bin/moe-run" "$model" "$@" > "$out" 2> "$err"
  rc=$?
}
test_is() { # NAME CONDITION…
  name=$1
  shift
  if "$@"; then echo "ok moe_run_$name"; else echo "FAIL moe_run_$name exit $rc; $(tail -n 1 "$err")"; fi
}
hash() { sed -n 's/^# .*| logits //p' "$err"; }
prompt_count() { sed -n 's/^# prompt \([0-9]*\) tok .*/\1/p' "$err"; }
fails() { [ "$rc" = "$1" ] && [ ! -s "$out" ] && grep -q "^moe-run: .*$2" "$err"; } # CODE TEXT

ids="72 101 108 108 111 32 119 111 114 108 100"

run --tokens "$ids" -n 0 --logits-out "$folder/logits" --no-display-prompt < /dev/null
test_is "writes_a_row_of_logits_a_token" [ "$(wc -c < "$folder/logits")" = $((11 * 320 * 4)) ]
test_is "prints_no_text_when_nothing_is_asked_for" [ ! -s "$out" ]
first=$(hash)
same=yes
for options in "-t 1" "-t 2" "-t 3" "-t 8" "-t 2 --batch 4" "-t 1 --batch 1"; do
  # shellcheck disable=SC2086
  run --tokens "$ids" -n 0 $options --logits-out "$folder/again" < /dev/null
  [ "$(hash)" = "$first" ] && cmp -s "$folder/logits" "$folder/again" || same="no: $options"
done
test_is "logits_have_the_same_bits_for_every_thread_count_and_batch" [ "$same" = yes ]

summary='^# prompt 11 tok [0-9.]* tok/s | gen 6 tok [0-9.]* tok/s | [0-9.]* GB/s | peak [0-9.]* [kMG]B | logits [0-9a-f]\{16\}$'
run -p "Hello world" -n 6 --greedy
cp "$out" "$folder/greedy"
test_is "ends_with_a_summary_line" eval 'tail -n 1 "$err" | grep -q "$summary"'
test_is "shows_the_prompt_in_front_of_the_text" [ "$(head -c 11 "$out")" = "Hello world" ]
printf 'Hello world\n' > "$folder/prompt"
run -n 6 --greedy < "$folder/prompt"
test_is "reads_a_prompt_from_stdin" cmp -s "$out" "$folder/greedy"
run -f "$folder/prompt" -n 6 --temp 0
test_is "reads_a_prompt_from_a_file" cmp -s "$out" "$folder/greedy"

run -p "Once" -n 40 --seed 3
cp "$out" "$folder/seed"
run -p "Once" -n 40 --seed 3 -t 1
test_is "the_same_seed_gives_the_same_text" cmp -s "$out" "$folder/seed"
run -p "Once" -n 4 < /dev/null
test_is "a_seed_chosen_for_the_user_is_printed" grep -q '^moe-run: --seed [0-9]*$' "$err"

run -p "Go" -n 20 --greedy --logit-bias 97=+1000 --stop aaaa --no-display-prompt
test_is "a_stop_string_that_spans_tokens_ends_the_text" eval '[ ! -s "$out" ] && grep -q "| gen 4 tok" "$err"'

run -p "Hello" -n 5 --greedy --json --no-bos
test_is "json_is_one_object_with_the_hash_of_the_summary" \
  eval 'head -n 1 "$out" | grep -qx "{" && tail -n 1 "$out" | grep -qx "}" && grep -q "\"logits_hash\": \"$(hash)\"" "$out"'

run --tokens "$ids" -n 8 --greedy --no-display-prompt
cp "$out" "$folder/whole"
run --tokens "$ids" -n 4 --greedy --no-display-prompt --save-session "$folder/session"
head -c -1 "$out" > "$folder/parts"
run --session "$folder/session" -n 4 --greedy --no-display-prompt < /dev/null
cat "$out" >> "$folder/parts"
test_is "a_restored_session_goes_on_as_if_never_left" cmp -s "$folder/whole" "$folder/parts"
test_is "a_restored_session_evaluates_its_last_token_only" [ "$(prompt_count)" = 1 ]
run --tokens "$ids" -n 0 --save-session "$folder/session"
run --tokens "$ids 1 2 3" -n 0 --session "$folder/session"
test_is "a_prompt_behind_a_session_evaluates_what_is_new" [ "$(prompt_count)" = 3 ]
together=$(hash)
run --tokens "$ids 1 2 3" -n 0
test_is "and_gets_the_same_logits" [ "$(hash)" = "$together" ]

run -p "Hello" -n 50 --ctx 16 --greedy
test_is "a_full_context_is_a_note_not_an_error" eval '[ $rc = 0 ] && grep -q "context full.*16.*--ctx" "$err"'
run -p "Hello world" --ctx 8
test_is "a_prompt_longer_than_the_context_names_both" fails 1 "11 tokens.*8.*--ctx"

run -p "Hello" -n 4 --experts 2 --stats "$folder/stats" --heatmap --greedy
test_is "stats_tell_experts_and_what_they_save" \
  eval 'grep -q "\"k_mean\": 2.0," "$folder/stats" && grep -q "\"expert_flops_saved\": 0.5," "$folder/stats"'
test_is "stats_hold_the_router_entropy" grep -q '"router_entropy": [0-9]' "$folder/stats"
test_is "the_heat_map_goes_to_stderr" grep -q '^layer   1  .* x mean' "$err"

# 400 characters, then a short turn: the second turn must not evaluate the first one again.
long=$(printf '%0400d' 0)
printf '%s\n\nagain\n/exit\nnever\n' "$long" > "$folder/turns"
run --chat --chat-template chatml -n 8 --seed 1 < "$folder/turns"
test_is "chat_evaluates_only_what_is_new" [ "$(prompt_count)" -lt 600 ]
test_is "chat_answers_every_turn_before_exit" grep -q '| gen 1[0-6] tok' "$err"
run --chat --chat-template nonsense -p hi < /dev/null
test_is "an_unknown_template_lists_the_known_ones" fails 2 "nonsense.*chatml"

run --tokens "1 x" < /dev/null
test_is "a_token_id_that_is_no_number_is_a_usage_error" fails 2 "found 'x'"
run --tokens "1 320" < /dev/null
test_is "a_token_id_outside_the_vocabulary_is_named" fails 1 "320"
run -n 1 < /dev/null
test_is "an_empty_prompt_says_how_to_give_one" fails 2 "prompt is empty.*-p"
run -p x -n 1 --logit-bias 5:1
test_is "a_broken_logit_bias_is_a_usage_error" fails 2 "ID=V"
run -p x -n 1 --topology "$folder/prompt"
test_is "a_broken_topology_is_named" fails 1 "$folder/prompt"
test_is "a_broken_topology_says_where_the_format_is_described" grep -q "TOPOLOGY.md" "$err"
run -p x -n 1 --stats "$folder/none/stats"
test_is "a_statistics_file_that_cannot_be_written_ends_the_run_before_it_begins" fails 1 "none/stats"
run -p x -n 1 --promt y
test_is "a_mistyped_option_is_answered_with_the_likely_one" fails 2 "--promt'; did you mean --prompt?"
run -p x -n 1 --experts 0
test_is "a_number_out_of_range_tells_the_range" fails 2 "1 to 65536"
# shellcheck disable=SC2086
${RUN:-} "$bin/moe-run" "$model" -p x -n 2 --greedy --stats "$folder/stats" >&- 2> "$err"
rc=$?
test_is "text_for_a_closed_stdout_ends_in_no_file" eval '[ "$rc" = 1 ] && [ "$(head -c 1 "$folder/stats")" = "{" ]'
printf 'not a session' > "$folder/bad"
run -p x -n 1 --session "$folder/bad"
test_is "a_broken_session_is_named" fails 1 "$folder/bad"
model=$folder/none.gguf
run -p x
test_is "a_missing_model_is_named" fails 1 "none.gguf"
