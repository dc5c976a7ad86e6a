#!/usr/bin/env bash
# Field case 25: the ids of a label are a prefix of another's.
. tests/field/lib.sh
fixture 25
M=$dir/25/model data=$dir/25/data.tsv labels="not,not approved,not billed"
cut -f1 "$data" >"$dir/texts"
compare() { # NAME JSONL KEY
    py "$1" "$2" "$dir/25/expected.json" "$3" <<'EOF'
import json, sys
got = [json.loads(l) for l in open(sys.argv[1])]
want = json.load(open(sys.argv[2]))
assert len(got) == len(want) == 4
for g, w in zip(got, want):
    assert g["prediction"] == w[sys.argv[3]], (g, w)
    for label, score in w["score"].items():
        assert abs(g["scores"][label] - score) <= 5e-5 * abs(score), (label, g, w)
EOF
}
for b in 1 4; do
    check eval_batch_$b 0 'the ids of label "not" \[54\] begin those of label "not approved"' "$spt" eval --model "$M" --data "$data" --json --batch $b --output "$dir/eval_$b"
    expect accuracy_batch_$b grep -q '"accuracy": 100.0' "$dir/out"
    compare scores_batch_$b "$dir/eval_$b" best
    check infer_batch_$b 0 'begin those of label "not billed"' "$spt" infer --model "$M" --labels "$labels" --json --batch $b "$dir/texts"
    cp "$dir/out" "$dir/infer_$b"
    compare infer_scores_batch_$b "$dir/infer_$b" best
    check by_length_batch_$b 0 '' "$spt" infer --model "$M" --labels "$labels" --json --batch $b --length-normalize "$dir/texts"
    compare best_by_length_batch_$b "$dir/out" best_by_length
done
expect batch_changes_no_bit cmp "$dir/infer_1" "$dir/infer_4"
expect batch_changes_no_bit_in_eval cmp "$dir/eval_1" "$dir/eval_4"
# A decoder step that labels share changes no bit: alone, each label scores as among the others.
for l in "not" "not approved" "not billed"; do
    paste "$dir/texts" <(yes "$l" | head -4) >"$dir/one.tsv"
    "$spt" score --model "$M" --data "$dir/one.tsv" --quiet >"$dir/alone" 2>"$dir/err"
    py "alone_${l// /_}" "$dir/alone" "$dir/infer_4" "$l" <<'EOF'
import json, sys
alone = [json.loads(l)["score"] for l in open(sys.argv[1])]
among = [json.loads(l)["scores"][sys.argv[3]] for l in open(sys.argv[2])]
assert alone == among, (alone, among)
EOF
done
# Its kind: order of the labels, labels from a file, a chain of prefixes, 1 and 14, first ids equal.
check other_order 0 '' "$spt" infer --model "$M" --labels "not billed,not,not approved" --json "$dir/texts"
compare other_order_scores "$dir/out" best
printf 'not\r\nnot approved\r\nnot billed' >"$dir/labels.txt"
check labels_file 0 '' "$spt" infer --model "$M" --labels "@$dir/labels.txt" --json "$dir/texts"
expect labels_file_same cmp "$dir/out" "$dir/infer_4"
check chain 0 'label "a" .* begin those of label "a b"' "$spt" infer --model "$M" --labels "a b c,a,a b,b" "$dir/texts"
told chain_all_pairs 'label "a" .* begin those of label "a b c"'
told chain_inner_pair 'label "a b" .* begin those of label "a b c"'
check numbers 0 '' "$spt" infer --model "$M" --labels "1,14,2" --json "$dir/texts"
check strict 1 'strict' "$spt" infer --model "$M" --labels "$labels" --strict "$dir/texts"
finish
