#!/usr/bin/env bash
# What a gin run tells: bindings that do not act, the user's apart from those of the files that come with
# the program; seeds that were drawn, and that the flags it names give the same run again.
. tests/support/checks.sh
export SPT_CONFIGS=$root/configs
cd "$dir" || exit 1
: >err
python3 "$root/tests/support/tiny_t5x.py" .
head -n 20 "$root/demo/desk/train.tsv" >train.tsv
cat >run.gin <<'GIN'
from __gin__ import dynamic_registration
import spt
from t5x import utils
include 'tiny.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
spt.Task:
  name = 'one'
  train = 'train.tsv'
  input = '{1}'
  target = '{2}'
MIXTURE_OR_TASK_NAME = 'one'
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 8}
BATCH_SIZE = 4
USE_CACHED_TASKS = False
EVAL_PERIOD = 0
train_eval/utils.DatasetConfig.split = 'train'
infer_eval/utils.DatasetConfig.split = 'train'
INITIAL_CHECKPOINT_PATH = 'checkpoint_100'
TRAIN_STEPS = 103
GIN
train() { # MODEL_DIR OPTION...
    local to=$1
    shift
    $spt train --gin_file=run.gin --gin.MODEL_DIR="'$to'" "$@" 2>err
}
prompt=numpy_checkpoints/checkpoint_103/encoder.prompt.prompt.prompt

train drawn
expect runs test $? -eq 0 -a -f drawn/$prompt
expect installed_files_do_not_warn test "$(grep -c 'warning' err)" -eq 0
expect installed_files_take_one_line test "$(grep -cE '^[0-9]+ bindings of the gin files that come with spt do not act' err)" -eq 1 \
    -a "$(grep -c 'kernel_init' err)" -eq 0
counted=$(sed -n 's/^\([0-9]*\) bindings of the gin files that come.*--dry_run names them.*/\1/p' err)
train drawn --dry_run >dry
expect dry_run_names_them test $? -eq 0 -a "$(grep 'that come with spt' err | cut -d' ' -f1)" = "$counted" \
    -a "$(grep -c 'MlpBlock.kernel_init' err)" -eq 1 -a "$counted" -gt 9
expect dry_run_prints_the_configuration test "$(grep -c 'do not act' dry)" -eq 0 -a "$(grep -c '^BATCH_SIZE' dry)" -eq 1

# --- drawn seeds -----------------------------------------------------------------------------------------
again=$(sed -n '/^# Drawn at random/{n;s/^# //p}' drawn/config.gin)
expect seeds_in_config test -n "$(grep -E -- '^--gin.RANDOM_SEED=[0-9]+ --gin.train/utils.DatasetConfig.seed=[0-9]+$' <<<"$again")"
train same $again
expect seeds_give_the_same_run cmp drawn/$prompt same/$prompt
expect given_seeds_are_not_told test "$(grep -c 'Drawn at random' same/config.gin)" -eq 0 -a "$(grep -c 'drawn at random' err)" -eq 0
train other
expect other_seeds_give_another test "$(cmp -s drawn/$prompt other/$prompt; echo $?)" -eq 1
expect seeds_in_the_story grep -qF -- "$(sed -n '/^# Drawn at random/{n;s/^# //p}' other/config.gin)" err
(cd other && "$spt" train --gin_file=config.gin --dry_run >../dry 2>../err)
expect config_with_the_comment_is_read test $? -eq 0

# --- a user's own ----------------------------------------------------------------------------------------
echo 'utils.DatasetConfig.shuffel = True' >wrong.gin
train wrong --gin_file=wrong.gin
expect unknown_parameter_is_refused test $? -eq 3
train own --gin.infer/utils.DatasetConfig.seed=4
expect own_binding_warns test $? -eq 0 -a "$(grep -c 'warning: 1 binding does not act here: .*(infer/DatasetConfig.seed)' err)" -eq 1
expect own_binding_is_no_installed_one test "$(sed -n 's/^\([0-9]*\) bindings of the gin files that come.*/\1/p' err)" -eq "$counted"

# --- complaints ------------------------------------------------------------------------------------------
train never --gin_file=nothere.gin
expect absent_file_is_one_sentence test $? -eq 5 -a "$(grep -c "Searched config paths: \[.*\]; names are relative" err)" -eq 1
train never --gin.shout.ramp.scale=2
expect unknown_name_hints_at_plugins test $? -eq 3 -a "$(grep -c -- "No configurable matching 'shout.ramp'.*--plugin FILE.so" err)" -eq 1
finish
