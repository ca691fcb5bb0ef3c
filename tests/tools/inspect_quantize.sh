#!/bin/sh
# moe-inspect and moe-quantize as a user meets them: what they print, their exit codes, and that they never leave half a file.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/program_checks.sh

inspect() { try "$bin/moe-inspect" "$@"; }
quantize() { try "$bin/moe-quantize" "$@"; }

m=$work/m.gguf
inspect synth --arch olmoe -o "$m" --set n_layer=2 d_model=256 --threads 2
check inspect_synth 0 out "olmoe" out "seed 0"
inspect synth "$work/again.gguf" --set n_layer=2 --set d_model=256 --threads 1
same inspect_synth_is_reproducible "$m" "$work/again.gguf"
inspect synth --arch olmoe
check inspect_synth_wants_a_file 2 err "-o FILE"
inspect synth --arch bert -o "$work/x.gguf"
check inspect_synth_lists_architectures 2 err "qwen3moe"
inspect synth -o "$work/x.gguf" --set layers=3
check inspect_synth_lists_settings 2 err "unknown setting 'layers'" err "n_layer"
inspect synth -o "$work/x.gguf" --set n_expert_used=99
check inspect_synth_checks_settings 2 err "expert_used_count" err "16"
inspect synth -o "$work/x.gguf" --vocab-from "$work/none.gguf"
check inspect_synth_without_a_vocabulary 1 err "none.gguf"
inspect synth -o "$work/no/such/folder/x.gguf"
check inspect_synth_into_no_folder 1 err "no/such/folder"

inspect "$m"
check inspect_summary 0 out "architecture" out "active per token" out "16 of width 128, 4 used" out "hash"
inspect "$m" --json
check inspect_summary_json 0 out '"n_expert": 16' out '"hash"' out '"cache_bytes_per_token": 2048'
inspect "$m" keys
check inspect_keys 0 out "olmoe.expert_count" out "array of 320 string"
inspect "$m" keys --full --json
check inspect_keys_json 0 out '"<unused59>"' out '"count": 320'
inspect "$m" tensors
check inspect_tensors 0 out "blk.1.ffn_down_exps.weight" out "(16, 256, 128)"
inspect keys "$m"
check inspect_takes_the_model_behind_the_command 0 out "olmoe.expert_count"
inspect "$m" check
check inspect_check 0 out "all weights are finite"
inspect "$m" graph --costs
check inspect_graph 0 out "rms_norm" out "attention"
inspect "$m" graph --unfused --json
check inspect_graph_json 0 out '"op": "moe_linear"' out '"flops"'

inspect "$m" topology --experts 2 --threshold 0.5 -o "$work/t.json"
check inspect_topology_to_a_file 0
inspect "$m" topology --validate "$work/t.json"
check inspect_topology_validates 0 out "is valid" out "50.0%" out "k_max 4 -> 2"
inspect "$m" topology --topology "$work/t.json"
same inspect_topology_reads_what_it_wrote "$work/t.json" "$work/out"
inspect "$m" topology --experts 17
check inspect_topology_refuses_too_many_experts 1 err "17"
inspect synth "$work/other.gguf" --set n_layer=2 --seed 5
inspect "$work/other.gguf" topology --validate "$work/t.json"
check inspect_topology_of_another_model 1 err "t.json" err "hash"

printf 'Grüße,\r\n 世界 🙂 <|im_end|>' > "$work/text"
inspect "$m" tokenize -f "$work/text"
check inspect_tokenize 0 out "71 114 195 188"
cp "$work/out" "$work/ids"
inspect "$m" detokenize -f "$work/ids"
same inspect_detokenize_gives_the_text_back "$work/text" "$work/out"
inspect "$m" tokenize -p '<|im_end|>' --special --bos
check inspect_tokenize_specials 0 out "256 259"
inspect "$m" tokenize -p ''
check inspect_tokenize_nothing 0
inspect "$m" tokenize
check inspect_tokenize_wants_a_text 2 err "-p TEXT"
inspect "$m" detokenize 72 105 --json
check inspect_detokenize_ids 0 out '"Hi"'
inspect "$m" detokenize 72 320
check inspect_detokenize_checks_ids 1 err "0 to 319"

inspect
check inspect_wants_a_model 2 err "MODEL is required"
inspect "$work/none.gguf"
check inspect_no_such_file 1 err "none.gguf"
inspect "$m" frobnicate
check inspect_no_such_command 2 err "frobnicate"
head -c 5000 "$m" > "$work/cut.gguf"
inspect "$work/cut.gguf"
check inspect_cut_file 1 err "cut.gguf" err "cut short"
inspect --version
check inspect_version 0 out "moe-inspect 0."
inspect synth --help
check inspect_help 0 out "--vocab-from"

