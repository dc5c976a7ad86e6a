"""A Hugging Face T5 1.1 of 120 MB with random weights, most of them in what ranks split: for figures of
memory. big_model.py DIR MODEL: beside the vocabulary of MODEL. Prints the bytes of the weights."""
import json
import os
import shutil
import struct
import sys

import numpy

out, base = sys.argv[1:3]
V, E, D, H, F, L = 32128, 256, 32, 8, 1024, 6
shapes = {"shared.weight": (V, E), "lm_head.weight": (V, E)}


def attention(name):
    for x in "qkv":
        shapes[f"{name}.{x}.weight"] = (H * D, E)
    shapes[f"{name}.o.weight"] = (E, H * D)


for stack in "encoder", "decoder":
    for i in range(L):
        block = f"{stack}.block.{i}.layer."
        attention(block + "0.SelfAttention")
        shapes[block + "0.layer_norm.weight"] = (E,)
        if i == 0:
            shapes[block + "0.SelfAttention.relative_attention_bias.weight"] = (32, H)
        if stack == "decoder":
            attention(block + "1.EncDecAttention")
            shapes[block + "1.layer_norm.weight"] = (E,)
        ff = f"{block}{2 if stack == 'decoder' else 1}"
        shapes[ff + ".DenseReluDense.wi_0.weight"] = (F, E)
        shapes[ff + ".DenseReluDense.wi_1.weight"] = (F, E)
        shapes[ff + ".DenseReluDense.wo.weight"] = (E, F)
        shapes[ff + ".layer_norm.weight"] = (E,)
    shapes[stack + ".final_layer_norm.weight"] = (E,)

header, at = {}, 0
for name, shape in shapes.items():
    size = 4 * int(numpy.prod(shape))
    header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
random = numpy.random.default_rng(1)
os.makedirs(out, exist_ok=True)
with open(out + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for shape in shapes.values():
        n = int(numpy.prod(shape))
        values = numpy.ones(n) if len(shape) == 1 else 0.05 * random.standard_normal(n, dtype=numpy.float32)
        f.write(values.astype("<f4").tobytes())
config = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": V, "d_model": E,
          "d_kv": D, "num_heads": H, "d_ff": F, "num_layers": L, "num_decoder_layers": L,
          "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
          "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "layer_norm_epsilon": 1e-6,
          "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
with open(out + "/config.json", "w") as f:
    json.dump(config, f)
shutil.copy(base + "/spiece.model", out)
print(at)
