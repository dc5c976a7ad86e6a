#!/usr/bin/env bash
# Field case 21: micro-batches with targets of very different length. The design promises the same
# bits for every cut.
. tests/field/lib.sh
in=$(echo $fields/21-*)
at=$model
run() { # NAME BATCH MICRO [OPTION...]
    local name=$1 batch=$2 micro=$3
    shift 3
    "$spt" train --model "$at" --train "$in/train.tsv" --batch $batch --micro-batch $micro --steps 5 --seed 3 --lr 0.3 --length 4 --out "$dir/$name" --quiet "$@" 2>"$dir/err" ||
        bad "run_$name" "$(cat "$dir/err")"
    "$spt" convert "$dir/$name" "$dir/$name.npy" --quiet 2>/dev/null
}
for m in 1 2 5 16; do
    run b16_$m 16 $m
    expect losses_$m cmp "$dir/b16_$m/train.jsonl" "$dir/b16_1/train.jsonl"
    expect prompt_$m cmp "$dir/b16_$m.npy" "$dir/b16_1.npy"
done
py losses_move "$dir/b16_1/train.jsonl" <<'EOF'
import json, sys
loss = [json.loads(l)["loss"] for l in open(sys.argv[1])]
assert len(loss) == 5 and len(set(loss)) == 5, loss
EOF
# The rest on a tiny model, for speed.
"$python" $fields/common/make_model.py "$dir/M"
at=$dir/M
# The last batch of an epoch is short: 16 examples in batches of 12 (12 + 4) and of 10.
for b in 12 8; do
    run b${b}_1 $b 1
    for m in 3 5; do
        run b${b}_$m $b $m
        expect batch_${b}_losses_$m cmp "$dir/b${b}_$m/train.jsonl" "$dir/b${b}_1/train.jsonl"
        expect batch_${b}_prompt_$m cmp "$dir/b${b}_$m.npy" "$dir/b${b}_1.npy"
    done
done
# A mean of means would be another number: the sum over tokens of the first batch is the sum of the
# scores of its targets.
"$spt" init --model "$at" --init vocab --length 4 --seed 3 --out "$dir/p.npy" --quiet 2>"$dir/err"
"$spt" train --model "$at" --train "$in/train.tsv" --batch 16 --micro-batch 5 --steps 1 --seed 3 --z-loss 0 --init file --init-file "$dir/p.npy" --out "$dir/sum" --quiet 2>"$dir/err"
"$spt" score --model "$at" --prompt "$dir/p.npy" --data "$in/train.tsv" --quiet >"$dir/scores" 2>"$dir/err"
py loss_is_the_sum_over_tokens "$dir/sum/train.jsonl" "$dir/scores" <<'EOF'
import json, sys
loss = json.loads(open(sys.argv[1]).readline())["loss"]
total = -sum(json.loads(l)["score"] for l in open(sys.argv[2]))
assert abs(loss - total) <= 1e-5 * total, (loss, total)
EOF
# Its kind: dropout, bfloat16, a normalised loss, few rows in flight, threads.
for kind in "dropout 0.1" "compute bfloat16" "normalize real-tokens"; do
    name=${kind%% *}
    run ${name}_1 16 1 --$kind
    run ${name}_7 16 7 --$kind --threads 1
    expect $name cmp "$dir/${name}_1.npy" "$dir/${name}_7.npy"
done
run all 16 16
run rows 16 0 --micro-rows 40
expect micro_rows cmp "$dir/rows.npy" "$dir/all.npy"
finish
