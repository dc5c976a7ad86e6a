#!/usr/bin/env bash
# The config.gin that a run of plain options writes is a gin file: it gives the same run to the same
# bits, evaluates and answers with its settings, and options of the command line win over it.
. tests/support/checks.sh
cd "$dir" || exit 1
ln -s "$root/demo/t5-mini" model
head -n 48 "$root/demo/desk/train.tsv" >train.tsv
head -n 16 "$root/demo/desk/dev.tsv" >dev.tsv
# A template with both kinds of quotes, a backslash and a tab; a drawn seed; several kinds of values.
template=$'it\'s "desk"\t\\ {1}'
$spt train --model model --train train.tsv --eval dev.tsv --out run --steps 4 --batch 8 --lr 0.25 \
    --length 6 --input "$template" --target '{2}' --header no --label-smoothing 0.1 \
    --schedule 'constant * linear_warmup' --warmup 3 --dropout 0.1 --remat --threads 1 --quiet 2>run.err
expect run test $? -eq 0
expect seed_is_written grep -q '^spt.seed = [0-9]' run/config.gin
expect template_is_quoted grep -qF "spt.input = 'it\\'s \"desk\"\\t\\\\ {1}'" run/config.gin
expect outward_options_are_not_written test -z "$(grep -E 'threads|spt.out|quiet|remat' run/config.gin)"

same_run() { # OTHER: prompts, logs, best, settings
    cmp run/prompt-4.safetensors "$1/prompt-4.safetensors" && cmp run/best.json "$1/best.json" &&
        cmp run/eval.jsonl "$1/eval.jsonl" && cmp run/config.gin "$1/config.gin" &&
        cmp <(sed 's/"[a-z_]*seconds[a-z_]*": [-0-9.e]*//g' run/train.jsonl) \
            <(sed 's/"[a-z_]*seconds[a-z_]*": [-0-9.e]*//g' "$1/train.jsonl")
}
$spt train --gin_file run/config.gin --out again --quiet 2>again.err
expect again test $? -eq 0
expect same_bits same_run again
$spt train --gin_file=again/config.gin --gin.spt.out="'third'" --gin.spt.quiet=True 2>third.err
expect same_bits_twice_removed same_run third
cp -r "$root/demo/t5-mini" moved
$spt train --gin_file run/config.gin --gin.spt.model="'moved'" --gin.spt.lr=0.5 --lr 0.25 --out fourth --quiet \
    2>fourth.err
expect command_line_wins cmp run/best.json fourth/best.json
$spt train --gin_file run/config.gin --lr 0.5 --out other --quiet 2>other.err
expect option_changes_it test $? -eq 0 -a -n "$(cmp run/prompt-4.safetensors other/prompt-4.safetensors)"
expect changed_settings_are_written grep -q '^spt.lr = 0.5$' other/config.gin
$spt train --gin_file run/config.gin --dry_run >printed 2>dry.err
expect dry_run_prints cmp printed run/config.gin
$spt check --gin_file run/config.gin 2>check.err
expect check_reads_it test $? -eq 0
$spt plan --gin_file run/config.gin >plan.out 2>plan.err
expect plan_reads_it test $? -eq 0

# --- eval, infer, score ------------------------------------------------------------------------------
$spt eval --model model --prompt run --data dev.tsv --json --header no >direct.json 2>eval.err
$spt eval --gin_file run/config.gin --prompt run --data dev.tsv --json >gin.json 2>eval_gin.err
expect eval_has_its_settings cmp direct.json gin.json
expect left_aside_is_told grep -q 'does not have are left aside: .*lr' eval_gin.err
$spt infer --model model --prompt run dev.tsv >direct.txt 2>infer.err
$spt infer --gin_file run/config.gin --prompt run dev.tsv >gin.txt 2>infer_gin.err
expect infer_has_its_settings cmp direct.txt gin.txt
$spt score --gin_file run/config.gin --prompt run --data dev.tsv >scores 2>score.err
expect score_reads_it test "$(wc -l <scores)" -eq 16

# --- what it is told of mistakes ------------------------------------------------------------------------
told() { # NAME EXIT-CODE TEXT OPTION...
    local name=$1 code=$2 text=$3
    shift 3
    $spt train --out refused "$@" 2>"$name.err"
    local got=$?
    expect "$name" test $got -eq "$code" -a -n "$(grep -F -- "$text" "$name.err")" -a ! -e refused
}
bad() { # NAME CODE TEXT LINE
    { cat run/config.gin; echo "$4"; } >"$1.gin"
    told "$1" "$2" "$3" --gin_file "$1.gin"
}
lines=$(wc -l <run/config.gin)
bad unknown_option 3 'unknown option --paint' 'spt.paint = 3'
bad misspelt_option 3 'did you mean --lr' 'spt.lrr = 3'
bad place_of_it 3 "place_of_it.gin:$((lines + 1)): spt.steps" 'spt.steps = "many"'
bad out_of_range 3 'is not in' 'spt.dropout = 4'
bad wrong_choice 3 'is none of' "spt.header = 'maybe'"
bad not_a_value 3 'wanted a text, a number' 'spt.lr = [1, 2]'
bad a_scope 3 'options have no scopes' 'a/spt.lr = 1'
bad a_plugin 3 'never from a file' "spt.plugin = 'x.so'"
bad mixed_with_the_reference 3 "belongs to the reference's programs" \
    $'from __gin__ import dynamic_registration\nfrom t5x import utils\nutils.create_learning_rate_scheduler.warmup_steps = 1'
told flag_of_the_reference 2 'tfds_data_dir' --gin_file run/config.gin --tfds_data_dir x
printf 'LR = 0.25\nspt.lr = %%LR\ninclude "run/config.gin"\n' >macro.gin
$spt train --gin_file macro.gin --gin.spt.lr=%LR --dry_run >macro.out 2>macro.err
expect macros_are_values grep -qx 'spt.lr = 0.25' macro.out
$spt plan --gin_file=prompt_tuning/configs/runs/prompt_finetune.gin 2>plan_ref.err
expect plan_of_the_reference test $? -ne 0
finish
