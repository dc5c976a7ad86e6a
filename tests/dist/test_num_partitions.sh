#!/usr/bin/env bash
# One model held by several processes (--num-partitions): numbers of one process within rounding, the
# same bits for the same number of parts, a share of the memory, bytes as planned.
# run-tests: alone, it compares peaks of memory, which differ where processes are held up.
. tests/dist/ranks.sh
fixture 29
common="--model $model --threads 1"
plan="$common --seed 7 --length 4 --batch 13 --eval-every 10"
opts="$plan --steps 20 --log-examples"
data="--train $desk/train.tsv --eval $dir/29/eval37.tsv"

refused needs_processes 3 'mpirun -n 2' "$spt" train $opts $data --num-partitions 2 --out "$dir/no"
refused not_a_multiple 3 '3 processes cannot hold models of 2 parts' ranks 3 "$spt" train $opts $data --num-partitions 2 --out "$dir/no"
refused too_many_parts 3 'splits into 4 parts at most' ranks 5 "$spt" train $opts $data --num-partitions 5 --out "$dir/no"
expect refused_writes_nothing test ! -e "$dir/no"

# --- training, 20 steps
"$plain" train $opts $data --out "$dir/k1" 2>"$dir/err" || bad k1 "$(cat "$dir/err")"
for nk in 2:2 4:2 4:4; do
    n=${nk%:*} k=${nk#*:}
    check "train_${n}_of_$k" 0 'best prompt' ranks "$n" "$spt" train $opts $data --num-partitions "$k" --out "$dir/n${n}k$k"
    expect "train_${n}_of_${k}_tells_once" test "$(grep -c 'best prompt' "$dir/err")" -eq 1
done
same_run two_replicas_of_2 "$dir/n2k2" "$dir/n4k2"
check again_2 0 '' ranks 2 "$spt" train $opts $data --num-partitions 2 --out "$dir/again"
same_run same_parts_same_bits "$dir/n2k2" "$dir/again"
for k in 2 4; do
    "$plain" convert "$dir/k1" "$dir/k1.npy" --quiet 2>/dev/null
    "$plain" convert "$dir/n${k}k$k" "$dir/k.npy" --quiet 2>/dev/null
    # Rounding of 20 steps: losses and prompt stay where one process has them.
    py "parts_${k}_agree" "$dir/k1" "$dir/n${k}k$k" "$dir/k1.npy" "$dir/k.npy" <<'EOF'
import json, sys
import numpy
a, b = ([json.loads(l) for l in open(d + "/train.jsonl")] for d in sys.argv[1:3])
assert len(a) == len(b) == 20
for x, y in zip(a, b):
    assert x["example"] == y["example"]
    for name in "loss", "z_loss", "gradient_norm", "prompt_norm":
        assert abs(x[name] - y[name]) <= 1e-3 * abs(x[name]), (x["step"], name, x[name], y[name])
p, q = (numpy.load(f) for f in sys.argv[3:5])
assert abs(p - q).max() <= 1e-3 * abs(p).max(), abs(p - q).max()
assert (p != q).any()  # or the model was not split
EOF
    rm -f "$dir/k1.npy" "$dir/k.npy"
done

# --- continued by others
check begun_by_2_of_2 0 '' ranks 2 "$spt" train $opts $data --steps 6 --num-partitions 2 --out "$dir/cut"
check resumed_by_4_of_4 0 'resuming at step 6' ranks 4 "$spt" train $opts $data --steps 12 --num-partitions 4 --out "$dir/cut" --resume
check resumed_by_one 0 'resuming at step 12' "$plain" train $opts $data --out "$dir/cut" --resume
py resumed_agrees "$dir/k1" "$dir/cut" <<'EOF'
import json, sys
a, b = ([json.loads(l) for l in open(d + "/train.jsonl")] for d in sys.argv[1:3])
assert len(b) == 20
for x, y in zip(a, b):
    assert x["example"] == y["example"] and abs(x["loss"] - y["loss"]) <= 1e-3 * abs(x["loss"])
EOF

# --- evaluation and inference
answer() { "$@" $common --prompt "$dir/k1" --data "$dir/29/eval37.tsv" --batch 8; }
close() { # FILE FILE: JSON Lines, the same but for rounding
    "$python" - "$1" "$2" <<'EOF'
import json, sys
def close(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) <= 1e-3 * max(1, abs(a))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == b
a, b = ([json.loads(l) for l in open(f)] for f in sys.argv[1:3])
assert a and close(a, b)
EOF
}
for by in rank generate; do
    answer "$plain" eval --by $by --max-output 4 --json --output "$dir/p1" >"$dir/m1" 2>"$dir/err"
    for nk in 2:2 4:2 4:4; do
        n=${nk%:*} k=${nk#*:}
        check "eval_${by}_${n}_of_$k" 0 '' answer ranks "$n" "$spt" eval --num-partitions "$k" --by $by --max-output 4 --json --output "$dir/p$k"
        expect "eval_${by}_${n}_of_${k}_figures" close "$dir/m1" "$dir/out"
        expect "eval_${by}_${n}_of_${k}_predictions" close "$dir/p1" "$dir/p$k"
    done
done
answer "$plain" infer --json --decode beam --beams 3 --max-output 5 >"$dir/want" 2>"$dir/err"
check infer_beam_2_of_2 0 '' answer ranks 2 "$spt" infer --num-partitions 2 --json --decode beam --beams 3 --max-output 5
expect infer_beam_2_of_2_same close "$dir/want" "$dir/out"
answer "$plain" score --rank >"$dir/want" 2>"$dir/err"
check score_4_of_2 0 '' answer ranks 4 "$spt" score --num-partitions 2 --rank
expect score_4_of_2_same close "$dir/want" "$dir/out"

# --- bytes as planned, one exchange of the gradient a step
for nk in 2:1 3:1 2:2 4:2; do
    n=${nk%:*} k=${nk#*:}
    "$plain" plan $plan $data --steps 8 --ranks "$n" --num-partitions "$k" --bandwidth 1G --json 2>/dev/null >"$dir/plan"
    check "profile_${n}_of_$k" 0 "exchanges: " ranks "$n" "$spt" train $opts $data --steps 8 --num-partitions "$k" --profile --json --out "$dir/profile$n$k"
    py "bytes_${n}_of_${k}_as_planned" "$dir/plan" "$dir/out" "$n" "$k" <<'EOF'
import json, sys
plan = json.load(open(sys.argv[1]))["exchange"]
run = [json.loads(l) for l in open(sys.argv[2])]
run = next(e for e in run if e["event"] == "profile")["exchange"]
n, k = int(sys.argv[3]), int(sys.argv[4])
names = "ranks", "num_partitions", "steps", "gradient_exchanges", "sums", "sent_bytes", "received_bytes"
for name in names:
    assert plan[name] == run[name], (name, plan[name], run[name])
assert run["steps"] == 8 and run["sent_bytes"] > 0
assert run["gradient_exchanges"] == (8 if n > k else 0), run
assert (run["sums"] > 0) == (k > 1), run
assert run["wait_seconds"] > 0 and plan["seconds_per_step"] > 0
EOF
done

# --- memory: a rank holds its share of the weights
"$python" tests/dist/big_model.py "$dir/big" $model >"$dir/bytes" 2>"$dir/err" || bad big_model "$(cat "$dir/err")"
cat >"$dir/peak.py" <<EOF
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], close_fds=False)  # MPICH hands one down
with open("$dir/peak." + os.environ.get("$rank_name", "0"), "w") as f:
    f.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
sys.exit(code)
EOF
peak() { # K OUT
    rm -f "$dir"/peak.[0-9]*
    ranks "$1" "$python" "$dir/peak.py" "$spt" train --model "$dir/big" $data --threads 1 --seed 7 \
        --length 4 --steps 2 --batch 4 --micro-rows 64 --num-partitions "$1" --out "$2" >"$dir/out" 2>"$dir/err" &&
        sort -n "$dir"/peak.[0-9]* | tail -n 1
}
touch "$dir/peak.0"
export HOME="$dir/home" XDG_CACHE_HOME="$dir/home" # the model's hash is not known yet
mkdir -p "$dir/home"
for k in 1 2 4; do
    peak $k "$dir/big$k" >"$dir/most$k" || bad "memory_$k" "$(tail -n 3 "$dir/err")"
    rm -rf "$dir/big$k"
done
py memory_is_split "$(cat "$dir/bytes")" "$(cat "$dir/most1")" "$(cat "$dir/most2")" "$(cat "$dir/most4")" <<'EOF'
import sys
weights, whole, half, quarter = map(float, sys.argv[1:])
rest = whole - weights  # program, activations, one tensor being read
print(weights, whole, half, quarter)
assert half <= rest + weights / 2 + 12e6, (half, rest + weights / 2)
assert quarter <= rest + weights / 4 + 12e6, (quarter, rest + weights / 4)
EOF
finish
