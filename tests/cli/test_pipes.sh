#!/usr/bin/env bash
# Pipes, FIFOs and devices given as files: read to their end where a stream will do, refused by name
# where it will not, and a signal ends a read that waits.
. tests/support/checks.sh
within='timeout -k 5 60'
model=demo/t5-mini desk=demo/desk fifo=$dir/fifo
mkfifo "$fifo"
dry() { timeout -k 5 60 "$spt" train --model $model --train "${data:-$desk/train.tsv}" --out "$dir/r" --dry-run --seed 1 "$@"; }

# A gin file from a pipe, a device or /proc is what it holds, not an empty file.
export -f dry
export spt model desk dir
check gin_pipe 0 'lr 0\.7, seed 1' bash -c "dry --gin_file <(echo 'spt.lr = 0.7')"
check gin_stdin 0 'lr 0\.7, seed 1' bash -c "echo 'spt.lr = 0.7' | dry --gin_file /dev/stdin"
check gin_stdin_wrong 3 'stdin' bash -c "echo 'spt.bogus(((' | dry --gin_file /dev/stdin"
check gin_endless 3 '/dev/zero has more than the limit' bash -c "dry --gin_file /dev/zero"
check gin_proc 3 '/proc/self/maps' bash -c "dry --gin_file /proc/self/maps"
# Tables are streams.
check table_pipe 0 '480 examples' bash -c "data=<(cat $desk/train.tsv) dry" 2>/dev/null
(sleep 0.5; cat $desk/train.tsv >"$fifo") &
check table_fifo_waits_for_its_writer 0 '480 rows|480 ' "$spt" data convert "$fifo" "$dir/x.jsonl" --header no
wait
expect table_fifo_is_whole test "$(wc -l <"$dir/x.jsonl")" -eq 480
# What is read at any place must be a file; opening a FIFO does not wait for that answer.
check inspect_fifo 5 'fifo is not a regular file' "$spt" inspect "$fifo"
check model_fifo 5 'fifo is not a regular file' "$spt" eval --model "$fifo" --data $desk/dev.tsv
check prompt_fifo 5 'fifo is not a regular file' "$spt" infer --model $model --prompt "$fifo" x
# The first signal ends a wait.
stopped() { # NAME EXIT_CODE COMMAND...: with a standard input that never comes
    local name=$1 want=$2 rc
    shift 2
    timeout --preserve-status -k 5 2 "$@" >/dev/null 2>"$dir/err" <&9
    rc=$?
    if [ $rc -eq "$want" ] && grep -q interrupted "$dir/err"; then ok "$name"; else
        bad "$name" "exit $rc, wanted $want" "$(cat "$dir/err")"
    fi
}
mkfifo "$dir/open"
exec 9<>"$dir/open" # has a writer, that says nothing
stopped gin_waits 75 "$spt" train --model $model --train $desk/train.tsv --out "$dir/r" --dry-run --gin_file "$fifo"
stopped table_waits 75 "$spt" data convert "$fifo" "$dir/y.jsonl"
stopped stdin_waits 75 "$spt" data convert - "$dir/y.jsonl" --from tsv
expect nothing_written test ! -e "$dir/y.jsonl"
finish
