#!/usr/bin/env bash
# utils.RestoreCheckpointConfig as the reference has it: assignment_map that renames or leaves out leaves of
# the base, fallback_to_scratch, dtype, modes, complete prompt-tuned checkpoints; what is missing is told.
. tests/support/checks.sh
export SPT_CONFIGS=$root/configs
cd "$dir" || exit 1
head -n 20 "$root/demo/desk/train.tsv" >train.tsv
head -n 6 "$root/demo/desk/dev.tsv" >dev.tsv
tiny=$root/tests/support/tiny_t5x.py
python3 "$tiny" plain
python3 "$tiny" renamed --rename encoder/layers_0/mlp/wi_0/kernel=old/0/in/kernel \
    --rename encoder/layers_1/mlp/wi_0/kernel=old/1/in/kernel --rename decoder/logits_dense/kernel=head
python3 "$tiny" headless --drop decoder/logits_dense/kernel
python3 "$tiny" scanned --scan
cat >tasks.gin <<'GIN'
desk/spt.Task:
  train = 'train.tsv'
  validation = 'dev.tsv'
  input = '{1}'
  target = '{2}'
  metrics = ['accuracy', 'edit_distance']
GIN
cat >more.gin <<'GIN'
MIXTURE_OR_TASK_NAME = 'desk'
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 8}
BATCH_SIZE = 4
USE_CACHED_TASKS = False
RANDOM_SEED = 3
EVAL_PERIOD = 2
EVAL_STEPS = 1
train/utils.DatasetConfig.seed = 5
utils.SaveCheckpointConfig.period = 2
utils.SaveCheckpointConfig.keep = None
GIN
{
    echo "include 'plain/tiny.gin'"
    echo "include 'prompt_tuning/configs/runs/prompt_finetune.gin'"
    echo 'from __gin__ import dynamic_registration'
    echo 'from t5x import utils'
    cat more.gin
} >run.gin
train() { # NAME FROM OPTION...: MODEL_DIR is NAME
    local name=$1 from=$2
    shift 2
    last=$name
    $spt train --gin_file=tasks.gin --gin_file=run.gin --gin.MODEL_DIR="'$name'" \
        --gin.INITIAL_CHECKPOINT_PATH="'$from/checkpoint_100'" --gin.TRAIN_STEPS=104 --quiet "$@" 2>"$name.err"
}
map() { echo "--gin.utils.RestoreCheckpointConfig.assignment_map=($1)"; }
prompt="(r'^.*prompt.*\$', None),"
scratch=--gin.utils.RestoreCheckpointConfig.fallback_to_scratch
same() { # two runs: every file of the last checkpoint, and the numpy prompt
    diff -r "$1/checkpoint_104" "$2/checkpoint_104" >/dev/null &&
        cmp {"$1","$2"}/numpy_checkpoints/checkpoint_104/encoder.prompt.prompt.prompt
}
train whole plain
expect as_configured test $? -eq 0 -a -d whole/checkpoint_104

# --- names ---------------------------------------------------------------------------------------------
train mapped renamed "$(map "(r'target/encoder/layers_(\d+)/mlp/wi_0/(.*)', r'target/old/\1/in/\2'), (r'.*logits_dense/kernel', 'target/head'), $prompt")"
expect renamed test $? -eq 0
expect renamed_is_the_same_model same whole mapped
train own whole "$(map '')" --gin.INITIAL_CHECKPOINT_PATH="'whole/checkpoint_102'" "$scratch=False"
expect complete_checkpoint_goes_on test $? -eq 0 -a -n "$(diff -rq whole/checkpoint_102 own/checkpoint_102 && echo same)"
train first_wins renamed "$(map "(r'.*wi_0/kernel', None), (r'target/encoder/layers_(\d+)/mlp/wi_0/(.*)', r'target/old/\1/in/\2'), $prompt")"
expect a_pattern_that_never_comes_first test $? -eq 3 -a -n "$(grep 'Unused patterns in' first_wins.err)"
train absent plain "$(map "(r'target/token_embedder/embedding', 'target/table'), $prompt")"
expect absent_source test $? -eq 3 -a -n "$(grep 'has no target/table, which target/token_embedder/embedding was to come from' absent.err)"
train unused plain "$(map "(r'target/nothing', None), $prompt")"
expect unused_pattern test $? -eq 3 -a -n "$(grep 'Unused patterns in .assignment_map.: target/nothing' unused.err)"
train broken plain "$(map "(r'target/(', None), $prompt")"
expect broken_pattern test $? -eq 3 -a -n "$(grep 'assignment_map: target/(' broken.err)"

