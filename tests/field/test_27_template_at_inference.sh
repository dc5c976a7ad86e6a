#!/usr/bin/env bash
# Field case 27: a prompt used with another template than it was trained with.
. tests/field/lib.sh
P() { "$spt" "$1" --model $model --prompt "${@:2}"; }
check train 0 '' "$spt" train --model $model --train $desk/train.tsv --input "shop message: {text} desk:" --target "{label}" --steps 30 --length 4 --batch 8 --seed 1 --out "$dir/run"
head -40 $desk/test.tsv >"$dir/test.tsv"
cut -f1 "$dir/test.tsv" >"$dir/texts"
check own_template 0 '' P eval "$dir/run" --data "$dir/test.tsv" --json --output "$dir/a.predictions"
untold own_template_is_silent warning
cp "$dir/out" "$dir/a.json"
check other_template 0 'warning: .*"shop message: \{text\} desk:".*"\{text\}"' P eval "$dir/run" --data "$dir/test.tsv" --input "{text}" --json
expect other_template_is_followed test "$(cat "$dir/out")" != "$(cat "$dir/a.json")"
expect one_warning test "$(grep -c warning "$dir/err")" -eq 1
check raw_lines 0 '' P infer "$dir/run" "$dir/texts" --labels
cp "$dir/out" "$dir/c.txt"
py c_equals_predictions "$dir/c.txt" "$dir/a.predictions" <<'EOF'
import json, sys
c = open(sys.argv[1]).read().splitlines()
a = [json.loads(l) for l in open(sys.argv[2])]
assert c == [r["prediction"] for r in a] and len(c) == 40
assert all(r["input"].startswith("shop message: ") and r["input"].endswith(" desk:") for r in a)
EOF
P infer "$dir/run" --quiet <"$dir/texts" >"$dir/c2.txt" 2>"$dir/err"
expect labels_without_value_is_the_default cmp "$dir/c.txt" "$dir/c2.txt"
check convert_says_what_is_lost 0 'warning: .*cannot keep input template, target template, base model hash.*label set' "$spt" convert "$dir/run" "$dir/p.npy"
check without_template 0 'names no input template: texts go in as they are' P infer "$dir/p.npy" "$dir/texts" --labels account,billing,cancel,delivery,praise,product
expect without_template_differs test "$(cat "$dir/out")" != "$(cat "$dir/c.txt")"
check template_given_again 0 '' P infer "$dir/p.npy" "$dir/texts" --input "shop message: {text} desk:" --labels account,billing,cancel,delivery,praise,product
expect template_given_again_same cmp "$dir/out" "$dir/c.txt"
refused own_labels_of_none 3 'names none' P infer "$dir/p.npy" "$dir/texts" --labels
check labels_then_option 0 '' P infer "$dir/run" "$dir/texts" --labels --batch 3
expect labels_then_option_same cmp "$dir/out" "$dir/c.txt"

# A base of equal width but other numbers.
"$python" - $model "$dir/other" <<'EOF'
import json, os, shutil, struct, sys
src, dst = sys.argv[1:]
shutil.copytree(src, dst)
p = os.path.join(dst, "model.safetensors")
b = bytearray(open(p, "rb").read())
n = struct.unpack("<Q", b[:8])[0]
head = json.loads(b[8:8 + n])
at = 8 + n + head["encoder.final_layer_norm.weight"]["data_offsets"][0]
b[at] ^= 1
open(p, "wb").write(b)
EOF
for c in eval infer score; do
    check "other_base_$c" 0 'warning: .*base' "$spt" $c --model "$dir/other" --prompt "$dir/run" --data "$dir/test.tsv"
    expect "other_base_both_named_$c" test "$(grep -E 'warning: .*base' "$dir/err" | grep -oE '[0-9a-f]{8,32}' | sort -u | wc -l)" -ge 2
done
check other_base_strict 1 'strict' "$spt" eval --model "$dir/other" --prompt "$dir/run" --data "$dir/test.tsv" --strict
check other_base_check 0 'warning: .*base' "$spt" check --model "$dir/other" --prompt "$dir/run"
cp -r $model "$dir/same"
check same_base_elsewhere 0 '' "$spt" eval --model "$dir/same" --prompt "$dir/run" --data "$dir/test.tsv" --json
untold same_base_elsewhere_is_silent warning
expect same_base_elsewhere_same cmp "$dir/out" "$dir/a.json"

