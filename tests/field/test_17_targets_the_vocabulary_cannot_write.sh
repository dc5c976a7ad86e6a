#!/usr/bin/env bash
# Field case 17: targets with characters that the vocabulary cannot write.
. tests/field/lib.sh
in=$(echo $fields/17-*)
check train 0 '1 of 2 labels contain characters this vocabulary cannot write: λ' \
    "$spt" train --model $model --train "$in/train.tsv" --eval "$in/train.tsv" --steps 45 --batch 8 --length 8 --seed 1 --eval-every 15 --out "$dir/run"
told targets_are_counted '4 of 8 targets contain characters this vocabulary cannot write: λ'
check by_ranking 0 'cannot write: λ' "$spt" eval --model $model --prompt "$dir/run" --data "$in/train.tsv" --by rank --json
expect ranking_is_right grep -q '"accuracy": 100.0' "$dir/out"
check by_generation 0 'cannot write: λ' "$spt" eval --model $model --prompt "$dir/run" --data "$in/train.tsv" --by generate --json --output "$dir/p"
py generation_counts_text "$dir/out" "$dir/p" <<'EOF'
import json, sys
got = json.load(open(sys.argv[1]))
rows = [json.loads(l) for l in open(sys.argv[2], encoding="utf-8")]
right = sum(r["prediction"] == r["target"] for r in rows)
assert all(r["prediction"] != "\u03bb" for r in rows), rows
assert got["accuracy"] == 100 * right / 8 == got["exact_match"] == 50.0, got
assert got["outside"] == 4, got
EOF
check open_ended_score 0 '3 of 4 targets contain characters this vocabulary cannot write: ' "$spt" score --model $model --data "$in/open_ended.tsv"
for c in '\{' '\}' '−' 'ő'; do told "open_ended_lists_$c" "cannot write: .*$c"; done
expect open_ended_four_scores test "$(grep -c '"score": -' "$dir/out")" -eq 4
check open_ended_eval 0 '3 of 4 targets contain characters' "$spt" eval --model $model --data "$in/open_ended.tsv" --by generate --max-output 8

# Its kind: labels by option and by file, infer, check, the byte vocabulary, text that comes back
# changed.
check labels_option 0 '1 of 2 labels contain characters.*cannot write: λ' "$spt" infer --model $model --labels rust,λ $in/train.tsv
printf 'rust\nλ\n' >"$dir/labels"
check labels_file 0 '1 of 2 labels contain characters.*cannot write: λ' "$spt" infer --model $model --labels "@$dir/labels" $in/train.tsv
check check_says_it 0 '1 of 2 labels' "$spt" check --model $model --train "$in/train.tsv"
check check_strict 1 'strict' "$spt" check --model $model --train "$in/train.tsv" --strict
printf 'one\tα\ntwo\tβ\nthree\tα\nfour\tβ\n' >"$dir/two.tsv"
refused two_unwritable_labels 3 '"α".*"β".*same ids' train --train "$dir/two.tsv" --out "$dir/none"
expect nothing_written test ! -e "$dir/none"
printf 'one\ta  b\ntwo\tc\nthree\ta  b\n' >"$dir/spaces.tsv"
check comes_back_changed 0 'label "a  b" comes back from the vocabulary as "a b"' "$spt" check --model $model --train "$dir/spaces.tsv"
fixture20() { "$python" - "$dir/byt5" <<'EOF'
import sys
sys.path.insert(0, "tests/fixtures/field/common")
import tinyt5
byt = dict(tinyt5.BASE, vocab_size=384, tokenizer_class="ByT5Tokenizer", num_decoder_layers=1)
tinyt5.write_dir(sys.argv[1], byt, tinyt5.make_weights(byt), vocab=None)
EOF
}
fixture20
check bytes_write_everything 0 '' "$spt" check --model "$dir/byt5" --train "$in/train.tsv"
untold bytes_no_warning 'cannot write'
finish
