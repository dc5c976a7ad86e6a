#!/usr/bin/env bash
# Models by name: the hub's protocol on a local server, with faults; the cache as huggingface_hub has it.
. tests/support/checks.sh
one_line=yes
server=
trap '[ -n "$server" ] && kill $server 2>/dev/null; rm -rf "$dir"' EXIT

# --- repositories ----------------------------------------------------------------------------------
repos=$dir/repos mini=$root/demo/t5-mini
repo() { mkdir -p "$repos/$1"; for f in config.json spiece.model; do cp "$mini/$f" "$repos/$1/"; done; }
repo org/t5/main
cp "$mini/model.safetensors" "$repos/org/t5/main/"
for f in README.md tf_model.h5 pytorch_model.bin flax_model.msgpack; do head -c 20000 /dev/zero >"$repos/org/t5/main/$f"; done
mkdir "$repos/org/t5/main/onnx" && echo x >"$repos/org/t5/main/onnx/config.json"
for r in v1.0 refs%2Fpr%2F2; do
    cp -r "$repos/org/t5/main" "$repos/org/t5/$r"
    echo "$r" >"$repos/org/t5/$r/README.md"
done
for r in gated private; do
    repo org/$r/main
    cp "$mini/model.safetensors" "$repos/org/$r/main/"
    touch "$repos/org/$r/.$r"
done
mkdir -p "$repos/org/old" && echo org/t5 >"$repos/org/old/.renamed"
repo org/sharded/main
python3 - "$mini/model.safetensors" "$repos/org/sharded/main" <<'P'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:8 + n])
head.pop("__metadata__", None)
names = sorted(head)
parts = [names[:30], names[30:60], names[60:]]
where = {}
for k, part in enumerate(parts):
    file = f"model-{k + 1:05}-of-{len(parts):05}.safetensors"
    out, at, body = {}, 0, b""
    for name in part:
        a, b = head[name]["data_offsets"]
        body += data[8 + n + a:8 + n + b]
        out[name] = dict(head[name], data_offsets=[at, at + b - a])
        at += b - a
        where[name] = file
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    open(f"{sys.argv[2]}/{file}", "wb").write(struct.pack("<Q", len(text)) + text + body)
json.dump({"metadata": {}, "weight_map": where}, open(sys.argv[2] + "/model.safetensors.index.json", "w"))
P
cp -r "$repos/org/sharded" "$repos/org/hole" && rm "$repos/org/hole/main/model-00002-of-00003.safetensors"
mkdir -p "$repos/org/bert/main" "$repos/org/empty/main"
echo '{"model_type": "bert", "hidden_size": 8}' >"$repos/org/bert/main/config.json"
cp "$mini/model.safetensors" "$repos/org/bert/main/"
echo hello >"$repos/org/empty/main/README.md"
"$spt" init --model demo/t5-mini --length 4 --init vocab --seed 1 --out "$dir/p.safetensors" --quiet
mkdir -p "$repos/org/adapter"
"$spt" convert "$dir/p.safetensors" "$repos/org/adapter/main/" --quiet 2>"$dir/err"

python3 tests/server/server.py --port-file "$dir/port" --hub "$repos" --hub-token good --parent $$ 2>"$dir/server.log" &
server=$!
for ((i = 0; i < 200; i++)); do [ -s "$dir/port" ] && break; sleep 0.1; done
port=$(cat "$dir/port")
ctl() { python3 "$root/tests/server/ctl.py" "$port" "$@"; }
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE XDG_CACHE_HOME HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH \
    HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_HUB_DISABLE_SYMLINKS http_proxy https_proxy all_proxy
export HF_ENDPOINT=http://127.0.0.1:$port/ HF_HOME=$dir/home HOME=$dir/user SPT_HTTP_RETRIES=0 SPT_HTTP_TIMEOUT=300
mkdir -p "$dir/user" "$dir/work"
cd "$dir/work" || exit 1
cache=$HF_HOME/hub
fresh() { rm -rf "$cache"; ctl clear; }
requests() { ctl log '{method} {path}' | grep -c "${1:-}"; }
ask() { echo hello | "$spt" infer --labels a,b --json "$@"; }
in_cache() { (cd "$cache" && find "models--${1/\//--}" \( -type f -o -type l \) -not -path '*/.no_exist/*' | LC_ALL=C sort | sed "s|.*/\([0-9a-f]\{40\}\)/|C/|"); }
want=$(ask --model "$mini" --quiet)

