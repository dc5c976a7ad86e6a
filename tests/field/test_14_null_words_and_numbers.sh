#!/usr/bin/env bash
# Field case 14: words that readers take for "missing", and numbers as labels.
. tests/field/lib.sh
in=$(echo $fields/14-*)
check words 0 'words.csv: 10 examples' train --train "$in/words.csv" --out "$dir/words"
expect words_ten_labels test "$(meta "$dir/words" spt.labels)" = '["0","007","1","1.0","NA","None","TRUE","nan","null","true"]'
check words_eval_labels 0 '' "$spt" eval --model $model --prompt "$dir/words" --data "$in/words.csv" --json --labels NA,null,None,nan,TRUE,true,0,1,1.0,007 --output "$dir/p"
py words_as_written "$dir/out" "$dir/p" "$in/words.csv" <<'EOF'
import csv, json, sys
got = json.load(open(sys.argv[1]))
assert got["examples"] == 10 and got["classes"] == 10 and got["outside"] == 0, got
assert got["labels"] == "NA null None nan TRUE true 0 1 1.0 007".split(), got["labels"]
rows = [json.loads(l) for l in open(sys.argv[2])]
assert [r["target"] for r in rows] == [r[1] for r in csv.reader(open(sys.argv[3]))][1:]
assert all(len(r["scores"]) == 10 for r in rows)
EOF
check numbers 0 'numbers.jsonl: 6 examples' train --train "$in/numbers.jsonl" --out "$dir/numbers"
expect numbers_five_labels test "$(meta "$dir/numbers" spt.labels)" = '["1","1.0","9007199254740993","ok","true"]'
check numbers_eval 0 '' "$spt" eval --model $model --prompt "$dir/numbers" --data "$in/numbers.jsonl" --output "$dir/p"
py smiley_is_one_character "$dir/p" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1], encoding="utf-8")]
assert rows[5]["input"] == "caf\u00e9 au lait \U0001f642", rows[5]
assert [r["target"] for r in rows] == ["1", "1", "1.0", "true", "9007199254740993", "ok"]
EOF
bad_file() { # NAME FILE PATTERN
    refused "train_$1" 4 "$2: line 2.*$3" train --train "$in/$2" --out "$dir/none"
    expect "nothing_written_$1" test ! -e "$dir/none"
    refused "eval_$1" 4 "$2: line 2.*$3" "$spt" eval --model $model --data "$in/$2"
    refused "score_$1" 4 "$2: line 2.*$3" "$spt" score --model $model --data "$in/$2"
}
bad_file null null_label.jsonl 'null'
bad_file list list_label.jsonl 'list'
bad_file surrogate lone_surrogate.jsonl 'surrogate'
bad_file twice twice.jsonl 'twice'

# Its kind: the same words in TSV, as --labels file, from standard input, in predictions; objects,
# missing keys, long and odd numbers, NaN.
in=$dir
tail -n +2 $fields/14-*/words.csv | tr , '\t' >"$dir/words.tsv"
check words_tsv 0 'words.tsv: 10 examples' train --train "$dir/words.tsv" --out "$dir/words2"
expect words_tsv_ten_labels test "$(meta "$dir/words2" spt.labels)" = '["0","007","1","1.0","NA","None","TRUE","nan","null","true"]'
cut -f2 "$dir/words.tsv" >"$dir/labels"
check labels_file 0 '' "$spt" eval --model $model --data "$dir/words.tsv" --labels "@$dir/labels" --json --output "$dir/p"
cp "$dir/out" "$dir/first"
check predictions_again 0 '' "$spt" eval --predictions "$dir/p" --data "$dir/words.tsv" --json
py same_figures "$dir/first" "$dir/out" <<'EOF'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:3])
a.pop("by"), b.pop("by")
assert a == b and a["classes"] == 10, (a, b)
EOF
printf '{"text": "a", "label": "x"}\n{"text": "b", "label": {"y": 1}}\n' >"$dir/object.jsonl"
printf '{"text": "a", "label": "x"}\n{"text": "b"}\n' >"$dir/missing.jsonl"
printf '{"text": "a", "label": "x"}\n{"text": "b", "label": NaN}\n' >"$dir/nan.jsonl"
printf '{"text": "a", "label": "x"}\n{"text": "b", "label": ""}\n' >"$dir/blank.jsonl"
printf '{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n' >"$dir/nulltext.jsonl"
printf '{"text": "a", "label": "x"}\n{"text": "b", "label": 01}\n' >"$dir/octal.jsonl"
bad_file object object.jsonl 'object'
bad_file missing missing.jsonl 'label'
bad_file nan nan.jsonl ''
bad_file null_text nulltext.jsonl 'null'
bad_file octal octal.jsonl ''
refused blank_label 4 'line 2.*empty' train --train "$dir/blank.jsonl" --out "$dir/none"
printf '{"text": "a", "label": -0}\n{"text": "b", "label": 1e3}\n{"text": "c", "label": 1000}\n{"text": "d", "label": 123456789012345678901234567890}\n' >"$dir/odd.jsonl"
check odd_numbers 0 '4 examples' train --train "$dir/odd.jsonl" --out "$dir/odd"
expect odd_numbers_as_written test "$(meta "$dir/odd" spt.labels)" = '["-0","1000","123456789012345678901234567890","1e3"]'
printf 'NA\nnull\n' | "$spt" infer --model $model --prompt "$dir/words" --json --quiet >"$dir/out" 2>"$dir/err"
expect infer_keeps_the_words grep -q '"inputs": "null"' "$dir/out"
finish
