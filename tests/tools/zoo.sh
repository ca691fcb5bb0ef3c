#!/bin/sh
# Models by name: what --zoo lists, who finds them, and which files a name does not hide.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh

try() { # in a folder of its own
  # shellcheck disable=SC2086  # RUN is words on purpose
  (cd "$work/here" && $run "$@" > "$work/out" 2> "$work/err")
  rc=$?
}

zoo=$work/zoo
mkdir -p "$work/here" "$zoo/tiny/topologies" "$zoo/damaged" "$zoo/no-model" "$zoo/v1.5" "$work/second/tiny" "$work/second/other"
try "$bin/moe-inspect" synth "$zoo/tiny/tiny.gguf" --set n_layer=1 --set n_ctx_train=256 --seed 1
check zoo_synth 0
printf '# tiny: A small model of random weights.\n\nMore.\n' > "$zoo/tiny/card.md"
echo '{}' > "$zoo/tiny/topologies/half.json"
echo '{}' > "$zoo/tiny/topologies/front.json"
head -c 100 "$zoo/tiny/tiny.gguf" > "$zoo/damaged/damaged.gguf"
cp "$zoo/tiny/tiny.gguf" "$zoo/v1.5/v1.5.gguf"
cp "$zoo/tiny/tiny.gguf" "$work/second/other/other.gguf"
echo 'no model' > "$work/second/tiny/tiny.gguf"

MOE_ZOO=$work/nowhere
export MOE_ZOO
try "$bin/moe-run" --zoo --json
check zoo_says_where_it_looks 0 out "$work/nowhere" out "share/moe/zoo" out '"models/zoo"'
MOE_ZOO=$zoo::$work/second
try "$bin/moe-run" --zoo
check zoo_lists 0 out "tiny" out "olmoe" out "A small model of random weights." out "other" out "damaged"
lacks zoo_lists_only_models no-model
lacks zoo_lists_only_names v1.5
try "$bin/moe-run" --zoo --json
check zoo_lists_as_json 0 out '"name": "tiny"' out '"arch": "olmoe"' out "\"path\": \"$zoo/tiny/tiny.gguf\"" \
  out '"summary": "A small model of random weights."' out "$zoo/tiny/topologies/half.json" out '"error":' \
  out "\"front\": \"$zoo/tiny/topologies/front.json\""
is zoo_front_is_no_topology "$(grep -c "tiny/topologies/front.json" "$work/out")" 1

try "$bin/moe-run" tiny -p Hello -n 2 --greedy
check zoo_run 0 err "logits"
cp "$work/out" "$work/by_name"
try "$bin/moe-run" "$zoo/tiny/tiny.gguf" -p Hello -n 2 --greedy
if cmp -s "$work/out" "$work/by_name"; then echo "ok zoo_runs_that_file"; else echo "FAIL zoo_runs_that_file"; fi
try "$bin/moe-run" other -p Hello -n 1 --greedy
check zoo_of_a_second_folder 0
try "$bin/moe-inspect" tiny
check zoo_inspect 0 out olmoe
try "$bin/moe-inspect" tiny keys
check zoo_inspect_command 0 out general.architecture
try "$bin/moe-quantize" tiny "$work/here/q.gguf" --type q8_0
check zoo_quantize 0
head -c 4000 README.md > "$work/here/text"
try "$bin/moe-eval" tiny -f text --ctx 64 --chunks 1
check zoo_eval 0
try "$bin/moe-bench" tiny -p 8 -n 0 -r 1 -o json
check zoo_bench 0 out "$zoo/tiny/tiny.gguf"

try "$bin/moe-run" tiny --front tiny -p x
check zoo_front_by_name 1 err "$zoo/tiny/topologies/front.json"
try "$bin/moe-run" tiny --front other -p x
check zoo_front_of_a_model_without_one 1 err "other: no such file, and no such model with a front" err "there are: " err tiny
try "$bin/moe-run" tinny -p x
check zoo_unknown_name_lists_names 1 err "tinny: no such file" err "there are: " err "damaged" err "other"
try "$bin/moe-run" ./tiny -p x
check zoo_no_name_with_a_slash 1 err "./tiny: cannot open"
try "$bin/moe-run" tiny.gguf -p x
check zoo_no_name_with_a_dot 1 err "tiny.gguf: cannot open"
echo 'a file' > "$work/here/tiny"
try "$bin/moe-inspect" tiny
check zoo_does_not_hide_files 1 err "tiny: "
rm "$work/here/tiny"
try "$bin/moe-run"
check zoo_or_a_model_is_wanted 2 err "MODEL is required" err "--zoo"

unset MOE_ZOO
mkdir -p "$work/prefix/bin" "$work/prefix/share/moe" "$work/here/models"
cp "$bin/moe-run" "$work/prefix/bin/"
cp -R "$zoo" "$work/prefix/share/moe/zoo"
try "$work/prefix/bin/moe-run" --zoo
check zoo_of_an_installation 0 out "A small model"
rm -r "$work/prefix/share"
try "$work/prefix/bin/moe-run" --zoo
check zoo_of_nothing 0 out "no models; looked into" out "prefix/share/moe/zoo"
try "$work/prefix/bin/moe-run" tiny -p x
check zoo_of_nothing_has_no_names 1 err "tiny: no such file" err "prefix/share/moe/zoo"
cp -R "$zoo" "$work/here/models/zoo"
try "$work/prefix/bin/moe-run" --zoo
check zoo_of_this_folder 0 out "A small model"