# --- what is left out --------------------------------------------------------------------------------------
train gone headless "$(map "$prompt")"
expect missing_leaf_is_made test $? -eq 0 -a -n "$(grep '1 frozen parameters are made from scratch (target/decoder/logits_dense/kernel)' gone.err)"
train skipped plain "$(map "(r'target/decoder/logits_dense/.*', None), $prompt")"
expect skipped_leaf_is_made test $? -eq 0
expect made_alike same gone skipped
expect made_otherwise_than_the_base test -n "$(diff -rq whole/checkpoint_104/target.decoder.logits_dense.kernel gone/checkpoint_104/target.decoder.logits_dense.kernel)"
# The fourth part of a normal distribution cut at two, times sqrt(1/16) / 0.8796.
$spt extract gone/checkpoint_104 decoder/logits_dense/kernel head.npy --quiet 2>extract.err
expect made_with_the_right_spread python3 - <<'PY'
import struct
b = open("head.npy", "rb").read()
v = struct.unpack("<6144f", b[-4 * 6144:])
std = (sum(x * x for x in v) / len(v)) ** 0.5
assert abs(std - 0.25) < 0.01 and max(map(abs, v)) <= 0.5 / 0.8796 + 1e-6, (std, max(v))
PY
train gone headless "$(map "$prompt")" --gin.TRAIN_STEPS=106
expect made_leaf_is_kept_when_continued test $? -eq 0 -a -z "$(diff -rq gone/checkpoint_{104,106}/target.decoder.logits_dense.kernel)"
train strictly headless "$(map '')" "$scratch=False"
expect missing_leaf_without_fallback test $? -eq 3 -a -n "$(grep 'has no target/decoder/logits_dense/kernel and .*fallback_to_scratch is False' strictly.err)"
train unasked plain "$(map "(r'.*logits.*', None), $prompt")" "$scratch=False"
expect skipped_leaf_without_fallback test $? -eq 3 -a -n "$(grep 'is not asked for target/decoder/logits_dense/kernel' unasked.err)"
train nothing plain --gin.utils.RestoreCheckpointConfig.assignment_map=None
expect fallback_needs_a_map test $? -eq 3 -a -n "$(grep 'needs an assignment_map' nothing.err)"
train shallow plain --gin.NUM_ENCODER_LAYERS=1
expect leaves_of_no_use_are_told test $? -eq 0 -a -n "$(grep '9 leaves are not part of the configured model' shallow.err)"
train deep plain --gin.NUM_ENCODER_LAYERS=3 "$scratch=False" "$(map '')"
expect too_few_layers test $? -eq 3 -a -n "$(grep 'has no target/encoder/layers_2/' deep.err)"
train zero plain "$(map "(r'state/step', None), $prompt")" --gin.TRAIN_STEPS=2
expect step_from_scratch test $? -eq 0 -a -d zero/checkpoint_0 -a -d zero/checkpoint_2
train scan scanned
expect scanned_layers_are_named test $? -ne 0 -a -n "$(grep 'scan_layers' scan.err)"

# --- dtype, modes ----------------------------------------------------------------------------------------------
for type in bfloat16 float16; do
    train $type plain --gin.utils.RestoreCheckpointConfig.dtype="'$type'"
    $spt extract $type/checkpoint_104 token_embedder/embedding $type.npy --quiet 2>extract.err
    expect rounded_to_$type python3 - $type <<'PY'
