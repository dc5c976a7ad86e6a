#!/usr/bin/env python3
"""kill_runs.py --kills N | --signals N: bars K1, K5 and K10 on the real program.

Reference runs are made once, left alone. Then, again and again, a run is interrupted at random instants
(up to five times) and continued with --resume; in the end its directory must equal the reference's,
bit for bit (compare_runs.py: prompts, states, logs, event files, best.json, numpy checkpoint), the
examples of every step included (train.jsonl of --log-examples), and so must the answers of its best
prompt.

  --kills N    SIGKILL. In half of the attempts the calls of a save are slowed down (pace.c).
  --signals N  SIGTERM or SIGINT: exit code 75 within one step and one save, or 0 when the run was just
               done; every fifth time a second signal follows, which must end the process at once.

Everything random follows from --seed, which is printed; a difference keeps its directory. The last line
is the figure; exit 0 only when the bar holds.
"""
import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import compare_runs  # noqa: E402

ap = argparse.ArgumentParser()
ap.add_argument("--kills", type=int, default=0)
ap.add_argument("--signals", type=int, default=0)
ap.add_argument("--seed", type=int, default=11)
ap.add_argument("--limit", type=float, default=2.0, help="seconds from signal to exit")
a = ap.parse_args()
SPT = os.environ["SPT_BIN"]
PACE = os.environ.get("SPT_BUILD", "") + "/tests/crash/pace.so"
rng = random.Random(a.seed)
work = pathlib.Path(tempfile.mkdtemp(prefix="spt-kill-"))
STEPS = 24


def head(src, n, dst):
    lines = pathlib.Path(src).read_text().splitlines(True)[:n]
    dst.write_text("".join(lines))


head("demo/desk/train.tsv", 40, work / "train.tsv")
head("demo/desk/dev.tsv", 8, work / "dev.tsv")
# Two kinds of runs: between them every part of a state matters (slots of both optimisers, dropout keys,
# patience, best score, several epochs).
KINDS = [
    ["--optimizer", "adafactor", "--dropout", "0.1", "--eval-every", "6", "--save-every", "2"],
    ["--optimizer", "adamw", "--lr", "0.05", "--eval-every", "4", "--save-every", "3",
     "--patience", "40", "--keep", "2"],
]


def command(kind, out):
    return [SPT, "train", "--model", "demo/t5-mini", "--train", str(work / "train.tsv"), "--eval",
            str(work / "dev.tsv"), "--length", "5", "--steps", str(STEPS), "--batch", "4", "--seed",
            "7", "--threads", "1", "--log-examples", "--quiet", "--resume", "--out", str(out),
            *KINDS[kind]]


def start(kind, out, pace_us=0):
    env = dict(os.environ)
    if pace_us and os.path.exists(PACE):
        env["LD_PRELOAD"] = PACE
        env["SPT_PACE_US"] = str(pace_us)
    return subprocess.Popen(command(kind, out), env=env, stderr=subprocess.PIPE,
                            stdout=subprocess.DEVNULL)


def finish(kind, out):
    p = start(kind, out)
    err = p.communicate()[1]
    return None if p.returncode == 0 else f"exit {p.returncode}: {err.decode(errors='replace')}"


def answers(out):
    return subprocess.run([SPT, "eval", "--model", "demo/t5-mini", "--prompt", str(out), "--data",
                           str(work / "dev.tsv"), "--json", "--quiet", "--threads", "1"],
                          capture_output=True, check=True).stdout


def inside_save(out):
    """Something on disk that only exists between the first and the last operation of a save."""
    if not out.is_dir():
        return False
    names = [p.name for p in out.iterdir()]
    if any(n.startswith(("tmp.", "trash.")) or ".tmp-" in n for n in names):
        return True
    states = {n.split("-")[1] for n in names if n.startswith("state-")}
    prompts = {n.split("-")[1].split(".")[0] for n in names if n.startswith("prompt-")}
    return bool(prompts - states)


whole, whole_answers, seconds = [], [], []
for kind in range(len(KINDS)):
    out = work / f"whole{kind}"
    t0 = time.monotonic()
    problem = finish(kind, out)
    if problem:
        sys.exit(f"the uninterrupted run failed: {problem}")
    seconds.append(time.monotonic() - t0)
    whole.append(compare_runs.content(out))
    whole_answers.append(answers(out))

