#!/usr/bin/env bash
# The reference's programs (gin) with several processes: the files of one process, byte for byte, where
# every process holds the model; within rounding where num_partitions splits it.
. tests/dist/ranks.sh
root=$PWD
case $spt in /*) ;; *) spt=$root/$spt ;; esac
case $plain in /*) ;; *) plain=$root/$plain ;; esac
export SPT_CONFIGS=$root/configs
cd "$dir" || exit 1
head -n 20 "$root/demo/desk/train.tsv" >train.tsv
head -n 21 "$root/demo/desk/dev.tsv" >dev.tsv
"$python" "$root/tests/support/tiny_t5x.py" plain
cat >tasks.gin <<'GIN'
desk/spt.Task:
  train = 'train.tsv'
  validation = 'dev.tsv'
  input = '{1}'
  target = '{2}'
  metrics = ['accuracy', 'edit_distance']
MIXTURE_OR_TASK_NAME = 'desk'
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 8}
BATCH_SIZE = 6
USE_CACHED_TASKS = False
INITIAL_CHECKPOINT_PATH = 'plain/checkpoint_100'
GIN
cat >train.gin <<'GIN'
from __gin__ import dynamic_registration
from t5x import utils
include 'plain/tiny.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
include 'tasks.gin'
RANDOM_SEED = 3
DROPOUT_RATE = 0.1
EVAL_PERIOD = 3
EVAL_STEPS = 2
train/utils.DatasetConfig.seed = 5
utils.SaveCheckpointConfig.period = 3
utils.SaveCheckpointConfig.keep = None
utils.SaveCheckpointConfig.save_dataset = True
GIN
train() { # NAME STEPS COMMAND...: with MODEL_DIR NAME
    local name=$1 steps=$2
    shift 2
    "$@" train --gin_file=train.gin --gin.MODEL_DIR="'$name'" --gin.TRAIN_STEPS="$steps" --threads=1
}
# Everything that does not carry a time or a name of its own.
same_files() { # A B
    diff -r -x 'events.out*' -x config.gin -x '*.COMPLETED' "$1" "$2" &&
        diff <(sed "s/'$1'/X/" "$1/config.gin") <(sed "s/'$2'/X/" "$2/config.gin") &&
        [ "$(find "$1" -name 'events.out*' | wc -l)" -eq "$(find "$2" -name 'events.out*' | wc -l)" ]
}
train whole 109 "$plain" 2>err || bad whole "$(cat err)"
for n in 2 3; do
    check "train_$n" 0 'done: step 109' train "by$n" 109 ranks $n "$spt"
    expect "train_${n}_same_files" same_files whole "by$n"
done
check begun_by_3 0 '' train cut 104 ranks 3 "$spt"
check goes_on_by_2 0 'continued at step 104' train cut 109 ranks 2 "$spt"
# checkpoint_104 is the end of the first part; the rest is that of one process.
rm -rf cut/checkpoint_104 cut/numpy_checkpoints/checkpoint_104
expect goes_on_same_prompt cmp {whole,cut}/numpy_checkpoints/checkpoint_109/encoder.prompt.prompt.prompt
split=--gin.partitioning.PjitPartitioner.num_partitions
check train_2_of_2 0 'done: step 109' train parts 109 ranks 2 "$spt"
expect whole_models_without_num_partitions same_files whole parts
rm -rf parts
parts() { "$@" train --gin_file=train.gin --gin.MODEL_DIR="'parts'" --gin.TRAIN_STEPS=109 --threads=1 $split=2; }
check train_in_2_parts 0 'done: step 109' parts ranks 2 "$spt"
py parts_agree <<'EOF'
import numpy
a, b = (numpy.load(d + "/numpy_checkpoints/checkpoint_109/encoder.prompt.prompt.prompt") for d in ("whole", "parts"))
assert a.shape == b.shape and (a != b).any() and abs(a - b).max() <= 1e-3 * abs(a).max(), abs(a - b).max()
EOF
mv parts parts2
check train_in_2_parts_by_4 0 'done: step 109' parts ranks 4 "$spt"
expect parts_same_prompt cmp {parts,parts2}/numpy_checkpoints/checkpoint_109/encoder.prompt.prompt.prompt
check num_partitions_that_do_not_fit 3 '3 processes cannot hold models of 2 parts' parts ranks 3 "$spt"
check one_process_holds_all 0 'one process holds the whole model' parts "$plain"

evaluate() { # OUT COMMAND...
    local out=$1
    shift
    "$@" eval --gin_file=plain/tiny.gin --gin_file=prompt_tuning/configs/runs/prompt_eval.gin --gin_file=tasks.gin \
        --gin.CHECKPOINT_PATH="'whole/checkpoint_109'" --gin.EVAL_OUTPUT_DIR="'$out'" --gin.utils.DatasetConfig.split="'validation'" --threads=1 "${more[@]}"
}
more=("--gin.PROMPT_FILE='whole/numpy_checkpoints/checkpoint_109/encoder.prompt.prompt.prompt'")
evaluate eval1 "$plain" 2>err || bad evaluation "$(tail -n 3 err)"
for n in 2 3; do
    check "eval_$n" 0 '' evaluate "eval$n" ranks $n "$spt"
    expect "eval_${n}_same_files" same_files eval1 "eval$n"
done
infer() { # OUT COMMAND...
    local out=$1
    shift
    "$@" infer --gin_file=plain/tiny.gin --gin_file=prompt_tuning/configs/runs/prompt_infer.gin --gin_file=tasks.gin \
        --gin.CHECKPOINT_PATH="'whole/checkpoint_109'" --gin.INFER_OUTPUT_DIR="'$out'" --gin.utils.DatasetConfig.split="'validation'" --gin.infer.checkpoint_period=2 --threads=1 "${more[@]}"
}
infer infer1 "$plain" 2>err || bad inference "$(tail -n 3 err)"
check infer_3 0 '' infer infer3 ranks 3 "$spt"
expect infer_3_same_files same_files infer1 infer3
more+=("$split=2")
check infer_in_2_parts 0 '' infer infer4 ranks 4 "$spt"
expect infer_in_2_parts_lines test "$(cat infer4/*.jsonl* | wc -l)" -eq 21

# A signal to one process: all save the same step, and the same command goes on.
train stopped 1000000 ranks 2 "$spt" >out 2>err &
job=$!
expect stopped_begins until_true 60 test -d stopped/checkpoint_103
kill -TERM "$(rank_pid "MODEL_DIR='stopped'" 1 | head -n 1)"
wait $job
expect stopped_with_75 test $? -eq 75
expect stopped_after_saving grep -q 'interrupted after saving step' err
step=$(ls stopped | sed -n 's/^checkpoint_//p' | sort -n | tail -n 1)
check stopped_goes_on 0 "continued at step $step" train stopped $((step + 4)) ranks 3 "$spt"
cd "$root" || exit 1
finish
