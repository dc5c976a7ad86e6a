#!/usr/bin/env python3
"""sweep.py [--size demo|small|base] [--members 8] [--batch 8] [--prompt 100] [--steps 4] [--turns 3] [--data FILE.tsv
            --vocab spiece.model] [--compute float32] [--json]

What k prompts trained together cost beside k runs one after the other: seconds of a step of `spt sweep` over k times
those of a step of `spt train`, and the same of whole processes (loading once against k times). Members differ in seed
and learning rate. Turns alternate; a step is the time between two of its events, the first one not counted. The
ratio is k trains / sweep of one turn; above 1 the sweep is cheaper. Without --data: the demo's. SPT_BENCH_DIR keeps
the model.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--size", default="demo")
ap.add_argument("--members", type=int, default=8)
ap.add_argument("--batch", type=int, default=8)
ap.add_argument("--prompt", type=int, default=0, help="rows (default: 20 for the demo, else 100)")
ap.add_argument("--steps", type=int, default=4)
ap.add_argument("--turns", type=int, default=3)
ap.add_argument("--data", default=str(ROOT / "demo/desk/train.tsv"))
ap.add_argument("--vocab", default=str(ROOT / "demo/t5-mini/spiece.model"))
ap.add_argument("--compute", default="float32")
ap.add_argument("--threads", type=int, default=0)
ap.add_argument("--spt", default=str(ROOT / "build/release/spt"))
ap.add_argument("--make-model", default=str(ROOT / "build/release/tools/make-model"))
ap.add_argument("--json", action="store_true", help="only the JSON object")
a = ap.parse_args()
P = a.prompt or (20 if a.size == "demo" else 100)


def events(command, *options):
    """Arrival of every step event of the first run, and the seconds of the process."""
    start = time.monotonic()
    with subprocess.Popen([a.spt, command, "--model", model, "--train", a.data, "--header", "no", "--length", str(P),
                           "--batch", str(a.batch), "--steps", str(a.steps), "--save-every", "1000000", "--compute",
                           a.compute, "--threads", str(a.threads), "--json", "--quiet", *options],
                          stdout=subprocess.PIPE, text=True) as p:
        lines = [(time.monotonic(), json.loads(line)) for line in p.stdout]
    assert p.returncode == 0, p.returncode
    first = next((e.get("run") for _, e in lines if e["event"] == "step"), None)
    at = [t for t, e in lines if e["event"] == "step" and e.get("run") == first]
    return [y - x for x, y in zip(at, at[1:])], time.monotonic() - start


with tempfile.TemporaryDirectory(prefix="sweep-") as tmp:
    if a.size == "demo":
        model = str(ROOT / "demo/t5-mini")
    else:
        model = f"{os.environ.get('SPT_BENCH_DIR', tmp)}/{a.size}-{os.path.getsize(a.vocab)}"
        if not os.path.exists(model):
            subprocess.run([a.make_model, "--size", a.size, "--vocab", a.vocab, model], check=True,
                           stdout=subprocess.DEVNULL)
    turns = []
    for turn in range(a.turns):
        alone = [events("train", "--seed", str(i + 1), "--lr", "0.3", "--out", f"{tmp}/t{turn}-{i}")
                 for i in range(min(a.members, 2))]  # two of the k stand for all
        sweep = events("sweep", "--seeds", ",".join(str(i + 1) for i in range(a.members)), "--lr", "0.3", "--out",
                       f"{tmp}/s{turn}")
        step = statistics.median(s for x in alone for s in x[0]) * a.members
        process = statistics.mean(x[1] for x in alone) * a.members
        turns.append({"step_train": step, "step_sweep": statistics.median(sweep[0]), "process_train": process,
                      "process_sweep": sweep[1]})
        if not a.json:
            t = turns[-1]
            print(f"turn {turn + 1}: a step of {a.members} runs {t['step_train']:.3f} s, of the sweep "
                  f"{t['step_sweep']:.3f} s; processes {t['process_train']:.2f} s and {t['process_sweep']:.2f} s", flush=True)
    result = {"size": a.size, "members": a.members, "batch": a.batch, "prompt": P, "compute": a.compute, "steps": a.steps}
    for what in ("step", "process"):
        r = [t[f"{what}_train"] / t[f"{what}_sweep"] for t in turns]
        result[f"ratio_{what}"] = statistics.median(r)
        result[f"ratio_{what}_spread"] = [min(r), max(r)]
    print(json.dumps(result))
