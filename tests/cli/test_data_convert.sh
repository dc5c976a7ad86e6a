#!/usr/bin/env bash
# spt data convert: TSV, CSV, JSON Lines and predictions into one another, and through a task's format.
. tests/support/checks.sh
convert() { "$spt" data convert "$@" >"$dir/out" 2>"$dir/err"; }
holds() { [ "$(cat "$1")" = "$2" ]; }

printf 'text\tlabel\tn\nplain\ta\t1\nsays "hi", twice\tb\t2\n"quoted"\ta\t\n caf\xc3\xa9 \tb\t4\n' >"$dir/a.tsv"
convert "$dir/a.tsv" "$dir/a.csv"; expect tsv_to_csv holds "$dir/a.csv" 'text,label,n
plain,a,1
"says ""hi"", twice",b,2
"""quoted""",a,""
" café ",b,4'
convert "$dir/a.csv" "$dir/a.jsonl"; expect csv_to_json_lines holds "$dir/a.jsonl" '{"text": "plain", "label": "a", "n": "1"}
{"text": "says \"hi\", twice", "label": "b", "n": "2"}
{"text": "\"quoted\"", "label": "a", "n": ""}
{"text": " café ", "label": "b", "n": "4"}'
convert "$dir/a.jsonl" "$dir/b.tsv"; expect json_lines_to_tsv cmp -s "$dir/a.tsv" "$dir/b.tsv"
gzip -k "$dir/a.jsonl"; convert "$dir/a.jsonl.gz" "$dir/c.csv"; expect gzipped_input cmp -s "$dir/a.csv" "$dir/c.csv"
convert "$dir/a.csv" - --to tsv; expect to_standard_output cmp -s "$dir/a.tsv" "$dir/out"
"$spt" data convert - - --format tsv <"$dir/a.tsv" >"$dir/out" 2>"$dir/err"; expect from_standard_input cmp -s "$dir/a.jsonl" "$dir/out"
printf 'a;b\n1;2\n' >"$dir/semi.csv"; convert "$dir/semi.csv" - --delimiter ';' --header yes --to jsonl; expect delimiter holds "$dir/out" '{"a": "1", "b": "2"}'
printf 'one fine day\t1\nrain\t0\n' >"$dir/bare.tsv"; convert "$dir/bare.tsv" - ; expect without_header holds "$dir/out" '{"text": "one fine day", "label": "1"}
{"text": "rain", "label": "0"}'
convert "$dir/bare.tsv" - --task glue_sst2_v200_examples; expect task_without_header holds "$dir/out" '{"inputs": "sst2 sentence: one fine day", "targets": "positive", "idx": 0}
{"inputs": "sst2 sentence: rain", "targets": "negative", "idx": 1}'

# Values of JSON keep their kind among JSON Lines; nested ones are JSON text in a table.
printf '{"text": "x\\ty", "n": 1.50, "ok": true, "none": null, "list": ["a", "b"]}\n\n{"n": -2, "more": {"k": 1}}\n' >"$dir/v.jsonl"
convert "$dir/v.jsonl" - --to jsonl; expect values_keep_their_kind holds "$dir/out" '{"text": "x\ty", "n": 1.50, "ok": true, "none": null, "list": ["a", "b"]}
{"n": -2, "more": {"k": 1}}'
convert "$dir/v.jsonl" "$dir/v.csv"; expect columns_of_all_rows holds "$dir/v.csv" 'text,n,ok,none,list,more
"x	y",1.50,true,"","[""a"", ""b""]",""
"",-2,"","","","{""k"": 1}"'
convert "$dir/v.jsonl" "$dir/v.tsv"; expect a_tab_does_not_fit_tsv test $? -eq 4 -a ! -e "$dir/v.tsv"
expect a_tab_does_not_fit_tsv_says_so grep -q 'v.jsonl: line 1: "text" holds a tab, which TSV cannot; write CSV or JSON Lines' "$dir/err"

# Predictions: ours, and the reference's inference files.
printf '{"input": "hello", "target": "a", "prediction": "b", "scores": {"a": -1.5, "b": -0.5}}\n' >"$dir/p.jsonl"
convert "$dir/p.jsonl" "$dir/p.csv"; expect predictions_to_csv holds "$dir/p.csv" 'input,target,prediction,scores
hello,a,b,"{""a"": -1.5, ""b"": -0.5}"'
printf 'sentence\tlabel\tanswer\tnote\nhello\ta\tb\tfirst\n' >"$dir/q.tsv"
convert "$dir/q.tsv" "$dir/q.jsonl" --to predictions --header yes; expect table_to_predictions holds "$dir/q.jsonl" '{"input": "hello", "target": "a", "prediction": "b", "note": "first"}'
printf 'hello\ta\n' >"$dir/gold.tsv"
"$spt" eval --predictions "$dir/q.jsonl" --data "$dir/gold.tsv" --labels a,b --json >"$dir/out" 2>"$dir/err"
expect predictions_are_read_back grep -q '"accuracy": 0' "$dir/out"
# There and back: what is no text in a predictions file is none afterwards.
printf '%s\n' '{"input": "hello, you", "target": "a", "prediction": "b", "scores": {"a": -1.5, "b": -0.5}, "agreement": 0.5, "label_set": ["a", "b"]}' \
    '{"input": "7", "target": "b", "prediction": "b", "scores": {"a": -2.5, "b": -0.25}, "agreement": 1}' >"$dir/there.jsonl"
for kind in csv tsv; do
    convert "$dir/there.jsonl" "$dir/there.$kind"; convert "$dir/there.$kind" "$dir/back.jsonl" --to predictions
    expect "predictions_by_way_of_$kind" cmp -s "$dir/there.jsonl" "$dir/back.jsonl"
