#!/usr/bin/env python3
"""mixture_kill.py --kills N: a run of the reference's kind over a mixture is killed and continued to the same bits.

Two tasks with rates over one tiny T5X checkpoint, dropout, checkpoints, evaluations and the data's position in
each checkpoint (SaveCheckpointConfig.save_dataset). The run is made once alone; then again and again it is
killed with SIGKILL (or, now and then, stopped with SIGTERM) at random instants and given the same command until
it is done. Then must be equal: every file of every checkpoint, all numpy prompts, predictions and metrics of the
evaluator, and the scalars of every step (loss, so the order of the data, too) but for times. SEED fixes the
instants.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ap = argparse.ArgumentParser()
ap.add_argument("--kills", type=int, default=14)
ap.add_argument("--seed", type=int, default=3)
a = ap.parse_args()
rng = random.Random(a.seed)
SPT = os.environ["SPT_BIN"]
PACE = os.path.abspath(os.environ.get("SPT_BUILD", "") + "/tests/crash/pace.so")
here = pathlib.Path.cwd()
env = dict(os.environ, SPT_CONFIGS=str(here / "configs"))
# Where syncing costs nothing, if there is such a place: a kill does not ask the disk.
shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
work = pathlib.Path(tempfile.mkdtemp(prefix="spt-mixture-", dir=shm))
subprocess.run([sys.executable, "tests/support/tiny_t5x.py", str(work)], check=True)


def head(src, first, n, dst):
    (work / dst).write_text("".join(pathlib.Path(src).read_text().splitlines(True)[first:first + n]))


head("demo/desk/train.tsv", 0, 30, "desk.tsv")
head("demo/desk/train.tsv", 30, 14, "echo.tsv")
head("demo/desk/dev.tsv", 0, 6, "dev.tsv")
(work / "run.gin").write_text(f"""
from __gin__ import dynamic_registration
import __main__ as train_script
import spt
from t5x import utils
include '{work}/tiny.gin'
include 'prompt_tuning/configs/runs/prompt_finetune.gin'
desk/spt.Task:
  train = '{work}/desk.tsv'
  validation = '{work}/dev.tsv'
  input = 'desk: {{1}}'
  target = '{{2}}'
  labels = ['account', 'billing', 'cancel', 'delivery', 'praise', 'product']
  metrics = ['accuracy']
echo/spt.Task:
  train = '{work}/echo.tsv'
  validation = '{work}/dev.tsv'
  input = '{{1}}'
  target = '{{2}} {{1}}'
  metrics = ['edit_distance']
mix/spt.Mixture:
  tasks = ['desk', 'echo']
  rates = [2.5, 1]
MIXTURE_OR_TASK_NAME = 'mix'
TASK_FEATURE_LENGTHS = {{'inputs': 24, 'targets': 8}}
BATCH_SIZE = 4
TRAIN_STEPS = 128
EVAL_PERIOD = 8
EVAL_STEPS = 1
USE_CACHED_TASKS = False
DROPOUT_RATE = 0.1
RANDOM_SEED = 3
train/utils.DatasetConfig.seed = 11
INITIAL_CHECKPOINT_PATH = '{work}/checkpoint_100'
utils.SaveCheckpointConfig:
  period = 4
  keep = None
  save_dataset = True
