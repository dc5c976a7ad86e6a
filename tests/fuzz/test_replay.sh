#!/usr/bin/env bash
# Every fuzz target over its seeds (tests/fuzz/corpus/<name>/), without libFuzzer.
for src in tests/fuzz/fuzz_*.c; do
    name=$(basename "$src" .c); name=${name#fuzz_}
    seeds=tests/fuzz/corpus/$name
    if [ ! -d "$seeds" ]; then
        echo "not ok fuzz_replay_$name: no seeds in $seeds"
    elif out=$(timeout 120 "$SPT_BUILD/tests/fuzz/fuzz_$name" "$seeds" 2>&1); then
        echo "ok fuzz_replay_$name: $out"
    else
        echo "not ok fuzz_replay_$name: $out"
    fi
done
