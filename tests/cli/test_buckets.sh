#!/usr/bin/env bash
# Whole commands with gs:// paths on the server of tests/server: the same files and bytes as on disk,
# with broken connections, through kill -9, with credentials; and what is said about bad input.
. tests/support/checks.sh
. tests/server/lib.sh
openssl genrsa -out "$dir/key.pem" 2048 2>/dev/null
server_start --bucket model="$root/demo/t5-mini" --bucket desk="$root/demo/desk" \
    --empty-bucket runs --private runs --empty-bucket shut --private shut=nobody-has-this \
    --key "$dir/key.pem" --page 5
unset GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG GCE_METADATA_HOST STORAGE_EMULATOR_HOST
export HOME="$dir" SPT_CACHE_DIR="$dir/cache" SPT_LEASE_SECONDS=2 SPT_HTTP_TIMEOUT=20
export CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE="http://127.0.0.1:$port" NO_GCE_CHECK=true
python3 - "$dir" "$port" <<'P'
import json, sys
d, port = sys.argv[1:]
key = open(f"{d}/key.pem").read()
def write(name, value):
    json.dump(value, open(f"{d}/{name}", "w"))
write("service.json", {"type": "service_account", "client_email": "robot@project.example.com",
                       "private_key": key, "private_key_id": "1",
                       "token_uri": f"http://127.0.0.1:{port}/token"})
write("user.json", {"type": "authorized_user", "client_id": "c", "client_secret": "client-secret",
                    "refresh_token": "refresh-secret", "token_uri": f"http://127.0.0.1:{port}/token"})
write("stale.json", {"type": "authorized_user", "client_id": "c", "client_secret": "client-secret",
                     "refresh_token": "revoked-token", "token_uri": f"http://127.0.0.1:{port}/token"})
write("other.json", {"type": "external_account"})
P
common=(--length 4 --steps 6 --batch 8 --save-every 2 --eval-every 3 --keep 2 --seed 3 --quiet)
train() { # OUT DATA MODEL OPTION...
    local out=$1 data=$2 model=$3
    shift 3
    "$spt" train --model "$model" --train "$data/train.tsv" --eval "$data/dev.tsv" \
        --out "$out" "${common[@]}" "$@"
}
fetch() { # BUCKET-FOLDER DIR: what lies there as files
    rm -rf "$dir/dump" "$2"
    control "dump?bucket=runs&dir=$dir/dump"
    mv "$dir/dump/$1" "$2"
}
prompt_of() { find "$1/numpy_checkpoints" -type f; }

# --- training --------------------------------------------------------------------------------------
train "$dir/local" demo/desk demo/t5-mini 2>"$dir/local.err"
export GOOGLE_APPLICATION_CREDENTIALS="$dir/service.json"
train gs://runs/a/run gs://desk gs://model 2>"$dir/train.err"
expect trains_in_a_bucket test $? -eq 0
requests >"$dir/log"
fetch a/run "$dir/bucket"
names() { (cd "$1" && find . -type f | grep -v '/\.lock$' | sed 's/tfevents.*/tfevents/' | LC_ALL=C sort); }
expect same_names diff <(names "$dir/local") <(names "$dir/bucket")
expect same_prompt cmp "$(prompt_of "$dir/local")" "$(prompt_of "$dir/bucket")"
expect same_losses cmp "$dir/local/train.jsonl" "$dir/bucket/train.jsonl"
expect same_scores cmp "$dir/local/eval.jsonl" "$dir/bucket/eval.jsonl"
expect nothing_is_left_over test -z "$(find "$dir/bucket" -name '.unfinished' -o -name '*.segment-*' -o \
    -name 'tmp.*' -o -name 'trash.*' -o -name .lock)"
expect one_token_only test "$(grep -c ' /token ' "$dir/log")" -eq 1
expect model_is_fetched_once test "$(awk '/model.safetensors.alt=media/ { n += $4 } END { print n }' "$dir/log")" \
    -eq "$(stat -c %s demo/t5-mini/model.safetensors)"
expect secrets_stay_out test -z "$(grep -rlE 'test-token|PRIVATE KEY' "$dir/bucket" "$dir"/*.err)"
control clear

# --- reading it back -----------------------------------------------------------------------------------
"$spt" eval --model demo/t5-mini --prompt "$dir/local" --data demo/desk/dev.tsv --json --quiet >"$dir/a" 2>"$dir/eval.err"
"$spt" eval --model gs://model --prompt gs://runs/a/run --data gs://desk/dev.tsv --json --quiet >"$dir/b" 2>>"$dir/eval.err"
expect evaluates cmp <(sed 's|gs://runs/a/run|RUN|g; s|gs://||g' "$dir/b" | grep -o '"accuracy": [0-9.]*') \
    <(grep -o '"accuracy": [0-9.]*' "$dir/a")
