#!/usr/bin/env bash
# Field case 02: config.json says that the head is not tied, and the file has none; and the reverse.
. tests/field/lib.sh
fixture 02
want=$dir/02/expected.json
score_as untied_no_head "$dir/02/untied_no_head" "$want" "untied_no_head (or a refusal naming lm_head.weight)" 5e-5r
told untied_no_head_is_said 'warning: .*no lm_head.weight.*unscaled'
expect untied_no_head_one_warning test "$(grep -c warning "$dir/err")" -eq 1
cp "$dir/scores" "$dir/first"
score_as tied_no_head "$dir/02/tied_no_head" "$want" tied_no_head 5e-5r
untold tied_no_head_is_silent warning
score_as tied_but_other_head "$dir/02/tied_but_other_head" "$want" "tied_but_other_head (with a warning)" 5e-5r
told tied_but_other_head_is_said 'warning: .*lm_head.weight'
score_as v5_style "$dir/02/v5_style" "$want" v5_style 5e-5r
untold v5_style_is_silent warning
"$spt" score --model "$dir/02/untied_no_head" --data $fields/common/pairs.tsv --quiet 2>"$dir/err" >"$dir/second"
expect two_runs_same_bits cmp "$dir/first" "$dir/second"

# Its kind: other commands take the same head; --strict makes the warning an error.
check strict_refuses 1 'warning.*strict' "$spt" score --model "$dir/02/untied_no_head" --data $fields/common/pairs.tsv --strict
check strict_takes_v5 0 '' "$spt" score --model "$dir/02/v5_style" --data $fields/common/pairs.tsv --strict
check check_says_it 0 'no lm_head.weight' "$spt" check --model "$dir/02/untied_no_head" --train $fields/common/pairs.tsv
for d in untied_no_head v5_style; do
    "$spt" train --model "$dir/02/$d" --train $fields/common/pairs.tsv $quick --quiet --out "$dir/run_$d" 2>"$dir/err"
done
"$spt" convert "$dir/run_untied_no_head" "$dir/a.npy" 2>/dev/null
"$spt" convert "$dir/run_v5_style" "$dir/b.npy" 2>/dev/null
expect train_same_head_same_bits cmp "$dir/a.npy" "$dir/b.npy"
finish
