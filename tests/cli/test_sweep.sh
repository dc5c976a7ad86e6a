#!/usr/bin/env bash
# `spt sweep`: every run of it has the bits of the same `spt train` alone (prompts, states, logs, events,
# scores), whoever shares its passes, also after kills and signals; a run that fails stops alone.
. tests/support/checks.sh
head -n 40 demo/desk/train.tsv >"$dir/train.tsv"
head -n 12 demo/desk/dev.tsv >"$dir/dev.tsv"
common=(--model demo/t5-mini --train "$dir/train.tsv" --eval "$dir/dev.tsv" --labels
    account,billing,cancel,delivery,praise,product --header no --log-examples)
train() { # NAME OPTION...: alone
    local name=$1
    shift
    "$spt" train "${common[@]}" --out "$dir/alone/$name" --quiet "$@" 2>"$dir/alone-$name.err"
}
sweep() { # NAME OPTION...: together; stdout to NAME.out
    local name=$1
    shift
    "$spt" sweep "${common[@]}" --out "$dir/$name" "$@" >"$dir/$name.out" 2>"$dir/$name.err"
}
same() { # SWEEP RUN: as alone
    python3 tests/crash/compare_runs.py "$dir/alone/$2" "$dir/$1/$2" >"$dir/$1-$2.cmp" 2>&1
}
all_same() { # SWEEP RUN...
    local s=$1 r
    shift
    for r in "$@"; do same "$s" "$r" || return 1; done
}

# A grid: lengths and seeds differ, so do the ranges that examples come in.
grid=(--steps 6 --batch 4 --eval-every 2 --patience 2)
sweep grid "${grid[@]}" --seeds 1,2 --lrs 0.3,0.05 --lengths 3,20
for p in 3 20; do for lr in 0.3 0.05; do for seed in 1 2; do
    train p$p-lr$lr-seed$seed "${grid[@]}" --length $p --lr $lr --seed $seed
done; done; done
names=(p{3,20}-lr{0.3,0.05}-seed{1,2})
expect grid_same_bits all_same grid "${names[@]}"
expect grid_table_has_every_run test "$(grep -cE 'p(3|20)-lr[0-9.]+-seed[12]$' "$dir/grid.out")" = 8
sorted() { # the scores of sweep.jsonl fall, and the first is the best of all eval.jsonl
    python3 - "$dir/$1" <<'PY'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
runs = [json.loads(line) for line in (out / "sweep.jsonl").read_text().splitlines()]
scores = [r["score"] for r in runs]
best = {r["name"]: max(json.loads(x)["accuracy"] for x in (out / r["name"] / "eval.jsonl").read_text().splitlines())
        for r in runs}
sys.exit(0 if scores == sorted(scores, reverse=True) and all(best[r["name"]] == r["score"] for r in runs) else 1)
PY
}
expect grid_summary_sorted sorted grid
best=$(python3 -c 'import json,sys; print(json.loads(open(sys.argv[1]).readline())["name"])' "$dir/grid/sweep.jsonl")
expect best_is_named grep -q "^best: $best " "$dir/grid.err"
expect members_as_ensemble eval "'$spt' eval --model demo/t5-mini --data '$dir/dev.tsv' --header no --quiet \
    --ensemble '$dir/grid/p3-lr0.3-seed1,$dir/grid/p20-lr0.3-seed1' >'$dir/ensemble.out'"
cp "$dir/grid/sweep.jsonl" "$dir/before"
sweep grid "${grid[@]}" --seeds 1,2 --lrs 0.3,0.05 --lengths 3,20
expect finished_sweep_says_so test $? = 0
expect finished_sweep_same_summary cmp "$dir/before" "$dir/grid/sweep.jsonl"
sweep grid "${grid[@]}" --seeds 1,2,3 --lrs 0.3 --lengths 3 --resume
train p3-lr0.3-seed3 "${grid[@]}" --length 3 --lr 0.3 --seed 3
expect larger_grid_adds_runs all_same grid p3-lr0.3-seed{1,2,3}

