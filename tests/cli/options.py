"""Every option of every command, each tried for what it does (test_options.sh; bar G2).

    options.py SPT DIR PORT [COMMAND ...]    "ok COMMAND --OPTION" and "not ok ..." per case; 1 when one failed

A line of CASES is: commands | an option | what it does | further words. Every command of the line is run with the
further words and its own (BASE), once without the option and once with it; words behind "=" stand instead of
its own, words of the form NAME=value in front of them are for the environment. {d} is the folder of prepared files, {o} a fresh one for each run, {r} and {w} copies of a run and a
sweep in it, {g} and {u} the bucket and the files of the test server, {v} a vocabulary, {h} the hash of SST-2.zip.
What an option does is one of these, or several with "; " between them:

    differs             both runs succeed, and the answers (answer_of) differ
    same                both succeed, with the same answers; only beside another of these
    says RE             stderr matches RE with the option, and not without
    silences RE         the other way round
    answers RE          the same for stdout
    shows RE            stdout matches RE with the option (and without)
    omits RE            the other way round
    writes GLOB         files below {o}: with the option, and not without
    leaves out GLOB     the other way round
    needed CODE RE      without it the command fails so; with it it succeeds
    refused CODE RE     with it the command fails so; without it it succeeds
    only V: CODE RE     with the value V it fails so (all other values of the line's option are taken)
    fixes               with it two runs have the same answers, without it they have not
    prints N times      stdout is written in N pieces, without it in one
    lighter             the peak of the process's memory is at least a tenth lower
    lowers RE           a number that stdout or stderr show (the group of RE) is at least 3 % lower
    raises RE           or higher
    more KIND           --profile counts more calls of that kind
    threads N           N threads are started in all, with --threads 1 only the first
    elsewhere FILE W    that script has a case of it: a line with W (or the command) and the option
"""
import concurrent.futures
import glob
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

MODEL = "--model demo/t5-mini"
RUN = f"{MODEL} --train {{d}}/t.tsv --length 4 --steps 2 --batch 4 --seed 1"
BASE = {
    "train": f"{RUN} --out {{o}}/run",
    "sweep": f"{RUN.replace('--length', '--lengths')} --out {{o}}/run",
    "eval": f"{MODEL} --data {{d}}/t.tsv",
    "infer": f"{MODEL} --data {{d}}/t.tsv --max-output 4",
    "score": f"{MODEL} --data {{d}}/t.tsv",
    "check": RUN,
    "plan": RUN,
    "init": f"{MODEL} --length 4 --seed 1 --out {{o}}/p.npy",
    "inspect": "{d}/p.npy",
    "convert": "{d}/p.npy {o}/q.safetensors",
    "extract": "{d}/tiny/checkpoint_100 target/encoder/encoder_norm/scale {o}/x.npy",
    "tokenize": f"{MODEL} {{d}}/texts",
    "neighbors": f"{{d}}/p.npy {MODEL}",
    "report": "{d}/run --out {o}/r.html",
    "tasks": "show glue_sst2_v200_examples --vocab {v} --tfds-data-dir {d}/tfds",
    "cache": "glue_sst2_v200_examples --vocab {v} --tfds_data_dir={d}/tfds --out {o}/caches --shards 2",
    "find-module": "prompt_tuning",
    "bench": "--size tiny --length 4 --tokens 4 --targets 2 --steps 1 --batch 2",
    "demo": "--steps 1",
    "data": "list",
    "models": "",
}
CASES = (pathlib.Path(__file__).parent / "options.txt").read_text()


def cases():
    """(command, option, words, effects, further words) of the table; a command's line may be continued."""
    for line in re.sub(r"\\\n\s*", " ", CASES).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        part = [p.strip() for p in re.split(r"\s\|(?:\s|$)", line)] + [""]
        commands, option, does, more = part[:4]
        for command in commands.split():
            yield command, re.match(r"--([\w-]+)", option)[1], option, does.split("; "), more


class Result:
    def __init__(self, code, out, err, home):
        self.code, self.out, self.err, self.home = code, out, err, home


def words(text):
    return [re.sub(r"'", "", w) for w in re.findall(r"(?:'[^']*'|[^\s'])+", text)]


