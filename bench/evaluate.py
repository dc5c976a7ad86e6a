#!/usr/bin/env python3
"""evaluate.py --data dev.tsv --vocab spiece.model [--size small|base] [--examples 872] [--batches 8,32,64]
               [--prompt 100] [--rounds 2] [--compute float32,bfloat16] [--settings answer,file,20,128,512] [--json]

Evaluation of a two-label task with a soft prompt: `spt eval` ranking the labels beside `generate` of Hugging Face
through PEFT, examples per second on the same model (random weights, tools/make-model), prompt, texts and threads. What
`generate` does depends on how it is called, so several settings are measured:

  answer  examples sorted by length, padded to the longest of the batch, as many tokens as the longest label has, end
          mark included: the least that answers
  file    the same in the order of the file, as a loop over a data set does it
  20      file, as `generate` is when nobody says how long: 20 tokens (random weights never say the end mark early; a trained
          prompt would, and cost what `file` does)
  128     file, with inputs padded to 128 as PEFT's own examples and run_glue.py do
  512     file, with inputs padded to 512, to which the reference pads SST-2

PEFT takes the fastest of --batches in setting `answer` (tried on the first examples). Both sides are timed without loading:
spt's seconds are those of answering (`spt eval --profile`), PEFT's those of the generate calls. The log-likelihoods of the labels
for the first eight examples must agree with the model of Hugging Face in float32 (within 0.001), or the script stops. --data:
text<TAB>0 or 1. --sample N: PEFT evaluates only N examples, evenly spread.

Rounds alternate; ratios are medians, above 1 when spt is faster: ratio_float32 of float32 on both sides, ratio_best of
the fastest type of each, ratio_default of spt's fastest type over float32 on the other side, in which from_pretrained
loads. The last line is one JSON object. SPT_BENCH_DIR keeps the model. Needs torch, transformers and peft in the Python
that runs it.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LABELS = ["negative", "positive"]
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--size", default="small")
ap.add_argument("--examples", type=int, default=872)
ap.add_argument("--batches", default="8,32,64")
ap.add_argument("--prompt", type=int, default=100)
ap.add_argument("--settings", default="answer,file,20,128")
ap.add_argument("--sample", type=int, default=0, help="examples for PEFT, evenly spread (default: all)")
ap.add_argument("--rounds", type=int, default=2)
ap.add_argument("--compute", default="float32,bfloat16")
ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
ap.add_argument("--data", required=True)
ap.add_argument("--vocab", required=True)
ap.add_argument("--spt", default=str(ROOT / "build/release/spt"))
ap.add_argument("--make-model", default=str(ROOT / "build/release/tools/make-model"))
ap.add_argument("--json", action="store_true", help="only the JSON object")
a = ap.parse_args()
types = a.compute.split(",")

import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peft import PromptTuningConfig, TaskType, get_peft_model  # noqa: E402

transformers.logging.set_verbosity_error()
torch.set_num_threads(a.threads)
tmp = tempfile.TemporaryDirectory(prefix="evaluate-")
work = pathlib.Path(tmp.name)
model_dir = f"{os.environ.get('SPT_BENCH_DIR', tmp.name)}/{a.size}-{os.path.getsize(a.vocab)}"
if not os.path.exists(model_dir):
    subprocess.run([a.make_model, "--size", a.size, "--vocab", a.vocab, model_dir], check=True,
                   stdout=subprocess.DEVNULL)
rows = [line.rstrip("\n").split("\t") for line in open(a.data, encoding="utf-8")]
rows = [("sst2 sentence: " + r[0], LABELS[int(r[1])]) for r in rows if len(r) == 2]
rows = (rows * (a.examples // len(rows) + 1))[:a.examples]
for name, some in (("all", rows), ("one", rows[:1]), ("eight", rows[:8])):
    (work / f"{name}.tsv").write_text("".join(f"{t}\t{y}\n" for t, y in some), encoding="utf-8")
subprocess.run([a.spt, "init", "--model", model_dir, "--init", "vocab", "--length", str(a.prompt), "--seed", "1", "--out",
                str(work / "p.npy"), "--quiet"], check=True)


def ids_of(texts):
    (work / "texts").write_text("".join(t + "\n" for t in texts), encoding="utf-8")
    out = subprocess.run([a.spt, "tokenize", "--model", model_dir, "--json", "--quiet", str(work / "texts")], check=True,
                         capture_output=True, text=True).stdout
    return [json.loads(line)["ids"] + [1] for line in out.splitlines()]


def spt_eval(name, compute, output=None):
    out = subprocess.run([a.spt, "eval", "--model", model_dir, "--prompt", str(work / "p.npy"), "--data", str(work / f"{name}.tsv"),
                    "--header", "no", "--input", "{1}", "--target", "{2}", "--labels", ",".join(LABELS), "--by", "rank",
                    "--compute", compute, "--threads", str(a.threads), "--json", "--quiet",
                    "--profile", *(["--output", output] if output else [])], check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in out.stdout.splitlines()][-1]


def spt_rate(compute):
    p = spt_eval("all", compute)
    result[f"spt_{compute}_share_of_peak"] = p["answering"]["share_of_peak"]
    result[f"spt_{compute}_load_seconds"] = p["load_seconds"]
    return len(rows) / p["answering"]["seconds"]


def load(compute):
    base = transformers.T5ForConditionalGeneration.from_pretrained(model_dir, torch_dtype=getattr(torch, compute))
    model = get_peft_model(base, PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=a.prompt,
                                                    num_transformer_submodules=1)).eval()
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(torch.from_numpy(numpy.load(work / "p.npy")))
    return model


def padded(some, width=0, fill=0):
    width = width or max(len(r) for r in some)
    return torch.tensor([r + [fill] * (width - len(r)) for r in some])


def peft_rate(model, some, batch, setting="answer"):
    width = int(setting) if setting in ("128", "512") else 0
    some = sorted(some, key=len) if setting == "answer" else some
    length = {} if setting == "20" else {"max_new_tokens": tokens}
    start = time.perf_counter()
    with torch.no_grad():
        for i in range(0, len(some), batch):
            ids = padded(some[i:i + batch], width)
            model.generate(input_ids=ids, attention_mask=(ids != 0).long(), do_sample=False, **length)
    return len(some) / (time.perf_counter() - start)


def check(model):
    """The labels' log-likelihoods of eight examples on both sides."""
    spt_eval("eight", "float32", str(work / "eight.jsonl"))
    ours = [json.loads(line)["scores"] for line in (work / "eight.jsonl").read_text().splitlines()]
    ids = padded(first)
    worst = 0
    for label, target in zip(LABELS, label_ids):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=torch.tensor([target] * len(ids))).logits
        p = torch.log_softmax(logits.float(), -1)
        theirs = sum(p[:, i, t] for i, t in enumerate(target)).tolist()
        worst = max([worst] + [abs(x[label] - y) for x, y in zip(ours, theirs)])
    if worst > 1e-3:
        sys.exit(f"evaluate: the labels' log-likelihoods differ by {worst}")
    return worst


