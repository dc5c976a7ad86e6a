#!/usr/bin/env bash
# Several processes with gs:// paths: the bytes of one process on a disk, written by rank 0 alone, through kills.
# Every rank has a cache and credentials of its own, as on hosts of their own.
. tests/dist/ranks.sh
command -v openssl >/dev/null || { echo "skip bucket_ranks (no openssl command)"; exit 0; }
root=$PWD
. tests/server/lib.sh
server_start --bucket model="$root/$model" --bucket desk="$root/$desk" --private model --private desk \
    --empty-bucket runs --private runs --page 7
unset GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG GCE_METADATA_HOST STORAGE_EMULATOR_HOST
export HOME="$dir" SPT_LEASE_SECONDS=2 NO_GCE_CHECK=true CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE="http://127.0.0.1:$port"
for who in rank0 others; do
    printf '{"type": "authorized_user", "client_id": "%s", "client_secret": "client-secret", "refresh_token": "refresh-secret",
        "token_uri": "http://127.0.0.1:%s/token"}\n' $who "$port" >"$dir/$who.json"
done
cat >"$dir/own" <<E
#!/bin/sh
rank=\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}} who=others
[ "\$rank" = 0 ] && who=rank0
export SPT_CACHE_DIR="$dir/cache\$rank" GOOGLE_APPLICATION_CREDENTIALS="$dir/\$who.json"
exec "$root/$spt" "\$@"
E
chmod +x "$dir/own"
opts="--length 4 --steps 8 --batch 12 --save-every 2 --eval-every 4 --keep 2 --seed 3 --threads 1 --quiet"
far() { # N RUN OPTION...
    local n=$1 run=$2
    shift 2
    ranks "$n" "$dir/own" train --model gs://model --train gs://desk/train.tsv --eval gs://desk/dev.tsv --out "gs://runs/$run" $opts "$@"
}
fine() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$dir/out" 2>"$dir/err"; then ok "$name"; else bad "$name" "$(tail -n 5 "$dir/err")"; fi
}
fetched() { # RUN: what lies there, in $dir/dump
    rm -rf "$dir/dump"
    control "dump?bucket=runs&dir=$dir/dump"
    [ -d "$dir/dump/$1" ]
}
left_over() { find "$dir/dump/$1" -name .unfinished -o -name '*.segment-*' -o -name 'tmp.*' -o -name .lock; }
"$plain" train --model $model --train $desk/train.tsv --eval $desk/dev.tsv --out "$dir/solo" $opts 2>"$dir/err" ||
    bad solo "$(cat "$dir/err")"

fine train far 2 two
requests >"$dir/log"
fetched two
same_run train "$dir/solo" "$dir/dump/two"
expect train_leaves_nothing test -z "$(left_over two)"
# The last word of a line of the log is the token.
writers() { awk '$1 != "GET" && $2 !~ /^.token/ { print $NF }' "$dir/log" | sort -u; }
expect one_rank_writes test "$(writers | wc -l)" -eq 1
expect all_ranks_read test "$(awk '$1 == "GET" && /model.safetensors.alt=media/ { print $NF }' "$dir/log" | sort -u | wc -l)" -eq 2
size=$(stat -c %s $model/model.safetensors)
expect the_model_is_read_once_by_each test "$(awk '/model.safetensors.alt=media/ { n += $4 } END { print n }' "$dir/log")" -eq $((2 * size))

# A rank dies while a save goes up: what was there counts, and another number of ranks goes on.
kill_rank() { # RUN RANK N
    control clear
    control faults '[{"method": "POST", "path": "compose", "skip": 3, "do": "delay", "seconds": 10}]'
    far 2 "$1" 2>"$dir/job.err" &
    local job=$!
    until_true 20 sh -c "python3 tests/server/ctl.py $port log '{path} {status}' | grep -q 'compose.* 0$'"
    kill -9 $(rank_pid "gs://runs/$1" "$2") 2>/dev/null
    wait $job
    expect "$1_ends_the_job" test $? -ne 0
    control clear
    fine "$1_goes_on" far "$3" "$1" --resume
    fetched "$1"
    same_run "$1" "$dir/solo" "$dir/dump/$1"
    expect "$1_leaves_nothing" test -z "$(left_over "$1")"
}
kill_rank killed_writer 0 3
kill_rank killed_reader 1 1

# One model in two parts, twice: the same bits, and both ranks read.
fine parts far 2 parts --num-partitions 2
fine parts_again far 2 parts2 --num-partitions 2
fetched parts
same_run parts "$dir/dump/parts" "$dir/dump/parts2"

# Answers.
given=(--model gs://model --prompt gs://runs/two --data gs://desk/dev.tsv --threads 1 --quiet)
"$plain" eval --model $model --prompt "$dir/solo" --data $desk/dev.tsv --threads 1 --quiet --json --output "$dir/answers" >"$dir/want" 2>"$dir/err"
fine eval ranks 3 "$dir/own" eval "${given[@]}" --json --output gs://runs/out/answers
fetched out
expect eval_answers cmp "$dir/answers" "$dir/dump/out/answers"
"$plain" infer --model $model --prompt "$dir/solo" --data $desk/dev.tsv --threads 1 --quiet --mode predict --max-output 3 --chunk 1 --out "$dir/infer" 2>"$dir/err"
fine infer ranks 2 "$dir/own" infer "${given[@]}" --mode predict --max-output 3 --chunk 1 --out gs://runs/infer
fetched infer
expect infer_answers diff -r "$dir/infer" "$dir/dump/infer"
finish
