#!/usr/bin/env bash
# Several processes do one job: any number of ranks gives the bytes of one process.
. tests/dist/ranks.sh
ok build_with_mpi

refused plain_build_refuses 3 'built without MPI: build it with .make MPI=1' ranks 2 "$plain" eval --model $model --data x.tsv
refused only_some_commands 2 'inspect runs as one process, not as 2 ranks' ranks 2 "$spt" inspect $model
refused one_error_for_all 5 'nosuch' ranks 3 "$spt" eval --model $model --data "$dir/nosuch.tsv"

fixture 29
opts="--threads 1 --seed 7 --length 4"
run() { # N OUT [OPTION...]
    local n=$1 out=$2
    shift 2
    ranks "$n" "$spt" train --model $model --train $desk/train.tsv --eval "$dir/29/eval37.tsv" --out "$out" $opts "$@"
}
train20="--steps 8 --batch 13 --eval-every 4 --dropout 0.1 --log-examples"
"$plain" train --model $model --train $desk/train.tsv --eval "$dir/29/eval37.tsv" --out "$dir/solo" $opts $train20 2>"$dir/err" || bad solo "$(cat "$dir/err")"
for n in 2 3 8; do
    check "train_$n" 0 'best prompt' run $n "$dir/t$n" $train20
    same_run "train_$n" "$dir/solo" "$dir/t$n"
    expect "train_${n}_tells_once" test "$(grep -c 'best prompt' "$dir/err")" -eq 1
done
# Fewer examples than ranks in a batch.
"$plain" train --model $model --train $desk/train.tsv --eval "$dir/29/eval3.tsv" --out "$dir/solo3" $opts --steps 2 --batch 3 --micro-batch 1 2>"$dir/err"
check train_batch_3_of_4 0 '' ranks 4 "$spt" train --model $model --train $desk/train.tsv --eval "$dir/29/eval3.tsv" --out "$dir/three" $opts --steps 2 --batch 3
same_run train_batch_3_of_4 "$dir/solo3" "$dir/three"

# Begun by 3, continued by 2.
check begun_by_3 0 '' run 3 "$dir/cut" $train20 --steps 4
check resumed_by_2 0 'resuming at step 4' run 2 "$dir/cut" $train20 --resume
same_run resumed "$dir/solo" "$dir/cut"

# Ranks that are not given the same work.
cat >"$dir/other.sh" <<EOF2
#!/bin/sh
exec "$PWD/$spt" train --model $model --train $desk/train.tsv --out "$dir/odd" $opts --steps 2 --batch 4 --lr "\$(($rank_name + 1))"
EOF2
chmod +x "$dir/other.sh"
refused other_settings 3 'ranks do not do the same work: rank 0 has .*lr' ranks 2 "$dir/other.sh"
expect other_settings_no_step test ! -s "$dir/odd/train.jsonl"

# Labels of other training data must not make the evaluation data look wrong.
grep -v billing $desk/train.tsv >"$dir/less.tsv"
cat >"$dir/less.sh" <<EOF2
#!/bin/sh
train=$desk/train.tsv
[ "\$OMPI_COMM_WORLD_RANK\$PMI_RANK" = 1 ] && train=$dir/less.tsv
exec "$PWD/$spt" train --model $model --train "\$train" --eval $desk/dev.tsv --out "$dir/less" $opts --steps 2
EOF2
chmod +x "$dir/less.sh"
refused other_training_data 3 'ranks do not do the same work: rank 0 has "training data' ranks 2 "$dir/less.sh"

for data in eval37 eval3; do
    for by in rank generate; do
        answer() { "$@" --model $model --prompt "$dir/solo" --data "$dir/29/$data.tsv" --batch 8 --threads 1; }
        answer "$plain" eval --by $by --max-output 4 --json --output "$dir/p0" >"$dir/m0" 2>"$dir/err"
        for n in 2 3 4; do
            check "eval_${data}_${by}_$n" 0 '' answer ranks $n "$spt" eval --by $by --max-output 4 --json --output "$dir/p$n"
            expect "eval_${data}_${by}_${n}_figures" cmp "$dir/out" "$dir/m0"
            expect "eval_${data}_${by}_${n}_predictions" cmp "$dir/p$n" "$dir/p0"
        done
    done
    for n in 3; do
        answer "$plain" infer --json >"$dir/want" 2>"$dir/err"
        check "infer_${data}_$n" 0 '' answer ranks $n "$spt" infer --json
        expect "infer_${data}_${n}_same" cmp "$dir/out" "$dir/want"
        answer "$plain" score --rank >"$dir/want" 2>"$dir/err"
        check "score_${data}_$n" 0 '' answer ranks $n "$spt" score --rank
        expect "score_${data}_${n}_same" cmp "$dir/out" "$dir/want"
    done
done
# --out: chunks that are durable, continued by another number of processes.
outs() { answer "$@" --mode predict --beams 2 --max-output 4 --chunk 2; }
outs "$plain" infer --out "$dir/o1" 2>"$dir/err"
for n in 2 3; do
    check "infer_out_$n" 0 'written' outs ranks $n "$spt" infer --out "$dir/o$n"
    expect "infer_out_${n}_same" diff -r "$dir/o1" "$dir/o$n"
done
check infer_out_again 0 'is complete' outs ranks 2 "$spt" infer --out "$dir/o2"
cp "$dir/29/eval37.tsv" "$dir/other37.tsv"
echo >>"$dir/other37.tsv"
cat >"$dir/infer.sh" <<EOF2
#!/bin/sh
[ "\$OMPI_COMM_WORLD_RANK\$PMI_RANK" = 1 ] && set -- "\$@" --data "$dir/other37.tsv"
exec "$PWD/$spt" "\$@"
EOF2
chmod +x "$dir/infer.sh"
data=eval37
refused infer_of_other_data 3 'ranks do not do the same work' answer ranks 2 "$dir/infer.sh" infer
refused score_of_other_data 3 'ranks do not do the same work' answer ranks 2 "$dir/infer.sh" score
refused stdin_reaches_one 2 'give a file' ranks 2 "$spt" infer --model $model --prompt "$dir/solo"
finish