"$spt" infer --model gs://model --prompt gs://runs/a/run --data gs://desk/messages.txt --quiet >"$dir/b" 2>"$dir/infer.err"
expect infers test -s "$dir/b"
"$spt" infer --model demo/t5-mini --prompt "$dir/local" --data demo/desk/messages.txt --quiet >"$dir/a" 2>"$dir/infer.err"
expect infers_the_same cmp "$dir/a" "$dir/b"
control clear
"$spt" inspect gs://model/model.safetensors --cache-dir "$dir/inspect" >"$dir/names" 2>"$dir/inspect.err"
requests >"$dir/log"
expect cache_dir_is_obeyed test -d "$dir/inspect/objects"
"$spt" convert gs://runs/a/run --out "gs://runs/b/p.npy" --quiet 2>"$dir/convert.err"
expect converts test $? -eq 0
control clear
train gs://runs/a/run gs://desk gs://model --resume 2>"$dir/again.err"
expect finished_run_stays_finished test $? -eq 0

# --- resuming, kills, faults ---------------------------------------------------------------------------
train gs://runs/r gs://desk gs://model --steps 3 2>"$dir/r.err"
train gs://runs/r gs://desk gs://model --resume 2>"$dir/r.err"
expect resumes test $? -eq 0
fetch r "$dir/r"
expect resumed_to_the_same_bits cmp "$(prompt_of "$dir/local")" "$(prompt_of "$dir/r")"

# Killed in the middle of an upload: the request is held back, the process dies, what was there counts.
kill_in() { # NAME RULE
    control clear
    control faults "$2"
    "$spt" train --model gs://model --train gs://desk/train.tsv --eval gs://desk/dev.tsv \
        --out "gs://runs/k/$1" "${common[@]}" 2>"$dir/$1.err" &
    local job=$!
    for _ in $(seq 600); do
        requests | grep -q ' 0 0 - Bearer' && requests | tail -n 1 | grep -qE "$3" && break
        kill -0 $job 2>/dev/null || break
        sleep 0.1
    done
    kill -9 $job 2>/dev/null
    wait $job 2>/dev/null
    control clear
    train "gs://runs/k/$1" gs://desk gs://model --resume 2>"$dir/$1.err"
    expect "$1_resumes" test $? -eq 0
    fetch "k/$1" "$dir/$1"
    expect "$1_same_bits" cmp "$(prompt_of "$dir/local")" "$(prompt_of "$dir/$1")"
    expect "$1_same_losses" cmp "$dir/local/train.jsonl" "$dir/$1/train.jsonl"
    expect "$1_leaves_nothing" test -z "$(find "$dir/$1" -name '.unfinished' -o -name '*.segment-*')"
}
kill_in killed_in_a_state '[{"method": "POST", "path": "/upload/", "skip": 24, "do": "delay", "seconds": 15}]' '/upload/'
kill_in killed_in_compose '[{"method": "POST", "path": "compose", "skip": 3, "do": "delay", "seconds": 15}]' 'compose'

control faults '[{"do": "status", "status": 503, "skip": 20, "count": 3}, {"do": "drop", "skip": 40, "count": 2},
    {"method": "POST", "do": "lost", "skip": 20, "count": 1}, {"method": "POST", "path": "compose", "do": "lost"},
    {"path": "model.safetensors.alt", "do": "truncate", "after": 100000, "count": 2}]'
train gs://runs/f gs://desk gs://model --cache-dir "$dir/cache2" 2>"$dir/f.err"
expect trains_through_faults test $? -eq 0
fetch f "$dir/f"
expect faults_same_bits cmp "$(prompt_of "$dir/local")" "$(prompt_of "$dir/f")"
expect faults_same_losses cmp "$dir/local/train.jsonl" "$dir/f/train.jsonl"
control clear

# A data set is prepared in a bucket as on disk, also behind a command that was killed on the way.
python3 tests/support/mini_archives.py "$dir/mini" 40
z=$dir/mini/dl.fbaipublicfiles.com/glue/data/SST-2.zip
prepare() { "$spt" data prepare glue/sst2 --from "$z" --no-verify --out "$1"; }
prepare "$dir/tfds" 2>"$dir/prepare.err"
control faults '[{"method": "GET", "path": "validation.tfrecord", "do": "delay", "seconds": 15}]'
"$spt" data prepare glue/sst2 --from "$z" --no-verify --out gs://runs/tfds 2>"$dir/prepare.err" &
job=$!
for _ in $(seq 300); do [ "$(requests | grep -c 'validation.tfrecord')" -ge 1 ] && break; sleep 0.1; done
kill -9 $job
wait $job 2>/dev/null
control clear
"$spt" data info glue/sst2 --out gs://runs/tfds >"$dir/info" 2>"$dir/prepare.err"
expect half_a_data_set_is_none grep -q '^not prepared' "$dir/info"
prepare gs://runs/tfds 2>"$dir/prepare.err"
expect prepares_in_a_bucket test $? -eq 0 -a -n "$(grep 'removing a save that was not finished' "$dir/prepare.err")"
fetch tfds "$dir/fetched"
expect prepared_as_on_disk diff -r "$dir/tfds" "$dir/fetched"
prepare gs://runs/tfds 2>"$dir/prepare.err"
expect prepared_stays grep -q 'is there already' "$dir/prepare.err"

