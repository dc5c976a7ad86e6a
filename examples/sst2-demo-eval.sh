#!/usr/bin/env bash
# Evaluates a saved prompt on SST-2's validation split: the reference's demo, with `spt` as the program.
#
#   PROMPT_FILE=prompt.npy sst2-demo-eval.sh EVAL_DIR TFDS_DATA_DIR
set -euo pipefail
EVAL_DIR=${1:?usage: sst2-demo-eval.sh EVAL_DIR TFDS_DATA_DIR [FLAGS]}
TFDS_DATA_DIR=${2:?usage: sst2-demo-eval.sh EVAL_DIR TFDS_DATA_DIR [FLAGS]}
shift 2
SPT=${SPT_BIN:-spt}
CHECKPOINT=${CHECKPOINT:-gs://t5-data/pretrained_models/t5x/t5_1_1_lm100k_base/checkpoint_1100000}
T5X_DIR=$($SPT find-module t5x)
FLAXFORMER_DIR=$($SPT find-module flaxformer)
PROMPT_DIR=$($SPT find-module prompt_tuning)
PROMPT_FILE=${PROMPT_FILE:-$PROMPT_DIR/prompt_tuning/pretrained_prompts/t5_1_1_lm100k_base/sst2.npy}

exec $SPT eval \
  --gin_search_paths="$T5X_DIR,$FLAXFORMER_DIR,$PROMPT_DIR" \
  --gin_file="prompt_tuning/configs/models/t5_1_1_base_prompt.gin" \
  --gin_file="prompt_tuning/configs/runs/prompt_eval.gin" \
  --gin.MIXTURE_OR_TASK_NAME="'taskless_glue_sst2_v200_examples'" \
  --gin.MIXTURE_OR_TASK_MODULE="'prompt_tuning.data.glue'" \
  --gin.TASK_FEATURE_LENGTHS="{'inputs': 512, 'targets': 8}" \
  --gin.CHECKPOINT_PATH="'$CHECKPOINT'" \
  --gin.EVAL_OUTPUT_DIR="'$EVAL_DIR'" \
  --gin.utils.DatasetConfig.split="'validation'" \
  --gin.utils.DatasetConfig.batch_size="128" \
  --gin.USE_CACHED_TASKS="False" \
  --gin.PROMPT_FILE="'$PROMPT_FILE'" \
  ${VOCAB:+--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file="'$VOCAB'"} \
  --tfds_data_dir="$TFDS_DATA_DIR" "$@"
