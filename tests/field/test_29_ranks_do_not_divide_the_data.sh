#!/usr/bin/env bash
# Field case 29: data that no number of parts divides. Here in one process: batches of 1, 8 and 37
# rows over 37, and 3 rows in batches of 8.
. tests/field/lib.sh
fixture 29
check train 0 '' "$spt" train --model $model --train $desk/train.tsv --steps 6 --length 4 --batch 8 --seed 1 --out "$dir/run"
for n in 37 3; do
    data=$dir/29/eval$n.tsv
    for b in 1 8 37; do
        check "eval${n}_batch_$b" 0 "$n examples" "$spt" eval --model $model --prompt "$dir/run" --data "$data" --batch $b --json --output "$dir/p_${n}_$b"
        cp "$dir/out" "$dir/m_${n}_$b"
        expect "figures_${n}_batch_$b" cmp "$dir/m_${n}_$b" "$dir/m_${n}_1"
        expect "predictions_${n}_batch_$b" cmp "$dir/p_${n}_$b" "$dir/p_${n}_1"
        "$spt" infer --model $model --prompt "$dir/run" --batch $b --quiet <(cut -f1 "$data") >"$dir/i_${n}_$b" 2>"$dir/err"
        expect "infer_${n}_batch_$b" cmp "$dir/i_${n}_$b" "$dir/i_${n}_1"
    done
    py "rows_${n}_in_order" "$dir/p_${n}_8" "$data" "$dir/i_${n}_8" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1])]
data = [l.rstrip("\n").split("\t") for l in open(sys.argv[2])]
assert [(r["input"], r["target"]) for r in rows] == [tuple(d) for d in data]
assert [r["prediction"] for r in rows] == open(sys.argv[3]).read().splitlines()
EOF
    py "accuracy_${n}_counts_each_row_once" "$dir/m_${n}_8" "$dir/p_${n}_8" <<'EOF'
import json, sys
got = json.load(open(sys.argv[1]))
rows = [json.loads(l) for l in open(sys.argv[2])]
assert got["examples"] == len(rows)
right = sum(r["prediction"] == r["target"] for r in rows)
assert abs(got["accuracy"] - 100 * right / len(rows)) < 1e-9, (got, right)
EOF
done
# As --eval in training, with batches that divide nothing; and by generation.
for b in 5 8; do
    "$spt" train --model $model --train $desk/train.tsv --eval "$dir/29/eval37.tsv" --init file --init-file "$dir/run" --lr 1e-30 --steps 1 --batch $b --seed 1 --out "$dir/t_$b" --quiet 2>"$dir/err"
    expect "train_eval_batch_$b" cmp "$dir/t_$b/eval.jsonl" "$dir/t_5/eval.jsonl"
    check "generate_batch_$b" 0 '' "$spt" eval --model $model --prompt "$dir/run" --data "$dir/29/eval37.tsv" --batch $b --by generate --max-output 4 --json --output "$dir/g_$b"
    expect "generate_same_$b" cmp "$dir/g_$b" "$dir/g_5"
done
py train_figure_is_evals "$dir/t_8/eval.jsonl" "$dir/m_37_8" <<'EOF'
import json, sys
a, b = json.loads(open(sys.argv[1]).readline()), json.load(open(sys.argv[2]))
assert abs(a["accuracy"] - b["accuracy"]) < 1e-9, (a, b)
EOF
finish
