#!/usr/bin/env bash
# Field case 19: the question at the end is cut off; targets of length 2.
. tests/field/lib.sh
fixture 19
long=$dir/19/long.tsv
merged='the target length 2 cuts labels "not approved" \[.*\] and "not billed" \[.*\] to the same ids'
refused train_merged 3 "$merged" train --train "$long" --max-input 64 --max-target 2 --out "$dir/none"
told inputs_counted '11 of 12 inputs are longer than 64 ids'
told targets_counted '12 of 12 targets are longer than 2 ids'
expect nothing_written test ! -e "$dir/none"
check train 0 'inputs up to 64 ids, 11 cut' train --train "$long" --eval "$long" --max-input 64 --out "$dir/run"
told eval_file_counted 'eval: .*11 of 12 inputs are longer than 64 ids'
check shortest_target 0 'label "not billed" .* cuts it to 3' train --train "$long" --max-input 64 --max-target 3 --out "$dir/three"
for c in eval infer score; do
    refused "${c}_merged" 3 "$merged|cuts labels .* to the same ids" "$spt" $c --model $model --data "$long" --max-target 2 --labels 'not approved,not billed'
done
check score_says_merged 0 "warning: .*$merged" "$spt" score --model $model --data "$long" --max-target 2
refused check_merged 3 "$merged" "$spt" check --model $model --train "$long" --max-target 2
# The lengths of the prompt are in force in eval, infer and score.
check eval_counts 0 '11 of 12 inputs are longer than 64 ids' "$spt" eval --model $model --prompt "$dir/run" --data "$long"
check infer_counts 0 '11 inputs were cut to --max-input 64' "$spt" infer --model $model --prompt "$dir/run" --data "$long"
check score_counts 0 '11 inputs were cut to --max-input 64' "$spt" score --model $model --prompt "$dir/run" --data "$long"
# EOS stays last in both: a cut input scores as its first 63 ids would.
"$spt" tokenize --model $model --json --quiet <(cut -f1 "$long") >"$dir/ids" 2>"$dir/err"
py cut_texts "$dir/ids" "$dir/short.ids" <<'EOF'
import json, sys
rows = [json.loads(l)["ids"] for l in open(sys.argv[1])]
assert [len(r) > 63 for r in rows] == [False] + [True] * 11, [len(r) for r in rows]
open(sys.argv[2], "w").write("".join(" ".join(map(str, r[:63])) + "\n" for r in rows))
EOF
"$spt" tokenize --model $model --decode --quiet "$dir/short.ids" >"$dir/short.txt" 2>"$dir/err"
paste "$dir/short.txt" <(cut -f2 "$long") >"$dir/short.tsv"
"$spt" score --model $model --prompt "$dir/run" --data "$dir/short.tsv" --quiet 2>"$dir/err" | grep -o '"score": [-0-9.]*' >"$dir/a"
"$spt" score --model $model --prompt "$dir/run" --data "$long" --quiet 2>"$dir/err" | grep -o '"score": [-0-9.]*' >"$dir/b"
expect end_mark_stays_last cmp "$dir/a" "$dir/b"
expect scores_are_there test "$(wc -l <"$dir/a")" -eq 12

# A word of 200,000 characters: seconds and bounded memory.
word=$dir/19/one_word_without_spaces.tsv
start=$(date +%s%N)
check long_word 0 '1 inputs were cut' "$spt" infer --model $model --prompt "$dir/run" --data "$word"
took=$((($(date +%s%N) - start) / 1000000))
expect long_word_fast test $took -lt 10000
expect long_word_two_answers test "$(wc -l <"$dir/out")" -eq 2
# Its kind: as a line, from standard input, as a target, tokenised, without a limit.
cut -f1 "$word" | check long_line 0 '1 inputs were cut' "$spt" infer --model $model --prompt "$dir/run"
check long_tokenize 0 '' timeout 20 "$spt" tokenize --model $model <(cut -f1 "$word")
awk -F'\t' '{print $2 "\t" $1}' "$word" >"$dir/swapped.tsv"
check long_target 0 '1 of 2 targets are longer than 64 ids|1 targets were cut' "$spt" score --model $model --data "$dir/swapped.tsv"
refused strict_refuses_cuts 1 'strict' "$spt" score --model $model --prompt "$dir/run" --data "$long" --strict
finish
