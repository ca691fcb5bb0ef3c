#!/bin/sh
# moe-evolve as a user meets it: what it prints and leaves behind, what it refuses, and that stopping it in any way changes
# nothing of what it finds.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh

# A model that a forward pass takes no time of: trained for a moment, so that its experts differ.
for file in README.md */README.md; do
  cat "$file"
  printf '<|endoftext|>\n'
done > "$work/text.txt"
head -c 20000 "$work/text.txt" > "$work/first.txt"
tail -c 20000 "$work/text.txt" > "$work/last.txt"
"$bin/moe-train" tokenizer "$work/text.txt" -o "$work/v.gguf" --vocab 400 > /dev/null 2>&1
"$bin/moe-train" tokens "$work/text.txt" -o "$work/t.tok" --tokenizer "$work/v.gguf" > /dev/null 2>&1
set -- --set model.arch=qwen3moe --set model.name=toy --set "model.vocabulary=$work/v.gguf" \
  --set "data.corpora.0.tokens=$work/t.tok" --set data.context=32 --set train.rows=4 --set train.rate=0.01 --set train.warmup=2
for setting in n_layer=2 d_model=32 n_head=2 n_kv_head=1 head_dim=16 n_expert=8 n_expert_used=2 d_ff_expert=32 d_ff=32 n_ctx_train=64; do
  set -- "$@" --set "model.settings.$setting"
done
try $run "$bin/moe-train" run "$@" -o "$work/trained" --steps 60 --seed 5
check evolve_run_has_a_model 0
model=$work/trained/checkpoint.gguf

evolve() { try "$bin/moe-evolve" "$@"; }
# Small texts, small generations.
set -- -f "first=$work/first.txt" -f "last=$work/last.txt" --seed 7 --population 12 --set text.context=32 --set text.block=64 \
  --set text.calibration_tokens=512 --set text.select_tokens=512 --set text.test_tokens=512 --set fitness.tokens=256 \
  --set fitness.sampled=64 --set fitness.probe_tokens=128

evolve "$model" "$@" -o "$work/whole" --generations 6 --json
check evolve_run 0 out '"reason": "generations used up"' out '"format": "moe-front"' out '"name": "frequency 50 %"' out '"worst_domain_kl"'
is evolve_run_writes_a_line_a_generation "$(grep -c '"generation":{' "$work/whole/journal.jsonl")" 6
is evolve_run_writes_a_topology_a_point "$(find "$work/whole" -name 'p[0-9]*.json' | wc -l)" "$(grep -o '"name":"p[0-9]' "$work/whole/front.json" | wc -l)"
try "$bin/moe-run" "$model" --topology "$work/whole/p00.json" -p "The" -n 4 --temp 0
check evolve_run_topologies_run 0
try "$bin/moe-run" "$model" --front "$work/whole/front.json" --experts-kept 12 -p "The" -n 4 --temp 0
check evolve_run_front_is_picked_from 0

evolve "$model" "$@" -o "$work/whole" --generations 6
check evolve_run_keeps_what_is_there 1 err '--resume goes on from it'
evolve "$model" "$@" -o "$work/whole" --generations 6 --resume --population 13
check evolve_run_goes_on_with_the_same_only 1 err 'evolution.population_size is "12", this one'"'"'s "13"'
cp "$work/whole/front.json" "$work/front"
evolve "$model" "$@" -o "$work/whole" --generations 6 --resume
check evolve_run_of_a_done_run_is_done 0 out '6 generations'

# What counts of a front: all but how long it took, and what was asked for twice.
facts() { grep -v -e '"seconds"' -e '"token_layers"' "$1"; }
facts "$work/front" > "$work/a"
facts "$work/whole/front.json" > "$work/b"
same evolve_run_done_run_has_its_front "$work/b" "$work/a"

# The word `run`, and threads.
evolve run "$model" "$@" -o "$work/one" --generations 6 -t 1
check evolve_run_word 0
facts "$work/one/front.json" > "$work/b"
same evolve_run_threads_do_not_matter "$work/b" "$work/a"

