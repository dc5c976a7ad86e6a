#!/usr/bin/env bash
# The reference's released prompts: what they are, and the example that evaluates them, over a base of
# their shape with random weights (one layer) and miniature data sets. Scores need the real base.
. tests/support/checks.sh
shared=$(cd "${SPT_SHARED:-../shared}" 2>/dev/null && pwd)/data/upstream
prompts=$shared/pretrained_prompts/t5_1_1_lm100k_base
if [ ! -d "$prompts" ]; then
    echo "ok released_prompts # skipped: no $prompts"
    exit 0
fi
"$spt" inspect "$prompts"/{sst2,mrpc,rte}.npy >"$dir/inspect" 2>"$dir/err"
is() { grep -Eq "^  $1 +float32 +\[100, 768\] +norm $2 +min $3 +max $4 " "$dir/inspect"; }
expect sst2_is_what_was_released is sst2 14347.5 -747.7 674.8
expect mrpc_is_what_was_released is mrpc 8950.93 -192.5 225
expect rte_is_what_was_released is rte 9561.63 -273 330

make -s build/release/tools/make-model || exit 1
build/release/tools/make-model --size base --layers 1 --vocab "$shared/t5_vocab" "$dir/base" >/dev/null
printf 'text\tlabel\nsentence: a fine film\tpositive\nsentence: dull\tnegative\n' >"$dir/two.tsv"
for p in sst2 mrpc rte; do
    "$spt" score --model "$dir/base" --prompt "$prompts/$p.npy" --data "$dir/two.tsv" >"$dir/$p.score" 2>"$dir/err"
    expect "${p}_runs_through_a_base_of_its_shape" test "$(grep -c '"score": -[0-9.]*' "$dir/$p.score")" = 2
done
expect each_prompt_changes_the_answer test "$(cat "$dir"/*.score | grep -o '"score": [-0-9.]*' | sort -u | wc -l)" = 6
expect a_narrower_base_is_refused test "$("$spt" eval --model demo/t5-mini --prompt "$prompts/sst2.npy" --data "$dir/two.tsv" --labels positive,negative 2>&1 | grep -c '768.*256\|256.*768')" = 1

# The example, from nothing: data sets are prepared from a mirror.
"$spt" train --model "$dir/base" --train "$dir/two.tsv" --out "$dir/run" --steps 1 --length 1 --seed 1 --save-full >/dev/null 2>"$dir/err"
python3 tests/support/mini_archives.py "$dir/mini" 8
export SPT_BIN=$spt SPT_CONFIGS=$PWD/configs SPT_DATA_MIRROR=$dir/mini SPT_DATA_NO_VERIFY=1
export CHECKPOINT=$dir/run/checkpoint_1 VOCAB=$shared/t5_vocab TFDS_DATA_DIR=$dir/tfds
mkdir "$dir/tfds"
examples/released-prompts/evaluate.sh --prompts "$prompts" --out "$dir/out" -- --gin.NUM_ENCODER_LAYERS=1 \
    --gin.NUM_DECODER_LAYERS=1 >"$dir/table" 2>"$dir/err"
expect the_example_runs test $? -eq 0
expect the_example_shows_both_scores test "$(grep -Ec '^(sst2	validation	accuracy	95.07|mrpc	validation	(f1	89.7|accuracy	85.3)|rte	validation	accuracy	68.6)	[0-9.]+$' "$dir/table")" = 4
for p in sst2 mrpc rte; do
    expect "${p}_answers_every_example" test "$(cat "$dir/out/$p"/inference_eval/taskless_glue_${p}_v200_examples-0*.jsonl | grep -c '"prediction')" -ge 2
    expect "${p}_has_the_batch_size_of_the_table" grep -q "^utils.DatasetConfig.batch_size = $([ $p = sst2 ] && echo 128 || echo 32)$\|batch_size = $([ $p = sst2 ] && echo 128 || echo 32)$" "$dir/out/$p/config.gin"
done
examples/released-prompts/evaluate.sh cola >/dev/null 2>"$dir/err"
expect others_are_refused test $? -eq 2
finish
