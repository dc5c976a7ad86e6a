#!/usr/bin/env bash
# Field case 26: TRAIN_STEPS counts from step 0 of the pre-training; quotes lost in the shell. The
# command lines are those of tests/fixtures/field/26-gin-absolute-steps/cases.sh.
. tests/support/checks.sh
shared=${SPT_SHARED:-../shared}
name=$(basename "$0" .sh)
if [ ! -d "$shared/data/upstream/test_t5_1_1_tiny" ]; then
    echo "skip $name: $shared/data/upstream is not here (1 script)"
    exit 0
fi
shared=$(cd "$shared" && pwd)
M=$dir
export SPT_CONFIGS=$PWD/configs
mkdir -p "$M/glue/SST-2" "$M/conf"
{ printf 'sentence\tlabel\n'; head -40 "$shared/data/sst2/train.tsv"; } >"$M/glue/SST-2/train.tsv"
{ printf 'sentence\tlabel\n'; head -8 "$shared/data/sst2/dev.tsv"; } >"$M/glue/SST-2/dev.tsv"
C=$M/conf
G=case26.gin
cat >"$C/$G" <<EOF
from __gin__ import dynamic_registration
from flaxformer.components import relative_position_biases
from t5x import utils
import seqio
include 'prompt_tuning/configs/models/t5_1_1_base_prompt.gin'
include 'prompt_tuning/configs/test/t5_1_1_tiny_prompt.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
MIXTURE_OR_TASK_NAME = 'taskless_glue_sst2_v200_examples'
TASK_FEATURE_LENGTHS = {'inputs': 48, 'targets': 8}
INITIAL_CHECKPOINT_PATH = '$shared/data/upstream/test_t5_1_1_tiny/checkpoint_3'
TRAIN_STEPS = 5
PROMPT_LENGTH = 4
BATCH_SIZE = 8
EVAL_PERIOD = 1000
EVAL_STEPS = 1
RANDOM_SEED = 1
USE_CACHED_TASKS = False
ACTIVATION_DTYPE = 'float32'
relative_position_biases.RelativePositionBiases.num_buckets = 4
relative_position_biases.RelativePositionBiases.max_distance = 8
seqio.SentencePieceVocabulary.sentencepiece_model_file = '$shared/data/upstream/t5_vocab'
EOF
# trained NAME CODE PATTERN ARGUMENTS...: exit code and what the story says.
trained() { check "$1" "$2" "$3" "$spt" train --tfds_data_dir="$M/glue" "${@:4}"; }
holds() { # NAME DIR STEP: the last checkpoint is this one
    equal "$1" "$(ls "$2" | sed -n 's/^checkpoint_//p' | sort -n | tail -1)" "$3"
}
gin=(--gin_search_paths="$C" --gin_file=$G)
trained a_nothing_to_train 3 'TRAIN_STEPS is 3 .*step 3 .*TRAIN_STEPS_RELATIVE' "${gin[@]}" --gin.TRAIN_STEPS=3 --gin.MODEL_DIR="'$M/a'"
trained b_fewer_steps_than_the_checkpoint 3 'TRAIN_STEPS is 2 .*step 3 .*TRAIN_STEPS_RELATIVE' "${gin[@]}" --gin.TRAIN_STEPS=2 --gin.MODEL_DIR="'$M/b'"
expect a_writes_nothing test ! -e "$M/a"
trained c_five_steps 0 'done: step 8 ' "${gin[@]}" --gin.TRAIN_STEPS=8 --gin.MODEL_DIR="'$M/c'"
holds c_last_checkpoint "$M/c" 8
trained c_again_is_finished 0 'the run is finished' "${gin[@]}" --gin.TRAIN_STEPS=8 --gin.MODEL_DIR="'$M/c'"
trained d_relative_wins 0 'done: step 8 ' "${gin[@]}" --gin.TRAIN_STEPS=100 --gin.TRAIN_STEPS_RELATIVE=5 --gin.MODEL_DIR="'$M/d'"
trained e_quotes_eaten 3 "arrived as $M/e;" "${gin[@]}" --gin.TRAIN_STEPS=8 --gin.MODEL_DIR="$M/e"
trained e_remedy 3 "quote" "${gin[@]}" --gin.TRAIN_STEPS=8 --gin.MODEL_DIR="$M/e"
trained e_bare_word 3 "my_task" "${gin[@]}" --gin.TRAIN_STEPS=8 --gin.MODEL_DIR="'$M/e'" --gin.MIXTURE_OR_TASK_NAME=my_task
trained e_hash_in_quotes_is_data 0 'done: step 8 in .*/run #7' "${gin[@]}" --gin.TRAIN_STEPS=8 --gin.MODEL_DIR="'$M/run #7'"
trained e_hash_outside_is_said 0 'warning: .*as a comment' "${gin[@]}" --gin.TRAIN_STEPS='8 #9' --gin.MODEL_DIR="'$M/h'"
trained f_bindings_beat_files 0 'done: step 8 ' --gin.TRAIN_STEPS=8 "${gin[@]}" --gin.MODEL_DIR="'$M/f'"
trained missing_are_named_at_once 3 'missing: .*MODEL_DIR' --gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin --gin_file=prompt_tuning/configs/runs/prompt_finetune.gin
trained unknown_flags_suggest 2 'did you mean --gin_file' "${gin[@]}" --gin_fil=x
finish
