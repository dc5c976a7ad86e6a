#!/usr/bin/env bash
# The reference's three demo scripts with spt as the program: the complete configuration text has the
# digest that gin itself gave, and evaluating it is quick. spt tasks and find-module.
. tests/support/checks.sh
export SPT_BIN=$spt SPT_CONFIGS=$PWD/configs
digest() { [ "$(md5sum <"$1" | cut -d' ' -f1)" = "$2" ]; }
unset CHECKPOINT VOCAB
examples/sst2-demo.sh /m /d --dry_run >"$dir/a"
expect sst2_demo digest "$dir/a" 0304915ce96c83def1e7d15fd83e0a81
examples/sst2-demo-xxl.sh /m /d --dry_run >"$dir/b"
expect sst2_demo_xxl digest "$dir/b" 364bbc618da2ddf267bfb780b1130350
PROMPT_FILE=/p.npy examples/sst2-demo-eval.sh /e /d --dry_run >"$dir/c"
expect sst2_demo_eval digest "$dir/c" 127a7676ae286ea4c661821f64cf2da8
# config.gin is itself an input: it gives the same text.
"$spt" train --gin_file="$dir/a" --dry_run >"$dir/again"
expect written_configuration_reads_back cmp -s "$dir/a" "$dir/again"
"$spt" tasks >"$dir/tasks"
expect tasks_are_listed test "$(grep -c $'\ttask\t' "$dir/tasks")" -ge 738
expect mixtures_are_listed test "$(grep -c $'\tmixture\t' "$dir/tasks")" -ge 131
"$spt" tasks taskless_glue_sst2_v200 >"$dir/some"
expect tasks_by_part grep -q '^taskless_glue_sst2_v200_examples	task	glue/sst2:2.0.0	' "$dir/some"
mkdir -p "$dir/glue/SST-2"
printf 'sentence\tlabel\na fine film \t1\ndull \t0\n' >"$dir/glue/SST-2/train.tsv"
"$spt" tasks show byt5_taskless_glue_sst2_v200_examples --vocab bytes --tfds-data-dir "$dir/glue" --n 1 >"$dir/shown"
expect task_shown_with_text_and_ids grep -Eq '"inputs_pretokenized": "sentence: .*"targets_pretokenized": "(posi|nega)tive".*"inputs": \[118, 104' "$dir/shown"
expect find_module test -d "$("$spt" find-module prompt_tuning)/prompt_tuning/configs/runs"
"$spt" find-module no.such.module 2>"$dir/err"
expect unknown_module test $? -eq 5
"$spt" train --gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin --gin_file=prompt_tuning/configs/runs/prompt_finetune.gin --lr 3 2>"$dir/err"
expect own_options_do_not_mix test $? -eq 2
"$spt" train --tfds_data_dir=x 2>"$dir/err"
expect flags_without_files test $? -eq 2
finish
