#!/usr/bin/env bash
# Servers that lie and caches that somebody else has been at, seen from the commands (tests/unit/fs/test_hostile.c
# has the many cases): files planted in the hub's cache, links, a mirror without end, signals while fetching.
. tests/support/checks.sh
within="timeout -k 5 ${SPT_TEST_LIMIT:-60}"
. tests/server/lib.sh
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE XDG_CACHE_HOME HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH SPT_DATA_MIRROR \
    HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_HUB_DISABLE_SYMLINKS http_proxy https_proxy all_proxy SPT_OFFLINE
export HOME=$dir/user SPT_HTTP_RETRIES=2 SPT_HTTP_TIMEOUT=60 SPT_CACHE_DIR=$dir/cache HF_HOME=$dir/home
mini=$root/demo/t5-mini
mkdir -p "$dir/user" "$dir/repos/org/t5/main"
cp "$mini"/{config.json,spiece.model,model.safetensors} "$dir/repos/org/t5/main"
server_start --hub "$dir/repos" --bucket data="$root/demo/desk" --bucket model="$mini"
export HF_ENDPOINT=http://127.0.0.1:$port STORAGE_EMULATOR_HOST=127.0.0.1:$port

# --- the hub's cache -----------------------------------------------------------------------------------
repo=$HF_HOME/hub/models--org--t5
sha=$(sha256sum "$mini/model.safetensors" | cut -d' ' -f1)
git_id=$( (printf 'blob %d\0' "$(wc -c <"$mini/config.json")"; cat "$mini/config.json") | sha1sum | cut -d' ' -f1)
echo "do not touch" >"$dir/precious"
plant() { rm -rf "$HF_HOME/hub" && mkdir -p "$repo/blobs"; }
whole() {
    for f in config.json spiece.model model.safetensors; do cmp -s "$repo"/snapshots/*/$f "$mini/$f" || return 1; done
    [ "$(cat "$dir/precious")" = "do not touch" ]
}
plant
echo junk >"$repo/blobs/$sha"
check planted_blob_of_another_size 0 'warning: .*model.safetensors: the blob .* is not the file that the hub has' \
    "$spt" models get org/t5
expect planted_blob_is_replaced whole
plant
head -c "$(wc -c <"$mini/model.safetensors")" /dev/zero >"$repo/blobs/$sha"
head -c "$(wc -c <"$mini/config.json")" /dev/zero >"$repo/blobs/$git_id"
check planted_blob_of_the_same_size 0 'config.json: the blob' "$spt" models get org/t5
expect planted_content_is_replaced whole
plant
cp "$mini/model.safetensors" "$repo/blobs/$sha"
control clear
check blob_that_is_right_is_used 0 '' "$spt" models get org/t5
expect and_not_fetched test "$(requests | grep -c '^GET /cdn.*model.safetensors')" = 0
plant
ln -s "$dir/precious" "$repo/blobs/$sha"
check planted_link 0 'model.safetensors: the blob' "$spt" models get org/t5
expect link_is_replaced whole
plant
ln -s "$dir/precious" "$repo/blobs/$sha.incomplete"
check link_as_a_part 5 'incomplete is a link or no file; it is neither used nor overwritten' "$spt" models get org/t5
expect nothing_behind_the_link grep -q "do not touch" "$dir/precious"
plant
mkfifo "$repo/blobs/$sha"
check fifo_as_a_blob 0 'model.safetensors: the blob' "$spt" models get org/t5
expect fifo_is_replaced whole

# --- a mirror that does not end ------------------------------------------------------------------------
control faults '[{"path": "SST-2", "do": "raw", "count": -1, "piece": "10\r\naaaaaaaaaaaaaaaa\r\n", "times": -1,
    "text": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"}]'
SPT_DATA_MIRROR=$HF_ENDPOINT/files check endless_mirror 4 'more than the 7439277 bytes that were published' \
    bash -c 'ulimit -f 40000; exec "$@"' limited "$spt" data prepare glue/sst2 --out "$dir/prepared"
expect no_part_stays test -z "$(find "$dir/prepared" -name '*.part' 2>/dev/null)"

# --- signals while something is fetched ----------------------------------------------------------------
stop() { # NAME COMMAND...: SIGTERM while the content stalls
    local name=$1
    shift
    rm -rf "$SPT_CACHE_DIR"
    control clear
    control faults '[{"path": "alt=media", "do": "stall", "after": 2, "seconds": 60, "count": -1}]'
    "$@" >"$dir/out" 2>"$dir/err" &
    local pid=$! from
    for _ in $(seq 200); do requests | grep -q 'alt=media' && break; sleep 0.1; done
    sleep 0.3
    from=$(date +%s)
    kill -TERM $pid
    for _ in $(seq $((${SPT_TEST_LIMIT:-20} * 10))); do kill -0 $pid 2>/dev/null || break; sleep 0.1; done
    kill -KILL $pid 2>/dev/null
    wait $pid
    local rc=$?
    expect "$name" test $rc -eq 75 -a $(($(date +%s) - from)) -lt 20
}
stop term_while_a_model_comes "$spt" train --model gs://model --train "$root/demo/desk/train.tsv" --steps 1 --out "$dir/run"
expect nothing_was_made test ! -e "$dir/run"
stop term_while_data_come "$spt" data convert gs://data/train.tsv "$dir/o.jsonl"
stop term_while_tokenizing "$spt" infer --model "$mini" --labels a,b gs://data/messages.txt
control clear

# --- where the cache is --------------------------------------------------------------------------------
cd "$dir/user" || exit 1
SPT_CACHE_DIR=gs://a/b check cache_dir_in_a_bucket 2 'gs://a/b: the cache is a local directory' \
    "$spt" data convert gs://data/train.tsv "$dir/o.jsonl"
expect no_odd_directory test ! -e gs:
finish