# Two trainers: the second is refused while the first renews its lease.
control faults '[{"method": "POST", "path": "compose", "skip": 3, "do": "delay", "seconds": 8}]'
train gs://runs/two gs://desk gs://model 2>"$dir/first.err" &
first=$!
for _ in $(seq 300); do requests | grep -q 'compose' && break; sleep 0.1; done
train gs://runs/two gs://desk gs://model --resume 2>"$dir/second.err"
expect second_trainer_is_refused test $? -eq 3 -a -n "$(grep 'another trainer (process [0-9]* on .*) is at work in gs://runs/two' "$dir/second.err")"
wait $first
expect first_trainer_goes_on test $? -eq 0
control clear
# The same with an emulator that ignores preconditions, and without --resume.
control 'preconditions?ignore=1'
control faults '[{"method": "POST", "path": "compose", "skip": 3, "do": "delay", "seconds": 8}]'
train gs://runs/weak gs://desk gs://model 2>"$dir/first.err" &
first=$!
for _ in $(seq 300); do requests | grep -q 'weak.*compose' && break; sleep 0.1; done
train gs://runs/weak gs://desk gs://model 2>"$dir/second.err"
expect second_trainer_is_refused_by_looking test $? -eq 3 -a -n "$(grep 'another trainer (process [0-9]* on .*) is at work in gs://runs/weak' "$dir/second.err")"
wait $first
expect first_trainer_goes_on_by_looking test $? -eq 0
expect ignored_preconditions_are_told grep -q 'this server ignores ifGenerationMatch' "$dir/first.err"
control 'preconditions?ignore=0'
control clear

# --- credentials -----------------------------------------------------------------------------------------
look() { "$spt" inspect "$1" >"$dir/out" 2>"$dir/look.err"; }
refused() { # NAME EXIT TEXT...
    local name=$1 code=$2 status=$3 text
    shift 3
    for text in "$@"; do
        grep -qF -- "$text" "$dir/look.err" || { expect "$name" false; return; }
    done
    expect "$name" test "$status" -eq "$code" -a "$(grep -c '^spt: ' "$dir/look.err")" -eq 1
}
p=gs://runs/b/p.npy
GOOGLE_APPLICATION_CREDENTIALS=$dir/user.json look $p
expect user_credentials test $? -eq 0
(unset GOOGLE_APPLICATION_CREDENTIALS; mkdir -p "$dir/gcloud"; cp "$dir/user.json" "$dir/gcloud/application_default_credentials.json"
 CLOUDSDK_CONFIG=$dir/gcloud look $p)
expect default_credentials test $? -eq 0
(unset GOOGLE_APPLICATION_CREDENTIALS; GCE_METADATA_HOST=127.0.0.1:$port look $p)
expect metadata_server test $? -eq 0
control 'expire?seconds=1'
look $p
expect tokens_that_ran_out_are_renewed test $? -eq 0
control expire
(unset GOOGLE_APPLICATION_CREDENTIALS; look $p)
refused anonymous 3 $? 'storage.objects.get is needed' 'no credentials were found' GOOGLE_APPLICATION_CREDENTIALS
look gs://shut/x
refused forbidden 3 $? 'the service account robot@project.example.com may not do this' \
    'the permission storage.objects.get on the bucket shut' '403 (Forbidden)'
GOOGLE_APPLICATION_CREDENTIALS=$dir/stale.json look $p
refused revoked 3 $? 'gets no token' 'invalid_grant'
expect revoked_without_secrets test -z "$(grep -E 'revoked-token|client-secret' "$dir/look.err")"
GOOGLE_APPLICATION_CREDENTIALS=$dir/other.json look $p
refused other_credentials 3 $? 'external_account' 'service_account and authorized_user are'
GOOGLE_APPLICATION_CREDENTIALS=$dir/none.json look $p
refused no_such_credentials 5 $? none.json
look gs://nowhere/x.npy
refused no_such_bucket 5 $? 'there is no bucket gs://nowhere'
look gs://model/x.npy
refused no_such_object 5 $? 'cannot find gs://model/x.npy'
for s in s3 hdfs; do
    look $s://bucket/x
    refused scheme_$s 2 $? "scheme \"$s\" is not supported (local paths, gs://bucket/path, and https:// for reading are)"
done
export SPT_CACHE_DIR="$dir/cache3"
control faults '[{"path": "alt=media", "do": "corrupt", "after": 50, "count": -1}]'
look $p
refused corrupted 5 $? 'CRC-32C' "$p"
control faults '[{"path": "alt=media", "do": "truncate", "after": 0, "count": -1}]'
SPT_HTTP_RETRIES=1 look "$p"
expect truncated_is_an_error test $? -eq 5
control clear

# A clock that is off by hours: a server that is ahead.
server_start --empty-bucket runs --private runs --key "$dir/key.pem" --clock 10800
export CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE="http://127.0.0.1:$port"
sed "s|127.0.0.1:[0-9]*/token|127.0.0.1:$port/token|" "$dir/service.json" >"$dir/late.json"
GOOGLE_APPLICATION_CREDENTIALS=$dir/late.json look gs://runs/x
refused clock 3 $? 'the clock of this machine is 3.0 hours behind that of the server' 'set the clock'
finish
