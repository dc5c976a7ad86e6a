#!/usr/bin/env bash
# Values that a gin configuration lacks are named all at once, each with what it means and where it is
# usually set; hostile gin files end with an error within a moment.
. tests/support/checks.sh
export SPT_CONFIGS=$PWD/configs
cd "$dir" || exit 1
pt=prompt_tuning/configs
lacks() { # NAME COMMAND 'MACRO ...' OPTION...
    local name=$1 command=$2 macros=$3 m n=0
    shift 3
    $spt "$command" "$@" 2>err
    expect "${name}_is_a_configuration_error" test $? -eq 3
    for m in $macros; do
        n=$((n + 1))
        # "missing: NAME: required; what it is; usually set where"
        expect "${name}_$m" grep -Eq "^missing: $m: [^;]+; [^;]{5,}; usually set " err
    done
    expect "${name}_all_at_once" test "$(grep -c '^missing: ' err)" -eq $n -a -n "$(tail -n 1 err | grep "$n required value")"
}
lacks train train 'MIXTURE_OR_TASK_NAME TASK_FEATURE_LENGTHS TRAIN_STEPS MODEL_DIR INITIAL_CHECKPOINT_PATH CLASS_LABELS' \
    --gin_file=$pt/models/t5_1_1_base_prompt.gin --gin_file=$pt/prompts/from_class_labels.gin --gin_file=$pt/runs/prompt_finetune.gin
lacks numpy train 'CLASS_LABELS EMBEDDING_FILE' --gin_file=$pt/models/t5_1_1_base_prompt.gin \
    --gin_file=$pt/prompts/from_class_labels_numpy.gin --gin_file=$pt/runs/prompt_finetune.gin --gin.MODEL_DIR="'m'" \
    --gin.MIXTURE_OR_TASK_NAME="'t'" --gin.TASK_FEATURE_LENGTHS=None --gin.TRAIN_STEPS=2 --gin.INITIAL_CHECKPOINT_PATH="'c'"
lacks length train 'PROMPT_LENGTH PROMPT' --gin_file=$pt/models/t5_1_1_base_prompt.gin --gin_file=$pt/runs/prompt_finetune.gin \
    --gin.MODEL_DIR="'m'" --gin.MIXTURE_OR_TASK_NAME="'t'" --gin.TASK_FEATURE_LENGTHS=None --gin.TRAIN_STEPS=2 \
    --gin.INITIAL_CHECKPOINT_PATH="'c'" --gin.PROMPT_LENGTH=%gin.REQUIRED --gin.PROMPT=%gin.REQUIRED
lacks eval eval 'PROMPT_FILE' --gin_file=$pt/models/t5_1_1_base_prompt.gin --gin_file=$pt/runs/prompt_eval.gin \
    --gin.MIXTURE_OR_TASK_NAME="'t'" --gin.TASK_FEATURE_LENGTHS=None --gin.CHECKPOINT_PATH="'c'" --gin.EVAL_OUTPUT_DIR="'e'"

# --- hostile files ----------------------------------------------------------------------------------------
python3 - <<'PY'
open("a.gin", "w").write("include 'b.gin'\n")
open("b.gin", "w").write("include 'a.gin'\n")
open("deep.gin", "w").write("A = " + "[" * 65 + "]" * 65 + "\n")
open("scopes.gin", "w").write("".join(f"s{i}/spt.Task.train = 'x'\n" for i in range(200000)))
open("long.gin", "w").write("A = '" + "x" * 10000000 + "'\n")
PY
soon() { # NAME TEXT FILE: within ten seconds of a busy machine
    timeout 10 $spt train --gin_file="$3" --dry_run >out 2>err
    expect "$1" test $? -eq 3 -a -n "$(grep -F -- "$2" err)"
}
soon include_cycle 'include cycle' a.gin
soon nested_65_deep 'nested more than 64 deep' deep.gin
soon many_scopes 'bound in more than 10000 scopes' scopes.gin
timeout 10 $spt train --gin_file=long.gin --dry_run >out 2>err
expect ten_megabytes test $? -eq 0
finish
