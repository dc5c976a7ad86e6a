#!/usr/bin/env bash
# Field case 04: config.json and the tensors disagree about the feed-forward block.
. tests/field/lib.sh
fixture 04
want=$dir/04/expected.json
gelu="ref, gelu_new_named, early_flan (the last with a warning)"
for d in ref gelu_new_named early_flan; do
    score_as $d "$dir/04/$d" "$want" "$gelu" 2e-5
    if [ $d = early_flan ]; then
        told early_flan_is_said 'warning: .*gelu_new'
    else
        untold ${d}_is_silent warning
    fi
done
score_as gated_silu "$dir/04/gated_silu" "$want" "gated_silu (or a refusal by name)" 5e-5r
score_as no_key_is_relu "$dir/04/no_key_at_all" "$want" no_key_at_all 5e-5r
S() { "$spt" "$1" --model "$dir/04/$2" --data $fields/common/pairs.tsv; }
refused relu_but_gated_tensors 3 "feed_forward_proj 'relu'.*wi_0.weight" S score relu_but_gated_tensors
refused gated_but_plain_tensors 3 "feed_forward_proj 'gated-gelu'.*DenseReluDense.wi.weight" S score gated_but_plain_tensors

# Its kind: every command that opens a model; nothing is written.
refused eval_refuses 3 feed_forward_proj S eval relu_but_gated_tensors
refused check_refuses 3 feed_forward_proj "$spt" check --model "$dir/04/gated_but_plain_tensors"
refused train_refuses 3 feed_forward_proj "$spt" train --model "$dir/04/relu_but_gated_tensors" --train $fields/common/pairs.tsv $quick --out "$dir/run"
expect nothing_written test ! -e "$dir/run"
"$python" - "$dir/04/ref" "$dir/04" <<'EOF'
import json, os, shutil, sys
base = json.load(open(sys.argv[1] + "/config.json"))
for name, change in {"strange_name": dict(feed_forward_proj="gated-mish"),
                     "not_gated_flag": dict(is_gated_act=False),
                     "two_activations": dict(dense_act_fn="relu")}.items():
    d = os.path.join(sys.argv[2], name)
    shutil.copytree(sys.argv[1], d)
    json.dump(dict(base, **change), open(d + "/config.json", "w"))
EOF
refused strange_name 3 "gated-mish" S score strange_name
refused not_gated_flag 3 "is_gated_act" S score not_gated_flag
check two_activations_named 3 "relu.*gelu|gelu.*relu" S score two_activations
finish
