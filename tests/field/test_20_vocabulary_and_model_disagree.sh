#!/usr/bin/env bash
# Field case 20: vocabulary and model that do not belong together; ByT5.
. tests/field/lib.sh
# The case's gen.py takes a real vocabulary of 32,000 pieces; here the demo one gets more pieces.
"$python" - "$dir/20" <<'EOF'
import json, os, struct, sys
sys.path.insert(0, "tests/fixtures/field/common")
import tinyt5, t5ref
out = sys.argv[1]
os.makedirs(out)
cfg = dict(tinyt5.BASE)
w = tinyt5.make_weights(cfg)
b = open(tinyt5.DEMO_SPM, "rb").read()
for i in range(500):                       # 8,000 + 500 pieces, 8,192 rows
    p = b"\xe2\x96\x81more%d" % i
    m = b"\x0a" + bytes([len(p)]) + p + b"\x15" + struct.pack("<f", -20.0 - i)
    b += b"\x0a" + bytes([len(m)]) + m
large = os.path.join(out, "large.model")
open(large, "wb").write(b)
put = lambda name, c, x, **k: tinyt5.write_dir(os.path.join(out, name), c, x, **k)
put("more_pieces_than_rows", cfg, w, vocab=large)
put("fewer_pieces_than_rows", dict(cfg, vocab_size=32128), tinyt5.make_weights(dict(cfg, vocab_size=32128)))
put("config_says_8100", dict(cfg, vocab_size=8100), w)
put("config_says_9000", dict(cfg, vocab_size=9000), w)
put("no_vocabulary", cfg, w, vocab=None)
put("ref", cfg, w)
short = {k: a[:8050] if a.shape[0] == 8192 else a for k, a in w.items()}
put("rows_for_pieces_only", dict(cfg, vocab_size=8050), short)
byt = dict(cfg, vocab_size=384, tokenizer_class="ByT5Tokenizer", num_decoder_layers=1)
wb = tinyt5.make_weights(byt)
put("byt5", byt, wb, vocab=None)
put("byt5_unnamed", {k: v for k, v in byt.items() if k != "tokenizer_class"}, wb, vocab=None)
text = [("caf\u00e9 na\u00efve \u732b", "ok"), ("tab\tand </s> are bytes", "\u00e9"), ("", "x")]
enc = lambda s: [b + 3 for b in s.encode()] + [1]
open(os.path.join(out, "bytes.jsonl"), "w").write("".join(json.dumps(dict(text=a, label=b)) + "\n" for a, b in text))
json.dump([dict(tgt=enc(b), enc=enc(a), score=t5ref.loglik(wb, byt, enc(a), enc(b))) for a, b in text],
          open(os.path.join(out, "expected_byt5.json"), "w"))
pairs = json.load(open("tests/fixtures/field/common/pairs.ids.json"))
json.dump({"ref": [t5ref.loglik(w, cfg, p["enc"], p["tgt"]) for p in pairs]}, open(os.path.join(out, "expected.json"), "w"))
EOF
d=$dir/20
both='spiece.model has 8500 pieces.*8192 rows'
for c in score eval infer; do
    refused "more_pieces_$c" 4 "$both" "$spt" $c --model "$d/more_pieces_than_rows" --data $fields/common/pairs.tsv
done
refused more_pieces_check 4 "$both" "$spt" check --model "$d/more_pieces_than_rows"
refused more_pieces_train 4 "$both" "$spt" train --model "$d/more_pieces_than_rows" --train $fields/common/pairs.tsv $quick --out "$dir/none"
refused more_pieces_init 4 "$both" "$spt" init --model "$d/more_pieces_than_rows" --out "$dir/none"
refused more_pieces_by_option 4 'large.model has 8500 pieces.*8192 rows' "$spt" score --model "$d/ref" --vocab "$d/large.model" --data $fields/common/pairs.tsv
expect nothing_written test ! -e "$dir/none"
check fewer_pieces 0 'warning: .*8100 ids.*32128 rows' "$spt" score --model "$d/fewer_pieces_than_rows" --data $fields/common/pairs.tsv
expect fewer_pieces_runs test "$(wc -l <"$dir/out")" -eq 4
check fewer_pieces_strict 1 'strict' "$spt" score --model "$d/fewer_pieces_than_rows" --data $fields/common/pairs.tsv --strict
for n in 8100 9000; do
    score_as tensor_wins_$n "$d/config_says_$n" "$d/expected.json" ref 5e-5r
    told tensor_wins_${n}_is_said "warning: .*vocab_size says $n, the tensors have 8192"