inputs, label_ids = ids_of([t for t, _ in rows]), ids_of(LABELS)
first = inputs[:8]
if a.sample and a.sample < len(inputs):
    inputs = [inputs[i * len(inputs) // a.sample] for i in range(a.sample)]
tokens = max(len(x) for x in label_ids)
settings = a.settings.split(",")
result = {"size": a.size, "examples": len(rows), "peft_examples": len(inputs), "prompt": a.prompt, "tokens": tokens,
          "threads": a.threads, "load_average": os.getloadavg()}
rates = {}
for compute in types:
    model = load(compute)
    if compute == "float32":
        result["largest_difference"] = check(model)
    batches = [int(b) for b in a.batches.split(",")]
    tried = {b: peft_rate(model, inputs[:max(batches)], b) for b in batches} if len(batches) > 1 else {batches[0]: 0}
    best = max(tried, key=tried.get)
    result[f"peft_batch_{compute}"] = best
    for _ in range(a.rounds):
        rates.setdefault(("spt", compute), []).append(spt_rate(compute))
        if not a.json:
            print(f"{compute}: spt {rates['spt', compute][-1]:.1f} examples/s, "
                  f"{100 * result[f'spt_{compute}_share_of_peak']:.1f} % of the product peak", flush=True)
        for setting in settings:
            rates.setdefault((setting, compute), []).append(peft_rate(model, inputs, best, setting))
            if not a.json:
                print(f"{compute}: PEFT generate, batch {best}, setting {setting}: {rates[setting, compute][-1]:.2f} examples/s",
                      flush=True)
    del model
for (who, compute), r in rates.items():
    result[f"{who}_{compute}"] = {"min": min(r), "median": statistics.median(r), "max": max(r)}


def fastest(who):
    return max(statistics.median(rates[who, c]) for c in types)


for setting in settings:
    ratio = result.setdefault("ratios", {}).setdefault(setting, {})
    if "float32" in types:
        slow = statistics.median(rates[setting, "float32"])
        ratio["ratio_float32"] = statistics.median(rates["spt", "float32"]) / slow
        ratio["ratio_default"] = fastest("spt") / slow
    ratio["ratio_best"] = fastest("spt") / fastest(setting)
    if not a.json:
        print(f"setting {setting}: " + ", ".join(f"{k} {v:.1f}" for k, v in ratio.items()), flush=True)
print(json.dumps(result))
