#!/usr/bin/env python3
"""The hub's cache: what huggingface_hub wrote is read by spt, what spt wrote by huggingface_hub and
transformers. By hand, not part of the test suite:

    python3 -m venv venv && venv/bin/pip install huggingface_hub transformers torch sentencepiece
    venv/bin/python tools/crosscheck/hub_cache.py build/release/spt

Everything happens on a local server (tests/server); nothing leaves the machine. Prints one line per
check; exit code 1 when one fails.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
spt = pathlib.Path(sys.argv[1]).resolve()
work = pathlib.Path(tempfile.mkdtemp(prefix="spt-hub-"))
bad = 0


def say(name, ok, note=""):
    global bad
    print(f"{'ok' if ok else 'not ok'} {name}{' (' + note + ')' if note else ''}", flush=True)
    bad += not ok


# --- repositories: the demo's model, and the same in shards -----------------------------------------
mini = ROOT / "demo/t5-mini"
plain, shards = work / "repos/org/t5/main", work / "repos/org/sharded/main"
for d in (plain, shards):
    d.mkdir(parents=True)
    for f in ("config.json", "spiece.model"):
        shutil.copy(mini / f, d)
shutil.copy(mini / "model.safetensors", plain)
from safetensors.torch import load_file, save_file  # noqa: E402
weights = load_file(mini / "model.safetensors")
names = sorted(weights)
where = {}
for k in range(3):
    file = f"model-{k + 1:05}-of-00003.safetensors"
    part = {n: weights[n].contiguous() for n in names[k::3]}
    save_file(part, shards / file, metadata={"format": "pt"})
    where.update({n: file for n in part})
(shards / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))

server = subprocess.Popen([sys.executable, ROOT / "tests/server/server.py", "--port-file", work / "port",
                           "--hub", work / "repos", "--parent", str(os.getpid())])
while not (work / "port").exists():
    time.sleep(0.05)
base = f"http://127.0.0.1:{(work / 'port').read_text()}"
env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
env.update(HF_ENDPOINT=base, HF_HUB_DISABLE_XET="1", SPT_HTTP_RETRIES="0")


def control(what, value=None):
    data = json.dumps(value).encode() if value is not None else b"" if what == "clear" else None
    return urllib.request.urlopen(f"{base}/_control/{what}", data=data).read()


def run(command, home, offline=False):
    e = dict(env, HF_HOME=str(home))
    if offline:
        e.update(HF_HUB_OFFLINE="1")
    return subprocess.run(command, env=e, capture_output=True, text=True)


def python(code, home, offline=False):
    return run([sys.executable, "-c", code], home, offline)


def answer(model, home, offline=False):
    (work / "in.txt").write_text("my parcel has not come\n")
    r = run([spt, "infer", "--model", model, "--labels", "billing,delivery,praise", "--json", "--quiet",
             work / "in.txt"], home, offline)
    return r.stdout if r.returncode == 0 else f"exit {r.returncode}: {r.stderr}"


def tree(home):
    """The model directories of a cache: files with sizes, links with targets."""
    out = {}
    for p in sorted((home / "hub").rglob("*")):
        rel = p.relative_to(home / "hub").as_posix()
        if not rel.startswith("models--") or "/.no_exist/" in rel or p.is_dir():
            continue
        out[rel] = ("link", os.readlink(p)) if p.is_symlink() else ("file", p.stat().st_size)
    return out


want = answer(str(mini), work / "none")
a, b, c = work / "theirs", work / "ours", work / "parts"

# --- theirs, read by us ------------------------------------------------------------------------------
fetch = ("from huggingface_hub import snapshot_download as s\n"
         "print(s('org/t5', allow_patterns=['config.json', 'spiece.model', 'model.safetensors']))\n"
         "print(s('org/sharded'))")
r = python(fetch, a)
say("huggingface_hub fetches from the test server", r.returncode == 0, r.stderr.strip()[-200:])
control("clear")
say("spt reads its cache", answer("org/t5", a) == want)
say("spt reads its shards", answer("org/sharded", a) == want)
say("spt reads it offline", answer("org/t5", a, offline=True) == want)
say("spt asked the hub for nothing", json.loads(control("log")) == [])
r = run([spt, "models", "--json", "--quiet"], a)
say("spt models lists it as usable",
    {e["name"]: e["usable"] for e in map(json.loads, r.stdout.splitlines())} ==
    {"org/t5": True, "org/sharded": True}, r.stderr.strip())

# --- ours, read by them ------------------------------------------------------------------------------
r = run([spt, "models", "get", "org/t5", "org/sharded"], b)
say("spt fetches", r.returncode == 0, r.stderr.strip().splitlines()[-1])
paths = r.stdout.split()
say("the same tree", tree(a) == tree(b),
    "" if tree(a) == tree(b) else str(sorted(set(tree(a).items()) ^ set(tree(b).items()))))
control("clear")
load = """
import torch, huggingface_hub as h, transformers as t, pathlib, sys
for name in ('org/t5', 'org/sharded'):
    assert h.hf_hub_download(name, 'config.json') and h.snapshot_download(name)
    m = t.T5ForConditionalGeneration.from_pretrained(name, local_files_only=True)
    w = m.state_dict()
    from safetensors.torch import load_file
    for k, v in load_file(sys.argv[1] + '/model.safetensors').items():
        assert torch.equal(v.float(), w[k]), k
    tok = t.T5Tokenizer.from_pretrained(name, local_files_only=True, legacy=True)
    assert tok('hello world').input_ids[-1] == 1
