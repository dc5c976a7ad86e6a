#!/usr/bin/env bash
# Standard output of every command: nothing but JSON lines under --json, whatever goes to stderr; a reader that has
# gone ends the command quietly with exit code 0; what cannot be written otherwise is one line and exit code 5.
. tests/support/checks.sh
export HF_HOME=$dir/hub HF_HUB_OFFLINE=1
model=demo/t5-mini
head -n 12 demo/desk/train.tsv >"$dir/t.tsv"
hub=$dir/hub/hub/models--org--mini
mkdir -p "$hub/refs" "$hub/snapshots"
printf %040d 1 >"$hub/refs/main"
cp -r $model "$hub/snapshots/$(printf %040d 1)"
"$spt" init --model $model --length 4 --seed 1 --out "$dir/p.npy" --quiet
python3 - "$spt" "$dir" <<'P'
import json, os, re, subprocess, sys
spt, dir = sys.argv[1:]
model = "--model demo/t5-mini"
run = f"{model} --train {dir}/t.tsv --eval {dir}/t.tsv --length 4 --steps 2 --batch 4 --seed 1"
# Commands that write to stdout; NEW is a fresh path. Behind "#" those that take --json.
told = f"""
train {run} --out NEW --json --quiet # --profile
sweep {run} --lrs 0.1,0.3 --out NEW --quiet # --profile
eval {model} --data {dir}/t.tsv --quiet # --profile
infer {model} --data {dir}/t.tsv --max-output 4 --quiet #
score {model} --data {dir}/t.tsv --quiet #
check {run} --json --quiet #
plan {run} --quiet #
init {model} --length 4 --out NEW.npy --json --quiet #
inspect {dir}/p.npy {dir}/p.npy --quiet #
tokenize {model} {dir}/t.tsv --quiet #
neighbors {dir}/p.npy {model} --quiet #
bench --size tiny --length 4 --tokens 4 --targets 2 --steps 1 --batch 2 --quiet #
data list --quiet #
data info glue/sst2 --quiet #
models list --quiet #
tasks
tasks glue
find-module prompt_tuning
demo --steps 1 --quiet
help
help train
help gin
help --man spt.1
completion bash
--version
""".strip().splitlines()
count = fails = 0

def tell(name, why):
    global fails
    fails += bool(why)
    print(f"{'not ok' if why else 'ok'} {name}" + (f"\n  {why}" if why else ""), flush=True)

def call(words, **streams):
    global count
    count += 1
    return subprocess.run([spt] + [w.replace("NEW", f"{dir}/new{count}") for w in words.split()], stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, **streams)

def gone(words):
    read, write = os.pipe()
    os.close(read)  # before the first byte, so that the first write fails
    r = call(words, stdout=write)
    os.close(write)
    return "" if r.returncode == 0 and not r.stderr else f"exit {r.returncode}: {r.stderr[:300]}"

def unwritten(words, reason, **streams):
    r = call(words, **streams)
    said = re.findall(rf"^spt: [\w-]+: cannot write standard output: {reason}; the answers are not complete$", r.stderr, re.M)
    good = r.returncode == 5 and len(said) == 1 and r.stderr.count("\n") == 1
    return "" if good else f"exit {r.returncode}: {r.stderr[:300]}"

def clean(words, warns):
    r = call(words, stdout=subprocess.PIPE)
    if r.returncode or (": warning: " in r.stderr) != warns:
        return f"exit {r.returncode}: {r.stderr[-300:]}"
    try:
        assert r.stdout.endswith("\n") and all(type(json.loads(line)) is dict for line in r.stdout[:-1].split("\n"))
    except (AssertionError, ValueError):
        return f"not JSON lines: {r.stdout[:300]!r}"
    return ""

for line in told:
    words, has_json, more = (p.strip() for p in line.partition("#"))
    name = re.sub(r"\W+", "_", " ".join(w for w in words.split()[:2] if "/" not in w).replace("--model", ""))
    name = name.strip("_")
    tell(f"{name}_reader_gone", gone(words))
    if not words.startswith("demo"):
        tell(f"{name}_full_disk", unwritten(words, "No space left on device", stdout=open("/dev/full", "w")))
        tell(f"{name}_closed", unwritten(words, "Bad file descriptor", preexec_fn=lambda: os.close(1)))
    if has_json:
        words = words.replace(" --json", "") + f" --json {more}"
        tell(f"{name}_json", clean(words, False))
        loud = words.replace(" --quiet", "")
        if model in words and not words.startswith("tokenize"):  # ids of another vocabulary: a warning
            loud += " --vocab bytes"
        if words.split()[0] in ("train", "sweep", "eval", "infer", "score"):
            loud += " --progress always"
        tell(f"{name}_json_with_story", clean(loud, "--vocab" in loud))
sys.exit(fails > 0)
P
fails=$?
finish