quantize "$m" "$work/q.gguf" --type q4_k_m --threads 2
check quantize 0 out "# q4_k_m" err "rows of 128: q4_k needs a multiple of 256"
inspect "$work/q.gguf" tensors
check quantize_mixes_types 0 out "q6_k" out "q5_0" out "f32"
quantize "$m" "$work/q1.gguf" --type q4_k_m --threads 1
same quantize_does_not_depend_on_threads "$work/q.gguf" "$work/q1.gguf"
inspect synth "$work/s.gguf" --set n_layer=2 --type q4_k_m
inspect "$work/s.gguf" tensors
cp "$work/out" "$work/synth_tensors"
inspect "$work/q.gguf" tensors
same quantize_and_synth_choose_alike "$work/synth_tensors" "$work/out"
quantize "$m" --type q4_0 --dry-run
check quantize_dry_run 0 out "bits/weight" out "total"
quantize "$m" --type q4_0 --dry-run --json --tensor 'blk.0.*=q8_0' --output-type f16 --embedding-type bf16
check quantize_json 0 out '"to": "q8_0"' out '"to": "f16"' out '"to": "bf16"' out '"bits_per_weight"'
quantize "$m" "$work/x.gguf" --type q4_0 --tensor 'nothing*=q8_0'
check quantize_rule_without_a_tensor 1 err "'nothing*'"
quantize "$m" "$work/x.gguf" --type q9
check quantize_lists_types 2 err "q4_k_m"
quantize "$m" "$work/x.gguf" --type q4_0 --tensor 'x=y'
check quantize_bad_rule 2 err "--tensor"
quantize "$m" "$m" --type q4_0
check quantize_onto_itself 2 err "same file"
ln -s m.gguf "$work/link.gguf"
quantize "$m" "$work/link.gguf" --type q4_0
check quantize_onto_itself_through_a_link 2 err "same file"
quantize "$m" --type q4_0
check quantize_wants_a_target 2 err "OUT is required"
quantize "$work/q.gguf" "$work/x.gguf" --type q8_0
check quantize_refuses_twice 1 err "quantised already" err "--allow-requantize"
quantize "$work/q.gguf" "$work/x.gguf" --type q8_0 --allow-requantize
check quantize_twice_if_asked 0 err "errors add up"
rm -f "$work/x.gguf"
quantize "$work/cut.gguf" "$work/x.gguf" --type q8_0
check quantize_cut_file 1 err "cut.gguf"
if [ -e "$work/x.gguf" ] || ls "$work" | grep -q tmp; then echo "FAIL quantize_leaves_no_half_file"; else echo "ok quantize_leaves_no_half_file"; fi

# The smaller file of a topology computes the same, whatever is gone from it.
inspect "$m" topology
sed -e 's/{"n_experts": 16, "k_min": 4, "k_max": 4, "threshold": 0, "temperature": 1}/{"n_experts": 16, "k_min": 1, "k_max": 3, "threshold": 0.3, "masked": [[1, 5, 15]], "redirect": [[5, 4]], "width": [64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 32, 64]}/' \
  "$work/out" > "$work/fewer.json"
quantize "$m" --topology "$work/fewer.json" --dry-run
check quantize_topology_dry_run 0 out "16 -> 13" out "128 -> 64" err "widths differ between experts" err "other GGUF engines will refuse"
quantize "$m" --topology "$work/fewer.json" -o "$work/small.gguf"
check quantize_topology 0 out "# $work/small.gguf" out "experts 32 -> 26"
quantize "$m" "$work/small2.gguf" --topology "$work/fewer.json" --json --threads 1
check quantize_topology_json 0 out '"experts": 13' out '"router_rows": 14' out '"other_engines": "refused"'
same quantize_topology_is_reproducible "$work/small.gguf" "$work/small2.gguf"
inspect "$work/small.gguf"
check inspect_specialised 0 out "13 of width 64" out "from model" out "by topology" out "its own"
inspect "$work/small.gguf" topology
check inspect_topology_in_a_file 0 out '"masked": [[4]]' out '"redirect": [[4, 3]]'
logits() { "$bin/moe-run" "$@" -p 'once upon' -n 8 --temp 0 --seed 1 2>&1 | grep -o 'logits [0-9a-f]*'; }
logits "$m" --topology "$work/fewer.json" > "$work/masked"
logits "$work/small.gguf" > "$work/specialised"
same quantize_topology_keeps_every_bit "$work/masked" "$work/specialised"
quantize "$work/small.gguf" "$work/small-q8.gguf" --type q8_0
check quantize_of_a_specialised_model 0 out "# q8_0"
inspect "$work/small-q8.gguf"
check inspect_specialised_and_quantised 0 out "changed since"
quantize "$work/other.gguf" --topology "$work/fewer.json" -o "$work/x.gguf"
check quantize_topology_of_another_model 1 err "fewer.json" err "model_hash"
quantize "$m" "$m" --topology "$work/fewer.json"
check quantize_topology_onto_itself 2 err "same file"
quantize "$m" "$work/x.gguf"
check quantize_wants_type_or_topology 2 err "--type, --topology or --front"
quantize "$m" "$work/x.gguf" --topology "$work/fewer.json" --type q8_0
check quantize_takes_type_or_topology 2 err "excludes"
