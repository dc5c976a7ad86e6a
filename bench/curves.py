#!/usr/bin/env python3
"""curves.py [--seeds 5] [--steps 300] [--model DIR --train FILE --eval FILE] [--out DIR] [--json]

The same training in float32 and in bfloat16, several seeds each (one `spt sweep` per type): mean training loss of the last
tenth of the steps, best and last accuracy, mean and deviation over the seeds, and whether the types end within noise
of each other: the means differ by less than two standard errors of their difference. Defaults: the demo.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--seeds", type=int, default=5)
ap.add_argument("--steps", type=int, default=300)
ap.add_argument("--batch", type=int, default=32)
ap.add_argument("--model", default=str(ROOT / "demo/t5-mini"))
ap.add_argument("--train", default=str(ROOT / "demo/desk/train.tsv"))
ap.add_argument("--eval", default=str(ROOT / "demo/desk/dev.tsv"))
ap.add_argument("--option", action="append", default=[], help="for both, e.g. --option=--header=no")
ap.add_argument("--out", help="keep the runs here (and continue them)")
ap.add_argument("--spt", default=str(ROOT / "build/release/spt"))
ap.add_argument("--json", action="store_true", help="only the JSON object")
a = ap.parse_args()
tmp = tempfile.TemporaryDirectory(prefix="curves-")
out = pathlib.Path(a.out or tmp.name)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def curves(compute):
    """One list of figures per seed."""
    command = [a.spt, "sweep", "--model", a.model, "--train", a.train, "--eval", a.eval, "--out", str(out / compute), "--seeds",
               ",".join(str(s + 1) for s in range(a.seeds)), "--steps", str(a.steps), "--batch", str(a.batch), "--compute",
               compute, "--resume", "--quiet", *a.option]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = []
    for s in range(a.seeds):
        run = out / compute / f"seed{s + 1}"
        losses = [x["loss_per_nonpadding_target_token"] for x in lines(run / "train.jsonl")]
        scores = [x["accuracy"] for x in lines(run / "eval.jsonl")]
        tail = max(1, len(losses) // 10)
        found.append({"loss": statistics.mean(losses[-tail:]), "best": max(scores), "last": scores[-1],
                      "curve": [round(statistics.mean(losses[i:i + tail]), 4) for i in range(0, len(losses), tail)]})
    return found


result = {"seeds": a.seeds, "steps": a.steps, "batch": a.batch}
runs = {c: curves(c) for c in ("float32", "bfloat16")}
within = True
for what in ("loss", "best", "last"):
    mean, error = {}, 0
    for c, r in runs.items():
        values = [x[what] for x in r]
        mean[c] = statistics.mean(values)
        error += statistics.variance(values) / len(values)
        result[f"{what}_{c}"] = {"mean": mean[c], "deviation": statistics.stdev(values), "values": values}
    difference = mean["bfloat16"] - mean["float32"]
    close = abs(difference) <= 2 * error ** 0.5
    within = within and close
    result[f"{what}_difference"] = {"value": difference, "two_standard_errors": 2 * error ** 0.5, "within_noise": close}
    if not a.json:
        for c in runs:
            r = result[f"{what}_{c}"]
            print(f"{what:5} {c:8}: mean {r['mean']:.4f}, deviation {r['deviation']:.4f}  "
                  f"({', '.join(f'{v:.4f}' for v in r['values'])})")
        print(f"{what:5} difference {difference:+.4f}, noise {2 * error ** 0.5:.4f}: {'within' if close else 'OUTSIDE'}")
if not a.json:
    print("loss by tenths of the run (means over the seeds):")
    for c, r in runs.items():
        print(f"  {c:8} " + " ".join(f"{statistics.mean(x):.3f}" for x in zip(*(y["curve"] for y in r))))
result["within_noise"] = within
print(json.dumps(result))
sys.exit(0 if within else 1)