made = inside = runs = different = late = wrong_exit = second = 0
slowest = 0.0
wanted = a.kills or a.signals
mode = "kills" if a.kills else "signals"
print(f"{mode}: {wanted}, seed {a.seed}, undisturbed runs take "
      f"{', '.join(f'{s:.2f}' for s in seconds)} s", flush=True)


def complain(out, text):
    global different
    different += 1
    kept = pathlib.Path(tempfile.mkdtemp(prefix="spt-kill-kept-"))
    shutil.copytree(out, kept / "run")
    print(f"run {runs}: {text}; kept in {kept}", flush=True)


scale = 1.0


def adapt():
    """On a busy machine computing takes longer and pacing does not: keep the share between 25 and 35 %."""
    global scale
    if made % 20 == 0 and made:
        share = inside / made
        scale = min(scale * 1.25, 8) if share < 0.25 else max(scale / 1.25, 0.25) if share > 0.35 else scale


def one_kill(kind, out):
    global made, inside
    adapt()
    pace = int(rng.choice([0, 6000, 12000, 12000]) * scale)
    p = start(kind, out, pace)
    # With pacing a run takes longer (about 20 paced calls per save); instants are spread over it.
    time.sleep(rng.random() * (seconds[kind] + pace * 1e-6 * 250))
    if p.poll() is None:
        p.kill()
        p.wait()
        made += 1
        inside += inside_save(out)
        return False
    return True


def one_signal(kind, out):
    global made, late, wrong_exit, second, slowest
    p = start(kind, out, rng.choice([0, 0, 2000]))
    time.sleep(0.03 + rng.random() * seconds[kind])
    if p.poll() is not None:
        return True
    sig = rng.choice([signal.SIGTERM, signal.SIGINT])
    t0 = time.monotonic()
    p.send_signal(sig)
    twice = rng.random() < 0.2
    if twice:
        time.sleep(rng.random() * 0.02)
        p.send_signal(sig)
    p.wait()
    took = time.monotonic() - t0
    made += 1
    slowest = max(slowest, took)
    late += took > a.limit
    # Before the handler is there a signal ends the process as usual; nothing has been written then.
    allowed = {75, 0} | ({-sig} if twice or not out.exists() else set())
    second += p.returncode == -sig
    if p.returncode not in allowed:
        wrong_exit += 1
        print(f"run {runs}: exit {p.returncode} after {sig.name}: "
              f"{p.stderr.read().decode(errors='replace')}", flush=True)
    return p.returncode == 0


while made < wanted:
    kind = runs % len(KINDS)
    out = work / f"run{runs}"
    for _ in range(rng.randint(1, 5)):
        if made >= wanted or (one_kill if a.kills else one_signal)(kind, out):
            break
    problem = finish(kind, out)
    if problem:
        complain(out, problem)
    else:
        difference = compare_runs.compare(whole[kind], compare_runs.content(out),
                                          other_steps=mode == "signals")
        if difference:
            complain(out, difference)
        elif runs % 10 == 0 and answers(out) != whole_answers[kind]:
            complain(out, "the best prompt answers differently")
    shutil.rmtree(out, ignore_errors=True)
    runs += 1
    if runs % 50 == 0:
        print(f"  {made} {mode} in {runs} runs, {different} different", flush=True)
shutil.rmtree(work, ignore_errors=True)
bad = different + late + wrong_exit
if a.kills:
    share = 100 * inside / max(made, 1)
    # Sanitized builds start more slowly and cannot be paced.
    bad += share < 20 and made >= 50 and os.path.exists(PACE)
    print(f"K1: {made} kills in {runs} runs, {inside} inside a save ({share:.0f} %), "
          f"{runs - different}/{runs} bit-identical")
else:
    print(f"K5: {made} signals in {runs} runs, {wrong_exit} wrong exits, slowest exit {slowest:.2f} s, "
          f"{second} ended by a second signal, {runs - different}/{runs} bit-identical")
sys.exit(1 if bad else 0)
