#!/usr/bin/env bash
# Field case 28: macro F1 when answers fall outside the label set.
. tests/field/lib.sh
in=$(echo $fields/28-*)
six=account,billing,cancel,delivery,praise,product
"$python" - "$in/pairs.tsv" "$dir" <<'EOF'
import json, sys
rows = [l.rstrip("\n").split("\t") for l in open(sys.argv[1], encoding="utf-8")]
d = sys.argv[2]
open(d + "/data.tsv", "w").write("".join(f"row {i}\t{t}\n" for i, (t, p) in enumerate(rows)))
open(d + "/p.jsonl", "w").write("".join(json.dumps(dict(prediction=p)) + "\n" for t, p in rows))
open(d + "/p.txt", "w").write("".join(p + "\n" for t, p in rows))
EOF
for f in p.jsonl p.txt; do
    check "pairs_${f/./_}" 0 '' "$spt" eval --predictions "$dir/$f" --data "$dir/data.tsv" --labels $six --json
    py "figures_${f/./_}" "$dir/out" "$("$python" "$in/check.py" "$in/pairs.tsv" ${six//,/ })" <<'EOF'
import json, sys
got = json.load(open(sys.argv[1]))
words = sys.argv[2].split()
want = {k: float(v) for k, v in zip(words[::2], words[1::2])}
assert want["accuracy"] == 50 and want["all"] == 22.02381, want
assert got["accuracy"] == 50 and abs(got["macro_f1"] - want["all"]) < 5e-6, got
assert got["classes"] == 6 and got["outside"] == 4 and got["examples"] == 10, got
assert "declared" in got["rules"]["macro_f1"] and "accuracy" in got["rules"], got
EOF
done
check text_output 0 '' "$spt" eval --predictions "$dir/p.txt" --data "$dir/data.tsv" --labels $six
expect text_names_the_rule grep -qE 'macro F1 +22.0238  mean of the F1 of all declared labels' "$dir/out"
expect text_names_outside grep -qE 'outside +4' "$dir/out"
expect text_names_classes grep -qE 'classes +6' "$dir/out"
check labels_of_the_targets_are_said 0 'warning: .*names no label set: the 2 labels of the targets are counted' "$spt" eval --predictions "$dir/p.jsonl" --data "$dir/data.tsv" --json
py two_classes "$dir/out" <<'EOF'
import json, sys
got = json.load(open(sys.argv[1]))
assert got["classes"] == 2 and abs(got["macro_f1"] - 66.071429) < 5e-6 and got["outside"] == 5, got
EOF

# With a model: two of six labels in the file, by ranking and by generation; again from the file.
check train 0 '' "$spt" train --model $model --train $desk/train.tsv --steps 12 --length 4 --batch 8 --seed 1 --out "$dir/run"
for by in rank generate; do
    check "eval_$by" 0 '' "$spt" eval --model $model --prompt "$dir/run" --data "$in/two_of_six.tsv" --by $by --json --max-output 8 --output "$dir/$by.jsonl"
    cp "$dir/out" "$dir/$by.json"
    check "again_$by" 0 '' "$spt" eval --predictions "$dir/$by.jsonl" --data "$in/two_of_six.tsv" --json
    py "same_figures_$by" "$dir/$by.json" "$dir/out" <<'EOF'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:3])
a.pop("by"), b.pop("by")
assert a == b, (a, b)
assert a["classes"] == 6 and a["examples"] == 10 and "macro_f1" in a, a
EOF
    py "recomputed_$by" "$dir/$by.jsonl" "$dir/$by.tsv" <<'EOF'
import json, sys
open(sys.argv[2], "w").write("".join("%s\t%s\n" % (r["target"], r["prediction"]) for r in map(json.loads, open(sys.argv[1]))))
EOF
    py "check_py_$by" "$dir/$by.json" "$("$python" "$in/check.py" "$dir/$by.tsv" ${six//,/ })" <<'EOF'
import json, sys
got = json.load(open(sys.argv[1]))
words = sys.argv[2].split()
want = {k: float(v) for k, v in zip(words[::2], words[1::2])}
assert abs(got["accuracy"] - want["accuracy"]) < 5e-6 and abs(got["macro_f1"] - want["all"]) < 5e-6, (got, want)
EOF
done
printf 'a\tx\nb\tx\n' >"$dir/one.tsv"
check only_one_label 0 'warning: .*"x" is the only label' "$spt" check --model $model --train "$dir/one.tsv"
# Its kind: files that do not fit, gzip, standard input as data, a label that nobody declared.
head -9 "$dir/p.jsonl" >"$dir/nine.jsonl"
refused too_few 4 'nine.jsonl has 9 predictions, .* has 10 examples' "$spt" eval --predictions "$dir/nine.jsonl" --data "$dir/data.tsv" --labels $six
cat "$dir/p.jsonl" "$dir/nine.jsonl" >"$dir/more.jsonl"
refused too_many 4 'more.jsonl: line 11: more predictions than the 10' "$spt" eval --predictions "$dir/more.jsonl" --data "$dir/data.tsv" --labels $six
printf '{"prediction": "x"}\n{"answer": "y"}\n' >"$dir/key.jsonl"
refused no_prediction 4 'key.jsonl: line 2.*prediction' "$spt" eval --predictions "$dir/key.jsonl" --data <(head -2 "$dir/data.tsv") --labels $six
refused undeclared_target 4 'data.tsv: line 6: label "praise"' "$spt" eval --predictions "$dir/p.jsonl" --data "$dir/data.tsv" --labels account,billing
gzip -k "$dir/p.jsonl"
check gzip 0 '' "$spt" eval --predictions "$dir/p.jsonl.gz" --data - --labels $six --json <"$dir/data.tsv"
expect gzip_same grep -q '"macro_f1": 22.0238095' "$dir/out"
"$spt" infer --model $model --prompt "$dir/run" --data "$in/two_of_six.tsv" --quiet >"$dir/infer.txt" 2>"$dir/err"
check infer_lines 0 '' "$spt" eval --predictions "$dir/infer.txt" --data "$in/two_of_six.tsv" --labels $six --json
py infer_lines_same "$dir/out" "$dir/rank.json" <<'EOF'
import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:3])
assert all(a[k] == b[k] for k in ("accuracy", "macro_f1", "exact_match", "classes", "outside", "confusion")), (a, b)
EOF
finish
