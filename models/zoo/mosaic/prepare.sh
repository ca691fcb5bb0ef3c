#!/bin/sh
# Makes the vocabulary and the token files that mosaic.yaml names, in the current folder. DATA holds the corpora:
#
#   wikipedia-en/train.txt.xz  textbooks-en/train.txt.xz  novels-en/train.txt.xz  dialogue-en/train.txt.xz
#   code/{c,cpp,go,javascript-typescript,php,python,ruby,rust,shell-web}/train.txt.xz   tasks/gsm8k/train.jsonl.xz
#   instruct/train.jsonl.xz, of which the sources are used whose licence allows it
#
#   usage: prepare.sh DATA [MOE_TRAIN]
set -eu
data=${1:?usage: prepare.sh DATA [MOE_TRAIN]}
train=${2:-moe-train}

for language in c cpp go javascript-typescript php python ruby rust shell-web; do
  cat "$data/code/$language/train.txt.xz"
done > code.txt.xz
xz -dc "$data/instruct/train.jsonl.xz" | grep -E '"source": "(gpteacher_|t0|self_instruct)' > instruct.jsonl

"$train" tokenizer "$data/wikipedia-en/train.txt.xz" "$data/textbooks-en/train.txt.xz" "$data/novels-en/train.txt.xz" \
  code.txt.xz instruct.jsonl "$data/dialogue-en/train.txt.xz" "$data/tasks/gsm8k/train.jsonl.xz" \
  --layout '{instruction?}{question?}\n{input?}{output?}{answer?}' -o vocab.gguf --vocab 6144 --pre llama-bpe
tokens() {
  name=$1
  shift
  "$train" tokens "$@" -o "$name.tok" --tokenizer vocab.gguf
}
tokens encyclopedia "$data/wikipedia-en/train.txt.xz" "$data/textbooks-en/train.txt.xz"
tokens fiction "$data/novels-en/train.txt.xz" --max-document 0.1 # novels in pieces, so that some can be held out
tokens code code.txt.xz
tokens instructions instruct.jsonl --layout 'Instruction: {instruction}\n{input}\nResponse: {output}'
tokens dialogue "$data/dialogue-en/train.txt.xz"
tokens arithmetic "$data/tasks/gsm8k/train.jsonl.xz" --layout 'Question: {question}\nAnswer: {answer}'
