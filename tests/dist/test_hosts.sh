#!/usr/bin/env bash
# Training across hosts that are really separate for the network: three network namespaces with host
# names of their own, joined by a bridge; mpirun starts its daemons there through an agent in place of ssh. A
# rank is killed, the run goes on with fewer hosts, a cable is pulled. Where namespaces are not allowed,
# the same with processes on loopback, and it says so.
. tests/dist/ranks.sh
fixture 29
if [ "${SPT_MPI:-openmpi}" != openmpi ]; then
    echo "skip hosts: the agent is Open MPI's"
    exit 0
fi
id=$((RANDOM % 900 + 100)) hosts=3
net=10.77.$((RANDOM % 250 + 1))
made=
remove_hosts() {
    for h in $made; do
        ip netns pids "$h" 2>/dev/null | xargs -r kill -9 2>/dev/null
        ip netns del "$h" 2>/dev/null
    done
    ip link del "sptb$id" 2>/dev/null
    rm -rf "$dir"
}
trap remove_hosts EXIT
make_hosts() {
    command -v ip >/dev/null && command -v unshare >/dev/null || return 1
    ip link add "sptb$id" type bridge && ip link set "sptb$id" up || return 1
    for h in $(seq 0 $((hosts - 1))); do
        local ns=spt$id-h$h
        ip netns add $ns || return 1
        made="$made $ns"
        ip link add "sptv$id$h" type veth peer name eth0 netns $ns &&
            ip link set "sptv$id$h" master "sptb$id" up &&
            ip -n $ns addr add "$net.$((h + 1))/24" dev eth0 &&
            ip -n $ns link set eth0 up && ip -n $ns link set lo up || return 1
    done
}
if make_hosts 2>"$dir/err"; then
    echo "ok $hosts network namespaces are hosts of their own"
    separate=1
else
    echo "# network namespaces are not allowed here ($(head -n 1 "$dir/err")): processes on loopback instead"
    separate=
fi

# on_host H COMMAND...: as if logged in there.
cat >"$dir/on_host" <<EOF
#!/bin/sh
ns=spt$id-h\$1
shift
exec ip netns exec \$ns unshare --uts sh -c 'hostname "\$0"; exec "\$@"' \$ns "\$@"
EOF
# What mpirun calls in place of ssh: HOST COMMAND, the command as one text for a shell.
cat >"$dir/agent" <<EOF
#!/bin/sh
h=\$((\${1##*.} - 1))
shift
exec $dir/on_host \$h sh -c "cd $PWD; \$*"
EOF
chmod +x "$dir/on_host" "$dir/agent"
for h in $(seq 0 $((hosts - 1))); do echo "$net.$((h + 1)) slots=2"; done >"$dir/hostfile"
# across N HOSTS COMMAND...: N processes, one after the other on each of the hosts.
across() {
    local n=$1 most=$2
    shift 2
    if [ -z "$separate" ]; then
        ranks "$n" "$@"
        return
    fi
    head -n "$most" "$dir/hostfile" >"$dir/hosts"
    timeout 180 "$dir/on_host" 0 env OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include="$net.0/24" \
        OMPI_MCA_oob_tcp_if_include="$net.0/24" OMPI_MCA_plm_rsh_agent="$dir/agent" \
        OMPI_MCA_plm_rsh_no_tree_spawn=1 $mpirun -n "$n" --hostfile "$dir/hosts" --map-by node "$@" </dev/null
}
opts="--model $model --train $desk/train.tsv --eval $dir/29/eval37.tsv --threads 1 --seed 7 --length 4 --batch 13 --eval-every 10 --save-every 5"
whole() { "$plain" train $opts --steps "$1" --out "$2" 2>"$dir/err" || bad whole "$(cat "$dir/err")"; }
begun() { [ "$(wc -l <"$1/train.jsonl" 2>/dev/null || echo 0)" -ge 6 ]; }
pid_on() { # HOST TEXT RANK
    if [ -n "$separate" ]; then
        for p in $(ip netns pids "spt$id-h$1"); do
            [ "$(cat "/proc/$p/comm")" = spt ] && tr '\0' '\n' <"/proc/$p/environ" | grep -qx "$rank_name=$3" && echo "$p"
        done
    else
        rank_pid "$2" "$3"
    fi
}

whole 20 "$dir/solo"
check three_hosts 0 'best prompt' across 3 3 "$spt" train $opts --steps 20 --out "$dir/three"
same_run three_hosts "$dir/solo" "$dir/three"
check parts_on_two_hosts 0 'best prompt' across 4 2 "$spt" train $opts --steps 20 --num-partitions 2 --out "$dir/parts"

across 3 3 "$spt" train $opts --steps 100000 --out "$dir/killed" >"$dir/out" 2>"$dir/err" &
job=$!
expect killed_begins until_true 90 begun "$dir/killed"
kill -9 "$(pid_on 2 "$dir/killed" 2 | head -n 1)"
wait $job
rc=$?
expect killed_code test $rc -eq 137
expect killed_message grep -qE "mpirun[.a-z]* noticed that process rank 2 .* on node .* exited on signal 9" "$dir/err"
left_over() { ! pgrep -f -- "--out $dir/killed" >/dev/null; }
expect killed_nobody_left until_true 10 left_over
step=$(wc -l <"$dir/killed/train.jsonl")
check killed_goes_on_with_two 0 'resuming at step' across 2 2 "$spt" train $opts --steps $((step + 9)) --out "$dir/killed" --resume
whole $((step + 9)) "$dir/killed_whole"
same_run killed_goes_on "$dir/killed_whole" "$dir/killed"

if [ -n "$separate" ]; then # the cable of the third host is pulled
    across 3 3 "$spt" train $opts --steps 100000 --comm-timeout 3 --out "$dir/cut" >"$dir/out" 2>"$dir/err" &
    job=$!
    expect cut_begins until_true 90 begun "$dir/cut"
    ip link set "sptv${id}2" down
    told() { grep -q "rank 2 of 3 (spt$id-h2) has not answered for 3 s" "$dir/err"; }
    if until_true 60 told; then ok cut_names_the_host; else bad cut_names_the_host "$(tail -n 20 "$dir/err")"; fi
    # mpirun may wait for its daemon behind the cable: that one is ended as an operator would.
    ip netns pids "spt$id-h2" | xargs -r kill -9
    ip link set "sptv${id}2" up
    kill -TERM $job 2>/dev/null
    wait $job
    step=$(wc -l <"$dir/cut/train.jsonl")
    check cut_goes_on 0 'resuming at step' across 2 2 "$spt" train $opts --steps $((step + 9)) --out "$dir/cut" --resume
fi
finish
