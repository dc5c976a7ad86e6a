#!/usr/bin/env bash
# spt data: every data set from miniature archives in the publishers' layout, from disk and from a
# server with faults; hostile archives; the reference's demo script from an empty directory.
. tests/support/checks.sh
server=
trap 'rm -rf "$dir"; [ -z "$server" ] || kill "$server" 2>/dev/null' EXIT
refused() { # NAME CODE PATTERN ARGS...: one line of complaint, nothing left behind
    local name=$1 code=$2 pattern=$3
    shift 3
    rm -rf "$dir/none"
    "$spt" data prepare --out "$dir/none" "$@" >"$dir/out" 2>"$dir/err"
    local rc=$?
    expect "$name" test $rc -eq "$code" -a "$(grep -c '^spt: data:' "$dir/err")" = 1 -a ! -s "$dir/out" \
        -a "$(find "$dir/none" -name '*tfrecord*' -o -name '*.tmp-*' -o -name '*.part' -o -name dataset_info.json 2>/dev/null | wc -l)" = 0
    expect "${name}_says_why" grep -Eq "^spt: data: .*$pattern" "$dir/err"
}
mini=$dir/mini
export TFDS_DATA_DIR= SPT_DATA_NO_VERIFY=1 SPT_HTTP_RETRIES=2 SPT_HTTP_TIMEOUT=5
unset SPT_DATA_MIRROR SPT_OFFLINE HF_HUB_OFFLINE
python3 tests/support/mini_archives.py "$mini" 40

# --- everything, from a mirror on disk ---
SPT_DATA_MIRROR=$mini "$spt" data prepare glue super_glue squad mrqa definite_pronoun_resolution --out "$dir/all" 2>"$dir/err"
expect all_are_prepared test $? -eq 0 -a "$(grep -c train "$dir/err")" -ge 25
expect every_set_has_its_files test "$(find "$dir/all" -name dataset_info.json | wc -l)" = 38 -a "$(find "$dir/all" -name features.json | wc -l)" = 38
expect nothing_else_is_left test "$(find "$dir/all" -name '*.tmp*' -o -name '*.run-*' | wc -l)" = 0
"$spt" data list --out "$dir/all" >"$dir/list"
expect list_knows_them test "$(grep -c 'prepared' "$dir/list")" = 38
"$spt" data list sst2 --json --out "$dir/all" >"$dir/list.json"
"$spt" data info glue/sst2 --json --out "$dir/all" >"$dir/info.json"
cat >"$dir/look.py" <<'P'
import json, sys
d = sys.argv[1]
one = [json.loads(x) for x in open(d + "/list.json")]
assert [(x["name"], x["prepared"]) for x in one] == [("glue/sst2", ["2.0.0"])], one
x = json.load(open(d + "/info.json"))
assert [(s["name"], s["examples"]) for s in x["splits"]] == [("train", 67349), ("validation", 872), ("test", 1821)]
assert [f["name"] for f in x["fields"]] == ["sentence", "label", "idx"] and x["fields"][1]["classes"] == ["negative", "positive"]
assert x["files"][0]["bytes"] == 7439277 and len(x["files"][0]["sha256"]) == 64 and x["directory"] == d + "/all"
P
expect json python3 "$dir/look.py" "$dir"
"$spt" data info glue/sst2 --out "$dir/all" >"$dir/info"
expect info_names_the_source grep -q 'd67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa' "$dir/info"
SPT_DATA_MIRROR=$mini "$spt" data prepare glue/sst2 --out "$dir/all" 2>"$dir/err"
expect a_second_time_is_no_error test $? -eq 0
"$spt" data prepare glue/sst2 --from "$dir/no-such.zip" --out "$dir/all" >"$dir/out" 2>"$dir/err"
expect no_such_file_though_prepared test $? -eq 5
expect no_such_file_though_prepared_is_named grep -q 'no-such.zip' "$dir/err"
SPT_DATA_MIRROR=$mini "$spt" data prepare glue/sst2 --out "$dir/all" 2>"$dir/err"
expect a_second_time_says_so grep -q 'is there already' "$dir/err"
SPT_DATA_MIRROR=$mini "$spt" data prepare glue_v002_proportional --out "$dir/mix" 2>"$dir/err"
expect of_a_mixture test $? -eq 0 -a -d "$dir/mix/glue/mnli_matched/1.0.0" -a -d "$dir/mix/glue/ax/1.0.0"
SPT_DATA_MIRROR=$mini "$spt" data prepare super_glue_v102_proportional --out "$dir/mix" 2>"$dir/err"
expect of_a_mixture_with_pronouns test $? -eq 0 -a -d "$dir/mix/definite_pronoun_resolution/1.1.0"
# Order, fields and texts are those that TFDS wrote of the same files (tools/crosscheck/tfds_prepare.py).
expect same_as_tfds test "$(cd "$dir/all" && find . -name '*.tfrecord*' -o -name features.json -o -name '*.labels.txt' | LC_ALL=C sort | xargs md5sum | md5sum | cut -d' ' -f1)" = "$(cat tests/fixtures/data/prepared.md5)"

