#!/usr/bin/env bash
# The command line: exit codes, messages, clean stdout.
. tests/support/checks.sh
model=demo/t5-mini desk=demo/desk

check no_command 2 'Usage: spt COMMAND' "$spt"
check unknown_command 2 'did you mean train' "$spt" trian
check unknown_option 2 'did you mean --steps' "$spt" train --stesp 3
check missing_value 2 'wants a value' "$spt" train --steps
check not_a_number 2 'not a whole number' "$spt" train --steps 1.5
check out_of_range 2 'is not in' "$spt" train --batch 0
check bounds_are_plain 2 'in 1 .. 1048576' "$spt" train --max-input 0
check bad_choice 2 'none of auto' "$spt" train --init nonsense
check missing_model 2 '--model MODEL is missing' "$spt" train --train x --out "$dir/r"
check absent_model 5 'no-such-dir' "$spt" eval --model no-such-dir --data $desk/dev.tsv
# Passwords and signatures would stand in logs, config.gin and prompts.
secret() { # NAME ADDRESS
    check "secret_$1" 2 'holds a password or a signature' "$spt" train --model $model --train "$2" --out "$dir/r"
    expect "secret_$1_untold" not_told
}
not_told() { ! grep -q hunter2 "$dir/err"; }
secret password https://user:hunter2@example.org/train.tsv
secret signature 'https://example.org/t.tsv?a=b&X-Goog-Signature=hunter2'
secret token 'https://example.org/t.tsv?access_token=hunter2#x'
check absent_data 5 'no-such.tsv' "$spt" train --model $model --train no-such.tsv --out "$dir/r"
: >"$dir/empty.tsv"
check empty_data 4 'empty' "$spt" train --model $model --train "$dir/empty.tsv" --out "$dir/r"
expect nothing_half_written test ! -e "$dir/r"
check missing_column 3 'nothere' "$spt" train --model $model --train $desk/train.tsv --input '{nothere}' --out "$dir/r"
for words in "train --model $model --train $desk/train.tsv --out $dir/r" "check --model $model" \
    "init --model $model --out $dir/p.npy" "tokenize --model $model $desk/dev.tsv"; do
    check "stray_argument_${words%% *}" 2 'what is "stray.tsv" for' "$spt" $words stray.tsv
done
check stray_argument_extract 2 'spt extract CHECKPOINT' "$spt" extract $model shared.weight "$dir/p.npy" stray.tsv
printf 'a\tbilling\nb\tunheard\n' >"$dir/other.tsv"
check eval_label_unknown 4 'unheard.*--by generate if the targets are free text' "$spt" train --model $model --train $desk/train.tsv --eval "$dir/other.tsv" --out "$dir/r"
printf 'say one\tone\nsay two\ttwo\n' >"$dir/say.tsv"
printf 'say six\tsix\n' >"$dir/say_dev.tsv"
check free_text_targets 0 'exact_match|exact-match' "$spt" train --model $model --train "$dir/say.tsv" --eval "$dir/say_dev.tsv" --by generate --length 2 --steps 1 --max-output 4 --out "$dir/free"
check metric_needs_labels 3 'accuracy needs a label set' "$spt" train --model $model --train "$dir/say.tsv" --by generate --metric accuracy --out "$dir/r"
check metric_needs_ranking 3 'not computed for decoded' "$spt" train --model $model --train "$dir/say.tsv" --by generate --metric loss --out "$dir/r"
check metric_needs_two_labels 3 'f1 is for two labels, there are 6' "$spt" check --model $model --train $desk/train.tsv --metric f1
check scheme 2 's3' "$spt" inspect s3://bucket/x
"$spt" help train >"$dir/out"
expect help_has_defaults grep -q -- '--batch N .*\[32\]' "$dir/out"
"$spt" train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --out "$dir/run" --quiet 2>"$dir/err"
expect train_two_steps test -s "$dir/run/prompt-2.safetensors"
check finished_run 0 'nothing to train' "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --out "$dir/run"
for o in "$dir/slash/" "$dir/slashes//"; do
    "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 1 --batch 8 --seed 1 --out "$o" --quiet 2>"$dir/err"
    check "continues_${o#"$dir/"}" 0 'resuming at step 1' "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --out "$o" --resume
    expect "same_as_${o#"$dir/"}" cmp -s "$dir/run/prompt-2.safetensors" "${o}prompt-2.safetensors"