# A table of settings: what may differ does; one run fails by itself.
cat >"$dir/runs.jsonl" <<'JSON'
{"name": "plain", "steps": 5, "batch": 4, "optimizer": "adafactor", "lr": 0.3, "z-loss": 1e-4, "normalize": "none", "init": "vocab", "seed": 7}
{"name": "adam", "steps": 7, "batch": 5, "optimizer": "adamw", "lr": 0.05, "z-loss": 1e-4, "normalize": "real-tokens", "init": "labels", "seed": 7}
{"name": "bad", "steps": 9, "batch": 4, "optimizer": "adamw", "lr": 1e30, "z-loss": 1e-4, "normalize": "all-tokens", "init": "uniform", "seed": 8}
{"name": "mean", "steps": 4, "batch": 3, "optimizer": "adafactor", "lr": 0.1, "z-loss": 0, "normalize": "per-sequence", "init": "vocab", "seed": 9}
JSON
table=(--eval-every 3 --length 9 --micro-rows 150)
sweep table "${table[@]}" --runs "$dir/runs.jsonl"
code=$?
one() { # NAME STEPS BATCH OPTIMIZER LR Z NORMALIZE INIT SEED
    train "$1" "${table[@]}" --steps "$2" --batch "$3" --optimizer "$4" --lr "$5" --z-loss "$6" --normalize "$7" \
        --init "$8" --seed "$9"
}
one plain 5 4 adafactor 0.3 1e-4 none vocab 7
one adam 7 5 adamw 0.05 1e-4 real-tokens labels 7
one mean 4 3 adafactor 0.1 0 per-sequence vocab 9
one bad 9 4 adamw 1e30 1e-4 all-tokens uniform 8
expect table_same_bits all_same table plain adam mean
expect failed_run_same_files all_same table bad
expect failed_run_fails_alone test $code = 0
expect failed_run_is_told grep -q '"name": "bad", "status": "failed"' "$dir/table/sweep.jsonl"
printf 'batch\tseed\n3\t1\n7\t2\n' >"$dir/runs.tsv"
sweep batches --runs "$dir/runs.tsv" --lrs 0.2 --steps 4 --dropout 0.1 --length 5
train run1-lr0.2 --steps 4 --dropout 0.1 --length 5 --lr 0.2 --batch 3 --seed 1
train run2-lr0.2 --steps 4 --dropout 0.1 --length 5 --lr 0.2 --batch 7 --seed 2
expect batches_and_dropout_same_bits all_same batches run1-lr0.2 run2-lr0.2
sweep side --side decoder --lengths 2,4 --seed 5 --steps 3 --cross-attention plain --compute bfloat16
train p2 --side decoder --length 2 --seed 5 --steps 3 --cross-attention plain --compute bfloat16
train p4 --side decoder --length 4 --seed 5 --steps 3 --cross-attention plain --compute bfloat16
expect decoder_prompts_same_bits all_same side p2 p4