# --- the same from what a user may have ---
S=dl.fbaipublicfiles.com/glue/data/SST-2.zip
same() { diff -r "$dir/all/glue/sst2/2.0.0" "$1/glue/sst2/2.0.0" >"$dir/err"; }
"$spt" data prepare glue/sst2 --from "$mini/$S" --out "$dir/a" --quiet && expect from_a_zip same "$dir/a"
mkdir "$dir/plain" && (cd "$dir/plain" && python3 -m zipfile -e "$mini/$S" .)
"$spt" data prepare glue/sst2 --from "$dir/plain" --out "$dir/b" --quiet && expect from_an_unpacked_folder same "$dir/b"
"$spt" data prepare glue/sst2 --from "$dir/plain/SST-2" --out "$dir/c" --quiet && expect from_the_folder_itself same "$dir/c"
(cd "$dir/plain" && tar czf "$dir/sst2.tar.gz" SST-2 && tar cf "$dir/sst2.tar" ./SST-2)
"$spt" data prepare glue/sst2 --from "$dir/sst2.tar.gz" --out "$dir/d" --quiet && expect from_a_tar_gz same "$dir/d"
"$spt" data prepare glue/sst2 --from "$dir/sst2.tar" --out "$dir/e" --quiet && expect from_a_tar same "$dir/e"
mkdir "$dir/downloads" && find "$mini" -type f ! -path '*/train/*' -exec cp {} "$dir/downloads/" \;
"$spt" data prepare glue/sst2 glue/mrpc glue/ax squad/v2.0 --from "$dir/downloads" --out "$dir/f" --quiet && expect from_a_folder_of_downloads same "$dir/f"
expect of_several_files diff -r "$dir/all/glue/mrpc" "$dir/f/glue/mrpc"
mkdir -p "$dir/unpacked/train" "$dir/unpacked/dev"
for k in train dev; do gzip -dc "$mini/s3.us-east-2.amazonaws.com/mrqa/release/v2/$k/NewsQA.jsonl.gz" >"$dir/unpacked/$k/NewsQA.jsonl"; done
"$spt" data prepare mrqa/news_qa --from "$dir/unpacked" --out "$dir/f" --quiet && expect of_unpacked_json_lines diff -r "$dir/all/mrqa/news_qa" "$dir/f/mrqa/news_qa"
expect of_json diff -r "$dir/all/squad/v2.0" "$dir/f/squad/v2.0"
gzip -k "$dir/plain/SST-2"/*.tsv && rm "$dir/plain/SST-2"/*.tsv
"$spt" data prepare glue/sst2 --from "$dir/plain" --out "$dir/g" --quiet && expect from_gzipped_tables same "$dir/g"

# The folder that GLUE's download script makes, and SuperGLUE in one archive.
mkdir -p "$dir/glue_data/MRPC" "$dir/glue_data/diagnostic" "$dir/sg"
for z in "$mini"/dl.fbaipublicfiles.com/glue/data/*.zip; do python3 -m zipfile -e "$z" "$dir/glue_data"; done
cp "$mini"/dl.fbaipublicfiles.com/senteval/senteval_data/* "$dir/glue_data/MRPC"
cp "$mini"/firebasestorage.googleapis.com/v0/b/*/o/mrpc_dev_ids.tsv "$dir/glue_data/MRPC/dev_ids.tsv"
cp "$mini"/bit.ly/* "$dir/glue_data/diagnostic/diagnostic.tsv"
"$spt" data prepare glue --from "$dir/glue_data" --out "$dir/j" --quiet 2>"$dir/err"
expect from_a_glue_folder diff -r "$dir/all/glue" "$dir/j/glue"
for z in "$mini"/dl.fbaipublicfiles.com/glue/superglue/data/v2/*.zip; do python3 -m zipfile -e "$z" "$dir/sg"; done
(cd "$dir/sg" && python3 -m zipfile -c "$dir/combined.zip" *)
"$spt" data prepare super_glue --from "$dir/combined.zip" --out "$dir/j" --quiet 2>"$dir/err"
expect from_one_archive_of_all diff -r "$dir/all/super_glue" "$dir/j/super_glue"
# What a killed command left goes with the next one; what another one is writing stays.
mkdir -p "$dir/i/glue/sst2/2.0.0.tmp-0123456789abcdef" "$dir/i/glue/sst2/2.0.0.tmp-fedcba9876543210"
mkfifo "$dir/fifo"
echo half >"$dir/i/glue/sst2/2.0.0.tmp-0123456789abcdef/train.run-0"
python3 -c "import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()" "$dir/i/glue/sst2/2.0.0.tmp-fedcba9876543210" <"$dir/fifo" >"$dir/locked" &
exec 9>"$dir/fifo"
for _ in $(seq 100); do [ -s "$dir/locked" ] && break; sleep 0.1; done
"$spt" data prepare glue/sst2 --from "$mini/$S" --out "$dir/i" 2>"$dir/err"
expect abandoned_halves_are_removed test $? -eq 0 -a ! -e "$dir/i/glue/sst2/2.0.0.tmp-0123456789abcdef"
expect halves_at_work_stay test -d "$dir/i/glue/sst2/2.0.0.tmp-fedcba9876543210"
exec 9>&-

# --- bad input ---
make_zip() { # FILE PYTHON: z is the archive
    python3 -c "import zipfile, sys
z = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)
row = 'sentence\tlabel\ngood \t1\n'
$2" "$1"
}
make_zip "$dir/outside.zip" "z.writestr('../../SST-2/train.tsv', row)"
refused path_outside 4 'outside its directory' glue/sst2 --from "$dir/outside.zip"
make_zip "$dir/bomb.zip" "z.writestr('SST-2/train.tsv', row + ' ' * (64 << 20))"
refused absurd_ratio 4 'more than 200 fold' glue/sst2 --from "$dir/bomb.zip"
head -c 900 "$mini/$S" >"$dir/cut.zip"
refused truncated 4 'cut short' glue/sst2 --from "$dir/cut.zip"
head -c 400 "$dir/sst2.tar.gz" >"$dir/cut.tar.gz"
refused truncated_tar 4 'early' glue/sst2 --from "$dir/cut.tar.gz"
python3 - "$mini/$S" "$dir/flip.zip" <<'P'
import sys, zipfile
data = bytearray(open(sys.argv[1], "rb").read())
info = zipfile.ZipFile(sys.argv[1]).getinfo("SST-2/test.tsv")
data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 8
open(sys.argv[2], "wb").write(data)
P
refused damaged_member 4 'SST-2/test.tsv: ' glue/sst2 --from "$dir/flip.zip"
expect damaged_member_is_named_once test "$(grep -o 'SST-2/test.tsv: ' "$dir/err" | wc -l)" = 1 -a "$(grep -c 'line 0' "$dir/err")" = 0
make_zip "$dir/lacks.zip" "z.writestr('SST-2/train.tsv', row)
z.writestr('SST-2/dev.tsv', row)"
refused missing_member 5 "no member 'SST-2/test.tsv'" glue/sst2 --from "$dir/lacks.zip"
make_zip "$dir/label.zip" "[z.writestr('SST-2/%s.tsv' % s, row + 'bad \tmaybe\n') for s in ('train', 'dev', 'test')]"
refused bad_label 4 'SST-2/train.tsv: line 3: .*maybe' glue/sst2 --from "$dir/label.zip"
make_zip "$dir/seven.zip" "[z.writestr('SST-2/%s.tsv' % s, row + 'bad \t7\n') for s in ('train', 'dev', 'test')]"
refused no_class 4 "SST-2/train.tsv: line 3: the label '7' is no class of sst2" glue/sst2 --from "$dir/seven.zip"
refused plain_table 4 'no archive' glue/sst2 --from "$root/README.md"
refused no_such_file 5 'no-such' glue/sst2 --from "$dir/no-such.zip"
refused one_of_several 5 'made of the files' squad/v1.1 --from "$mini/rajpurkar.github.io/SQuAD-explorer/dataset/train-v1.1.json"
refused other_json 4 'SQuAD 2.0' squad/v2.0 --from "$(mkdir "$dir/swap" && cd "$mini/rajpurkar.github.io/SQuAD-explorer/dataset" && cp train-v1.1.json "$dir/swap/train-v2.0.json" && cp dev-v1.1.json "$dir/swap/dev-v2.0.json" && echo "$dir/swap")"
sha=$(sha256sum <"$mini/$S" | cut -d' ' -f1)
refused wrong_sha256 4 "SHA-256 is $sha" glue/sst2 --from "$mini/$S" --sha256 "$(printf %064d 1)"
"$spt" data prepare glue/sst2 --from "$mini/$S" --sha256 "$sha" --out "$dir/h" --quiet && expect right_sha256 same "$dir/h"
cp "$mini/dl.fbaipublicfiles.com/glue/data/WNLI.zip" "$dir/WNLI.zip" && truncate -s 28999 "$dir/WNLI.zip"
SPT_DATA_NO_VERIFY= refused size_of_the_published_file_only 4 'SHA-256 is .*wanted ae0e8e4d' glue/wnli --from "$dir/WNLI.zip"
refused unknown_name 3 'did you mean glue/sst2' glue/sst
refused unknown_version 3 'no version 9.9.9' glue/sst2:9.9.9
SPT_OFFLINE=1 refused offline 5 'no network .SPT_OFFLINE' glue/sst2
mkdir -p "$dir/half/glue/sst2/2.0.0" && "$spt" data prepare glue/sst2 --from "$mini/$S" --out "$dir/half" 2>"$dir/err"
expect strange_directory_stays test $? -eq 5 -a -z "$(ls "$dir/half/glue/sst2/2.0.0")"

# --- from a server ---
python3 tests/server/server.py --port-file "$dir/port" --files "$mini" --parent $$ &
server=$!
for _ in $(seq 100); do [ -f "$dir/port" ] && break; sleep 0.1; done
url=http://127.0.0.1:$(cat "$dir/port")
control() { # PATH [BODY]
    python3 -c 'import sys, urllib.request as u
print(u.urlopen(sys.argv[1], data=sys.argv[2].encode() if len(sys.argv) > 2 else None).read().decode())' "$url/_control/$@"
}
faults() { control clear "" && control faults "$1"; } >/dev/null
log() { control log; }
export SPT_DATA_MIRROR=$url/files
"$spt" data prepare glue/sst2 --out "$dir/w" 2>"$dir/err"
expect fetched same "$dir/w"
expect the_download_stays cmp -s "$mini/$S" "$dir/w/downloads/$S"
refused not_on_the_server 5 '404' glue/cola:2.0.0 --from "$url/files/nothing.zip"
faults '[{"path": "SST-2", "do": "drop", "after": 600}]'
"$spt" data prepare glue/sst2 --out "$dir/x" 2>"$dir/err"
expect a_dropped_connection_is_survived same "$dir/x"
# Killed in the middle: the next command asks for the rest only.
faults '[{"path": "SST-2", "do": "stall", "after": 700, "seconds": 60}]'
"$spt" data prepare glue/sst2 --from "$url/files/$S" --sha256 "$sha" --out "$dir/y" >/dev/null 2>&1 &
pid=$!
part=$dir/y/downloads/127.0.0.1_${url##*:}/files/$S.part
for _ in $(seq 100); do [ "$(stat -c %s "$part" 2>/dev/null)" = 700 ] && break; sleep 0.1; done
kill -9 $pid; wait $pid 2>/dev/null
expect an_interrupted_fetch_keeps_its_part test "$(stat -c %s "$part" 2>/dev/null)" = 700
faults '[]'
"$spt" data prepare glue/sst2 --from "$url/files/$S" --sha256 "$sha" --out "$dir/y" 2>"$dir/err"
expect an_interrupted_fetch_continues same "$dir/y"
expect only_the_rest_is_sent grep -q '"range": "bytes=700-"' <(log)
# A part of another file is not continued into nonsense.
rm -r "$dir/y/glue" "${part%.part}"
head -c 500 /dev/zero >"$part"
"$spt" data prepare glue/sst2 --from "$url/files/$S" --sha256 "$sha" --out "$dir/y" 2>"$dir/err"
expect a_strange_part_is_fetched_anew same "$dir/y"
faults '[{"path": "SST-2", "do": "corrupt", "after": 300, "count": -1}]'
refused corrupted_on_the_way 4 'SHA-256' glue/sst2 --from "$url/files/$S" --sha256 "$sha"
faults '[{"path": "SST-2", "do": "status", "status": 503, "count": -1, "headers": {"Retry-After": "0"}}]'
refused unavailable 5 '503' glue/sst2
faults '[]'
SPT_DATA_NO_VERIFY= refused not_the_published_size 4 'where 7439277 were published' glue/sst2
SPT_DATA_MIRROR=http://127.0.0.1:9 SPT_HTTP_RETRIES=1 refused no_connection 5 'SST-2.zip: ' glue/sst2
# Two at a time: one waits, both have it.
"$spt" data prepare glue/sst2 --out "$dir/z" 2>/dev/null & a=$!
"$spt" data prepare glue/sst2 --out "$dir/z" 2>"$dir/err"; rc=$?
wait $a
expect two_at_a_time test $rc -eq 0 -a $? -eq 0
expect two_at_a_time_same same "$dir/z"

# --- the reference's demo from an empty directory ---
shared=${SPT_SHARED:-../shared}/data/upstream
if [ -d "$shared/test_t5_1_1_tiny" ]; then
    tiny=(--gin_file=prompt_tuning/configs/test/t5_1_1_tiny_prompt.gin
        --gin.relative_position_biases.RelativePositionBiases.num_buckets=4
        --gin.relative_position_biases.RelativePositionBiases.max_distance=8
        --gin.BATCH_SIZE=4 --gin.TRAIN_STEPS=5 --gin.EVAL_PERIOD=2 --gin.EVAL_STEPS=1
        --gin.PROMPT_LENGTH=4 --gin.utils.SaveCheckpointConfig.period=4 --gin.RANDOM_SEED=1)
    mkdir "$dir/tfds"
    export SPT_BIN=$spt SPT_CONFIGS=$root/configs CHECKPOINT=$shared/test_t5_1_1_tiny/checkpoint_3 VOCAB=$shared/t5_vocab
    SPT_OFFLINE=1 examples/sst2-demo.sh "$dir/run0" "$dir/tfds" "${tiny[@]}" >/dev/null 2>"$dir/err"
    expect demo_without_network test $? -eq 5
    expect demo_without_network_says_so grep -q '^spt: train: .*SST-2.zip is not in .*no network' "$dir/err"
    examples/sst2-demo.sh "$dir/run" "$dir/tfds" "${tiny[@]}" >/dev/null 2>"$dir/err"
    expect demo_prepares_then_trains test $? -eq 0 -a -d "$dir/run/checkpoint_5"
    expect demo_says_that_it_prepares grep -q 'task taskless_glue_sst2_v200_examples: glue/sst2:2.0.0 is not in .*; preparing it' "$dir/err"
    expect demo_prepared_it same "$dir/tfds"
    "$spt" cache glue_rte_v200_examples --vocab bytes --out "$dir/caches" --tfds_data_dir "$dir/tfds" 2>"$dir/err"
    expect cache_prepares_too test $? -eq 0 -a -f "$dir/caches/glue_rte_v200_examples/COMPLETED"
else
    echo "ok demo_prepares_then_trains # skipped: no $shared"
fi
finish
