#!/usr/bin/env bash
# Two trainers on one run directory, and a base that changed since the prompt was trained.
set -u
spt=${SPT_BIN:?}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0
say() { if [ "$2" -eq 0 ]; then echo "ok $1"; else echo "not ok $1"; bad=1; fi; }
export SPT_CACHE_DIR=$dir/cache
head -n 24 demo/desk/train.tsv >"$dir/train.tsv"
train() { exec "$spt" train --model "$1" --train "$dir/train.tsv" --length 4 --batch 4 --seed 1 --threads 1 --quiet --resume --out "$dir/run" "${@:2}"; }

train demo/t5-mini --steps 100000 --save-every 50 2>/dev/null &
first=$!
for _ in $(seq 200); do [ -d "$dir/run/state-0" ] && break; sleep 0.05; done
(train demo/t5-mini --steps 3) 2>"$dir/err"
rc=$?
[ $rc -eq 3 ] && grep -q "another trainer (process $first" "$dir/err"
say second_trainer_is_refused $?
kill -0 $first
say first_trainer_goes_on $?
"$spt" inspect "$dir/run/prompt-0.safetensors" >/dev/null
say reading_needs_no_lock $?
kill -9 $first
wait $first 2>/dev/null
(train demo/t5-mini --steps 3 2>"$dir/err")
say killed_trainer_leaves_no_lock $?

cp -r demo/t5-mini "$dir/base"
"$spt" eval --model "$dir/base" --prompt "$dir/run" --data "$dir/train.tsv" --strict >/dev/null 2>"$dir/err"
say copied_base_is_the_same $?
printf '\001' | dd of="$dir/base/model.safetensors" bs=1 seek=15000000 conv=notrunc 2>/dev/null
"$spt" eval --model "$dir/base" --prompt "$dir/run" --data "$dir/train.tsv" >/dev/null 2>"$dir/err"
[ $? -eq 0 ] && grep -qi 'warning.*base' "$dir/err"
say changed_base_is_a_warning $?
"$spt" eval --model "$dir/base" --prompt "$dir/run" --data "$dir/train.tsv" --strict >/dev/null 2>"$dir/err"
rc=$?
[ $rc -ne 0 ] && grep -qi 'base' "$dir/err"
say changed_base_is_an_error_when_strict $?
(train "$dir/base" --steps 5 2>"$dir/err")
[ $? -eq 3 ] && grep -q 'base model' "$dir/err"
say changed_base_is_not_resumed $?
exit $bad