# --- fetched once, then used -----------------------------------------------------------------------
check fetched 0 'org/t5: 20.3 MB fetched' ask --model org/t5
equal same_answer "$(cat "$dir/out")" "$want"
equal only_what_is_needed "$(in_cache org/t5 | grep '^C/' | paste -sd' ')" "C/config.json C/model.safetensors C/spiece.model"
commit=$(cat "$cache/models--org--t5/refs/main")
equal ref_is_a_commit "$(expr "$commit" : '[0-9a-f]*$') $(wc -c <"$cache/models--org--t5/refs/main" | tr -d ' ')" "40 40"
snapshot=$cache/models--org--t5/snapshots/$commit
equal link_to_blob "$(readlink "$snapshot/model.safetensors")" "../../blobs/$(sha256sum "$mini/model.safetensors" | cut -d' ' -f1)"
git_id=$( (printf 'blob %d\0' "$(wc -c <"$mini/config.json")"; cat "$mini/config.json") | sha1sum | cut -d' ' -f1)
equal git_blob "$(readlink "$snapshot/config.json")" "../../blobs/$git_id"
expect content cmp -s "$snapshot/model.safetensors" "$mini/model.safetensors"
expect nothing_incomplete test -z "$(find "$cache" -name '*incomplete*' -o -name '*tmp-*')"
equal no_token_sent "$(ctl log '{auth}' | sort -u)" "None"
ctl clear
check used_again 0 '' ask --model org/t5 --quiet
equal asks_nothing "$(requests)" 0
HF_HUB_OFFLINE=1 check used_offline 0 '' ask --model org/t5 --quiet
HF_HUB_OFFLINE=yes check offline_unknown 5 'org/none: no such file or directory, and the hub.s cache .*home/hub. has nothing of revision main; HF_HUB_OFFLINE' ask --model org/none
HF_HUB_CACHE=$cache HF_HOME=/nonexistent HF_HUB_OFFLINE=1 check cache_variable 0 '' ask --model org/t5 --quiet
HF_HOME='' XDG_CACHE_HOME=$dir/xdg check xdg_cache 0 'fetched' ask --model org/t5
expect xdg_place test -d "$dir/xdg/huggingface/hub/models--org--t5"
HF_HOME='' HF_HUB_OFFLINE=1 check default_cache 5 "user/.cache/huggingface/hub\) has nothing" ask --model org/t5
rm -rf "$dir/xdg"

# --- paths win, and what is neither ------------------------------------------------------------------
mkdir org && cp -r "$mini" org/t5
ctl clear
check local_path_wins 0 '^org/t5: weights taken' ask --model org/t5
mv org/t5 org/mine
check local_path_alone 0 '' ask --model org/mine --quiet
rm -rf org
equal local_asks_nothing "$(requests)" 0
check neither 5 'org/none: no such file or directory, and 127.0.0.1:[0-9]* has no model of this name .a private' ask --model org/none
check bare_name 5 'nonsense: no such file or directory, and not in the hub.s cache .*home/hub' ask --model nonsense
ctl clear
check file_name_is_a_path 5 'prompts/sst2.npy' ask --model "$mini" --prompt prompts/sst2.npy
check deep_path 5 'a/b/c' ask --model a/b/c
equal paths_ask_nothing "$(requests)" 0
mkdir -p "$cache/models--old-name" && cp -r "$cache/models--org--t5/." "$cache/models--old-name"
check bare_name_in_cache 0 '' ask --model old-name --quiet

# --- revisions ---------------------------------------------------------------------------------------
ctl clear
check tag 0 'fetching commit' ask --model org/t5@v1.0
equal tag_ref "$(cat "$cache/models--org--t5/refs/v1.0" | wc -c)" 40
equal blobs_are_shared "$(requests 'GET /cdn')" 0
check pull_request 0 '' ask --model org/t5@refs/pr/2 --quiet
expect pull_request_ref test -s "$cache/models--org--t5/refs/refs/pr/2"
check commit 0 '' ask --model "org/t5@$(cat "$cache/models--org--t5/refs/v1.0")" --quiet
check no_revision 5 'org/t5 on .* has no revision "v9"' ask --model org/t5@v9
check odd_revision 5 'org/t5@../x' ask --model org/t5@../x
check renamed 0 '' ask --model org/old --quiet

