#!/usr/bin/env bash
# A mixture of tasks given by gin: killed and continued to the same bits. One trainer at a time in a
# MODEL_DIR, and no lock behind a crash.
set -u
spt=$(realpath "${SPT_BIN:?}")
bad=0
say() { if [ "$2" -eq 0 ]; then echo "ok $1"; else echo "not ok $1"; bad=1; fi; }
SPT_BIN=$spt python3 tests/crash/mixture_kill.py --kills "${SPT_KILLS:-14}" --seed "${SEED:-3}"
say mixture_killed_and_continued_same_bits $?

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export SPT_CONFIGS=$PWD/configs
python3 tests/support/tiny_t5x.py "$dir"
head -n 20 demo/desk/train.tsv >"$dir/train.tsv"
cat >"$dir/run.gin" <<GIN
from __gin__ import dynamic_registration
import spt
from t5x import utils
include '$dir/tiny.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
spt.Task:
  name = 'one'
  train = '$dir/train.tsv'
  input = '{1}'
  target = '{2}'
MIXTURE_OR_TASK_NAME = 'one'
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 8}
BATCH_SIZE = 4
USE_CACHED_TASKS = False
EVAL_PERIOD = 0
train_eval/utils.DatasetConfig.split = 'train'
infer_eval/utils.DatasetConfig.split = 'train'
INITIAL_CHECKPOINT_PATH = '$dir/checkpoint_100'
MODEL_DIR = '$dir/model_dir'
utils.SaveCheckpointConfig.period = 2000000
GIN
train() { exec "$spt" train --gin_file="$dir/run.gin" --quiet "$@"; }
train --gin.TRAIN_STEPS=100000000 2>"$dir/first.err" &
first=$!
for _ in $(seq 400); do [ -d "$dir/model_dir/checkpoint_100" ] && break; sleep 0.05; done
(train --gin.TRAIN_STEPS=102) 2>"$dir/second.err"
rc=$?
[ $rc -eq 3 ] && grep -q 'another trainer is at work there' "$dir/second.err"
say second_trainer_of_a_model_dir_is_refused $?
kill -0 $first
say first_trainer_of_a_model_dir_goes_on $?
kill -9 $first
wait $first 2>/dev/null
mkdir -p "$dir/model_dir/trash.checkpoint_90/target" # what a kill amid pruning leaves
(train --gin.TRAIN_STEPS=102) 2>"$dir/third.err"
rc=$?
[ $rc -eq 0 ] && [ -d "$dir/model_dir/checkpoint_102" ]
say killed_trainer_leaves_no_lock_in_a_model_dir $?
[ ! -e "$dir/model_dir/trash.checkpoint_90" ]
say next_start_empties_the_trash $?
[ $bad -eq 0 ] || tail -n 5 "$dir"/*.err
exit $bad
