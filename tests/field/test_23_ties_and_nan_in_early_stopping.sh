#!/usr/bin/env bash
# Field case 23: the best checkpoint when scores tie, or the run diverges.
. tests/field/lib.sh
dev=$(echo $fields/23-*/dev2.tsv)
T() { "$spt" train --model $model --train $desk/train.tsv --eval "$dev" --eval-every 1 --length 4 --batch 4 --seed 1 "$@"; }
check ties 0 'stopped at step 4: no improvement in 3 evaluations' T --lr 1e-30 --patience 3 --steps 50 --out "$dir/ties"
py ties_first_is_best "$dir/ties" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1] + "/eval.jsonl")]
assert [r["step"] for r in rows] == [1, 2, 3, 4], rows
assert len({r["accuracy"] for r in rows}) == 1 and all(r["best_step"] == 1 for r in rows), rows
best = json.load(open(sys.argv[1] + "/best.json"))
assert best["step"] == 1 and best["score"] == rows[0]["accuracy"], best
EOF
expect ties_prompt_is_the_first test "$(meta "$dir/ties" spt.step)" = 1

check diverges_at_once 1 'step 1: the prompt is too large: .* not finite.*smaller --lr' T --lr 1e30 --patience 3 --steps 50 --out "$dir/at_once"
check at_once_prompt_is_usable 0 '' "$spt" eval --model $model --prompt "$dir/at_once" --data "$dev"
# Steps that add up: the first evaluation is fine, then the squares of the prompt overflow.
check diverges_later 1 'step [0-9]+: the prompt is too large: .* not finite' T --optimizer adamw --lr 8e17 --weight-decay 0 --patience 30 --steps 50 --out "$dir/later"
told later_best_is_named 'the best prompt so far \(step 1,'
py later_best_is_intact "$dir/later" <<'EOF'
import glob, json, math, os, sys
d = sys.argv[1]
best = json.load(open(d + "/best.json"))
rows = [json.loads(l) for l in open(d + "/eval.jsonl")]
assert best["step"] == 1 and os.path.exists(os.path.join(d, best["prompt"])), best
assert len(rows) >= 1 and not os.path.exists(d + "/prompt-%d.safetensors" % (rows[-1]["step"] + 1)), rows
assert all(math.isfinite(r["loss"]) for r in rows)
EOF
check later_best_is_usable 0 '' "$spt" eval --model $model --prompt "$dir/later" --data "$dev" --json
py later_best_scores_the_same "$dir/out" "$dir/later/eval.jsonl" <<'EOF'
import json, sys
got, first = json.load(open(sys.argv[1])), json.loads(open(sys.argv[2]).readline())
assert got["accuracy"] == first["accuracy"] and abs(got["loss"] - first["loss"]) < 1e-6, (got, first)
EOF
# A model whose activations overflow: the first tensor that is not finite is named.
"$python" - "$dir/huge" <<'EOF'
import sys
sys.path.insert(0, "tests/fixtures/field/common")
import numpy as np, tinyt5
w = tinyt5.make_weights(tinyt5.BASE)
w["encoder.block.1.layer.1.DenseReluDense.wo.weight"] *= np.float32(1e38)
w["encoder.block.1.layer.1.DenseReluDense.wi_1.weight"] *= np.float32(1e30)
tinyt5.write_dir(sys.argv[1], tinyt5.BASE, w)
EOF
check tensor_is_named 1 'step 1: encoder.*(layer|block) ?1.* is not finite|step 1: encoder.* is not finite' \
    "$spt" train --model "$dir/huge" --train $fields/common/pairs.tsv $quick --out "$dir/nan"
expect no_prompt_of_it test ! -e "$dir/nan/prompt-1.safetensors"
check check_tries_a_step 1 'is not finite' "$spt" check --model "$dir/huge" --train $fields/common/pairs.tsv

: >"$dir/empty.tsv"
printf '\n\n' >"$dir/blank.tsv"
printf 'text\tlabel\n' >"$dir/header.tsv"
for f in empty blank header; do
    refused "${f}_eval_file" 4 "$f.tsv" "$spt" train --model $model --train $desk/train.tsv --eval "$dir/$f.tsv" $quick --out "$dir/none"
    refused "${f}_data_file" 4 "$f.tsv" "$spt" eval --model $model --data "$dir/$f.tsv"
done
gzip -c "$dir/empty.tsv" >"$dir/empty.tsv.gz"
refused gzip_of_nothing 4 'empty' "$spt" train --model $model --train $desk/train.tsv --eval "$dir/empty.tsv.gz" $quick --out "$dir/none"
expect nothing_written test ! -e "$dir/none"

# Its kind: other metrics, where lower is better; patience without a file; patience through a kill.
check loss_improves 0 '' T --lr 0.3 --metric loss --patience 3 --steps 3 --out "$dir/loss"
py lower_loss_is_better "$dir/loss" <<'EOF'
import json, sys
rows = [json.loads(l) for l in open(sys.argv[1] + "/eval.jsonl")]
best = json.load(open(sys.argv[1] + "/best.json"))
low = min(rows, key=lambda r: r["loss"])
assert best["step"] == low["step"] and best["metric"] == "loss", (best, rows)
EOF
refused patience_without_eval 3 'patience.*eval' "$spt" train --model $model --train $desk/train.tsv --patience 3 $quick --out "$dir/none"
check patience_of_one 0 'stopped at step 2' T --lr 1e-30 --patience 1 --steps 50 --out "$dir/one"
check finished_run_stays_finished 0 'nothing to train' T --lr 1e-30 --patience 1 --steps 50 --out "$dir/one"
finish
