#!/usr/bin/env bash
# Bar K1, short form: runs killed with SIGKILL at random instants (up to five times each) and resumed
# end in the same bits as a run left alone. SPT_KILLS sets how many kills are made (default 20), SEED
# the sequence of instants.
set -u
spt=${SPT_BIN:?} kills=${SPT_KILLS:-20} RANDOM=${SEED:-11}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
head -n 96 demo/desk/train.tsv >"$dir/train.tsv"
head -n 24 demo/desk/dev.tsv >"$dir/dev.tsv"
train() { exec "$spt" train --model demo/t5-mini --train "$dir/train.tsv" --eval "$dir/dev.tsv" \
    --length 5 --steps 24 --batch 8 --eval-every 6 --save-every 2 --seed 7 --quiet --out "$@"; }

start=$(date +%s%N)
(train "$dir/whole") || { echo "not ok uninterrupted_run"; exit 1; }
length_us=$((($(date +%s%N) - start) / 1000))
made=0 runs=0 different=0
while [ "$made" -lt "$kills" ]; do
    out="$dir/run$runs"
    for attempt in 1 2 3 4 5 6; do
        if [ "$attempt" -le 5 ] && [ "$made" -lt "$kills" ]; then
            train "$out" --resume 2>/dev/null &
            pid=$!
            sleep "$(awk -v u=$length_us -v r=$((RANDOM * 32768 + RANDOM)) 'BEGIN { printf "%.4f", u * (r / 1073741824) / 1e6 }')"
            if kill -9 $pid 2>/dev/null; then made=$((made + 1)); fi
            wait $pid 2>/dev/null && break
        else
            (train "$out" --resume) || { echo "not ok resume_after_kill"; different=$((different + 1)); }
            break
        fi
    done
    python3 tests/crash/compare_runs.py "$dir/whole" "$out" >"$dir/verdict" 2>&1 || {
        different=$((different + 1))
        cat "$dir/verdict"
    }
    runs=$((runs + 1))
    rm -rf "$out"
done
echo "$made kills in $runs runs, $different different"
if [ "$different" -eq 0 ]; then echo "ok kill_and_resume_same_bits"; else echo "not ok kill_and_resume_same_bits"; exit 1; fi
