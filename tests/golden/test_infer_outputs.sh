#!/usr/bin/env bash
# The inference program against a real run of the reference's (golden/run_of_reference/infer_run): the
# same lines in all three modes; scores to the last digits of float32.
set -u
golden=${SPT_GOLDEN:-../shared/golden} shared=${SPT_SHARED:-../shared}
run=$golden/run_of_reference base=$shared/data/upstream/test_t5_1_1_tiny/checkpoint_3
if [ ! -d "$run" ] || [ ! -d "$base" ]; then
    echo "skip infer_outputs"
    exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
task=taskless_glue_sst2_v200_examples bad=0
head -16 "$shared/data/sst2/dev.tsv" | sed 's/\t0$/\tnegative/; s/\t1$/\tpositive/' >"$dir/dev.tsv"
for mode in predict predict_with_aux score; do
    search=(--beams 4)
    [ $mode = score ] && search=()
    "${SPT_BIN:?}" infer --model "$base" --vocab "$shared/data/upstream/t5_vocab" --max-distance 8 \
        --prompt "$run/train_run/numpy_checkpoints/checkpoint_13/encoder.prompt.prompt.prompt" \
        --data "$dir/dev.tsv" --input 'sentence: {1}' --target '{2}' --max-input 48 --max-target 8 \
        --max-output 8 --batch 6 --chunk 2 --mode $mode --out "$dir/out" --task-name $task --quiet "${search[@]}"
    name=$task-$mode.jsonl-00000-of-00001
    if [ -e "$dir/out/$name.COMPLETED" ] && python3 - "$dir/out/$name" "$run/infer_run/$name" <<'EOF'
import re, sys
number = re.compile(r"-?\d+\.\d+(?=\}+$)")
ours, theirs = (open(p).read().splitlines() for p in sys.argv[1:])
assert len(ours) == len(theirs) == 16
for a, b in zip(ours, theirs):
    assert number.sub("#", a) == number.sub("#", b), (a, b)
    for x, y in zip(map(float, number.findall(a)), map(float, number.findall(b))):
        assert abs(x - y) <= 2e-6 * abs(y), (x, y)
EOF
    then echo "ok infer_$mode"; else echo "not ok infer_$mode"; bad=1; fi
done
exit $bad
