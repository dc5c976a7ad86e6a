#!/usr/bin/env bash
# An inference that is killed and started again, over and over, ends with the bytes of one that was left
# alone, in every mode and shard.
set -u
if python3 - <<'EOF'
import filecmp, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, time

spt = os.environ["SPT_BIN"]
kills = int(os.environ.get("SPT_INFER_KILLS", "40"))
seed = int(os.environ.get("SEED", "5"))
rng = random.Random(seed)
work = pathlib.Path(tempfile.mkdtemp(prefix="spt-infer-kill-"))
subprocess.run([spt, "train", "--model", "demo/t5-mini", "--train", "demo/desk/train.tsv", "--length", "4",
                "--steps", "2", "--batch", "8", "--seed", "1", "--out", str(work / "p"), "--quiet"], check=True)
cases = [["--mode", "predict_with_aux", "--max-output", "8"],
         ["--mode", "predict", "--decode", "sample-t5x", "--top-k", "30", "--max-output", "8"],
         ["--mode", "predict", "--decode", "sample", "--seed", "3", "--max-output", "8", "--shard", "1/2"],
         ["--mode", "score"]]
killed = 0
for n, case in enumerate(cases):
    command = [spt, "infer", "--model", "demo/t5-mini", "--prompt", str(work / "p"), "--data",
               "demo/desk/train.tsv", "--batch", "8", "--chunk", "1", "--threads", "1", "--quiet", *case]
    alone, again = work / f"alone{n}", work / f"again{n}"
    start = time.monotonic()
    subprocess.run(command + ["--out", str(alone)], check=True)
    whole = time.monotonic() - start
    files = sorted(p.name for p in alone.iterdir())
    assert len(files) == 2, files
    attempts = 0
    while True:
        p = subprocess.Popen(command + ["--out", str(again)])
        if attempts < kills // len(cases):
            attempts += 1
            try:
                p.wait(rng.uniform(0, whole * 0.6))
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGKILL)
                killed += 1
        if p.wait() == 0:
            break
        assert p.returncode == -signal.SIGKILL, p.returncode
    assert sorted(p.name for p in again.iterdir()) == files, list(again.iterdir())
    for f in files:
        assert filecmp.cmp(alone / f, again / f, shallow=False), (case, f)
print(f"infer: {killed} kills, {len(cases)} outputs equal (seed {seed})")
assert killed >= len(cases)
shutil.rmtree(work)
EOF
then echo "ok infer_killed_and_continued"; else echo "not ok infer_killed_and_continued"; exit 1; fi