# Killed again and again, each time one generation further at the earliest.
kills=0
while [ $kills -lt 5 ]; do
  lines=$(grep -c . "$work/parts/journal.jsonl" 2> /dev/null || true)
  "$bin/moe-evolve" "$model" "$@" -o "$work/parts" --generations 6 --resume > "$work/out" 2> "$work/err" &
  pid=$!
  n=0
  while [ "0$(grep -c . "$work/parts/journal.jsonl" 2> /dev/null || true)" -le "0${lines:-0}" ] && [ $n -lt 600 ]; do
    sleep 0.02
    n=$((n + 1))
  done
  kill -9 $pid 2> /dev/null
  wait $pid 2> /dev/null
  kills=$((kills + 1))
done
printf '{"sum":"0123' >> "$work/parts/journal.jsonl" # what a power cut leaves of a line
evolve "$model" "$@" -o "$work/parts" --generations 6 --resume
check evolve_run_resumes 0
facts "$work/parts/front.json" > "$work/b"
same evolve_run_killed_has_the_same_front "$work/b" "$work/a"
sed '2s/"generation":0/"generation":1/' "$work/parts/journal.jsonl" > "$work/journal" && cp "$work/journal" "$work/parts/journal.jsonl"
evolve "$model" "$@" -o "$work/parts" --generations 6 --resume
check evolve_run_refuses_damage 1 err 'journal.jsonl'

# Ctrl-C leaves a front.
"$bin/moe-evolve" "$model" "$@" -o "$work/stopped" --generations 100000 > "$work/out" 2> "$work/err" &
pid=$!
n=0
while [ "0$(grep -c . "$work/stopped/journal.jsonl" 2> /dev/null || true)" -lt 3 ] && [ $n -lt 600 ]; do
  sleep 0.02
  n=$((n + 1))
done
kill -INT $pid
wait $pid
rc=$?
check evolve_run_interrupted 1 err interrupted out 'front.json'
try "$bin/moe-run" "$model" --topology "$work/stopped/p00.json" -p "The" -n 4 --temp 0
check evolve_run_interrupted_leaves_a_front 0

evolve "$model" "$@" -o "$work/kept" --generations 3 --kept 50% --objectives kl --algorithm genetic
check evolve_run_one_objective 0 out 'random 50 %'
is evolve_run_keeps_half "$(grep -c '"name":"p[0-9].*"kept_share":0.5,' "$work/kept/front.json")" "$(grep -c '"name":"p[0-9]' "$work/kept/front.json")"
evolve "$model" "$@" -o "$work/never" --kept 1
check evolve_run_impossible 1 err 'kept'
evolve "$model" "$@" -o "$work/never" --objectives kl,speed
check evolve_run_unknown_objective 2 err 'wanted one of kl' err "'speed'"
evolve "$model" "$@" -o "$work/never" --algorithm genetic
check evolve_run_one_objective_only 2 err 'minimises one objective'
evolve "$model" -o "$work/never"
check evolve_run_wants_a_text 2 err '-f NAME=FILE'
evolve "$model" --describe
check evolve_run_describe 0 out 'evolution.population_size: 0' out 'hardware_targets'

# The form of others' files.
cat > "$work/evolution.yaml" << EOF
evolution: {population_size: 12, generations: 2, mutation_rate: 0.1, crossover_rate: 0.7, selection: {method: tournament, tournament_size: 3}}
objectives:
  - {name: kl, weight: 1.0}
  - {name: latency, weight: -0.2, target: 10}
  - {name: sparsity, weight: 0.1, target: 0.1}
constraints: {max_active_experts: 2, max_memory: 4GB}
hardware_targets:
  - {name: edge, memory: 1GB, compute: int8}
  - {name: mobile, memory: 500MB, compute: fp16}
out: $work/yaml
EOF
evolve "$model" --config "$work/evolution.yaml" "$@" --device-profile mobile --json
if grep -q 'reads no YAML' "$work/err"; then
  echo "skip evolve_run_yaml this build has no yaml-cpp"
else
  check evolve_run_yaml 0 err 'different units' out '"chosen": "p' out '"name": "mobile"'
  evolve "$model" --config "$work/evolution.yaml" "$@"
  check evolve_run_one_device 2 err 'which of edge, mobile'
  echo 'constraints: {min_expert_usage: 0.1}' > "$work/usage.yaml"
  evolve "$model" --config "$work/usage.yaml" "$@" -o "$work/never"
  check evolve_run_meaningless 2 err 'usage.yaml:1: constraints.min_expert_usage has no meaning here'
fi