# Kills and signals.
long=(--steps 14 --eval-every 4 --save-every 3 --lrs 0.3,0.1 --lengths 4,12 --batch 4)
sweep whole "${long[@]}" --seed 3
interrupt() { # NAME SIGNAL STEP: once the first run's log has a line of that step
    "$spt" sweep "${common[@]}" --out "$dir/$1" "${long[@]}" --resume --quiet >/dev/null 2>"$dir/$1.err" &
    local pid=$!
    while kill -0 $pid 2>/dev/null && ! grep -q "\"step\": $3," "$dir/$1/p4-lr0.3/train.jsonl" 2>/dev/null; do sleep 0.01; done
    kill -"$2" $pid 2>/dev/null
    wait $pid 2>/dev/null
    code=$?
}
# Without a seed: the drawn one is found again.
interrupt killed KILL 2
seed=$(sed -n 's/^spt.seed = //p' "$dir/killed/p4-lr0.3/config.gin")
interrupt killed KILL 7
sweep killed "${long[@]}" --resume
sweep again "${long[@]}" --seed "$seed"
compare() { # A B: all runs of two sweeps
    local r
    for r in p{4,12}-lr{0.3,0.1}; do
        python3 tests/crash/compare_runs.py "$dir/$1/$r" "$dir/$2/$r" >"$dir/$1-$r.cmp" 2>&1 || return 1
    done
    cmp "$dir/$1/sweep.jsonl" "$dir/$2/sweep.jsonl"
}
expect killed_sweep_same_bits compare killed again
long+=(--seed 3)
interrupt term TERM 5
expect signal_is_exit_75 test $code = 75
expect signal_saved_every_run test "$(grep -l '"step": 5' "$dir"/term/*/train.jsonl | wc -l)" = 4
sweep term "${long[@]}" --resume
finals() { # the prompts at the end: a signal saves at steps of its own
    local r
    for r in p{4,12}-lr{0.3,0.1}; do
        cmp "$dir/term/$r/prompt-14.safetensors" "$dir/whole/$r/prompt-14.safetensors" &&
            cmp "$dir/term/$r/train.jsonl" "$dir/whole/$r/train.jsonl" || return 1
    done
}
expect signal_and_resume_same_bits finals

# What cannot be.
refused() { # NAME CODE TEXT OPTION...
    local name=$1 want=$2 text=$3
    shift 3
    sweep refused "$@" --steps 2
    local code=$?
    expect "$name" test $code = "$want" -a -n "$(grep -F -- "$text" "$dir/refused.err")"
}
refused nothing_differs 2 'what shall differ' --lr 0.1
refused given_twice 2 '--lr is given for all runs and for each' --lr 0.1 --lrs 0.2,0.3
refused same_name 2 'two runs would be called "seed1"' --seeds 1,1
refused empty_item 2 '--seeds' --seeds 1,,2
refused bad_value 2 '--lengths' --lengths 0,4
refused too_many 2 'more than 180 runs' --seeds "$(seq -s, 1 181)"
printf 'model\nx\n' >"$dir/bad.tsv"
printf 'name\tlr\ntmp.1\t0.1\n' >"$dir/leftover.tsv"
printf 'name\tlr\n../a\t0.1\n' >"$dir/slash.tsv"
refused name_of_a_leftover 2 'such names have other uses' --runs "$dir/leftover.tsv"
refused name_with_a_slash 2 'cannot name a run' --runs "$dir/slash.tsv"
refused column_of_all 2 '"model" is nothing that runs can differ in' --runs "$dir/bad.tsv"
"$spt" sweep "${common[@]}" --out "$dir/alone/p2" --seeds 1,2 2>"$dir/refused.err"
expect run_of_train_refused grep -q 'is a run of spt train' "$dir/refused.err"
sweep begun --steps 3 --lrs 0.3,0.1 --seed 1 && sweep begun --steps 5 --lrs 0.3,0.1 --seed 1
expect begun_needs_resume test $? = 3
"$spt" sweep --model demo/t5-mini --train "$dir/train.tsv" --header no --out "$dir/most/" --seeds "$(seq -s, 1 180)" \
    --steps 1 --batch 1 --length 1 --json --quiet >"$dir/most.out" 2>"$dir/most.err"
expect most_runs test $? = 0 -a "$(grep -c '"event": "run"' "$dir/most.out")" = 180
"$spt" sweep "${common[@]}" --out "$dir/dry" --lrs 0.1,0.2 --steps 3 --dry-run >"$dir/dry.out" 2>"$dir/dry.err"
expect dry_run_writes_nothing test $? = 0 -a ! -e "$dir/dry" -a -n "$(grep 'lr0.2: ' "$dir/dry.err")"
"$spt" plan --model demo/t5-mini --train "$dir/train.tsv" --header no --lrs 0.1,0.2 --ranks 2 2>"$dir/plan.err"
expect plan_for_ranks_refused test $? = 2 -a -n "$(grep 'runs as one process' "$dir/plan.err")"
finish
