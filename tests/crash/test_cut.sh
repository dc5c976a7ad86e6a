#!/usr/bin/env bash
# A model that another program cuts short while it is in use: a message that names the file and exit
# code 4, no death by a signal; a run that was going on continues from its last state.
set -u
spt=${SPT_BIN:?}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0
say() { if [ "$2" -eq 0 ]; then echo "ok $1"; else echo "not ok $1"; cat "$dir/err"; bad=1; fi; }
export SPT_CACHE_DIR=$dir/cache
mkdir "$dir/model"
head -n 24 demo/desk/train.tsv >"$dir/train.tsv"
run() { "$spt" train --model "$dir/model" --train "$dir/train.tsv" --length 4 --batch 4 --seed 1 --threads 2 --quiet \
    --resume --save-every 2 --out "$dir/run" "$@"; }

# Cut in the moment of mapping: whoever touches the missing pages first.
case ${SPT_BUILD:-} in *san-*) ;; *)
    cp demo/t5-mini/* "$dir/model"
    SPT_CUT_FROM=100000 LD_PRELOAD=$SPT_BUILD/tests/crash/cut.so run --steps 2 2>"$dir/err"
    rc=$?
    [ $rc -eq 4 ] && grep -q "^spt: $dir/model/[a-z.]* was cut short" "$dir/err"
    say cut_when_mapped_names_the_file $?
    cp demo/t5-mini/* "$dir/model"
    SPT_NO_MMAP=1 SPT_CUT_FROM=100000 LD_PRELOAD=$SPT_BUILD/tests/crash/cut.so run --steps 2 2>"$dir/err"
    say nothing_is_mapped_with_SPT_NO_MMAP $?
    rm -rf "$dir/run" ;;
esac

# Cut at some other moment: done, or the message; never a signal. What was saved continues.
for s in 0 0.05 0.1 0.2 0.4; do
    cp demo/t5-mini/* "$dir/model"
    rm -rf "$dir/cache"
    run --steps 12 2>"$dir/err" &
    sleep $s
    truncate -s 5000 "$dir/model/model.safetensors"
    wait $!
    rc=$?
    case $rc in 0 | 4 | 5) ;; *) break ;; esac
    [ $rc -eq 0 ] || grep -q '^spt: ' "$dir/err" || { rc=1; break; }
    rc=0
done
say cut_at_some_moment $rc
cp demo/t5-mini/* "$dir/model"
run --steps 12 2>"$dir/err"
say the_run_continues $?
exit $bad