# Its kind: every container says what it drops and keeps what it can; other options that differ;
# other tables with the prompt's template; score and check.
check peft_keeps_the_use 0 '' "$spt" convert "$dir/run" "$dir/p.peft"
P infer "$dir/p.peft" --quiet "$dir/texts" >"$dir/out" 2>"$dir/err"
expect peft_same_answers cmp "$dir/out" "$dir/c.txt"
check t5x_says_what_is_lost 0 'cannot keep' "$spt" convert "$dir/run" "$dir/m/numpy_checkpoints/checkpoint_30"
check safetensors_keeps_all 0 '' "$spt" convert "$dir/run" "$dir/p.safetensors"
untold safetensors_loses_nothing warning
P infer "$dir/p.safetensors" --quiet "$dir/texts" >"$dir/out" 2>"$dir/err"
expect safetensors_same_answers cmp "$dir/out" "$dir/c.txt"
check other_labels 0 'warning: .*labels' P eval "$dir/run" --data "$dir/test.tsv" --labels account,billing,cancel,delivery,praise,product,other
check same_labels 0 '' P eval "$dir/run" --data "$dir/test.tsv" --labels product,praise,delivery,cancel,billing,account
untold same_labels_are_silent 'warning: .*labels'
check other_length 0 'warning: .*(64|512).*(512|64)' P eval "$dir/run" --data "$dir/test.tsv" --max-input 64
check other_compute 0 'warning: .*float32.*bfloat16|warning: .*bfloat16.*float32' P eval "$dir/run" --data "$dir/test.tsv" --compute bfloat16
check other_combine 0 'warning: .*prefix.*suffix|warning: .*suffix.*prefix' P eval "$dir/run" --data "$dir/test.tsv" --combine suffix
"$spt" train --model $model --train $desk/train.tsv $quick --compute bfloat16 --quiet --out "$dir/half" 2>"$dir/err"
check compute_of_the_prompt 0 'computing in bfloat16, as the prompt was trained' P score "$dir/half" --data "$dir/test.tsv"
untold compute_of_the_prompt_is_silent warning
cp "$dir/out" "$dir/half.scores"
P score "$dir/half" --data "$dir/test.tsv" --compute bfloat16 --quiet >"$dir/out" 2>"$dir/err"
expect compute_of_the_prompt_is_used cmp "$dir/out" "$dir/half.scores"
check other_target 0 'warning: .*"\{label\}".*"\{2\}"' P eval "$dir/run" --data "$dir/test.tsv" --target '{2}'
"$python" - "$dir/test.tsv" "$dir" <<'EOF'
import csv, json, sys
rows = [l.rstrip("\n").split("\t") for l in open(sys.argv[1], encoding="utf-8")]
d = sys.argv[2]
with open(d + "/named.csv", "w", newline="", encoding="utf-8") as f:
    w = csv.writer(f)
    w.writerow(["id", "target", "sentence"])
    w.writerows([i, b, a] for i, (a, b) in enumerate(rows))
with open(d + "/named.jsonl", "w", encoding="utf-8") as f:
    for a, b in rows:
        f.write(json.dumps(dict(label=b, input=a)) + "\n")
EOF
for f in named.csv named.jsonl; do
    P eval "$dir/run" --data "$dir/$f" --json --quiet >"$dir/out" 2>"$dir/err"
    expect "template_over_${f/./_}" cmp "$dir/out" "$dir/a.json"
    P infer "$dir/run" --data "$dir/$f" --quiet >"$dir/out" 2>"$dir/err"
    expect "infer_over_${f/./_}" cmp "$dir/out" "$dir/c.txt"
done
check score_own_template 0 '' P score "$dir/run" --data "$dir/test.tsv"
expect score_own_template_is_used test "$(grep -c '"inputs": "shop message: ' "$dir/out")" -eq 40
refused missing_column 3 'column' P eval "$dir/run" --data "$dir/test.tsv" --input '{nothere}'
finish
