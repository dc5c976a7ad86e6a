#!/usr/bin/env python3
"""tiny_t5x.py DIR [--scan] [--rename FROM=TO ...] [--drop NAME ...]: a small T5 1.1 over bytes as a T5X checkpoint.

Writes DIR/checkpoint_100/checkpoint, everything in one msgpack file as T5X reads it, and DIR/tiny.gin, which
fits it. Always the same numbers. --scan stacks the layers as scan_layers does; --rename and --drop make
checkpoints whose leaves are not called as the model's (below target/).
"""
import argparse
import math
import pathlib
import random
import struct

V, E, H, D, F, LAYERS, BUCKETS = 384, 16, 2, 8, 32, 2, 8

ap = argparse.ArgumentParser()
ap.add_argument("dir", type=pathlib.Path)
ap.add_argument("--scan", action="store_true")
ap.add_argument("--rename", action="append", default=[])
ap.add_argument("--drop", action="append", default=[])
a = ap.parse_args()
rng = random.Random(5)


def put(n, small, wide):
    if n < small[1]:
        return bytes([small[0] | n])
    return struct.pack(">BH", wide, n) if n < 65536 else struct.pack(">BI", wide + 1, n)


def pack(x):
    if isinstance(x, dict):
        return put(len(x), (0x80, 16), 0xDE) + b"".join(pack(k) + pack(x[k]) for k in sorted(x))
    if isinstance(x, (list, tuple)):
        return put(len(x), (0x90, 16), 0xDC) + b"".join(map(pack, x))
    if isinstance(x, str):
        b = x.encode()
        return (put(len(b), (0xA0, 32), 0) if len(b) < 32 else struct.pack(">BB", 0xD9, len(b))) + b
    if isinstance(x, bytes):
        return struct.pack(">BI", 0xC6, len(x)) + x
    if isinstance(x, int):
        return struct.pack(">Bi", 0xD2, x) if x > 127 else bytes([x])
    if x is None:
        return b"\xc0"
    dtype, shape, data = x.array
    body = pack([list(shape), dtype, data])
    return struct.pack(">BIb", 0xC9, len(body), 1) + body


class Array:
    def __init__(self, shape, values, dtype="float32", fmt="f"):
        self.array = (dtype, shape, struct.pack(f"<{len(values)}{fmt}", *values))
        self.shape, self.values = shape, values


def normal(*shape, std):
    return Array(shape, [rng.gauss(0, std) for _ in range(math.prod(shape))])


def ones(n):
    return Array((n,), [1 + rng.gauss(0, 0.05) for _ in range(n)])


def attention():
    return {"query/kernel": normal(E, H * D, std=(E * D) ** -0.5), "key/kernel": normal(E, H * D, std=E**-0.5),
            "value/kernel": normal(E, H * D, std=E**-0.5), "out/kernel": normal(H * D, E, std=(H * D) ** -0.5)}


def mlp():
    return {"wi_0/kernel": normal(E, F, std=E**-0.5), "wi_1/kernel": normal(E, F, std=E**-0.5),
            "wo/kernel": normal(F, E, std=F**-0.5)}


def flat(prefix, parts):
    return {f"{prefix}/{k}": v for k, v in parts.items()}


leaves = {"token_embedder/embedding": normal(V, E, std=1), "decoder/logits_dense/kernel": normal(E, V, std=E**-0.5)}
for stack in ("encoder", "decoder"):
    leaves[f"{stack}/{stack}_norm/scale"] = ones(E)
    leaves[f"{stack}/relpos_bias/rel_embedding"] = normal(H, BUCKETS, std=0.3)
    for i in range(LAYERS):
        at = f"{stack}/layers_{i}"
        leaves[f"{at}/pre_mlp_layer_norm/scale"] = ones(E)
        leaves |= flat(f"{at}/mlp", mlp())
        for name in ("attention",) if stack == "encoder" else ("self_attention", "encoder_decoder_attention"):
            leaves |= flat(f"{at}/{name}", attention())
        for name in ("pre_attention",) if stack == "encoder" else ("pre_self_attention", "pre_cross_attention"):
            leaves[f"{at}/{name}_layer_norm/scale"] = ones(E)
if a.scan:
    for stack in ("encoder", "decoder"):
        first = f"{stack}/layers_0/"
        for name in [n[len(first):] for n in leaves if n.startswith(first)]:
            parts = [leaves.pop(f"{stack}/layers_{i}/{name}") for i in range(LAYERS)]
            shape = parts[0].shape
            # Layers stand on axis 1: [in, layers, out].
            rows = shape[0] if len(shape) > 1 else shape[0]
            width = math.prod(shape[1:])
            values = [p.values[r * width + c] for r in range(rows) for p in parts for c in range(width)]
            leaves[f"{stack}/{stack}/{name}"] = Array((shape[0], LAYERS) + tuple(shape[1:]), values)
for pair in a.rename:
    old, new = pair.split("=")
    leaves[new] = leaves.pop(old)
for name in a.drop:
    del leaves[name]

tree = {}
for name, value in leaves.items():
    at = tree
    *above, last = name.split("/")
    for key in above:
        at = at.setdefault(key, {})
    at[last] = value
file = {"version": 3, "optimizer": {"state": {"step": Array((), [100], "int32", "i"), "param_states": {}}, "target": tree}}
out = a.dir / "checkpoint_100"
out.mkdir(parents=True, exist_ok=True)
(out / "checkpoint").write_bytes(pack(file))
(a.dir / "tiny.gin").write_text(f"""# What fits the checkpoint beside it. Written by tests/support/tiny_t5x.py.
from __gin__ import dynamic_registration
from flaxformer.components import relative_position_biases
import seqio
include 'prompt_tuning/configs/models/t5_1_1_base_prompt.gin'
NUM_EMBEDDINGS = {V}
EMBED_DIM = {E}
NUM_HEADS = {H}
HEAD_DIM = {D}
MLP_DIM = {F}
NUM_ENCODER_LAYERS = {LAYERS}
NUM_DECODER_LAYERS = {LAYERS}
relative_position_biases.RelativePositionBiases:
  num_buckets = {BUCKETS}
  max_distance = 16
VOCABULARY = @seqio.ByteVocabulary()
ACTIVATION_DTYPE = 'float32'
PROMPT_LENGTH = 4
""")