class Bench:
    def __init__(self, spt, dir, port):
        self.spt, self.dir = spt, pathlib.Path(dir)
        self.place = {"d": str(dir), "g": "gs://in", "u": f"http://127.0.0.1:{port}/files", "v": "demo/t5-mini/spiece.model",
                      "h": hashlib.sha256((self.dir / "SST-2.zip").read_bytes()).hexdigest()}
        self.count, self.made, self.lock = 0, {}, threading.Lock()

    def run(self, command, text, traced=False):
        with self.lock:
            self.count += 1
            home = self.dir / "out" / str(self.count)
        home.mkdir(parents=True)
        for mark, name in (("{r}", "run"), ("{w}", "sweep")):
            if mark in text:
                shutil.copytree(self.dir / name, home / name, symlinks=True)
                text = text.replace(mark, str(home / name))
        text = re.sub(r"\{([dguvho])\}", lambda m: self.place.get(m[1], str(home)), text)
        given, env = words(text), dict(os.environ)
        while given and re.match(r"[A-Z_]+=", given[0]):
            name, _, env[name] = given.pop(0).partition("=")
        trace = home / ".trace"
        under = ["strace", "-f", "-qq", "-s0", "-e", "trace=clone,clone3,write", "-o", str(trace)] if traced else []
        with open(home / ".out", "w+b") as out, open(home / ".err", "w+b") as err:
            p = subprocess.Popen(under + [self.spt, command] + given, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            result = Result(p.returncode, out.read().decode(errors="replace"), err.read().decode(errors="replace"), home)
        result.peak = usage.ru_maxrss
        if traced:
            calls = trace.read_text()
            result.threads = 1 + len(re.findall(r"clone3?\(", calls))
            result.writes = len(re.findall(r"write\(1,", calls))
        return result

    def without(self, command, text, traced):
        """The run without the option: once for all cases that share it."""
        with self.lock:
            key = (command, text, traced)
            future = self.made.setdefault(key, concurrent.futures.Future())
            mine = not hasattr(future, "taken")
            future.taken = True
        if mine:
            try:
                future.set_result(self.run(command, text, traced))
            except Exception as e:
                future.set_exception(e)
        return future.result()


TIMES = re.compile(r"(?m)^(time: .*|memory: .*|a step .*|all steps.*|program, vocab.*|peak memory.*|loading: .*)\n"
                   r"|(, )?\"(step_seconds|seconds_per_step|memory|process|total)\": [0-9.e+-]+")


def answer_of(command, r):
    """What the command is for: stdout, the files that it writes (of runs their numbers), of check its story."""
    out = r.err if command == "check" else r.out
    answer = {"": TIMES.sub("", out).replace(str(r.home), "OUT")}
    for f in sorted(p for p in r.home.rglob("*") if p.is_file() and p.name[0] != "."):
        name = re.sub(r"tfevents.*", "tfevents", str(f.relative_to(r.home)))
        known = f.name == "config.gin" or f.suffix in (".safetensors", ".html") or "tfevents" in name or "MANIFEST" in name
        answer[name] = "" if known and command in ("train", "sweep") else hashlib.sha256(f.read_bytes()).hexdigest()
    return answer


def effect(does, command, a, b, again, alone):
    """Why the option does not do this ("" when it does): a without it, b with it. Not `alone`: a may have failed."""
    kind, _, rest = does.partition(" ")
    if kind == "leaves":
        kind, rest = "leaves out", rest[4:]
    fine = "" if b.code == 0 and (a.code == 0 or not alone) else f"exit {a.code} without, {b.code} with it: {(a.err if a.code else b.err)[-300:]}"
    if kind in ("differs", "same"):
        x, y = answer_of(command, a), answer_of(command, b)
        changed = sorted(k for k in x.keys() | y.keys() if x.get(k) != y.get(k))
        if kind == "differs":
            return fine or ("" if changed else "the same answers")
        return fine or (f"other answers: {changed}\n{x['']}\n{y['']}" if changed else "")
    if kind in ("says", "silences", "answers", "omits"):
        x, y = (a.err, b.err) if kind in ("says", "silences") else (a.out, b.out)
        if kind in ("silences", "omits"):
            x, y = y, x
        hit = [bool(re.search(rest, t.replace(str(r.home), "OUT"), re.M)) for t, r in ((x, a), (y, b))]
        return fine or ("" if hit == [False, True] else f"/{rest}/ matches {'both' if all(hit) else 'neither or the other'}: {y[-600:]}")
    if kind == "shows":
        return fine or ("" if re.search(rest, b.out) else f"/{rest}/ does not match: {b.out[:300]}")
    if kind in ("writes", "leaves out"):
        hit = [bool(glob.glob(str(r.home / rest), recursive=True)) for r in ((a, b) if kind == "writes" else (b, a))]
        return fine or ("" if hit == [False, True] else f"{rest}: files {hit}; {sorted(answer_of(command, b))}")
    if kind in ("needed", "refused"):
        code, _, pattern = rest.partition(" ")
        good, bad = (b, a) if kind == "needed" else (a, b)
        lines = [x for x in bad.err.splitlines() if x.startswith("spt: ") and ": warning: " not in x]
        if good.code:
            return f"exit {good.code}: {good.err[-300:]}"
        if bad.code != int(code) or len(lines) != 1 or not re.search(pattern, lines[0]):
            return f"exit {bad.code}, wanted {code} and one line of error with /{pattern}/: {bad.err[-400:]}"
        return ""
    if kind == "only":
        value, code, pattern = re.match(r"(.*?): (\d+) (.*)", rest).groups()
        bad = again(value)
        shutil.rmtree(bad.home)
        if bad.code != int(code) or not re.search(pattern, bad.err):
            return f"exit {bad.code} with {value}, wanted {code} and /{pattern}/: {bad.err[-400:]}"
        return fine
    if kind == "fixes":
        x = [answer_of(command, r) for r in (a, again(None), b, again(""))]
        return fine or ("" if x[0] != x[1] and x[2] == x[3] else f"equal without it: {x[0] == x[1]}, with it: {x[2] == x[3]}")
    if kind == "prints":
        n = int(rest.split()[0])
        return fine or ("" if (a.writes, b.writes) == (1, n) else f"{a.writes} and {b.writes} writes")
    if kind == "lighter":
        return fine or ("" if b.peak < 0.9 * a.peak else f"{a.peak} and {b.peak} KB")
    if kind in ("lowers", "raises"):
        x, y = ([float(n.replace(",", "")) for n in re.findall(rest, r.out + r.err, re.M)[:1]] for r in (a, b))
        good = x and y and (y[0] < 0.97 * x[0] if kind == "lowers" else y[0] > 1.03 * x[0])
        return fine or ("" if good else f"{x} and {y}: {(b.out + b.err)[-600:]}")
    if kind == "more":
        x, y = (re.findall(rf"^{rest} +(\d+) ", r.err + r.out, re.M) for r in (a, b))
        return fine or ("" if x and y and int(y[0]) > int(x[0]) else f"{x} and {y}: {b.err[-900:]}")
    if kind == "threads":
        return fine or ("" if b.threads == int(rest) and a.threads != b.threads else f"{a.threads} and {b.threads} threads")
    return f"no such effect: {does}"


def case(bench, command, option, text, effects, more):
    base = more[1:] if more.startswith("=") else f"{BASE[command]} {more}"
    if effects == ["same"]:
        return "an option without an effect"
    if effects[0].startswith("elsewhere "):
        _, script, *line = effects[0].split(maxsplit=2)
        found = re.search(rf"(?m)^(?!\s*#).*\b{line[0] if line else command}\b.*--{option}\b", pathlib.Path(script).read_text())
        return "" if found else "no such line"
    traced = any(d.split()[0] in ("threads", "prints") for d in effects)
    a = bench.without(command, base + (" --threads 1" if option == "threads" else ""), traced)
    b = bench.run(command, f"{base} {text}", traced)

    def again(value):  # None: without the option, "": with it, else with this value
        join = "" if value and value[0] == "=" else " "
        return bench.run(command, f"{base} " + ("" if value is None else f"--{option}{join}{value}" if value else text))

    alone = not any(d.startswith("needed") for d in effects)
    why = "\n".join(filter(None, (effect(d, command, a, b, again, alone) for d in effects)))
    shutil.rmtree(b.home)
    return why


def main():
    bench, only = Bench(*sys.argv[1:4]), sys.argv[4:]
    todo = [c for c in cases() if not only or c[0] in only or f"{c[0]}/{c[1]}" in only]
    failures = 0
    cpus = sorted(os.sched_getaffinity(0))
    free = iter(cpus)
    # Commands side by side, each on one processor and so with one thread.
    pin = lambda: os.sched_setaffinity(0, {next(free)})
    with concurrent.futures.ThreadPoolExecutor(len(cpus), initializer=pin) as pool:
        for c, why in zip(todo, pool.map(lambda c: case(bench, *c), todo)):
            print(("not ok " if why else "ok ") + f"{c[0]}_{c[2].replace(' ', '_')}")
            if why:
                print("  " + f"{c[3]}: {why}".replace("\n", "\n  "), flush=True)
            failures += bool(why)
    sys.exit(failures > 0 or not todo)


if __name__ == "__main__":
    main()
