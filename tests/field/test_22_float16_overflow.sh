#!/usr/bin/env bash
# Field case 22: float16 weights whose activations pass 65,504.
. tests/field/lib.sh
fixture 22
key="f16 and f32 (--compute float32), bit-equal to each other"
for d in f16 f32; do
    score_as $d "$dir/22/$d" "$dir/22/expected.json" "$key" 5e-5r --compute float32
    cp "$dir/scores" "$dir/$d.scores"
    score_as ${d}_bfloat16 "$dir/22/$d" "$dir/22/expected.json" "$key" 5e-2r --compute bfloat16
    score_as ${d}_default "$dir/22/$d" "$dir/22/expected.json" "$key" 5e-5r
done
expect bit_equal cmp "$dir/f16.scores" "$dir/f32.scores"
S() { "$spt" "$1" --model "$dir/22/inf_in_file" --data $fields/common/pairs.tsv; }
where='encoder.block.1.layer.1.DenseReluDense.wo.weight.*inf.*\[3, 5\]'
refused inf_in_file_score 4 "$where" S score
refused inf_in_file_eval 4 "$where" S eval
refused inf_in_file_check 4 "$where" "$spt" check --model "$dir/22/inf_in_file" --train $fields/common/pairs.tsv
refused inf_in_file_train 4 "$where" "$spt" train --model "$dir/22/inf_in_file" --train $fields/common/pairs.tsv $quick --out "$dir/none"
expect nothing_trained test ! -e "$dir/none/prompt-1.safetensors"
for c in float32 bfloat16; do
    for d in f16 f32; do
        "$spt" train --model "$dir/22/$d" --train $fields/common/pairs.tsv --steps 2 --length 2 --seed 1 --compute $c --out "$dir/${d}_$c" --quiet 2>"$dir/err"
        expect "gradients_finite_${d}_$c" "$python" -c 'import json,math,sys
rows = [json.loads(l) for l in open(sys.argv[1])]
assert len(rows) == 2 and all(math.isfinite(r["loss"]) and 0 < r["gradient_norm"] < 1e30 for r in rows), rows' "$dir/${d}_$c/train.jsonl"
    done
    expect "same_steps_$c" cmp "$dir/f16_$c/train.jsonl" "$dir/f32_$c/train.jsonl"
done
# Its kind: NaN in a tensor, in a shard, in bfloat16 arithmetic; a prompt in float16.
"$python" - "$dir/22" <<'EOF'
import os, sys
sys.path.insert(0, "tests/fixtures/field/common")
import numpy as np, tinyt5
cfg = dict(tinyt5.BASE)
w = tinyt5.make_weights(cfg)
w["shared.weight"][8191, 15] = np.nan
tinyt5.write_dir(os.path.join(sys.argv[1], "nan"), cfg, w)
np.save(os.path.join(sys.argv[1], "p.npy"), np.full((2, 16), 60000, np.float16))
EOF
refused nan_in_table 4 'shared.weight.*nan.*\[8191, 15\]' "$spt" score --model "$dir/22/nan" --data $fields/common/pairs.tsv --compute bfloat16
check half_prompt 0 '' "$spt" score --model "$dir/22/f16" --prompt "$dir/22/p.npy" --data $fields/common/pairs.tsv
expect half_prompt_finite test "$(grep -c '"score": -[0-9]' "$dir/out")" -eq 4
finish
