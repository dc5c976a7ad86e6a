#!/usr/bin/env bash
# What happens when one of several processes fails, hangs, dies, or is given other work: one message
# with rank and host, the documented exit code, nobody left behind, the run directory free and good.
. tests/dist/ranks.sh
fixture 29
run="$dir/run"
opts="--model $model --train $desk/train.tsv --eval $dir/29/eval37.tsv --threads 1 --seed 7 --length 4 --batch 13 --eval-every 50 --save-every 5"
host=$(hostname)
nobody_left() { ! pgrep -f -- "$dir" | grep -vx $$ | while read -r p; do [ "$(cat "/proc/$p/comm")" = spt ] && echo; done | grep -q .; }
# Past the save behind step 5.
begun() { [ "$(wc -l <"$1/train.jsonl" 2>/dev/null || echo 0)" -ge 7 ]; }
# during NAME SIGNAL RANK N EXIT PATTERN OPTION...: a run of N that gets a signal to one rank.
during() {
    local name=$1 signal=$2 rank=$3 n=$4 want=$5 pattern=$6 out="$dir/$1" pid rc
    shift 6
    ranks "$n" "$spt" train $opts --steps 100000 --out "$out" "$@" >"$dir/out" 2>"$dir/err" &
    local job=$!
    expect "${name}_begins" until_true 60 begun "$out"
    pid=$(rank_pid "$out" "$rank" | head -n 1)
    kill -"$signal" "$pid"
    wait $job
    rc=$?
    cat "$dir/out" >>"$dir/err" # where MPICH's launcher writes
    if [ $rc -eq "$want" ] && grep -qE -- "$pattern" "$dir/err"; then ok "$name"; else
        bad "$name" "exit $rc, wanted $want; stderr, wanted /$pattern/:" "$(tail -n 20 "$dir/err")"
    fi
    expect "${name}_one_message" test "$(grep -cE '^spt: train: |mpirun[.a-z]* noticed|BAD TERMINATION' "$dir/err")" -eq 1
    expect "${name}_nobody_left" until_true 5 nobody_left
}
# The run goes on, and ends as if nothing had been.
continues() { # NAME N
    local name=$1 n=$2 step
    step=$("$python" -c 'import json,sys; print(sum(1 for l in open(sys.argv[1])))' "$dir/$name/train.jsonl")
    check "${name}_goes_on" 0 'resuming at step [1-9]' ranks "$n" "$spt" train $opts --steps $((step + 8)) --out "$dir/$name" --resume
    "$plain" train $opts --steps $((step + 8)) --out "$dir/${name}_whole" 2>"$dir/err" || bad "${name}_whole" "$(cat "$dir/err")"
    same_run "${name}_same" "$dir/${name}_whole" "$dir/$name"
}

during hangs STOP 1 3 6 "rank 1 of 3 \($host\) has not answered for 2 s \(--comm-timeout\).*found by rank 0" --comm-timeout 2
during first_hangs STOP 0 2 6 "rank 0 of 2 \($host\) has not answered for 2 s.*found by rank 1" --comm-timeout 2
# The same of the commands that answer: a rank is stopped once both have read the examples.
for i in $(seq 3); do cut -f 1,2 $desk/train.tsv; done >"$dir/many.tsv"
silent() { # COMMAND OPTION...
    local name=$1
    ranks 2 "$spt" "$@" --model $model --data "$dir/many.tsv" --output "$dir/$name.out" --threads 1 >"$dir/out" 2>"$dir/err" &
    expect "${name}_begins" until_true 60 answering
    kill -STOP "$(rank_pid "$dir/$name.out" 1 | head -n 1)"
    wait $!
    equal "${name}_silent_rank" $? 6
    expect "${name}_silent_rank_is_named" grep -qE "spt: $name: .*rank 1 of 2 .* has not answered for 2 s \(--comm-timeout\)" "$dir/err"
    expect "${name}_nobody_left" until_true 5 nobody_left
}
answering() { grep -q ' examples  [0-9]* a second' "$dir/err"; }
silent eval --comm-timeout 2 --progress always
silent infer --comm-timeout 2 --progress always --max-output 2
silent score --comm-timeout 2 --progress always
during terminated TERM 1 2 75 'interrupted after saving step'
continues terminated 3
during part_terminated TERM 1 2 75 'interrupted after saving step' --num-partitions 2
if [ "${SPT_MPI:-openmpi}" = mpich ]; then
    during killed KILL 1 3 9 'BAD TERMINATION'
else
    during killed KILL 1 3 137 "mpirun[.a-z]* noticed that process rank 1 .* on node $host exited on signal 9"
fi
continues killed 2

# --- a rank's own error: a wrapper makes one rank's disk small, file unreadable, settings others
wrap() { # RANK COMMAND...: for that rank only; the rest is run as it is
    cat >"$dir/wrap.sh" <<EOF
#!/bin/sh
if [ "\$$rank_name" = "$1" ]; then
    $2
fi
exec "$PWD/$spt" "\$@"
EOF
    chmod +x "$dir/wrap.sh"
}
same_data="$dir/data.tsv"
head -n 30 $desk/train.tsv >"$same_data"
head -n 29 $desk/train.tsv >"$dir/other.tsv"
small="--model $model --threads 1 --seed 7 --length 4 --batch 4 --steps 4"
both() { ranks 2 "$dir/wrap.sh" "$@"; }
wrap 1 'set -- "$@" --model nosuch'
refused other_model_missing 5 "rank 1 of 2 \($host\): .*nosuch" both train $small --train "$same_data" --out "$dir/e1"
wrap 0 'set -- "$@" --model nosuch'
refused first_model_missing 5 "rank 0 of 2 \($host\): .*nosuch" both train $small --train "$same_data" --out "$dir/e1"
wrap 1 "set -- \"\$@\" --train $dir/other.tsv"
check other_data 3 'ranks do not do the same work: rank 0 has ".*data' both train $small --train "$same_data" --out "$dir/e2"
wrap 1 'set -- "$@" --lr 7'
refused other_settings 3 'ranks do not do the same work: rank 0 has' both train $small --train "$same_data" --out "$dir/e3"
wrap 1 'set -- "$@" --dry-run'
refused other_dry_run 3 'rank 0 has "--dry-run no", rank 1 has "--dry-run yes"' both train $small --train "$same_data" --out "$dir/e3"
wrap 1 'set -- "$@" --num-partitions 2'
refused other_partitions 3 'rank 0 has "--num-partitions 1"' both train $small --train "$same_data" --out "$dir/e3"
cp -r $model "$dir/other"
"$python" - "$dir/other/model.safetensors" <<'EOF'
import sys
with open(sys.argv[1], "r+b") as f:  # the last value of the last tensor
    f.seek(-4, 2)
    f.write(b"\0\0\x80\x3f")
EOF
wrap 1 "set -- \"\$@\" --model $dir/other"
refused other_weights 3 'ranks do not do the same work: rank 0 has "base' both train $small --train "$same_data" --out "$dir/e4"
for e in e2 e3 e4; do expect "${e}_no_step" test ! -s "$dir/$e/train.jsonl"; done
wrap 1 'ulimit -v 120000'
check other_out_of_memory 6 "" both train $small --train "$same_data" --out "$dir/e5"
expect errors_leave_nobody until_true 5 nobody_left
ranks 2 "$spt" train $small --train "$same_data" --out "$dir/e3" >"$dir/out" 2>"$dir/err"
expect directory_is_free test $? -eq 0
finish
