#!/usr/bin/env bash
# SIGTERM inside one long decoding range: the command ends at the next step with exit code 75.
set -u
spt=${SPT_BIN:?}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0
say() { if [ "$2" -eq 0 ]; then echo "ok $1"; else echo "not ok $1"; cat "$dir/err"; bad=1; fi; }
export SPT_CACHE_DIR=$dir/cache
head -n 40 demo/desk/dev.tsv >"$dir/data.tsv"
"$spt" train --model demo/t5-mini --train "$dir/data.tsv" --length 4 --batch 4 --steps 1 --seed 1 --quiet --out "$dir/run" || exit 1

# One range of 39 examples x 20,000 tokens: minutes.
for how in "--decode greedy" "--decode beam-hf --beams 4" "--decode sample --seed 1"; do
    "$spt" infer --model demo/t5-mini --prompt "$dir/run" --data "$dir/data.tsv" --generate --max-output 20000 \
        --min-length 20000 --quiet $how >"$dir/out" 2>"$dir/err" &
    pid=$!
    sleep 1.5
    kill -0 $pid 2>/dev/null; was_running=$?
    kill -TERM $pid
    for _ in $(seq 200); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
    kill -0 $pid 2>/dev/null && kill -KILL $pid
    wait $pid
    rc=$?
    [ $was_running -eq 0 ] && [ $rc -eq 75 ]
    say "stops_within_a_range${how//[^a-z]/_}" $?
done
exit $bad
