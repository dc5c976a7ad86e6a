#!/usr/bin/env python3
"""generate.py [--size small] [--examples 872] [--tokens 8] [--batch 32] [--prompt 100] [--rounds 3]
               --data FILE.tsv --vocab spiece.model [--beam]

Greedy evaluation with a soft prompt: examples per second of `spt` and of Hugging Face `generate`
(float32, same machine, threads, batch size, prompt and number of new tokens), and what four beams cost
per token against greedy decoding. Rounds alternate, medians are printed, so that a busy machine weighs on
both alike. The model has random weights (tools/make-model) and never ends early: every example decodes
exactly --tokens tokens on both sides, and the ids are compared.

spt's time is that of the process without loading (a run over one example is subtracted); Hugging Face's
is that of the generate calls, tokenising not counted. Needs torch and transformers in the Python that
runs it. Exit 0 when the ids agree.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ap = argparse.ArgumentParser()
ap.add_argument("--size", default="small")
ap.add_argument("--examples", type=int, default=872)
ap.add_argument("--tokens", type=int, default=8)
ap.add_argument("--batch", type=int, default=32)
ap.add_argument("--prompt", type=int, default=100)
ap.add_argument("--rounds", type=int, default=3)
ap.add_argument("--threads", type=int, default=os.cpu_count())
ap.add_argument("--data", required=True)
ap.add_argument("--vocab", required=True)
ap.add_argument("--beam", action="store_true", help="also four beams")
ap.add_argument("--cpu", action="store_true", help="examples per second of processor time instead of wall time")
ap.add_argument("--mixed", action="store_true", help="also four prompts in one batch")
a = ap.parse_args()
BUILD = os.environ.get("SPT_BUILD", "build/release")
SPT = f"{BUILD}/spt"
work = pathlib.Path(tempfile.mkdtemp(prefix="spt-generate-"))
subprocess.run([f"{BUILD}/tools/make-model", "--size", a.size, "--seed", "1", "--vocab", a.vocab, str(work / "model")],
               check=True)
texts = [line.rstrip("\n").split("\t")[0] for line in open(a.data, encoding="utf-8")]
texts = (texts * (a.examples // len(texts) + 1))[:a.examples]
(work / "all.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
(work / "one.txt").write_text(texts[0] + "\n", encoding="utf-8")
names = "abcd"
(work / "mixed.tsv").write_text("text\tprompt\n" + "".join(f"{t}\tp{names[i % 4]}\n" for i, t in enumerate(texts)),
                                encoding="utf-8")
for i, n in enumerate(names):
    subprocess.run([SPT, "init", "--model", str(work / "model"), "--init", "vocab", "--length", str(a.prompt),
                    "--seed", str(i + 1), "--out", str(work / f"p{n}.npy"), "--quiet"], check=True)


def children():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def spt(file, *options):
    """Seconds of one process, and its answers."""
    table = ["--data", str(work / file)] if file.endswith(".tsv") else [str(work / file)]
    prompt = [] if "--prompts" in options else ["--prompt", str(work / "pa.npy")]
    clock = children if a.cpu else time.perf_counter
    start = clock()
    out = subprocess.run([SPT, "infer", "--model", str(work / "model"), *prompt, "--max-output",
                          str(a.tokens), "--batch", str(a.batch), "--threads", str(a.threads), "--quiet", "--json",
                          "--ids", *options, *table], check=True, capture_output=True)
    return clock() - start, [json.loads(x)["prediction_tokens"] for x in out.stdout.splitlines()]


def rate_of(file, *options):
    one, _ = spt("one.txt" if file == "all.txt" else "one.tsv", *options)
    whole, ids = spt(file, *options)
    return len(texts) / (whole - one), ids


(work / "one.tsv").write_text("text\tprompt\n" + f"{texts[0]}\tpa\n", encoding="utf-8")

import numpy  # noqa: E402
import torch  # noqa: E402
from transformers import T5ForConditionalGeneration, T5Tokenizer  # noqa: E402

torch.set_num_threads(a.threads)
tok = T5Tokenizer(str(work / "model" / "spiece.model"), extra_ids=100, legacy=False)
model = T5ForConditionalGeneration.from_pretrained(work / "model").eval()
rows = torch.tensor(numpy.load(work / "pa.npy"))
batches = [tok(texts[i:i + a.batch], return_tensors="pt", padding=True) for i in range(0, len(texts), a.batch)]


def huggingface(beams):
    ids = []
    clock = time.process_time if a.cpu else time.perf_counter
    start = clock()
    with torch.no_grad():
        for b in batches:
            n = b.input_ids.shape[0]
            embeds = torch.cat([rows.expand(n, -1, -1), model.shared(b.input_ids)], 1)
            mask = torch.cat([torch.ones(n, len(rows), dtype=torch.long), b.attention_mask], 1)
            out = model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=a.tokens,
                                 num_beams=beams, do_sample=False)
            ids += [x[1:].tolist() for x in out]
    return len(texts) / (clock() - start), ids


def cut(ids):
    return ids[:ids.index(0)] if 0 in ids else ids


ours, theirs, beams, hf_beams, mixed = [], [], [], [], []
for _ in range(a.rounds):
    rate, ids = rate_of("all.txt", "--decode", "greedy")
    ours.append(rate)
    rate, hf_ids = huggingface(1)
    theirs.append(rate)
    if a.beam:
        beams.append(rate_of("all.txt", "--decode", "beam-hf", "--beams", "4")[0])
        hf_beams.append(huggingface(4)[0])
    if a.mixed:
        mixed.append(rate_of("mixed.tsv", "--decode", "greedy", "--prompts",
                             ",".join(str(work / f"p{n}.npy") for n in names), "--prompt-column", "prompt")[0])
same = sum(cut(x) == cut(y) for x, y in zip(ids, hf_ids))
m = statistics.median
print(f"greedy, T5 1.1 {a.size}, prompt {a.prompt}, batch {a.batch}, {a.tokens} tokens, {a.threads} threads, float32{', processor time' if a.cpu else ''}: "
      f"spt {m(ours):.1f} examples/s, Hugging Face {m(theirs):.1f} examples/s, ratio {m(ours) / m(theirs):.2f}; "
      f"ids equal {same}/{len(texts)}")
if a.beam:
    print(f"four beams: spt {m(beams):.1f} examples/s, Hugging Face {m(hf_beams):.1f} examples/s, ratio "
          f"{m(beams) / m(hf_beams):.2f}; cost against four greedy sequences {m(ours) / m(beams) / 4:.2f}")
if a.mixed:
    print(f"four prompts in one batch: {m(mixed):.1f} examples/s, {100 * (m(ours) / m(mixed) - 1):.1f} % over one prompt")
# Near ties of random weights may fall either way in float32; they are rare.
sys.exit(0 if same >= 0.99 * len(texts) else 1)