import struct, sys
b = open(sys.argv[1] + ".npy", "rb").read()
bits = struct.unpack("<6144I", b[-4 * 6144:])
zeros = 16 if sys.argv[1] == "bfloat16" else 13
assert all(x % (1 << zeros) == 0 for x in bits) and any(x % (1 << (zeros + 1)) for x in bits)
PY
done
train newest whole --gin.utils.RestoreCheckpointConfig.mode="'latest'" --gin.INITIAL_CHECKPOINT_PATH="'whole'" \
    --gin.TRAIN_STEPS=106 "$(map '')" "$scratch=False"
expect latest_of_a_directory test $? -eq 0 -a -d newest/checkpoint_106 -a ! -e newest/checkpoint_102
train list whole --gin.utils.RestoreCheckpointConfig.mode="'latest'" --gin.utils.RestoreCheckpointConfig.path="['nowhere', 'whole']" \
    --gin.TRAIN_STEPS=106
expect first_directory_that_has_one test $? -eq 0 -a -d list/checkpoint_106
train all plain --gin.utils.RestoreCheckpointConfig.mode="'all'"
expect all_is_not_for_training test $? -eq 3 -a -n "$(grep "'all' is for evaluation" all.err)"
train loose plain --gin.utils.RestoreCheckpointConfig.strict=False
expect strict_is_for_tensorflow_files same whole loose

# --- evaluation ------------------------------------------------------------------------------------------------
evaluate() { # NAME OPTION...
    local name=$1
    shift
    last=$name
    $spt eval --gin_file=tasks.gin --gin_file=plain/tiny.gin --gin_file="$settings" --gin.MIXTURE_OR_TASK_NAME="'desk'" \
        --gin.TASK_FEATURE_LENGTHS=None --gin.BATCH_SIZE=4 --gin.USE_CACHED_TASKS=False \
        --gin.EVAL_OUTPUT_DIR="'$name'" --gin.DROPOUT_RATE=0.0 --gin.utils.DatasetConfig.split="'validation'" --quiet "$@" 2>"$name.err"
}
settings=t5x/configs/runs/eval.gin
restore=--gin.utils.RestoreCheckpointConfig
evaluate complete --gin.CHECKPOINT_PATH="'whole/checkpoint_104'" "$(map '')" "$scratch=False" "$restore.dtype='float32'"
expect complete_checkpoint test $? -eq 0
expect its_predictions_are_those_of_training cmp {whole,complete}/inference_eval/desk-000104.jsonl
evaluate every "$restore.path='whole'" "$restore.mode='all'" --gin.CHECKPOINT_PATH="'whole'" "$(map '')" "$scratch=False" "$restore.dtype='float32'"
expect all_checkpoints test $? -eq 0 -a "$(cut -d , -f 1 every/inference_eval/desk-metrics.jsonl | xargs)" = '{step: 100 {step: 102 {step: 104'
expect all_like_training cmp {whole,every}/inference_eval/desk-000102.jsonl
settings=prompt_tuning/configs/runs/prompt_eval.gin
evaluate from_file --gin.CHECKPOINT_PATH="'plain/checkpoint_100'" --gin_file=prompt_tuning/configs/prompts/from_file.gin \
    --gin.PROMPT_FILE="'whole/numpy_checkpoints/checkpoint_104/encoder.prompt.prompt.prompt'" "$restore.dtype='float32'"
expect base_and_a_prompt_from_a_file test $? -eq 0
expect predictions_of_base_and_file cmp whole/inference_eval/desk-000104.jsonl from_file/inference_eval/desk-000100.jsonl
evaluate over --gin.CHECKPOINT_PATH="'whole/checkpoint_102'" --gin_file=prompt_tuning/configs/prompts/from_file.gin \
    --gin.PROMPT_FILE="'whole/numpy_checkpoints/checkpoint_104/encoder.prompt.prompt.prompt'" "$restore.dtype='float32'"
expect file_goes_before_the_checkpoints_prompt cmp whole/inference_eval/desk-000104.jsonl over/inference_eval/desk-000102.jsonl
finish
