#!/bin/sh
# moe-train as a user meets it: what it prints, its exit codes, that it never leaves half a file, and what its files are good for.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh

train() { try "$bin/moe-train" "$@"; }

# Documents of its own: this repository's.
for file in README.md models/README.md tests/README.md; do
  cat "$file"
  printf '<|endoftext|>\n'
done > "$work/text.txt"

train --help
check train_help 0 out tokenizer out tokens
train tokenizer --help
check train_tokenizer_help 0 out --vocab out --layout
train
check train_wants_a_command 2

t=$work/t.gguf
train tokenizer "$work/text.txt" -o "$t" --vocab 600 --threads 2
check train_tokenizer 0 out "600 tokens" out "3 documents"
train tokenizer "$work/text.txt" -o "$work/t1.gguf" --vocab 600 --threads 1 --json
check train_tokenizer_json 0 out '"tokens": 600' out '"documents": 3' out '"repair": ""'
same train_tokenizer_is_the_same_for_any_threads "$t" "$work/t1.gguf"
train tokenizer "$work/text.txt" -o "$work/big.gguf" --vocab 100000
check train_tokenizer_says_that_the_text_is_small 0 err "wanted 100000 tokens; the text supports"
train tokenizer "$work/text.txt" -o "$work/x.gguf" --vocab 100
check train_tokenizer_wants_room_for_bytes 2 err "wanted 257" err "found 100"
train tokenizer "$work/text.txt" -o "$work/x.gguf" --pre gpt-9
check train_tokenizer_lists_pretokenisers 2 err "gpt-9" err "llama-bpe"
: > "$work/empty"
train tokenizer "$work/empty" -o "$work/x.gguf"
check train_tokenizer_of_nothing 1 err "no text"
train tokenizer "$work/none" -o "$work/x.gguf"
check train_tokenizer_of_no_file 1 err "$work/none"
train tokenizer "$work/text.txt" -o "$work/text.txt"
check train_refuses_to_write_over_its_text 2 err "text.txt"
absent train_leaves_nothing_behind_errors "$work/x.gguf"

printf 'Grüße <|endoftext|>\n\377\376 \344\270' > "$work/bytes"
try "$bin/moe-inspect" "$t" tokenize -f "$work/bytes"
check train_tokenizer_serves_moe_inspect 0
cp "$work/out" "$work/ids"
try "$bin/moe-inspect" "$t" detokenize -f "$work/ids"
same train_tokenizer_gives_back_any_bytes "$work/bytes" "$work/out"

train tokens "$work/text.txt" -o "$work/a.tok" --tokenizer "$t" --threads 2
check train_tokens 0 out "3 documents" out "bytes/token"
train tokens "$work/text.txt" -o "$work/b.tok" --tokenizer "$t" --threads 1 --json
check train_tokens_json 0 out '"documents": 3' out '"vocabulary_hash"'
same train_tokens_are_the_same_for_any_threads "$work/a.tok" "$work/b.tok"
# shellcheck disable=SC2086
$run "$bin/moe-train" tokens - -o "$work/c.tok" --tokenizer "$t" < "$work/text.txt" > /dev/null 2> "$work/err"
same train_tokens_from_standard_input "$work/a.tok" "$work/c.tok"
train tokens "$work/bytes" -o "$work/d.tok" --tokenizer "$t" --json
check train_tokens_keeps_invalid_bytes 0 out "\"bytes\": $(wc -c < "$work/bytes" | tr -d ' ')"
printf '{"q": "1+1?", "a": 2}\n{"q": "why", "a": "so"}\n' > "$work/qa.jsonl"
train tokens "$work/qa.jsonl" -o "$work/d.tok" --tokenizer "$t" --layout 'Q: {q}\nA: {a}' --json
check train_tokens_from_json 0 out '"documents": 2' out '"bytes": 24'
train tokens "$work/qa.jsonl" -o "$work/x.tok" --tokenizer "$t"
check train_tokens_names_missing_fields 1 err "line 1" err "'text'" err "found: a, q"
train tokens "$work/text.txt" -o "$work/d.tok" --tokenizer "$t" --max-document 0.001
check train_tokens_says_that_it_cut 0 err "cuts in documents"
train tokens "$work/text.txt" -o "$work/x.tok" --tokenizer "$work/text.txt"
check train_tokens_wants_a_tokenizer 1 err "text.txt"
train tokens "$work/text.txt" -o "$work/no/such/folder" --tokenizer "$t"
check train_tokens_into_no_folder 1 err "no/such/folder"
absent train_tokens_leaves_nothing_behind_errors "$work/x.tok"

# Stopped while it waits for more text: no file, nor a temporary one. (Ctrl-C takes the same way; a shell's background jobs ignore it.)
mkdir "$work/stopped"
mkfifo "$work/pipe"
# shellcheck disable=SC2086
$run "$bin/moe-train" tokens - -o "$work/stopped/x.tok" --tokenizer "$t" < "$work/pipe" > /dev/null 2> "$work/err" &
child=$!
exec 3> "$work/pipe"
while [ -z "$(ls -A "$work/stopped")" ] && kill -0 $child 2> /dev/null; do :; done # until the temporary file is there
kill -TERM $child
cat "$work/text.txt" >&3
exec 3>&-
wait $child
rc=$?
check train_tokens_interrupted 1 err "interrupted"
if [ -z "$(ls -A "$work/stopped")" ]; then
  echo "ok train_tokens_interrupted_leaves_no_file"
else
  echo "FAIL train_tokens_interrupted_leaves_no_file $(ls -A "$work/stopped")"
fi

if ! command -v xz > /dev/null; then
  echo "skip train_xz xz is not installed"
  exit 0
fi
xz -k "$work/text.txt"
train tokens "$work/text.txt.xz" -o "$work/d.tok" --tokenizer "$t"
if [ "$rc" = 1 ] && grep -q 'reads no .xz' "$work/err"; then
  echo "skip train_xz this build has no liblzma"
  exit 0
fi
same train_xz "$work/a.tok" "$work/d.tok"
head -c 1000 "$work/text.txt.xz" > "$work/cut.xz"
train tokens "$work/cut.xz" -o "$work/x.tok" --tokenizer "$t"
check train_xz_cut_off 1 err "cut.xz: the xz file is cut off"
{ head -c 500 "$work/text.txt.xz"; printf 'damage'; tail -c +507 "$work/text.txt.xz"; } > "$work/damaged.xz"
train tokens "$work/damaged.xz" -o "$work/x.tok" --tokenizer "$t"
check train_xz_damaged 1 err "damaged"
absent train_xz_leaves_nothing_behind_errors "$work/x.tok"
