#!/usr/bin/env bash
# "Any path of any command may be gs://": every path option of every command against the test server (paths.py).
set -u
root=$PWD
spt=$(realpath "${SPT_BIN:?}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if ! command -v openssl >/dev/null; then echo "skip paths (no openssl command)"; exit 0; fi
unset GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG GCE_METADATA_HOST STORAGE_EMULATOR_HOST SPT_DATA_MIRROR TFDS_DATA_DIR \
    http_proxy https_proxy all_proxy SSL_CERT_DIR CURL_CA_BUNDLE
export HOME=$dir/user SPT_CACHE_DIR=$dir/cache SPT_LEASE_SECONDS=5 NO_GCE_CHECK=true HF_HUB_OFFLINE=0
mkdir -p "$dir/user" "$dir/in/gin" "$dir/local" "$dir/https"
in=$dir/in
cp -r demo/t5-mini demo/desk "$in"
cp demo/t5-mini/spiece.model "$in/gin/"
python3 tests/support/mini_archives.py "$dir/mini" 20
cp "$dir/mini/dl.fbaipublicfiles.com/glue/data/SST-2.zip" "$in"
cut -f2 demo/desk/train.tsv | sort -u >"$in/labels.txt"
printf 'zzz\n' >"$in/stop.txt"
printf 'name\tlr\nfirst\t0.1\nsecond\t0.3\n' >"$in/runs.tsv"
t=(--model demo/t5-mini --train demo/desk/train.tsv --length 4 --steps 1 --batch 8 --seed 1 --max-input 16 --quiet)
{
    "$spt" init --model demo/t5-mini --length 4 --seed 1 --out "$in/p.safetensors" --quiet &&
        "$spt" convert "$in/p.safetensors" "$in/p.npy" --quiet &&
        "$spt" init --model demo/t5-mini --length 4 --seed 2 --out "$in/q.npy" --quiet &&
        "$spt" train "${t[@]}" --eval demo/desk/dev.tsv --out "$in/run" &&
        "$spt" train "${t[@]}" --save-full --out "$in/full" &&
        "$spt" eval --model demo/t5-mini --prompt "$in/p.npy" --data demo/desk/dev.tsv --labels "@$in/labels.txt" \
            --output "$in/ev.jsonl" --quiet >/dev/null &&
        "$spt" data prepare glue/sst2 --from "$in/SST-2.zip" --no-verify --out "$in/tfds" --quiet &&
        "$spt" cache glue_sst2_v200_examples --vocab demo/t5-mini/spiece.model --tfds_data_dir="$in/tfds" --shards 2 \
            --out "$in/caches" --quiet
} 2>"$dir/err" || { echo "not ok made"; cat "$dir/err"; exit 1; }
cat >"$in/gin/small.gin" <<'G'
from __gin__ import dynamic_registration
from t5x import utils
include 'prompt_tuning/configs/models/t5_1_1_base_prompt.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
EMBED_DIM = 256
MLP_DIM = 512
NUM_HEADS = 4
NUM_ENCODER_LAYERS = 6
NUM_DECODER_LAYERS = 2
HEAD_DIM = 64
NUM_EMBEDDINGS = 8192
PROMPT_LENGTH = 4
RANDOM_SEED = 1
train/utils.DatasetConfig.seed = 1
train_eval/utils.DatasetConfig.seed = 1
infer_eval/utils.DatasetConfig.seed = 1
TRAIN_STEPS = 3
BATCH_SIZE = 8
MIXTURE_OR_TASK_NAME = 'glue_sst2_v200_examples'
TASK_FEATURE_LENGTHS = {'inputs': 16, 'targets': 8}
train_eval/utils.DatasetConfig.batch_size = 8
infer_eval/utils.DatasetConfig.batch_size = 8
G
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
    -days 2 -keyout "$dir/key.pem" -out "$dir/ca.pem" 2>/dev/null
. tests/server/lib.sh
server_start --files "$in" --bucket in="$in" --empty-bucket out --tls "$dir/ca.pem" "$dir/key.pem"
export SSL_CERT_FILE=$dir/ca.pem CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE="https://127.0.0.1:$port"
python3 tests/cli/paths.py "$spt" "$dir" "$port" "$@"