done
# A signal in the evaluation of the last step: that step is saved, its evaluation made up for.
slow=(train --model $model --train $desk/train.tsv --eval $desk/train.tsv --length 4 --steps 2 --eval-every 2 --batch 8 --seed 1 --threads 1)
"$spt" "${slow[@]}" --out "$dir/whole" --quiet 2>"$dir/err"
struck() {
    "$spt" "${slow[@]}" --out "$dir/struck" --quiet &
    until [ "$(grep -c . "$dir/struck/train.jsonl" 2>/dev/null)" = 2 ]; do sleep 0.01; done
    kill -TERM $!
    wait $!
}
check signal_while_evaluating 75 'after saving step 2' struck
check evaluation_is_made_up_for 0 'resuming at step 2' "$spt" "${slow[@]}" --out "$dir/struck" --resume
expect same_evaluation cmp -s "$dir/whole/eval.jsonl" "$dir/struck/eval.jsonl"
expect same_prompt_and_score cmp -s "$dir/whole/prompt-2.safetensors" "$dir/struck/prompt-2.safetensors"
expect same_state cmp -s "$dir/whole/state-2/state.safetensors" "$dir/struck/state-2/state.safetensors"
printf 'text,label\n"a","one\nline \033[31m"\n' >"$dir/control.csv"
check control_characters_in_a_label 4 'label "one.line .\[31m" is not' "$spt" eval --model $model --prompt "$dir/run" --data "$dir/control.csv" --quiet
expect control_characters_one_line test "$(grep -c '' "$dir/err")" -eq 1
cp -r "$dir/run" "$dir/bent"
sed -i 's/^spt.batch = .*/spt.batch = -1/' "$dir/bent/config.gin"
check report_of_a_bent_config 4 'bent/config.gin: --batch: -1 is not in' "$spt" report "$dir/bent"
cp -r "$dir/run" "$dir/died"
rm -r "$dir/died/numpy_checkpoints" # a run that died between its last save and its end
check end_is_made_up_for 0 'nothing to train' "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --resume --out "$dir/died"
expect end_has_numpy cmp "$dir/run/numpy_checkpoints/checkpoint_2/encoder.prompt.prompt.prompt" "$dir/died/numpy_checkpoints/checkpoint_2/encoder.prompt.prompt.prompt"
cp -r "$dir/run" "$dir/behind"
for n in 0 1; do cp -r "$dir/run/state-2" "$dir/behind/state-$n"; done # it died before it deleted old states
"$spt" train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --resume --out "$dir/behind" --keep 1 --quiet 2>"$dir/err"
expect old_states_go_at_the_end test "$(cd "$dir/behind" && echo state-*)" = state-2
expect end_has_no_backup test "$(ls "$dir/run/numpy_checkpoints")" = checkpoint_2
check unfinished_needs_resume 3 '--resume' "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 3 --batch 8 --seed 1 --out "$dir/run"
check init_file_length 0 '4 x 256' "$spt" init --model $model --init file --init-file "$dir/run" --out "$dir/copy.npy"
"$spt" init --model $model --length 90 --seed 1 --json --quiet --out "$dir/long.npy" >"$dir/json" 2>"$dir/err"
expect init_json grep -q '"rows": 90, "width": 256' "$dir/json"
check init_file_longer_than_default 0 '90 x 256' "$spt" train --model $model --train "$dir/say.tsv" --init file --init-file "$dir/long.npy" --batch 1 --steps 1 --out "$dir/long"
"$spt" check --model $model --train $desk/train.tsv --json --quiet >"$dir/json" 2>"$dir/err"
expect check_json python3 -c "import json; d=json.load(open('$dir/json')); assert d['labels']==6 and d['rows']==20 and d['warnings']==0"
check other_settings_without_resume 3 'holds a run already: .* was started with' "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 3 --batch 8 --lr 1 --seed 1 --out "$dir/run"
"$spt" inspect "$dir/run/numpy_checkpoints/checkpoint_2" "$dir/run/numpy_checkpoints" >"$dir/out" 2>"$dir/err"
expect inspect_numpy_checkpoint test "$(grep -c '\[4, 256\]' "$dir/out")" = 2
check other_settings 3 'was started with' "$spt" train --model $model --train $desk/train.tsv --length 4 --steps 3 --batch 8 --lr 1 --seed 1 --resume --out "$dir/run"
"$spt" eval --model $model --prompt "$dir/run" --data $desk/dev.tsv --json --quiet >"$dir/json" 2>"$dir/err"
expect eval_json python3 -c "import json,sys; d=json.load(open('$dir/json')); assert d['examples']==90 and d['classes']==6 and sum(map(sum,d['confusion']))==90"
expect stderr_quiet test ! -s "$dir/err"
cut -f1 $desk/dev.tsv | head -5 | "$spt" infer --model $model --prompt "$dir/run" --quiet >"$dir/out" 2>"$dir/err"
expect infer_one_line_each test "$(wc -l <"$dir/out")" -eq 5
cut -f1 $desk/dev.tsv | "$spt" infer --model $model --prompt "$dir/run" --quiet 2>"$dir/err" | head -1 >/dev/null
expect closed_pipe_is_quiet test "${PIPESTATUS[1]}" -eq 0 -a ! -s "$dir/err"
check table_as_an_argument 0 'warning: .*dev.tsv: line 1 has a tab.*--data' "$spt" infer --model $model --prompt "$dir/run" $desk/dev.tsv
cut -f1 $desk/dev.tsv | head -n 3 >"$dir/texts"
"$spt" infer --model $model --prompt "$dir/run" "$dir/texts" >"$dir/out" 2>"$dir/err"
expect texts_as_an_argument test "$(grep -c warning "$dir/err")" -eq 0
printf 'id,"text, quoted",label\n1,a,account\n2,b,billing\n' >"$dir/comma.csv"
check names_with_commas_are_quoted 3 'among the columns id, "text, quoted", label;' "$spt" eval --model $model --data "$dir/comma.csv" --labels account,billing
full() { "$spt" "$@" >/dev/full; }
check full_disk_loses_answers 5 'standard output: No space left' full infer --model $model --prompt "$dir/run" --quiet $desk/dev.tsv
check full_disk_loses_help 5 'standard output: No space left' full help train
small() { (ulimit -f 1 && "$spt" "$@"); }
check file_size_limit 5 'File too large' small train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --out "$dir/small"
closed() { "$spt" "$@" >&-; }
check closed_output_is_said 5 'standard output: Bad file' closed inspect "$dir/run"
"$spt" train --model $model --train $desk/train.tsv --length 4 --steps 2 --batch 8 --seed 1 --out "$dir/mute" <&- >&- 2>&-
expect closed_streams_train test $? -eq 0
expect story_goes_into_no_file test "$(grep -c trainable -r "$dir/mute" | grep -vc ':0$')" -eq 0
"$spt" convert "$dir/run/prompt-2.safetensors" "$dir/p.npy" 2>"$dir/err"
expect convert_says_what_is_lost grep -q 'cannot keep' "$dir/err"
"$spt" convert "$dir/p.npy" "$dir/p.peft/" --quiet && "$spt" convert "$dir/p.peft" "$dir/q.npy" --quiet
expect convert_round_trip cmp -s "$dir/p.npy" "$dir/q.npy"
echo 'my parcel' | "$spt" tokenize --model $model 2>/dev/null >"$dir/ids"
"$spt" tokenize --model $model --decode "$dir/ids" 2>/dev/null >"$dir/text"
expect tokenize_round_trip test "$(cat "$dir/text")" = 'my parcel'
"$spt" eval --model $model --prompt "$dir/run" --data <(cat $desk/dev.tsv) --json --quiet >"$dir/json2" 2>/dev/null
expect pipes_are_files_too cmp -s "$dir/json" "$dir/json2"
"$spt" eval --model $model --prompt "$dir/run" --data - --json --quiet <$desk/dev.tsv >"$dir/json2" 2>/dev/null
expect standard_input_too cmp -s "$dir/json" "$dir/json2"
# Leftovers of first users.
"$spt" init --model $model --length 2 --init uniform --seed 1 --out "$dir/p2.npy" --quiet
expect more_than_64_arguments test "$("$spt" inspect $(for i in $(seq 100); do echo "$dir/p2.npy"; done) | grep -c 'npy, 1 tensor')" = 100
for command in "infer --model $model --labels a,b" "tokenize --model $model"; do
    check "no_lines_no_answers_${command%% *}" 0 '' "$spt" $command --quiet </dev/null
    expect "no_answers_${command%% *}" test ! -s "$dir/out"
