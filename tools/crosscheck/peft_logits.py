#!/usr/bin/env python3
"""A prompt trained by spt gives the same log-likelihoods in PEFT.  Run by hand; needs torch,
transformers and peft (never needed by spt or its tests).

    spt train --model demo/t5-mini --train demo/desk/train.tsv --steps 20 --out RUN
    spt convert RUN/prompt-20.safetensors RUN/adapter.peft/ --model demo/t5-mini
    spt score --model demo/t5-mini --prompt RUN --data demo/desk/dev.tsv > scores.jsonl
    tools/crosscheck/peft_logits.py demo/t5-mini RUN/adapter.peft scores.jsonl

Prints the largest absolute difference of the scores and exits 1 when it is above 1e-3.
"""
import json
import sys

import torch
from peft import PeftModel
from transformers import T5ForConditionalGeneration, T5Tokenizer

model_dir, adapter, scores = sys.argv[1:4]
base = T5ForConditionalGeneration.from_pretrained(model_dir, torch_dtype=torch.float32)
model = PeftModel.from_pretrained(base, adapter).eval()
tokenizer = T5Tokenizer.from_pretrained(model_dir, legacy=True)
worst = 0.0
rows = [json.loads(line) for line in open(scores, encoding="utf-8")]
with torch.no_grad():
    for row in rows:
        inputs = tokenizer(row["inputs"], return_tensors="pt")
        labels = tokenizer(row["targets"], return_tensors="pt").input_ids
        logits = model(**inputs, labels=labels).logits[0]
        logp = logits.log_softmax(-1).gather(-1, labels[0][:, None]).sum().item()
        worst = max(worst, abs(logp - row["score"]))
print(f"{len(rows)} rows, largest difference {worst:.3g}")
sys.exit(worst > 1e-3)