# --- gated, private, tokens --------------------------------------------------------------------------
fresh
check gated 3 'org/gated is gated: accept its terms on .*/org/gated and give a token in HF_TOKEN' ask --model org/gated
HF_TOKEN=bad check gated_wrong_token 3 'org/gated is gated, and the token has no access' ask --model org/gated
HF_TOKEN=bad check bad_token 3 'org/t5: .* does not accept the token' ask --model org/t5
check private 5 'has no model of this name .a private one needs a token' ask --model org/private
expect nothing_placed test ! -e "$cache/models--org--gated"
HF_TOKEN=' good ' check gated_with_token 0 '' ask --model org/gated --quiet
equal token_stays_at_the_hub "$(ctl log '{path} {auth}' | sed -n 's|^/cdn.* ||p' | sort -u)" "None"
expect token_was_sent grep -q 'Bearer good' <(ctl log '{auth}')
echo good >"$HF_HOME/token"
check token_file 0 '' ask --model org/private --quiet
fresh
HF_HUB_DISABLE_IMPLICIT_TOKEN=1 check no_implicit_token 3 'is gated: accept' ask --model org/gated
equal no_token_was_sent "$(ctl log '{auth}' | sort -u)" "None"
rm "$HF_HOME/token"
HF_TOKEN=$(printf 'a\001b') check odd_token 3 'characters that no token has' ask --model org/t5

# --- damage ----------------------------------------------------------------------------------------
fresh
large=/cdn/.*model.safetensors
ctl faults '[{"path": "'$large'", "do": "corrupt", "after": 1000000}]'
check wrong_checksum 4 'org/t5 model.safetensors: the checksum is [0-9a-f]{16}\.\.\., the hub says [0-9a-f]{16}\.\.\.' ask --model org/t5
equal nothing_half_placed "$(in_cache org/t5 | grep -c 'C/model\|incomplete\|refs/')" 0
check after_wrong_checksum 0 '' ask --model org/t5 --quiet
fresh
ctl faults '[{"path": "GET|resolve.*config.json", "method": "GET", "do": "corrupt", "after": 20}]'
check wrong_git_id 4 'org/t5 config.json: the checksum' ask --model org/t5
equal nothing_of_it "$(in_cache org/t5 | wc -l | tr -d ' ')" 0
fresh
ctl faults '[{"path": "'$large'", "do": "drop", "after": 7000000, "count": -1}]'
check dropped 5 'org/t5 model.safetensors' ask --model org/t5
equal part_is_kept "$(stat -c %s "$cache"/models--org--t5/blobs/*.incomplete)" 7000000
expect no_ref_yet test ! -e "$cache/models--org--t5/refs/main"
ctl clear
check continued 0 'continuing at 7.0 MB' ask --model org/t5
equal continued_behind "$(ctl log '{path} {range} {sent}' | sed -n 's|^/cdn/.*safetensors[^ ]* ||p')" "bytes=7000000- 12943912"
expect continued_content cmp -s "$cache"/models--org--t5/snapshots/*/model.safetensors "$mini/model.safetensors"
fresh
ctl faults '[{"path": "'$large'", "do": "drop", "after": 7000000}]'
check dropped_once 5 'org/t5' ask --model org/t5
printf X | dd of="$(ls "$cache"/models--org--t5/blobs/*.incomplete)" bs=1 seek=5000000 conv=notrunc 2>/dev/null
check damaged_part 0 'what an interrupted fetch left is damaged' ask --model org/t5
expect damaged_part_content cmp -s "$cache"/models--org--t5/snapshots/*/model.safetensors "$mini/model.safetensors"
fresh
ctl faults '[{"path": "'$large'", "do": "truncate", "after": 5000000}, {"path": "'$large'", "do": "drop"}]'
SPT_HTTP_RETRIES=3 check retried 0 '' ask --model org/t5 --quiet
fresh
ctl faults '[{"path": "'$large'", "do": "stall", "after": 3000000, "seconds": 60}]'
"$spt" models get org/t5 >"$dir/out" 2>"$dir/err" &
for ((i = 0; i < 100; i++)); do [ "$(stat -c %s "$cache"/models--org--t5/blobs/*.incomplete 2>/dev/null)" = 3000000 ] && break; sleep 0.1; done
kill -9 $!
wait $! 2>/dev/null
ctl clear
check continued_after_kill 0 'continuing at 3.0 MB' ask --model org/t5
fresh
ctl faults '[{"path": "'$large'", "do": "stall", "after": 3000000, "seconds": 60}]'
"$spt" models get org/t5 >"$dir/out" 2>"$dir/err" &
for ((i = 0; i < 100; i++)); do [ "$(stat -c %s "$cache"/models--org--t5/blobs/*.incomplete 2>/dev/null)" = 3000000 ] && break; sleep 0.1; done
kill -INT $!
wait $!
equal signal $? 75
check continued_after_signal 0 'continuing at 3.0 MB' "$spt" models get org/t5
equal get_prints_the_path "$(cat "$dir/out")" "$snapshot"
ctl faults '[{"path": "/api/models", "do": "status", "status": 500, "count": -1}]'
check server_error 5 'org/sharded.*cannot be reached: the list of its files: the server answered 500' ask --model org/sharded
ctl faults '[{"path": "/api/models", "do": "status", "status": 200, "body": "{\"sha\": 7}"}]'
check odd_listing 4 'org/sharded: the answer of' ask --model org/sharded
ctl faults '[{"path": "/api/models", "do": "status", "status": 200, "body": "{\"sha\": \"'$commit'\", \"siblings\": [{\"rfilename\": \"../../x\"}]}"}]'
check odd_names 4 'org/sharded on .* is no model: it has no config.json' ask --model org/sharded
HF_ENDPOINT=http://127.0.0.1:1 check no_network 5 'org/sharded: no such file or directory, not in the hub.s cache .*, and http://127.0.0.1:1 cannot be reached: ' ask --model org/sharded
HF_HUB_CACHE=/proc/none check no_place 5 '/proc/none' ask --model org/sharded