done
check empty_table_is_an_error 4 'empty' "$spt" infer --model $model --labels a,b --data "$dir/empty.tsv"
printf 'fine\na\0b\nalso fine\n\377\376\n' >"$dir/odd.txt"
check lines_that_are_no_text 0 'warning: 2 lines hold a zero byte or are not UTF-8 .the first is line 2' "$spt" infer --model $model --labels a,b --quiet "$dir/odd.txt"
expect still_one_answer_a_line test "$(wc -l <"$dir/out")" = 4
printf 'x\ta,b\ny\tc\nz\td "q"\nw\tc\n' >"$dir/commas.tsv"
check labels_with_commas 0 'labels .*: "a,b", c, "d \\"q\\""; answers' "$spt" check --model $model --train "$dir/commas.tsv"
mkdir "$dir/mine" && echo precious >"$dir/mine/notes.txt"
check convert_into_a_directory 2 'mine is a directory with other files in it and no PEFT adapter.*--force' "$spt" convert "$dir/p2.npy" "$dir/mine"
expect convert_wrote_nothing test "$(ls "$dir/mine")" = notes.txt
check convert_forced 0 '' "$spt" convert "$dir/p2.npy" "$dir/mine" --force
check convert_over_an_adapter 0 '' "$spt" convert "$dir/p2.npy" "$dir/mine"
check convert_new_directory 0 '' "$spt" convert "$dir/p2.npy" "$dir/new.peft"
too_large() { (ulimit -f 1; "$spt" train --model $model --train $desk/train.tsv --length 20 --steps 1 --seed 1 --out "$dir/large" --quiet); }
check saving_is_said_once 5 '^spt: train: [^ ]*/large: saving step 0: cannot write [^:]*: File too large$' too_large
if [ -d ../shared/golden/t5x_checkpoint/legacy ]; then
    check extract_suggests 3 'the nearest is token_embedder/embedding .see' "$spt" extract ../shared/golden/t5x_checkpoint/legacy token_embedder/embeding "$dir/x.npy"
    check extract_suggests_in_full 3 'the nearest is target/token_embedder/embedding .see' "$spt" extract ../shared/golden/t5x_checkpoint/legacy target/token_embedder/embeding "$dir/x.npy"
fi
finish
