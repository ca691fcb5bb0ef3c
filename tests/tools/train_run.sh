#!/bin/sh
# moe-train run and export as a user meets them: what they print and leave behind, and that stopping a run in any way loses
# nothing that its log or its checkpoint says.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh

train() { try "$bin/moe-train" "$@"; }

for file in README.md */README.md; do
  cat "$file"
  printf '<|endoftext|>\n'
done > "$work/text.txt"
train tokenizer "$work/text.txt" -o "$work/v.gguf" --vocab 400
train tokens "$work/text.txt" -o "$work/t.tok" --tokenizer "$work/v.gguf"
check train_run_data 0

# Small enough for some hundred steps a second.
set -- --set model.arch=qwen3moe --set model.name=toy --set "model.vocabulary=$work/v.gguf" \
  --set "data.corpora.0.tokens=$work/t.tok" --set data.corpora.0.name=readme --set data.context=32 --set data.held_out=0.2 \
  --set train.rows=2 --set train.rate=0.005 --set train.warmup=2 --set train.schedule=constant --set valid.targets=64 --set elastic.widths.0=0.5 \
  --set elastic.k_min=1 --set elastic.k_max=3 --seed 5
for setting in n_layer=1 d_model=32 n_head=2 n_kv_head=1 head_dim=16 n_expert=4 n_expert_used=2 d_ff_expert=64 d_ff=64 n_ctx_train=64; do
  set -- "$@" --set "model.settings.$setting"
done

# Rows of a log that begin so; 0 as long as there is none.
count() { grep -c "$1" "$2" 2> /dev/null || true; }
# Numbers of a log that a repeated run must have as well: step, losses, norm.
numbers() { awk -F, '$1 == "step" { print $2, $5, $6, $7, $12 }' "$1"; }

train run "$@" -o "$work/whole" --steps 60 --set checkpoint_every=20 --set validate_every=30 --set sample.every=30 \
  --set valid.variants.0=k=1,width=0.5 --json
check train_run 0 out '"steps": 60' out '"readme@k=1,width=0.5"' out '"bits_per_byte"' err 'perplexity'
is train_run_logs_each_step "$(grep -c '^step,' "$work/whole/log.csv")" 60
is train_run_logs_checkpoints "$(count '^event.*,checkpoint,' "$work/whole/log.csv")" 4 # 20, 30 for its sample, 40, 60
is train_run_samples "$(grep -c '^--- step' "$work/whole/samples.txt")" 2
try "$bin/moe-run" "$work/whole/checkpoint.gguf" -p "The" -n 8 --temp 0
check train_run_checkpoint_runs 0

train run "$@" -o "$work/whole" --steps 60
check train_run_keeps_what_is_there 1 err '--resume goes on from it'
train run "$@" -o "$work/whole" --steps 60 --resume
check train_run_of_a_done_run_is_done 0 out '60 steps'

# Killed with kill -9 some time after a checkpoint; then stopped by Ctrl-C; then to the end.
"$bin/moe-train" run "$@" -o "$work/parts" --steps 4000 --set checkpoint_every=7 > "$work/out" 2> "$work/err" &
pid=$!
n=0
while [ "0$(count '^event.*,checkpoint,' "$work/parts/log.csv")" -lt 2 ] && [ $n -lt 600 ]; do
  sleep 0.05
  n=$((n + 1))
done
train run "$@" -o "$work/parts" --resume
check train_run_folder_is_locked 1 err 'another run writes to this folder'
kill -9 $pid
wait $pid 2> /dev/null
rc=$?
is train_run_was_killed $rc 137
reached=$(count '^step,' "$work/parts/log.csv")
if [ "$reached" -ge 14 ]; then echo "ok train_run_reached_a_checkpoint"; else echo "FAIL train_run_reached_a_checkpoint $reached steps"; fi
"$bin/moe-train" run "$@" -o "$work/parts" --steps 4000 --set checkpoint_every=1000000 --resume > "$work/out" 2> "$work/err" &
pid=$!
n=0
while [ "$(count '^step,' "$work/parts/log.csv")" -lt $((reached + 10)) ] && [ $n -lt 600 ]; do
  sleep 0.05
  n=$((n + 1))
done
kill -INT $pid
wait $pid
rc=$?
check train_run_interrupted 1 err 'interrupted'
stopped=$(count '^step,' "$work/parts/log.csv")
train run "$@" -o "$work/parts" --steps $((stopped + 20)) --resume
check train_run_resumed 0
train run "$@" -o "$work/straight" --steps $((stopped + 20))
numbers "$work/parts/log.csv" > "$work/a"
numbers "$work/straight/log.csv" > "$work/b"
is train_run_has_each_step_once "$(wc -l < "$work/a")" $((stopped + 20))
same train_run_repeats_its_bits "$work/a" "$work/b"

