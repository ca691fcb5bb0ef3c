#!/bin/sh
# moe-evolve as a user meets it: what it prints and leaves behind, what it refuses, and that stopping it in any way changes
# nothing of what it finds.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh
. tests/evolve_checks.sh

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

front_facts "$work/front" > "$work/a"
front_facts "$work/whole/front.json" > "$work/b"
same evolve_run_done_run_has_its_front "$work/b" "$work/a"

# The word `run`, and threads.
evolve run "$model" "$@" -o "$work/one" --generations 6 -t 1
check evolve_run_word 0
front_facts "$work/one/front.json" > "$work/b"
same evolve_run_threads_do_not_matter "$work/b" "$work/a"
set -- "$@" -t 1

# A run of half the generations goes on, behind half a line.
evolve "$model" "$@" -o "$work/parts" --generations 3
check evolve_run_half 0
printf '{"sum":"0123' >> "$work/parts/journal.jsonl" # what a power cut leaves of a line
evolve "$model" "$@" -o "$work/parts" --generations 6 --resume
check evolve_run_resumes 0
front_facts "$work/parts/front.json" > "$work/b"
same evolve_run_goes_on_to_the_same_front "$work/b" "$work/a"
sed '2s/"generation":0/"generation":1/' "$work/parts/journal.jsonl" > "$work/journal" && cp "$work/journal" "$work/parts/journal.jsonl"
evolve "$model" "$@" -o "$work/parts" --generations 6 --resume
check evolve_run_refuses_damage 1 err 'journal.jsonl'

# Weights are of a sum where the algorithm knows one objective.
evolve "$model" "$@" -o "$work/sum" --generations 4 --algorithm genetic --objectives kl,kept-share --set objectives.0.weight=1 \
  --set objectives.1.weight=0.5
check evolve_run_weighted_sum 0 err 'nsga2 finds the whole front' out '4 generations, 1 points'
evolve "$model" "$@" -o "$work/sum" --generations 5 --algorithm genetic --objectives kl,kept-share --set objectives.0.weight=1 \
  --set objectives.1.weight=0.6 --resume
check evolve_run_weighted_sum_is_what_a_search_is 1 err '0.6'

# A budget of forwards: what an earlier process spent is counted as if this one had, with what is known of prefixes.
set -- "$@" --set fitness.fresh_every=2 --set fitness.memory=20KB
evolve "$model" "$@" -o "$work/budget" --budget 30000
check evolve_run_budget 0 out 'evaluations used up'
run_facts "$work/budget" > "$work/a"
mkdir "$work/rest"
head -n 3 "$work/budget/journal.jsonl" > "$work/rest/journal.jsonl"
evolve "$model" "$@" -o "$work/rest" --budget 30000 --resume
check evolve_run_budget_resumes 0 out 'evaluations used up'
run_facts "$work/rest" > "$work/b"
same evolve_run_budget_ends_alike "$work/b" "$work/a"

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

# Questions with answers to choose from.
cat > "$work/questions.jsonl" << EOF
{"question": "What does a router choose?", "choices": ["experts", "files", "threads"], "answer": 0}
{"question": "What holds the weights?", "choices": ["a journal", "a model file"], "answer": 1}
{"question": "What is a front made of?", "choices": ["points", "pages"], "answer": 0}
{"question": "What does a mask leave out?", "choices": ["layers of paint", "tokens of text", "experts of a layer"], "answer": 2}
{"question": "What does quantization make smaller?", "choices": ["weights", "words"], "answer": 0}
{"question": "What is read once at the end?", "choices": ["the journal", "the held-out text"], "answer": 1}
EOF
questions=questions.files.0=$work/questions.jsonl
evolve "$model" "$@" -o "$work/quiz" --generations 2 --objectives accuracy,bytes-per-token --set "$questions"
check evolve_run_accuracy 0 out 'accuracy'
points() { grep -c "\"name\":\"p[0-9].*$1" "$work/quiz/front.json"; }
is evolve_run_accuracy_of_all_points "$(points '"selection":{"accuracy":[01]')" "$(points '')"
evolve "$model" "$@" -o "$work/quiz" --overwrite --generations 2 --objectives accuracy --algorithm genetic --kept 50% --set "$questions"
check evolve_run_accuracy_alone 0 out 'accuracy'
sed '3s/"answer": 0/"answer": 7/' "$work/questions.jsonl" > "$work/wrong.jsonl"
evolve "$model" "$@" -o "$work/unasked" --objectives accuracy,kl --set "questions.files.0=$work/wrong.jsonl"
check evolve_run_question_without_answer 1 err 'wrong.jsonl:3' err 'found no such answer'
evolve "$model" "$@" -o "$work/unasked" --objectives accuracy,kl
check evolve_run_accuracy_wants_questions 2 err 'accuracy: wanted files of questions'

# Two devices, one search: each has a front, whose points are files of the same folder.
two="--device-profile edge --device-profile mobile --objectives kl,latency"
# shellcheck disable=SC2086  # options are words on purpose, here and below
evolve "$model" "$@" $two -o "$work/devices" --generations 3
check evolve_run_devices 0 out 'points for edge' out 'points for mobile'
for device in edge mobile; do
  try "$bin/moe-run" "$model" --front "$work/devices/front-$device.json" --target-latency 50 -p "The" -n 2 --temp 0
  check "evolve_run_front_of_$device" 0 err 'nats a token on held-out text'
done
mkdir "$work/device_parts"
head -n 2 "$work/devices/journal.jsonl" > "$work/device_parts/journal.jsonl"
# shellcheck disable=SC2086
evolve "$model" "$@" $two -o "$work/device_parts" --generations 3 --resume
for file in front.json front-edge.json front-mobile.json; do
  front_facts "$work/devices/$file" > "$work/a"
  front_facts "$work/device_parts/$file" > "$work/b"
  same "evolve_run_resumes_to_$file" "$work/b" "$work/a"
done
# shellcheck disable=SC2086
evolve "$model" "$@" $two -o "$work/unreached" --limit latency=1e-9
check evolve_run_impossible_latency 1 err 'device edge: latency: wanted at most' err 'without routed experts + '
evolve "$model" "$@" -o "$work/unreached" --limit resident-bytes=1kB
check evolve_run_impossible_memory 1 err 'resident-bytes: wanted at most 1.0' err 'experts kept'

# Against the clock, at the end: what else the front says is the same.
evolve "$model" "$@" -o "$work/clocked" --generations 2 --set measure.points=2 --set seeds.baselines=false
check evolve_run_measures 0 out 'measured tok/s' out '# measured: 4 routings'
is evolve_run_measured_numbers "$(grep -o '"measured":{"tokens_per_s":[0-9.]*[1-9]' "$work/clocked/front.json" | wc -l)" 4
front_facts "$work/clocked/front.json" > "$work/a"
evolve "$model" "$@" -o "$work/clocked" --generations 2 --set seeds.baselines=false --resume
check evolve_run_measures_no_more 0
front_facts "$work/clocked/front.json" > "$work/b"
same evolve_run_measuring_changes_nothing "$work/b" "$work/a"

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
  evolve "$model" --config "$work/evolution.yaml" "$@" -o "$work/both"
  check evolve_run_yaml_devices 0 out 'front-edge.json' out 'points for mobile: 500 MB'
  echo 'constraints: {min_expert_usage: 0.1}' > "$work/usage.yaml"
  evolve "$model" --config "$work/usage.yaml" "$@" -o "$work/never"
  check evolve_run_meaningless 2 err 'usage.yaml:1: constraints.min_expert_usage has no meaning here'
fi
