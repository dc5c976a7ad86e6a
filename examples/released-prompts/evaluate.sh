#!/usr/bin/env bash
# Evaluates prompts that the reference has released, as its table says: batch size, split, metric.
#
#   evaluate.sh [--prompts DIR] [--out DIR] [NAME ...] [-- FLAGS]
#
# NAME: sst2, mrpc, rte (default: all). DIR of the prompts holds NAME.npy. CHECKPOINT and VOCAB say where
# the base lies on this machine (T5 1.1 LM100K base); unset, the reference's addresses are used.
# TFDS_DATA_DIR (default: ./tfds) may be empty: missing data sets are prepared. FLAGS go to `spt eval`.
set -euo pipefail
prompts=pretrained_prompts/t5_1_1_lm100k_base out=released-prompts
names=() flags=()
while [ $# -gt 0 ]; do
    case $1 in
    --prompts) prompts=${2:?--prompts DIR}; shift 2 ;;
    --out) out=${2:?--out DIR}; shift 2 ;;
    --) shift; flags=("$@"); break ;;
    -*) echo "evaluate.sh: what is $1?" >&2; exit 2 ;;
    *) names+=("$1"); shift ;;
    esac
done
[ ${#names[@]} -gt 0 ] || names=(sst2 mrpc rte)
SPT=${SPT_BIN:-spt}
CHECKPOINT=${CHECKPOINT:-gs://t5-data/pretrained_models/t5x/t5_1_1_lm100k_base/checkpoint_1100000}
TFDS_DATA_DIR=${TFDS_DATA_DIR:-tfds}
search=$($SPT find-module t5x),$($SPT find-module flaxformer),$($SPT find-module prompt_tuning)

printf 'prompt\tsplit\tmetric\texpected\tmeasured\n'
for name in "${names[@]}"; do
    case $name in # batch size, metrics, scores of the reference's table
    sst2) batch=128 metrics=accuracy expected=95.07 ;;
    mrpc) batch=32 metrics='f1 accuracy' expected='89.7 85.3' ;;
    rte) batch=32 metrics=accuracy expected=68.6 ;;
    *) echo "evaluate.sh: no released prompt is named $name (sst2, mrpc, rte)" >&2; exit 2 ;;
    esac
    task=taskless_glue_${name}_v200_examples
    $SPT eval \
        --gin_search_paths="$search" \
        --gin_file="prompt_tuning/configs/models/t5_1_1_base_prompt.gin" \
        --gin_file="prompt_tuning/configs/runs/prompt_eval.gin" \
        --gin.MIXTURE_OR_TASK_NAME="'$task'" \
        --gin.MIXTURE_OR_TASK_MODULE="'prompt_tuning.data.glue'" \
        --gin.TASK_FEATURE_LENGTHS="{'inputs': 512, 'targets': 8}" \
        --gin.CHECKPOINT_PATH="'$CHECKPOINT'" \
        --gin.EVAL_OUTPUT_DIR="'$out/$name'" \
        --gin.utils.DatasetConfig.split="'validation'" \
        --gin.utils.DatasetConfig.batch_size="$batch" \
        --gin.USE_CACHED_TASKS="False" \
        --gin.PROMPT_FILE="'$prompts/$name.npy'" \
        ${VOCAB:+--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file="'$VOCAB'"} \
        --tfds_data_dir="$TFDS_DATA_DIR" ${flags[@]+"${flags[@]}"} >&2
    set -- $expected
    for metric in $metrics; do
        got=$(grep -ho "\"$metric\": [-0-9.eE]*" "$out/$name/inference_eval/$task-metrics.jsonl" | tail -1 | cut -d' ' -f2)
        printf '%s\tvalidation\t%s\t%s\t%s\n' "$name" "$metric" "$1" "$(printf '%.2f' "${got:?the evaluation wrote no $metric}")"
        shift
    done
done