done
printf 'hello, you\ta\n7\tb\n' >"$dir/gold.tsv"
for f in there back; do "$spt" eval --predictions "$dir/$f.jsonl" --data "$dir/gold.tsv" --json >"$dir/$f.json" 2>"$dir/err"; done
expect predictions_by_way_of_a_table_are_scored cmp -s "$dir/there.json" "$dir/back.json"
expect predictions_by_way_of_a_table_have_a_score grep -q '"accuracy": 50' "$dir/back.json"
# Without --data a file of ours is scored by the targets in it.
"$spt" eval --predictions "$dir/there.jsonl" --json >"$dir/own.json" 2>"$dir/err"
expect predictions_are_scored_by_their_own_targets cmp -s "$dir/there.json" "$dir/own.json"
printf '{"inputs": "x", "prediction": "a"}\n' >"$dir/infer.jsonl"
"$spt" eval --predictions "$dir/infer.jsonl" >"$dir/out" 2>"$dir/err"
expect predictions_without_targets_need_data test $? -ne 0 -a ! -s "$dir/out" -a -n "$(grep 'eval: without --data the targets are those of the predictions file: .*infer.jsonl.*input' "$dir/err")"
"$spt" eval --predictions - <"$dir/there.jsonl" >"$dir/out" 2>"$dir/err"
expect predictions_from_standard_input_need_data test $? -eq 2 -a -n "$(grep -e '--data FILE is missing' "$dir/err")"
printf 'input,prediction,scores\nx,a,many\n' >"$dir/bad.csv"
convert "$dir/bad.csv" "$dir/x.jsonl" --to predictions; expect scores_must_be_json test $? -eq 4 -a ! -e "$dir/x.jsonl"
expect scores_must_be_json_says_so grep -q 'bad.csv: line 2: "scores": "many" is not an object' "$dir/err"
printf 'input,prediction,score\nx,a,good\n' >"$dir/own.csv"
convert "$dir/own.csv" - --to predictions; expect other_columns_may_be_texts holds "$dir/out" '{"input": "x", "prediction": "a", "score": "good"}'
printf '{"input": {"idx": 7, "inputs_pretokenized": "sentence: hello", "inputs": [3, 1], "targets_pretokenized": "positive"}, "prediction": "negative"}\n' >"$dir/r.jsonl"
convert "$dir/r.jsonl" "$dir/r.tsv"; expect reference_predictions_to_tsv holds "$dir/r.tsv" 'idx	input	inputs	target	prediction
7	sentence: hello	[3, 1]	positive	negative'
printf '{"inputs": {"inputs_pretokenized": "sentence: hello", "targets_pretokenized": "positive"}, "prediction": "negative", "aux": {"scores": -5.5}}\n' >"$dir/s.jsonl-00000-of-00001"
convert "$dir/s.jsonl-00000-of-00001" "$dir/s.csv"; expect reference_inference_to_csv holds "$dir/s.csv" 'input,target,prediction,aux
sentence: hello,positive,negative,"{""scores"": -5.5}"'
convert "$dir/a.tsv" "$dir/x.jsonl" --to predictions; expect predictions_need_answers test $? -eq 4

# Tasks: class names or numbers, lists, numbers of rows, fields that are missing.
printf 'sentence1,sentence2,label\na b,c d,not_entailment\ne,f,0\ng,h,\n' >"$dir/rte.csv"
convert "$dir/rte.csv" - --task glue_rte_v200_examples; expect classes_by_name_and_number holds "$dir/out" '{"inputs": "rte sentence1: a b sentence2: c d", "targets": "not_entailment", "idx": 0}
{"inputs": "rte sentence1: e sentence2: f", "targets": "entailment", "idx": 1}
{"inputs": "rte sentence1: g sentence2: h", "targets": "<unk>", "idx": 2}'
printf 'id\tquestion\tcontext\tanswers\nq1\tWho?\tAda ran.\tAda|||she\n' >"$dir/squad.tsv"
convert "$dir/squad.tsv" - --task squad_v010_allanswers --header yes
expect lists_of_answers grep -q '^{"inputs": "question: Who ? context: Ada ran . ", "targets": "Ada", .*"answers": \["Ada", "she"\]' "$dir/out"
printf '{"passage": "Ada met Bo.", "query": "@placeholder ran", "entities": ["Ada", "Bo"], "answers": ["Ada", "Bo"]}\n' >"$dir/record.jsonl"
convert "$dir/record.jsonl" - --task super_glue_record_v102_examples; expect one_row_becomes_two test "$(grep -c '"targets": "\(Ada\|Bo\)"' "$dir/out")" = 2
printf 'sentence1,label\na,0\n' >"$dir/lacks.csv"
convert "$dir/lacks.csv" - --task glue_rte_v200_examples; expect missing_field test $? -eq 4
expect missing_field_is_named grep -q "lacks.csv: line 2: .*sentence2" "$dir/err"
printf 'sentence,label\na,perhaps\n' >"$dir/class.csv"
convert "$dir/class.csv" "$dir/class.jsonl" --task glue_sst2_v200_examples; expect bad_class test $? -eq 4 -a ! -e "$dir/class.jsonl"
expect bad_class_is_named grep -q 'class.csv: line 2: "label": "perhaps" is neither a class nor a number' "$dir/err"
convert "$dir/a.tsv" - --task glue_sst3; expect unknown_task test $? -eq 3
convert "$dir/a.tsv" "$dir/a.doc"; expect unknown_kind test $? -eq 2
convert "$dir/a.tsv"; expect one_file test $? -eq 2
convert "$dir/absent.tsv" -; expect absent test $? -eq 5
finish
