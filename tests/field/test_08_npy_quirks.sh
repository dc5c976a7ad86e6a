#!/usr/bin/env bash
# Field case 08: one prompt, ten NumPy dresses; and files that are no prompt.
. tests/field/lib.sh
fixture 08
for f in "$dir"/08/ok/*; do
    name=$(basename "$f")
    name=${name//./_}
    "$spt" convert "$f" "$dir/x.safetensors" --quiet 2>"$dir/err" &&
        "$spt" convert "$dir/x.safetensors" "$dir/x.npy" --quiet 2>>"$dir/err"
    expect "ok_$name" cmp "$dir/x.npy" "$dir/08/expected.npy"
    expect "inspect_$name" grep -q '\[5, 256\]' <("$spt" inspect "$f")
    # Its kind: through the other containers, too.
    "$spt" convert "$f" "$dir/a.peft" --quiet 2>"$dir/err" &&
        "$spt" convert "$dir/a.peft" "$dir/m/numpy_checkpoints/checkpoint_7" --quiet 2>>"$dir/err" &&
        "$spt" convert "$dir/m/numpy_checkpoints/checkpoint_7/encoder.prompt.prompt.prompt" "$dir/y.npy" --quiet 2>>"$dir/err"
    expect "containers_$name" cmp "$dir/y.npy" "$dir/08/expected.npy"
    rm -rf "$dir"/x.* "$dir/a.peft" "$dir/m" "$dir/y.npy"
done
bad_as() { # FILE PATTERN
    local f=$dir/08/bad/$1 name=${1//./_}
    refused "convert_$name" 4 "$1.*$2" "$spt" convert "$f" "$dir/no.safetensors"
    expect "nothing_written_$name" test ! -e "$dir/no.safetensors"
    refused "eval_$name" 4 "$1.*$2" "$spt" eval --model $model --prompt "$f" --data $desk/dev.tsv
}
bad_as transposed.npy 'transposed'
bad_as batched.npy '\[1, 5, 256\]'
bad_as object.npy 'Python objects'
bad_as strings.npy 'strings'
bad_as structured.npy 'structured'
bad_as complex.npy 'complex'
bad_as no_rows.npy '\[0, 256\]'
bad_as has_nan.npy 'row 2, column 7'
bad_as overflows_float32.npy 'row 1, column 1'
bad_as cut.npy 'cut short at byte 5238'
bad_as archive.npz 'npz archive'
# Its kind: the same file for every command that takes a prompt, and as --init-file.
refused infer_nan 4 'has_nan.npy.*row 2, column 7' "$spt" infer --model $model --prompt "$dir/08/bad/has_nan.npy" $desk/dev.tsv
refused score_nan 4 'row 2, column 7' "$spt" score --model $model --prompt "$dir/08/bad/has_nan.npy" --data $desk/dev.tsv
refused check_nan 4 'row 2, column 7' "$spt" check --model $model --prompt "$dir/08/bad/has_nan.npy"
refused init_file_nan 4 'row 2, column 7' train --train $desk/train.tsv --init file --init-file "$dir/08/bad/has_nan.npy" --out "$dir/run"
refused init_file_transposed 4 'transposed' train --train $desk/train.tsv --init file --init-file "$dir/08/bad/transposed.npy" --out "$dir/run"
expect nothing_written_by_train test ! -e "$dir/run"
finish
