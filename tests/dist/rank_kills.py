"""K9: kills random ranks of running trainings, continues each, and compares with undisturbed runs.

rank_kills.py --kills N [--seed S]: 2 and 4 processes, with whole models and with models in two parts. A run
is killed at random instants, several times, and continued with --resume until it ends; its prompt and
logs must be those of a run that nobody disturbed, bit for bit. After every kill the job must be gone
within 20 seconds, with the launcher's exit code for a killed rank and without a process left.

SPT_BIN is the program built with MPI, MPIRUN the launcher (default: mpirun).
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

SPT = os.environ["SPT_BIN"]
MPIRUN = os.environ.get("MPIRUN", "mpirun")
RANK = "PMI_RANK" if "mpich" in MPIRUN else "OMPI_COMM_WORLD_RANK"
KILLED = {137, 9, 1} if "mpich" in MPIRUN else {137}
STEPS, LIMIT = 30, 20
KINDS = [(2, 1), (4, 1), (2, 2), (4, 2)]  # processes, parts of the model
DEMO = pathlib.Path("demo")

env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
           OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
           OMPI_MCA_btl="self,vader,tcp")


def command(ranks, parts, out):
    return [MPIRUN, "-n", str(ranks), SPT, "train", "--model", str(DEMO / "t5-mini"),
            "--train", str(work / "train.tsv"), "--eval", str(work / "dev.tsv"), "--out", str(out),
            "--threads", "1", "--seed", "7", "--length", "4", "--steps", str(STEPS), "--batch", "12",
            "--eval-every", "10", "--save-every", "3", "--log-examples", "--quiet", "--resume",
            "--num-partitions", str(parts), "--comm-timeout", "60"]


def members(out):
    """pid by rank of the processes of the job that writes to out."""
    found = {}
    for proc in pathlib.Path("/proc").iterdir():
        if not proc.name.isdigit():
            continue
        try:
            words = (proc / "cmdline").read_bytes().split(b"\0")
            if (proc / "comm").read_text().strip() != "spt" or str(out).encode() not in words:
                continue
            for line in (proc / "environ").read_bytes().split(b"\0"):
                name, _, value = line.partition(b"=")
                if name == RANK.encode():
                    found[int(value)] = int(proc.name)
        except OSError:
            continue
    return found


def whole(ranks, parts):
    out = work / f"whole{ranks}of{parts}"
    start = time.monotonic()
    subprocess.run(command(ranks, parts, out), check=True, env=env, stdout=subprocess.DEVNULL)
    return out, time.monotonic() - start


def same(a, b):
    """What differs between two finished runs."""
    for name in "train.jsonl", "eval.jsonl":
        if (a / name).read_bytes() != (b / name).read_bytes():
            return name
    prompts = []
    for i, run in enumerate((a, b)):
        npy = work / f"p{i}.npy"
        npy.unlink(missing_ok=True)
        subprocess.run([SPT, "convert", str(run), str(npy), "--quiet"], check=True,
                       stderr=subprocess.DEVNULL, env=plain_env)
        prompts.append(npy.read_bytes())
    return None if prompts[0] == prompts[1] else "the prompt"


def ended(job, limit):
    """Waits for the job; time in which this process itself was stopped does not count."""
    waited, last = 0, time.monotonic()
    while job.poll() is None:
        time.sleep(0.02)
        now = time.monotonic()
        waited, last = waited + min(now - last, 0.2), now
        if waited > limit:
            job.kill()
            sys.exit(f"K9: the job did not end within {limit} s")


def kill_once(ranks, parts, out, delay):
    """Starts or continues the run and kills one rank; returns "killed" or "finished"."""
    job = subprocess.Popen(command(ranks, parts, out), env=env, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
    until = time.monotonic() + delay
    while time.monotonic() < until and job.poll() is None:
        time.sleep(0.01)
    victims = members(out) if job.poll() is None else {}
    if victims:
        rank = rng.choice(sorted(victims))
        try:
            os.kill(victims[rank], signal.SIGKILL)
        except ProcessLookupError:
            victims = {}
    ended(job, LIMIT if victims else 120)
    text = job.stderr.read().decode(errors="replace")
    if job.returncode == 0:
        return "finished"
    if not victims or job.returncode not in KILLED:
        sys.exit(f"K9: exit code {job.returncode}: {text[-2000:]}")
    until = time.monotonic() + 5
    while members(out):
        if time.monotonic() > until:
            sys.exit("K9: processes were left behind")
        time.sleep(0.05)
    return "killed"


parser = argparse.ArgumentParser()
parser.add_argument("--kills", type=int, default=100)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
stopped = []
rng = random.Random(args.seed)
work = pathlib.Path(tempfile.mkdtemp(prefix="spt-rank-kill-"))
plain_env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI"))}
try:
    lines = (DEMO / "desk/train.tsv").read_text().splitlines(keepends=True)
    (work / "train.tsv").write_text("".join(lines[:60]))
    (work / "dev.tsv").write_text("".join(lines[60:90]))
    kinds = KINDS if args.kills >= len(KINDS) else KINDS[:args.kills]
    good = {kind: whole(*kind) for kind in kinds}
    kills = {kind: 0 for kind in kinds}
    runs, wrong = 0, 0
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))  # ends behind the run that goes on
    while sum(kills.values()) < args.kills and not stopped:
        ranks, parts = kind = kinds[runs % len(kinds)]
        out = work / f"run{runs}"
        runs += 1
        planned = rng.randint(1, max(1, min(6, args.kills - sum(kills.values()))))
        state = "begun"
        while planned and state != "finished":
            state = kill_once(ranks, parts, out, rng.uniform(0.1, 0.95) * good[kind][1])
            if state == "killed":
                kills[kind] += 1
                planned -= 1
        if state != "finished":
            subprocess.run(command(ranks, parts, out), check=True, env=env, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        difference = same(good[kind][0], out)
        if difference:
            wrong += 1
            print(f"K9: run {runs - 1} ({ranks} processes, {parts} parts): {difference} differs")
        shutil.rmtree(out)
finally:
    shutil.rmtree(work)
each = ", ".join(f"{n} of {r} processes{f' with models in {p} parts' if p > 1 else ''}"
                 for (r, p), n in kills.items())
print(f"K9: {sum(kills.values())} kills of random ranks ({each}) over {runs} runs, {wrong} differences")
sys.exit(wrong > 0 or bool(stopped))
