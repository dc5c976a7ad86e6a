#!/usr/bin/env bash
# The same for T5 1.1 LM100K xxl, as the reference's second demo.
#
#   sst2-demo-xxl.sh MODEL_DIR TFDS_DATA_DIR
#
# The model takes 45 GB in float32 and 23 GB in bfloat16; `--dry_run` prints the configuration.
set -euo pipefail
MODEL_DIR=${1:?usage: sst2-demo-xxl.sh MODEL_DIR TFDS_DATA_DIR [FLAGS]}
TFDS_DATA_DIR=${2:?usage: sst2-demo-xxl.sh MODEL_DIR TFDS_DATA_DIR [FLAGS]}
shift 2
SPT=${SPT_BIN:-spt}
CHECKPOINT=${CHECKPOINT:-gs://t5-data/pretrained_models/t5x/t5_1_1_lm100k_xxl/checkpoint_1100000}
T5X_DIR=$($SPT find-module t5x)
FLAXFORMER_DIR=$($SPT find-module flaxformer)
PROMPT_DIR=$($SPT find-module prompt_tuning)

exec $SPT train \
  --gin_search_paths="$T5X_DIR,$FLAXFORMER_DIR,$PROMPT_DIR" \
  --gin_file="prompt_tuning/configs/models/t5_1_1_xxl_prompt.gin" \
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
  --gin.BATCH_SIZE="32" \
  --gin.partitioning.PjitPartitioner.model_parallel_submesh="(4, 4, 1, 2)" \
  ${VOCAB:+--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file="'$VOCAB'"} \
  --tfds_data_dir="$TFDS_DATA_DIR" "$@"
