#!/usr/bin/env bash
# Every option that `spt help COMMAND` lists is one that the command's parser knows: without its value, or
# (a switch) with one that it does not take, it is refused by name with exit code 2; an unknown one is, too.
set -u
python3 - "${SPT_BIN:?}" <<'P'
import re, subprocess, sys
spt = sys.argv[1]
run = lambda *a: subprocess.run([spt, *a], capture_output=True, text=True, stdin=subprocess.DEVNULL)
fails = known = 0
commands = re.findall(r"^  ([a-z-]+)  +\S", run("help").stdout.split("Concepts")[0], re.M)
for c in commands:
    wrong = []
    for o, rest in re.findall(r"^  --([a-z0-9-]+)(.*)", run("help", c).stdout.split(f"\n{c}: ")[0], re.M):
        value = re.match(r" (\S+)", rest)
        if value and value[1].startswith("["):
            continue  # the value may be left out
        # an argument in front, so that what is missing is the option's value
        r = run(c, f"--{o}") if value else run(c, f"--{o}=maybe")
        words = f"--{o} wants a value" if value else f'--{o}: "maybe" is none of yes|no'
        known += 1
        if r.returncode != 2 or words not in r.stderr or r.stdout:
            wrong.append(f"--{o}: exit {r.returncode}, {r.stderr.strip()[:100]!r}")
    r = run(c, "--no-such-option", "x")
    if r.returncode != 2 or "--no-such-option" not in r.stderr:
        wrong.append(f"an unknown option: exit {r.returncode}, {r.stderr.strip()[:100]!r}")
    fails += bool(wrong)
    print(f"{'not ok' if wrong else 'ok'} {c}")
    for w in wrong:
        print("  " + w)
ok = known > 450 and len(commands) >= 21
print(f"{'ok' if ok else 'not ok'} {known}_options_of_{len(commands)}_commands")
sys.exit(fails > 0 or not ok)
P
