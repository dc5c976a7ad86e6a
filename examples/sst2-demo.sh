#!/usr/bin/env bash
# Prompt tuning of T5 1.1 LM100K base on SST-2: the reference's demo, with `spt` as the program.
#
#   sst2-demo.sh MODEL_DIR TFDS_DATA_DIR
#
# CHECKPOINT and VOCAB say where the base lies on this machine; unset, the reference's addresses are
# used. More flags may follow (--gin.TRAIN_STEPS=..., --gin_file=...).
set -euo pipefail
MODEL_DIR=${1:?usage: sst2-demo.sh MODEL_DIR TFDS_DATA_DIR [FLAGS]}
TFDS_DATA_DIR=${2:?usage: sst2-demo.sh MODEL_DIR TFDS_DATA_DIR [FLAGS]}
shift 2
SPT=${SPT_BIN:-spt}
CHECKPOINT=${CHECKPOINT:-gs://t5-data/pretrained_models/t5x/t5_1_1_lm100k_base/checkpoint_1100000}
T5X_DIR=$($SPT find-module t5x)
FLAXFORMER_DIR=$($SPT find-module flaxformer)
PROMPT_DIR=$($SPT find-module prompt_tuning)

exec $SPT train \
  --gin_search_paths="$T5X_DIR,$FLAXFORMER_DIR,$PROMPT_DIR" \
  --gin_file="prompt_tuning/configs/models/t5_1_1_base_prompt.gin" \
  --gin_file="prompt_tuning/configs/prompts/from_class_labels.gin" \
  --gin_file="prompt_tuning/configs/runs/prompt_finetune.gin" \
  --gin.CLASS_LABELS="['positive', 'negative']" \
  --gin.MODEL_DIR="'$MODEL_DIR'" \
  --gin.MIXTURE_OR_TASK_NAME="'taskless_glue_sst2_v200_examples'" \
  --gin.MIXTURE_OR_TASK_MODULE="'prompt_tuning.data.glue'" \
  --gin.TASK_FEATURE_LENGTHS="{'inputs': 512, 'targets': 8}" \
  --gin.INITIAL_CHECKPOINT_PATH="'$CHECKPOINT'" \
  --gin.TRAIN_STEPS="1_150_000" \
  --gin.USE_CACHED_TASKS="False" \
  ${VOCAB:+--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file="'$VOCAB'"} \
  --tfds_data_dir="$TFDS_DATA_DIR" "$@"