# --- shards, parts, other kinds ----------------------------------------------------------------------
fresh
check sharded 0 '' ask --model org/sharded --quiet
equal sharded_answer "$(cat "$dir/out")" "$want"
equal sharded_files "$(in_cache org/sharded | grep -c '^C/model-0000[123]-of-00003.safetensors')" 3
blob=$(realpath "$cache"/models--org--sharded/snapshots/*/model-00002-of-00003.safetensors)
rm "$blob"
HF_HUB_OFFLINE=1 check shard_missing_offline 5 'not all of the weights of revision main' ask --model org/sharded
ctl clear
check shard_missing 0 '' ask --model org/sharded --quiet
equal only_that_shard "$(ctl log '{method} {path}' | sed -n 's|GET /cdn/.*main/\([^?]*\).*|\1|p')" "model-00002-of-00003.safetensors"
check shard_not_on_the_hub 4 'model.safetensors.index.json names model-00002-of-00003.safetensors, which is not there' ask --model org/hole
check no_model 4 'org/empty on .* is no model: it has no config.json' ask --model org/empty
fresh
echo 'Hello world' >in.txt
check vocabulary 0 '' "$spt" tokenize --vocab org/t5 in.txt --quiet
equal vocabulary_files "$(in_cache org/t5 | grep '^C/' | paste -sd' ')" "C/config.json C/spiece.model"
check model_after_vocabulary 0 '' ask --model org/t5 --quiet
equal model_was_missing "$(requests 'GET /cdn.*model.safetensors')" 1
check adapter 0 '' "$spt" convert org/adapter back.npy --quiet
"$spt" convert "$dir/p.safetensors" direct.npy --quiet 2>/dev/null
expect adapter_rows cmp -s back.npy direct.npy
check adapter_as_prompt 0 '' ask --model org/t5 --prompt org/adapter --quiet
check model_is_no_adapter 4 'org/sharded on .* is no PEFT adapter' ask --model org/t5 --prompt org/sharded
check inspect_adapter 0 '' "$spt" inspect org/adapter
check inspect_model 0 '' "$spt" inspect org/t5
printf 'good\ta\nbad\tb\n' >t.tsv
check train 0 '' "$spt" train --model org/t5 --train t.tsv --length 2 --steps 1 --seed 1 --out run --quiet
expect base_name grep -q 'spt.base_name: org/t5$' <("$spt" inspect run)
expect config_names_it grep -q "^spt.model = 'org/t5'$" run/config.gin

# --- without links; two at a time; a newer commit ------------------------------------------------------
fresh
HF_HUB_DISABLE_SYMLINKS=1 check no_links 0 '' ask --model org/t5 --quiet
equal no_links_there "$(find "$cache/models--org--t5" -type l | wc -l | tr -d ' ')" 0
ctl clear
HF_HUB_OFFLINE=1 check no_links_used 0 '' ask --model org/t5 --quiet
fresh
ctl faults '[{"path": "'$large'", "do": "delay", "seconds": 1}]'
ask --model org/t5 >"$dir/out1" 2>"$dir/err1" &
first=$!
ask --model org/t5 >"$dir/out2" 2>"$dir/err2" &
wait $first $!
equal both_answer "$(cat "$dir/out1" "$dir/out2")" "$want"$'\n'"$want"
equal fetched_once "$(requests 'GET /cdn.*model.safetensors')" 1
echo '{"x": 1}' >"$repos/org/t5/main/generation_config.json"
check old_commit_is_used 0 '' ask --model org/t5 --quiet
check get_newer 0 'fetching commit' "$spt" models get org/t5
expect new_commit test "$(cat "$cache/models--org--t5/refs/main")" != "$commit"
equal large_file_not_again "$(requests 'GET /cdn.*model.safetensors')" 1

# --- listing -----------------------------------------------------------------------------------------
"$spt" models get org/bert >/dev/null 2>&1
"$spt" models get org/adapter >/dev/null 2>&1
check list 0 '' "$spt" models --quiet
equal list_lines "$(wc -l <"$dir/out" | tr -d ' ')" 4
expect list_model grep -qE '^org/t5 +main +20\.3 MB +T5 1\.1, 6 \+ 2 layers of 256, 9,966,848 parameters$' "$dir/out"
expect list_old_commit grep -qE "^org/t5 +@${commit:0:11} " "$dir/out"
expect list_bert grep -qE '^org/bert .* not usable: .*model_type.*bert' "$dir/out"
expect list_adapter grep -qE '^org/adapter +main .* prompt of 4 x 256$' "$dir/out"
"$spt" models --json --quiet >"$dir/out"
expect list_json python3 -c 'import json, sys
e = [json.loads(x) for x in open(sys.argv[1])]
assert {x["name"]: x["usable"] for x in e} == {"org/t5": True, "org/bert": False, "org/adapter": True}, e
assert [x["parameters"] for x in e if x["refs"] == "main" and x["kind"] == "model" and x["usable"]] == [9966848], e' "$dir/out"
equal names "$("$spt" models --names | LC_ALL=C sort | paste -sd' ')" "org/adapter org/t5 org/t5@$commit"
for f in mt5 t5 byt5; do
    at=$dir/families/models--x--$f
    mkdir -p "$at/refs" "$at/snapshots/$commit" && printf %s "$commit" >"$at/refs/main"
    cp -L "$mini"/*.safetensors "$mini"/spiece.model "$at/snapshots/$commit"
    python3 - "$mini/config.json" $f >"$at/snapshots/$commit/config.json" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))
c.update({"model_type": sys.argv[2]} if sys.argv[2] != "byt5" else {"tokenizer_class": "ByT5Tokenizer"})
print(json.dumps(c))
P
done
HF_HUB_CACHE=$dir/families "$spt" models --quiet >"$dir/out"
equal families "$(sed -n 's|^x/\([a-z0-9]*\) .* \(.*5[ .1]*\), 6 + 2.*|\1=\2|p' "$dir/out" | sed 's/= */=/' | paste -sd,)" "byt5=ByT5,mt5=mT5,t5=T5 1.1"
HF_HUB_CACHE=$dir/families "$spt" models --quiet --json >"$dir/out"
expect families_json python3 -c 'import json, sys
e = {x["name"]: x for x in map(json.loads, open(sys.argv[1]))}
assert [e["x/" + k]["family"] for k in ("mt5", "byt5", "t5")] == ["mT5", "ByT5", "T5 1.1"], e
assert e["x/t5"]["feed_forward_kind"] == "gated" and "gated" not in e["x/t5"], e' "$dir/out"
HF_HUB_CACHE=$dir/nowhere check empty_cache 0 '0 snapshots' "$spt" models
check models_usage 2 'what is "nonsense" for' "$spt" models nonsense
check get_usage 2 'no name on the hub' "$spt" models get ./x
HF_HUB_OFFLINE=1 check get_offline 0 '' "$spt" models get org/t5 --quiet
expect server_is_fine test ! -s "$dir/server.log"
finish
