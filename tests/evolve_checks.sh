# shellcheck shell=sh
# shellcheck disable=SC2154,SC2086  # bin, work and run are of program_checks.sh; RUN is words on purpose
# For test scripts of moe-evolve, which source it behind program_checks.sh: a model that a forward pass takes no time of, texts,
# and what counts of a run's files. Sets model, and the script's arguments to those of a search of small texts and generations.

# Trained for a moment, so that its experts differ.
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
try $run "$bin/moe-train" run "$@" -o "$work/trained" --steps 60 --seed 5 -t 1
check model_is_trained 0
# shellcheck disable=SC2034  # for those who source this
model=$work/trained/checkpoint.gguf

set -- -f "first=$work/first.txt" -f "last=$work/last.txt" --seed 7 --population 12 --set text.context=32 --set text.block=64 \
  --set text.calibration_tokens=512 --set text.select_tokens=512 --set text.test_tokens=512 --set fitness.tokens=256 \
  --set fitness.sampled=64 --set fitness.probe_tokens=128 --set measure.points=0

evolve() { try "$bin/moe-evolve" "$@"; }

# What counts of a front.json: all but how long it took, and what was measured with a clock.
front_facts() { sed -e 's/"measured":{[^}]*}/"measured":null/g' -e 's/"seconds":[0-9.e+-]*/"seconds":0/' "$1"; }
# Of a journal: its generations but for how long they took, which checksums cover, and how it ended the last time.
journal_facts() {
  grep -v '"end":{' "$1" | sed -e 's/"sum":"[0-9a-f]*"//' -e 's/"seconds":[0-9.e+-]*/"seconds":0/'
  grep '"end":{' "$1" | tail -n 1 | sed -e 's/"sum":"[0-9a-f]*"//' -e 's/"seconds":[0-9.e+-]*/"seconds":0/'
}
# All that a run in a folder found, one text.
run_facts() {
  front_facts "$1/front.json"
  journal_facts "$1/journal.jsonl"
  cat "$1"/p[0-9]*.json
}
