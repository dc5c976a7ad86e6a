#!/usr/bin/env bash
# Field case 05: tensors that no T5 uses, as early converters left them.
. tests/field/lib.sh
fixture 05
want=$dir/05/expected.json
for d in zero_norm_bias cross_table alias_copies; do
    score_as $d "$dir/05/$d" "$want" "zero_norm_bias, cross_table, alias_copies (accepted, at most one warning)" 5e-5r
    expect ${d}_one_line_at_most test "$(grep -c 'ignored\|warning' "$dir/err")" -le 1
    cp "$dir/scores" "$dir/$d.scores"
done
expect leftovers_change_no_bit cmp "$dir/zero_norm_bias.scores" "$dir/alias_copies.scores"
S() { "$spt" score --model "$dir/05/$1" --data $fields/common/pairs.tsv; }
refused norm_bias_not_zero 4 'layer_norm.bias.*not zero' S norm_bias_not_zero
refused stranger 4 'encoder.block.0.layer.0.adapter.weight' S stranger

# Its kind: one value that is not zero, an alias that is no copy, a stranger in a float16 file.
"$python" - "$dir/05" <<'EOF'
import os, sys
sys.path.insert(0, "tests/fixtures/field/common")
import numpy as np, tinyt5
cfg = dict(tinyt5.BASE)
w = tinyt5.make_weights(cfg)
bias = {k[:-6] + "bias": np.zeros(a.shape, np.float32) for k, a in w.items() if k.endswith("layer_norm.weight")}
put = lambda name, f16=False, **more: tinyt5.write_dir(os.path.join(sys.argv[1], name), cfg, {**w, **more}, as_f16=f16)
one = {k: a.copy() for k, a in bias.items()}
last = sorted(one)[-1]
one[last][-1] = 1e-3
put("one_value", **one)
other = w["shared.weight"].copy()
other[4095, 3] += 1
put("alias_differs", **{"decoder.embed_tokens.weight": other})
put("stranger_f16", f16=True, **{"decoder.block.1.layer.3.lora_A.weight": np.ones((2, 16), np.float32)})
EOF
refused one_value_not_zero 4 'encoder.final_layer_norm.bias.*not zero' S one_value
refused alias_differs 4 'decoder.embed_tokens.weight' S alias_differs
refused stranger_in_float16 4 'lora_A.weight' S stranger_f16
refused check_names_the_stranger 4 'adapter.weight' "$spt" check --model "$dir/05/stranger"
finish
