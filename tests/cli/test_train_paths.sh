#!/usr/bin/env bash
# Ways to compute the same training: recomputed layers give the same bits, absorbed cross-attention
# the same losses but for rounding.
. tests/support/checks.sh
model=demo/t5-mini desk=demo/desk
train() { # NAME OPTION...
    local name=$1
    shift
    "$spt" train --model $model --train $desk/train.tsv --out "$dir/$name" --length 10 --steps 3 \
        --batch 16 --seed 1 --quiet "$@" 2>"$dir/$name.err"
}
final() { echo "$dir/$1/numpy_checkpoints/checkpoint_3/encoder.prompt.prompt.prompt"; }
losses() { sed -n 's/.*"loss": \([-0-9.e]*\).*/\1/p' "$dir/$1/train.jsonl"; }
close_losses() { # two runs: as many losses, each within 1e-3
    paste <(losses "$1") <(losses "$2") |
        awk 'NF != 2 || ($1 - $2) ^ 2 > ($1 * 1e-3) ^ 2 { bad = 1 } END { exit bad || NR < 1 }'
}

train plain && train remat --remat && train absorbed --cross-attention absorbed &&
    train both --cross-attention absorbed --remat && train auto --cross-attention auto
expect remat_same_bits cmp "$(final plain)" "$(final remat)"
expect absorbed_remat_same_bits cmp "$(final absorbed)" "$(final both)"
expect absorbed_same_losses close_losses plain absorbed
expect auto_is_one_of_them test -n "$(cmp "$(final auto)" "$(final plain)" >/dev/null && echo plain ||
    { cmp "$(final auto)" "$(final absorbed)" >/dev/null && echo absorbed; })"
train refused --cross-attention absorbed --dropout 0.1
expect absorbed_with_dropout_refused grep -q 'does not go with dropout' "$dir/refused.err"
finish
