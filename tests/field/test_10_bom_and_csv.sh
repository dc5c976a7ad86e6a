#!/usr/bin/env bash
# Field case 10: tables from a spreadsheet.
. tests/field/lib.sh
fixture 10
read_as() { # FILE ROWS LABELS [OPTION...]: trained on and evaluated; what the labels and texts are
    local file=$1 rows=$2 labels=$3 name
    name=$(basename "$file")
    name=${name//./_}
    shift 3
    rm -rf "$dir/run"
    check "train_$name" 0 "train: $file: $rows examples" train --train "$file" --out "$dir/run" "$@"
    expect "labels_$name" test "$(meta "$dir/run" spt.labels)" = "$labels"
    check "eval_$name" 0 "eval: $file: $rows examples" "$spt" eval --model $model --prompt "$dir/run" --data "$file" --output "$dir/$name.predictions" --json "$@"
}
two='["billing","praise"]'
for f in excel.csv excel_quoted_header.csv plain.csv bom.jsonl label_first_no_header.tsv two_boms.tsv; do
    read_as "$dir/10/$f" 6 "$two"
done
for f in excel_csv excel_quoted_header_csv plain_csv bom_jsonl; do
    py "texts_$f" "$dir/$f.predictions" "$dir/10/expected.json" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1], encoding="utf-8")]
want = json.load(open(sys.argv[2], encoding="utf-8"))
assert [(r["input"], r["target"]) for r in rows] == [(w["text"], w["label"]) for w in want], rows
EOF
done
py mark_in_a_text_stays "$dir/two_boms_tsv.predictions" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1], encoding="utf-8")]
assert rows[3]["input"].startswith("\ufeff"), rows[3]
EOF
none() { # NAME FILE PATTERN
    rm -rf "$dir/none"
    refused "train_$1" 4 "$2.*$3" train --train "$dir/10/$2" --out "$dir/none"
    expect "nothing_written_$1" test ! -e "$dir/none"
    refused "eval_$1" 4 "$2.*$3" "$spt" eval --model $model --prompt "$dir/run" --data "$dir/10/$2"
}
none semicolons semicolons.csv "';'"
none utf16 utf16.csv UTF-16
none empty empty_but_bom.csv empty

# Its kind: other delimiters when named, gzip, standard input, other encodings and containers.
"$python" - "$dir/10" <<'EOF'
import gzip, json, os, sys
d = sys.argv[1]
W = lambda n, b: open(os.path.join(d, n), "wb").write(b)
plain = open(os.path.join(d, "plain.csv"), "rb").read()
excel = open(os.path.join(d, "excel.csv"), "rb").read()
rows = [(r["text"], r["label"]) for r in json.load(open(os.path.join(d, "expected.json")))]
W("sep_line.csv", b"\xef\xbb\xbfsep=;\r\n" + open(os.path.join(d, "semicolons.csv"), "rb").read()[3:])
W("pipe.csv", "".join("|".join('"%s"' % x.replace('"', '""') for x in r) + "\r\n" for r in [("text", "label")] + rows).encode())
W("quoted.tsv", ("\ufefftext\tlabel\r\n" + "".join("\t".join('"%s"' % x.replace('"', '""') for x in r) + "\r\n" for r in rows)).encode())
W("excel.csv.gz", gzip.compress(excel[:40]) + gzip.compress(excel[40:]))
W("utf16be.csv", plain.decode().encode("utf-16-be"))
W("utf32.csv", plain.decode().encode("utf-32"))
W("latin1.csv", "text,label\ncaf\u00e9,billing\n".encode("latin-1"))
W("book.csv", b"PK\x03\x04" + b"\0" * 60)
W("old.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
W("open_quote.csv", b'text,label\n"never closed,billing\nnext,praise\n')
W("cut.csv.gz", gzip.compress(excel)[:-9])
W("array.jsonl", json.dumps([dict(text=a, label=b) for a, b in rows]).encode())
W("capitals.csv", plain.replace(b"text,label", b"Text,LABEL"))
W("spaces.csv", plain.replace(b"text,label", b"text, label"))
EOF
for f in sep_line.csv excel.csv.gz capitals.csv; do read_as "$dir/10/$f" 6 "$two"; done
read_as "$dir/10/semicolons.csv" 6 "$two" --delimiter ';'
read_as "$dir/10/pipe.csv" 6 "$two" --delimiter '|'
read_as "$dir/10/quoted.tsv" 6 "$two" --format csv --delimiter tab
for f in excel_csv_gz pipe_csv quoted_tsv; do
    expect "same_texts_$f" cmp "$dir/$f.predictions" "$dir/excel_csv.predictions"
done
rm -rf "$dir/run"
cat "$dir/10/excel.csv" | check stdin_train 0 'standard input: 6 examples' train --train - --format csv --out "$dir/run"
expect stdin_labels test "$(meta "$dir/run" spt.labels)" = "$two"
none utf16be utf16be.csv UTF-16
none utf32 utf32.csv UTF-32
none latin1 latin1.csv 'line 2.*UTF-8'
none book book.csv '(xlsx|ZIP|zip)'
none old_book old.csv '(xls|OLE|spreadsheet)'
none open_quote open_quote.csv 'quote'
none cut_gzip cut.csv.gz '(cut|truncated|ends)'
none json_array array.jsonl 'JSON array'
check check_reads_the_same 0 '6 examples' "$spt" check --model $model --train "$dir/10/excel.csv" --eval "$dir/10/bom.jsonl"
check score_reads_the_same 0 '' "$spt" score --model $model --data "$dir/10/excel_quoted_header.csv"
expect score_rows test "$(wc -l <"$dir/out")" -eq 6
check infer_reads_the_same 0 '' "$spt" infer --model $model --prompt "$dir/run" --data "$dir/10/excel.csv"
expect infer_rows test "$(wc -l <"$dir/out")" -eq 6
finish
