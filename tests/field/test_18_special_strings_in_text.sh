#!/usr/bin/env bash
# Field case 18: </s>, <pad> and sentinels inside user text.
. tests/field/lib.sh
in=$(echo $fields/18-*)
"$python" $fields/common/make_model.py "$dir/M"
cp -r "$dir/M" "$dir/H"
printf '{"tokenizer_class": "T5Tokenizer", "extra_ids": 100, "legacy": true, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}' >"$dir/H/tokenizer_config.json"
check score 0 'SeqIO rules, 100 extra ids' "$spt" score --model "$dir/M" --data "$in/texts.tsv"
cp "$dir/out" "$dir/scores"
cut -f1 "$in/texts.tsv" >"$dir/texts"
check tokenize 0 'SeqIO rules, 100 extra ids' "$spt" tokenize --model "$dir/M" --json "$dir/texts"
cp "$dir/out" "$dir/ids"
py ids_and_scores "$dir/scores" "$dir/ids" "$in/expected.json" <<'EOF'
import json, sys
scores, ids = ([json.loads(l) for l in open(f, encoding="utf-8")] for f in sys.argv[1:3])
want = json.load(open(sys.argv[3], encoding="utf-8"))
assert len(want) == len(scores) == len(ids) == 9
for s, i, w in zip(scores, ids, want):
    assert s["inputs"] == i["text"] == w["text"]
    assert i["ids"] + [1] == w["ids"], (i, w)
    assert abs(s["score"] - w["score"]) <= 5e-5 * abs(w["score"]), (s, w)
    assert 0 not in i["ids"] and 1 not in i["ids"]
EOF
check hugging_face_rules 0 'Hugging Face T5Tokenizer rules.*specials in the text are ids' "$spt" tokenize --model "$dir/H" --json "$dir/texts"
py hugging_face_ids "$dir/out" <<'EOF'
import json, sys
ids = {json.loads(l)["text"]: json.loads(l)["ids"] for l in open(sys.argv[1], encoding="utf-8")}
assert ids["</s>"] == [1], ids["</s>"]
assert 0 in ids["a <pad> in the middle"]
assert ids["in<extra_id_5>side"][1] == 8094
assert ids["<extra_id_0><extra_id_1>"] == [8099, 8098]
assert ids["<unk> is a word to some"][0] == 2
EOF
check hugging_face_score_says_the_rule 0 'Hugging Face T5Tokenizer rules' "$spt" score --model "$dir/H" --data "$in/texts.tsv"

# No text puts id 0 or an early id 1 into a target without a warning.
printf 'one\tpraise </s> more\ntwo\t<pad>\nthree\tpraise\n' >"$dir/targets.tsv"
special='2 of 3 targets hold the id of <pad>, or of </s>'
check score_target 0 "$special" "$spt" score --model "$dir/H" --data "$dir/targets.tsv"
check eval_target 0 "$special" "$spt" eval --model "$dir/H" --data "$dir/targets.tsv"
check generate_target 0 "$special" "$spt" eval --model "$dir/H" --data "$dir/targets.tsv" --by generate --max-output 4
check train_target 0 "$special" "$spt" train --model "$dir/H" --train "$dir/targets.tsv" $quick --out "$dir/run"
check check_target 1 "$special" "$spt" check --model "$dir/H" --train "$dir/targets.tsv" --strict
check infer_label 0 'label "<pad>" comes back' "$spt" infer --model "$dir/H" --labels '<pad>,praise' "$dir/texts"
check plain_rule_has_none 0 '' "$spt" score --model "$dir/M" --data "$dir/targets.tsv"
untold plain_rule_spells_them 'hold the id of'
refused same_ids 3 '"praise".*"praise </s>".*same ids' "$spt" infer --model "$dir/H" --labels 'praise,praise </s>' "$dir/texts"

# Its kind: another template that holds them, decoding them back, the prompt used under the other rule.
"$spt" train --model "$dir/M" --train "$in/texts.tsv" $quick --quiet --out "$dir/plain" 2>"$dir/err"
check other_rule_is_said 0 'vocabulary.*(rule|Hugging Face)' "$spt" infer --model "$dir/H" --prompt "$dir/plain" "$dir/texts"
told other_rule_warning 'warning: .*seqio'
printf '8099 642 8000\n' >"$dir/back.ids"
check decode 0 'SeqIO rules' "$spt" tokenize --model "$dir/M" --decode "$dir/back.ids"
expect decode_sentinels test "$(cat "$dir/out")" = '<extra_id_0> here <extra_id_99>'
check decode_hugging_face 0 'Hugging Face' "$spt" tokenize --model "$dir/H" --decode "$dir/back.ids"
expect decode_hugging_face_skips_specials test "$(cat "$dir/out")" = here
check json_back 0 '' "$spt" tokenize --model "$dir/M" --decode "$dir/ids"
cp "$dir/out" "$dir/back.txt"
check json_back_as_json 0 '' "$spt" tokenize --model "$dir/M" --decode --json "$dir/ids"
py json_back_same_ids "$dir/out" "$dir/ids" "$dir/back.txt" <<'EOF'
import json, sys
got, ids = ([json.loads(l) for l in open(f, encoding="utf-8")] for f in sys.argv[1:3])
texts = open(sys.argv[3], encoding="utf-8").read().split("\n")[:-1]
assert [g["ids"] for g in got] == [i["ids"] for i in ids] and [g["text"] for g in got] == texts
assert texts[8] == "low line of the vocabulary", texts
EOF
printf '5 6\n7 99999\n' >"$dir/bad.ids"
refused id_beyond 4 'bad.ids: line 2: id 99999 is not in 0 .. 8099' "$spt" tokenize --model "$dir/M" --decode "$dir/bad.ids"
printf '5 six\n' >"$dir/bad.ids"
refused no_id 4 'bad.ids: line 1: byte 3: not an id' "$spt" tokenize --model "$dir/M" --decode "$dir/bad.ids"
printf '{"ids": [5, 6.5]}\n' >"$dir/bad.ids"
refused no_whole_id 4 'bad.ids: line 1.*whole number' "$spt" tokenize --model "$dir/M" --decode "$dir/bad.ids"
check template_with_special 0 '' "$spt" score --model "$dir/M" --data "$in/texts.tsv" --input 'tag: {1} </s>'
finish