train_script.train.stats_period = 1
""")


def start(out, pace_us=0):
    e = dict(env)
    out.mkdir(exist_ok=True)
    if pace_us and os.path.exists(PACE):
        e.update(LD_PRELOAD=PACE, SPT_PACE_US=str(pace_us))
    return subprocess.Popen([SPT, "train", "--gin_file", str(work / "run.gin"), "--gin.MODEL_DIR='model_dir'", "--threads=1",
                             "--quiet"], cwd=out, env=e, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def varint(b, at):
    v = shift = 0
    while True:
        v |= (b[at] & 127) << shift
        shift += 7
        at += 1
        if b[at - 1] < 128:
            return v, at


def fields(b):
    at = 0
    while at < len(b):
        key, at = varint(b, at)
        if key & 7 == 0:
            v, at = varint(b, at)
        elif key & 7 == 2:
            n, at = varint(b, at)
            v, at = b[at:at + n], at + n
        else:
            n = 8 if key & 7 == 1 else 4
            v, at = b[at:at + n], at + n
        yield key >> 3, v


def scalars(path, into):
    """{(step, tag): value bytes}; a record that a kill cut short ends the file."""
    data, at = path.read_bytes(), 0
    while at + 12 <= len(data):
        (n,) = struct.unpack_from("<Q", data, at)
        body = data[at + 12:at + 12 + n]
        if at + 16 + n > len(data):
            return
        f = dict(fields(body))
        for value in ([v for k, v in fields(f[5]) if k == 1] if 5 in f else []):
            one = dict(fields(value))
            tag = one[1].decode()
            # Every process writes its configuration where it begins.
            if not re.search("seconds|per_second|timing", tag) and (tag != "config" or f.get(2) == 100):
                into[(f.get(2, 0), tag)] = value
        at += 16 + n


def content(out):
    """What the run is, by name; event files of one directory as one, later processes over earlier ones."""
    found, out = {}, out / "model_dir"
    for path in sorted(out.rglob("*"), key=lambda p: (p.stat().st_mtime_ns, str(p))):
        rel = path.relative_to(out)
        if not path.is_file() or ".tmp-" in str(rel):
            continue
        if "tfevents" in rel.name:
            scalars(path, found.setdefault(f"{rel.parent}/events", {}))
        else:
            found[str(rel)] = path.read_bytes()
    return found


def differences(x, y, other_steps):
    for name in sorted(set(x) | set(y)):
        # SIGTERM saves at steps of its own.
        if name not in x and other_steps and re.match(r"(numpy_checkpoints/)?checkpoint_", name):
            continue
        if x.get(name) == y.get(name):
            continue
        if isinstance(x.get(name), dict) and isinstance(y.get(name), dict):
            bad = [k for k in set(x[name]) | set(y[name]) if x[name].get(k) != y[name].get(k)]
            yield f"{name}: {sorted(bad)[:4]}"
        else:
            yield f"{name}: {'differs' if name in x and name in y else 'only in one'}"


whole = work / "whole"
t0 = time.monotonic()
p = start(whole)
err = p.communicate()[1]
seconds = time.monotonic() - t0
if p.returncode:
    sys.exit(f"the uninterrupted run failed: {err.decode()}")
want = content(whole)
steps = {s for s, tag in want["train/events"] if tag == "loss"}
if steps != set(range(101, 129)) or len(want) < 60:
    sys.exit(f"the run is not what it should be: steps {sorted(steps)}, {len(want)} files")
made = runs = bad = 0
while made < a.kills:
    out, stopped = work / f"run{runs}", False
    for _ in range(rng.randint(1, 4)):
        pace = rng.choice([0, 0, 3000, 6000])
        p = start(out, pace)
        time.sleep(rng.random() * (seconds + pace * 1e-6 * 400))
        if p.poll() is not None:
            break
        soft = rng.random() < 0.2
        stopped |= soft
        p.send_signal(signal.SIGTERM if soft else signal.SIGKILL)
        p.wait()
        made += 1
    for _ in range(3):
        p = start(out)
        err = p.communicate()[1]
        if p.returncode != 75:
            break
    problems = [f"exit {p.returncode}: {err.decode()}"] if p.returncode else list(
        differences(want, content(out), stopped))
    if problems:
        bad += 1
        print(f"run {runs}: {problems[:5]}; kept in {out}", flush=True)
    else:
        shutil.rmtree(out)
    runs += 1
print(f"{made} kills in {runs} runs of a mixture, {runs - bad}/{runs} bit-identical")
if not bad:
    shutil.rmtree(work)
sys.exit(bad > 0)