i = h.scan_cache_dir()
# Older versions do not know CACHEDIR.TAG, which newer ones write; version.txt is transformers' own.
assert not [w for w in i.warnings if not str(w).endswith(('CACHEDIR.TAG', 'version.txt'))], i.warnings
assert {r.repo_id: [sorted(v.refs) for v in r.revisions] for r in i.repos} == {
    'org/t5': [['main']], 'org/sharded': [['main']]}, i
print('SAME', h.try_to_load_from_cache('org/t5', 'config.json'),
      h.try_to_load_from_cache('org/t5', 'tokenizer.json') is h._CACHED_NO_EXIST)
"""
r = run([sys.executable, "-c", load, str(mini)], b, offline=True)
say("huggingface_hub and transformers read it offline", "SAME" in r.stdout, r.stderr.strip()[-300:])
say("a file known to be absent is known to them", r.stdout.strip().endswith("True"), r.stdout.strip())
say("they asked the hub for nothing", json.loads(control("log")) == [])
r = python("from huggingface_hub import snapshot_download as s; print(s('org/t5'))", b)
say("online, they find it up to date", r.returncode == 0 and r.stdout.strip() == paths[0] and
    not [e for e in json.loads(control("log")) if e["method"] == "GET" and "/cdn/" in e["path"]])

# --- what one began the other continues ----------------------------------------------------------------
drop = [{"path": "/cdn/.*model.safetensors", "do": "drop", "after": 15000000, "count": -1}]
one = "from huggingface_hub import hf_hub_download as d; print(d('org/t5', 'model.safetensors'))"


def sent():
    return [(e["range"], e["sent"]) for e in json.loads(control("log")) if "/cdn/" in e["path"] and
            "model.safetensors" in e["path"]]


for first, second, title in ((lambda: run([spt, "models", "get", "org/t5"], c), lambda: python(one, c),
                              "they continue what spt began"),
                             (lambda: python(one, c), lambda: run([spt, "models", "get", "org/t5"], c),
                              "spt continues what they began")):
    shutil.rmtree(c, ignore_errors=True)
    control("faults", drop)
    r = first()
    part = [p.stat().st_size for p in (c / "hub").rglob("*.incomplete")] # they write 10 MB at a time
    control("clear")
    r = second()
    link = next((c / "hub").rglob("snapshots/*/model.safetensors"), None)
    say(title, r.returncode == 0 and link is not None and
        link.read_bytes() == (mini / "model.safetensors").read_bytes() and
        part[0] >= 10000000 and sent() == [(f"bytes={part[0]}-", 19943912 - part[0])],
        f"{part} bytes were there; {sent()}")

# --- locks ---------------------------------------------------------------------------------------------
shutil.rmtree(c, ignore_errors=True)
control("clear")
control("faults", [{"path": "/cdn/.*model.safetensors", "do": "delay", "seconds": 3}])
p = subprocess.Popen([sys.executable, "-c", one], env=dict(env, HF_HOME=str(c)), stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
while not list((c / "hub/.locks").rglob("*.lock")):
    time.sleep(0.05)
time.sleep(0.5)
r = run([spt, "models", "get", "org/t5"], c)
p.wait()
say("spt waits for their lock, then uses their file", r.returncode == 0 and len(sent()) == 1 and
    "another process fetches it" in r.stderr, str(sent()))

server.kill()
shutil.rmtree(work)
sys.exit(bad > 0)