done
refused no_vocabulary 5 'looked for spiece.model.*tokenizer.json.*--vocab' "$spt" score --model "$d/no_vocabulary" --data $fields/common/pairs.tsv
score_as vocabulary_by_option "$d/no_vocabulary" "$d/expected.json" ref 5e-5r --vocab tests/fixtures/golden/vocab/spm.model
check byt5 0 'bytes' "$spt" score --model "$d/byt5" --data "$d/bytes.jsonl"
cp "$dir/out" "$dir/byt5.scores"
py byt5_scores "$dir/byt5.scores" "$d/expected_byt5.json" <<'EOF'
import json, sys
got = [json.loads(l)["score"] for l in open(sys.argv[1])]
want = [w["score"] for w in json.load(open(sys.argv[2]))]
assert len(got) == 3 and all(abs(g - w) <= 5e-5 * abs(w) for g, w in zip(got, want)), (got, want)
EOF
told empty_text_is_said '1 of 3 inputs are empty'

# Its kind: sentinels beyond the table, --vocab bytes, bytes spelled by tokenize and decode, a byte
# vocabulary on a piece model, a prompt of another width, a truncated vocabulary file.
printf 'plain text\tno\n<extra_id_0> tail\tno\n<extra_id_99> head\tno\n' >"$dir/sentinels.tsv"
check sentinels_beyond_warned 4 'warning: .*8100 ids.*8050 rows' "$spt" score --model "$d/rows_for_pieces_only" --data "$dir/sentinels.tsv"
told sentinels_beyond_refused 'sentinels.tsv: line 2: .*id 8099, .*8050 rows'
check sentinels_fit 0 '' "$spt" score --model "$d/ref" --data "$dir/sentinels.tsv"
check vocab_bytes 0 'bytes' "$spt" score --model "$d/byt5_unnamed" --vocab bytes --data "$d/bytes.jsonl"
expect vocab_bytes_same cmp "$dir/out" "$dir/byt5.scores"
refused byt5_unnamed_needs_it 5 '--vocab bytes' "$spt" score --model "$d/byt5_unnamed" --data "$d/bytes.jsonl"
printf 'caf\303\251 \347\214\253\n\n' | "$spt" tokenize --model "$d/byt5" --json 2>"$dir/err" >"$dir/out"
py byte_ids "$dir/out" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1], encoding="utf-8")]
assert rows[0]["ids"] == [b + 3 for b in "caf\u00e9 \u732b".encode()], rows
assert rows[1]["ids"] == [], rows
EOF
"$python" -c 'import json,sys
for l in open(sys.argv[1]): print(*json.loads(l)["ids"])' "$dir/out" | "$spt" tokenize --model "$d/byt5" --decode 2>"$dir/err" >"$dir/back"
expect bytes_back cmp "$dir/back" <(printf 'caf\303\251 \347\214\253\n\n')
check bytes_on_a_piece_model 0 'warning: .*8192 rows' "$spt" score --model "$d/ref" --vocab bytes --data $fields/common/pairs.tsv
cp -r "$d/ref" "$d/cut"
head -c 20000 tests/fixtures/golden/vocab/spm.model >"$d/cut/spiece.model"
refused cut_vocabulary 4 'spiece.model.*(byte|cut)' "$spt" score --model "$d/cut" --data $fields/common/pairs.tsv

S() { "$spt" "$@" --model "$d/rows_for_pieces_only"; }
refused sentinels_beyond_train 4 'sentinels.tsv: line 2: .*id 8099, .*8050 rows' S train --train "$dir/sentinels.tsv" $quick --out "$dir/none"
refused sentinels_beyond_lines 4 'sentinels.tsv: line 2: .*id 8099, .*8050 rows' S infer "$dir/sentinels.tsv"
refused sentinels_beyond_label 4 'label "<extra_id_0>".*8050 rows' S infer --labels 'no,<extra_id_0>' "$dir/sentinels.tsv"
finish
