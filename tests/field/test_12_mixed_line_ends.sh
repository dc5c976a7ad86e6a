#!/usr/bin/env bash
# Field case 12: CR LF against LF, in training and evaluation files.
. tests/field/lib.sh
fixture 12
three='["delivery","billing","praise"]'
check train_lf 0 'lf.tsv: 6 examples' train --train "$dir/12/lf.tsv" --eval "$dir/12/crlf.tsv" --labels "@$dir/12/labels_crlf.txt" --out "$dir/run"
expect labels_of_a_crlf_file test "$(meta "$dir/run" spt.labels)" = "$three"
for f in lf crlf mixed crlf_no_last crlf_blank_lines extra_tab trailing_space cr; do
    check "eval_$f" 0 "$f.tsv: 6 examples" "$spt" eval --model $model --prompt "$dir/run" --data "$dir/12/$f.tsv" --json --output "$dir/$f.predictions"
    grep -v '^{"event' "$dir/out" >"$dir/$f.json"
    expect "same_scores_$f" cmp "$dir/$f.json" "$dir/lf.json"
    [ $f = trailing_space ] || expect "same_rows_$f" cmp "$dir/$f.predictions" "$dir/lf.predictions"
    [ $f != trailing_space ] || told trailing_space_is_named 'warning.*spaces around them.*"delivery "'
    rm -rf "$dir/other"
    check "train_$f" 0 'labels .*: billing, delivery, praise;' train --train "$dir/12/$f.tsv" --out "$dir/other"
    expect "no_cr_in_labels_$f" test "$(meta "$dir/other" spt.labels)" = '["billing","delivery","praise"]'
done
told cr_six_rows 'cr.tsv: 6 examples'
check blank_lines_are_counted 0 '6 blank lines' "$spt" eval --model $model --prompt "$dir/run" --data "$dir/12/crlf_blank_lines.tsv"

# Its kind: CSV, JSON Lines, gzip, label files, lines for infer, predictions files, ids to decode.
"$python" - "$dir/12" <<'EOF'
import gzip, json, os, sys
d = sys.argv[1]
rows = [l.rstrip("\n").split("\t") for l in open(os.path.join(d, "lf.tsv"))]
W = lambda n, b: open(os.path.join(d, n), "wb").write(b)
for n, e in (("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")):
    W(n + ".csv", ("text,label" + e + "".join(f"{t},{l}{e}" for t, l in rows)).encode())
    W(n + ".jsonl", "".join(json.dumps(dict(text=t, label=l)) + e for t, l in rows).encode() if n != "cr" else b"")
W("crlf.tsv.gz", gzip.compress(open(os.path.join(d, "crlf.tsv"), "rb").read()))
W("labels_lf.txt", b"\xef\xbb\xbfdelivery\nbilling\npraise")
W("labels_blank.txt", b"delivery\n\nbilling\n  praise \r\n")
W("labels_twice.txt", b"delivery\r\nbilling\r\ndelivery\n")
W("cr_inside.tsv", b"refund\tbilling\nthe parcel\ris late\tdelivery\n")
W("texts_crlf.txt", "".join(t + "\r\n" for t, l in rows).encode())
W("texts_lf.txt", "".join(t + "\n" for t, l in rows).encode())
EOF
for f in lf.csv crlf.csv cr.csv lf.jsonl crlf.jsonl crlf.tsv.gz; do
    check "eval_${f//./_}" 0 "$f: 6 examples" "$spt" eval --model $model --prompt "$dir/run" --data "$dir/12/$f" --json
    expect "same_scores_${f//./_}" cmp "$dir/out" "$dir/lf.json"
done
for f in labels_lf labels_blank; do
    check "$f" 0 '' "$spt" eval --model $model --prompt "$dir/run" --data "$dir/12/lf.tsv" --labels "@$dir/12/$f.txt" --json
    untold "${f}_same_as_the_prompts" 'was trained with'
    expect "${f}_scores" cmp "$dir/out" "$dir/lf.json"
done
refused labels_twice 3 'labels_twice.txt.*delivery' "$spt" eval --model $model --prompt "$dir/run" --data "$dir/12/lf.tsv" --labels "@$dir/12/labels_twice.txt"
refused cr_inside_a_line 4 'cr_inside.tsv: line 2' train --train "$dir/12/cr_inside.tsv" --out "$dir/none"
for f in texts_crlf texts_lf; do "$spt" infer --model $model --prompt "$dir/run" --json --quiet "$dir/12/$f.txt" >"$dir/$f.out" 2>"$dir/err"; done
expect infer_lines_same cmp "$dir/texts_crlf.out" "$dir/texts_lf.out"
for f in texts_crlf texts_lf; do "$spt" tokenize --model $model --quiet "$dir/12/$f.txt" >"$dir/$f.ids" 2>"$dir/err"; done
expect tokenize_lines_same cmp "$dir/texts_crlf.ids" "$dir/texts_lf.ids"
for f in lf crlf; do "$spt" score --model $model --prompt "$dir/run" --data "$dir/12/$f.tsv" --quiet >"$dir/$f.score" 2>"$dir/err"; done
expect score_same cmp "$dir/lf.score" "$dir/crlf.score"
sed 's/$/\r/' "$dir/lf.predictions" | gzip >"$dir/crlf.predictions.gz"
"$spt" eval --predictions "$dir/lf.predictions" --data "$dir/12/lf.tsv" --json --quiet >"$dir/p1" 2>"$dir/err"
"$spt" eval --predictions "$dir/crlf.predictions.gz" --data "$dir/12/crlf.tsv" --json --quiet >"$dir/p2" 2>"$dir/err"
expect predictions_same cmp "$dir/p1" "$dir/p2"
expect predictions_not_empty test -s "$dir/p1"
finish