train run "$@" -o "$work/one" --steps 12 --threads 1
train run "$@" -o "$work/two" --steps 12 --threads 2
numbers "$work/one/log.csv" > "$work/a"
numbers "$work/two/log.csv" > "$work/b"
same train_run_threads_do_not_matter "$work/a" "$work/b"

train export "$work/whole/checkpoint.gguf" -o "$work/model.bin" --type q8_0
check train_export 0 out 'weights'
try "$bin/moe-inspect" "$work/model.bin" tensors
lacks train_export_leaves_moments_out adam
try "$bin/moe-run" "$work/model.bin" -p "The" -n 8 --temp 0
check train_export_runs 0
train run "$@" -o "$work/fine" --steps 5 --set model.arch= --init "$work/model.bin" --set "train.frozen.0=token_embd.*"
check train_run_goes_on_from_a_file 0

cat > "$work/run.yaml" << EOF
out: $work/yaml
seed: 5
model: {arch: olmoe, vocabulary: $work/v.gguf, settings: {n_layer: 1, d_model: 32, n_head: 2, n_expert: 4, n_expert_used: 2, d_ff: 32, n_ctx_train: 64}}
data:
  context: 32
  corpora:
    - {name: readme, tokens: $work/t.tok}
train: {steps: 4, rows: 2, warmup: 1}
EOF
train run --config "$work/run.yaml"
if grep -q 'reads no YAML' "$work/err"; then
  echo "skip train_run_yaml this build has no yaml-cpp"
else
  check train_run_yaml 0 out '4 steps'
  echo 'speed: 3' >> "$work/run.yaml"
  train run --config "$work/run.yaml" --overwrite
  check train_run_unknown_setting 2 err "run.yaml:9: unknown setting 'speed'"
  printf 'a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*c,*c,*c,*c,*c,*c,*c,*c]\n' > "$work/bomb.yaml"
  train run --config "$work/bomb.yaml"
  check train_run_yaml_bomb 1 err 'too much for settings'
  printf 'train: [1, 2' > "$work/broken.yaml"
  train run --config "$work/broken.yaml"
  check train_run_broken_yaml 1 err 'broken.yaml:1'
fi

train run "$@" -o "$work/plain" --steps 3 --set elastic.widths=
is train_run_empties_a_list "$(awk -F, '$1 == "step" && $6 == ""' "$work/plain/log.csv" | wc -l)" 3
train run "$@" -o "$work/epoch" --steps 4000 --set data.epochs=1
check train_run_ends_with_its_data 0 err 'the data are used up' err 'perplexity'
train run --describe
check train_run_describe 0 out 'train.rate: 0.001' out 'elastic.widths'
train run "$@" -o "$work/bad" --set train.rows=many
check train_run_bad_value 2 err "train.rows: 'many' is no value for it"
train run "$@" -o "$work/bad" --set elastic.k_max=9
check train_run_k_above_experts 1 err 'k_max: wanted k_min to 4, found 9'
printf '' > "$work/empty.tok"
train run "$@" -o "$work/bad" --set "data.corpora.0.tokens=$work/empty.tok"
check train_run_empty_tokens 1 err 'empty.tok'
train run "$@" -o "$work/bad" --set "data.corpora.0.tokens=$work/none.tok"
check train_run_no_tokens 1 err 'none.tok'
train run "$@" -o "$work/bad" --steps 50 --set train.rate=1e37 --set train.clip=0 --set train.weight_decay=0 --set validate_every=0
check train_run_diverges 1 err 'step '
if grep -q '^event.*,error,' "$work/bad/log.csv"; then echo "ok train_run_logs_the_error"; else echo "FAIL train_run_logs_the_error"; fi
if [ -w /dev/full ]; then
  ln -s /dev/full "$work/full.gguf"
  train export "$work/whole/checkpoint.gguf" -o "$work/full.gguf"
  check train_export_full_disk 1 err 'No space'
fi

try "$bin/moe-inspect" synth "$work/dense.gguf" --arch llama --set n_layer=1 --set d_model=32 --set n_head=2 --set head_dim=16 \
  --set d_ff=64 --set n_expert=0 --set n_expert_used=0 --vocab-from "$work/v.gguf"
check train_upcycle_dense 0
train upcycle "$work/dense.gguf" -o "$work/moe.gguf" --copies 4 --used 2 --slices 2 --seed 1
check train_upcycle 0 out '8 experts a layer, 4 used'
train run "$@" -o "$work/up" --steps 5 --set model.arch= --init "$work/moe.gguf" --set data.corpora.0.tokens="$work/t.tok"
check train_upcycle_trains 0 out '5 steps'
train upcycle "$work/model.bin" -o "$work/x.gguf" --seed 1
check train_upcycle_of_experts 1 err 'wanted a dense model'
