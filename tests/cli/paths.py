"""Every option and argument that is a path, of every command, with gs:// and https:// (test_paths.sh).

    paths.py SPT DIR PORT table     the table of docs/reference/buckets.md
    paths.py SPT DIR PORT           "ok NAME" and "not ok NAME" per case; 1 when one failed

Every command is run with local paths, with gs:// for all of its paths at once (its answers and files must be
the same, and the server must have been asked for each of the paths), and with https:// for all that are
read. What is refused is tried alone: one line, the exit code for wrong usage or bad input. An
option whose value is a path (by the help text) and that is not in CASES is a failure, so that new ones come here.
"""
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import urllib.parse
import urllib.request

SPT, DIR, PORT = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
ONLY_TABLE = sys.argv[4:] == ["table"]
CA = str(DIR / "ca.pem")
ROOT = {"local": str(DIR / "in"), "gs": "gs://in", "https": f"https://127.0.0.1:{PORT}/files"}
OUT = {"local": str(DIR / "local"), "gs": "gs://out", "https": str(DIR / "https")}
TRAIN = "--length 4 --steps 2 --batch 8 --seed 1 --max-input 16"
MODEL = "--model <model> --vocab <vocab>"
GIN = ("--gin_search_paths=<gindir> --gin_file=small.gin --gin.INITIAL_CHECKPOINT_PATH=\"'<checkpoint>'\" "
       "--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file=\"'<vocab>'\"")

# What can stand for <name>: the path below the root, whether https:// can serve it, and what is fetched.
READ = {
    "model": ("t5-mini", "-", "the tensors that are used"),
    "vocab": ("gin/spiece.model", "read", "whole"),
    "train": ("desk/train.tsv", "read", "piece by piece"),
    "eval": ("desk/dev.tsv", "read", "piece by piece"),
    "data": ("desk/dev.tsv", "read", "piece by piece"),
    "texts": ("desk/messages.txt", "read", "piece by piece"),
    "labels": ("labels.txt", "read", "whole"),
    "stop": ("stop.txt", "read", "whole"),
    "prompt": ("p.safetensors", "read", "whole"),
    "npy": ("p.npy", "read", "whole"),
    "prompts": ("p.safetensors,{root}/q.npy", "read", "whole"),
    "run": ("run", "-", "what is used of the run"),
    "runs": ("runs.tsv", "read", "piece by piece"),
    "predictions": ("ev.jsonl", "read", "piece by piece"),
    "file": ("t5-mini/model.safetensors", "read", "its header and what is used"),
    "checkpoint": ("full/checkpoint_1", "-", "the arrays that are used"),
    "tfds": ("tfds", "-", "whole shards"),
    "archive": ("SST-2.zip", "read", "whole; https:// into `downloads/`, where it stays"),
    "gin": ("run/config.gin", "read", "whole"),
    "gindir": ("gin", "-", "whole"),
    "caches": ("caches", "-", "whole shards"),
}
# command, arguments: <name> is read, [name] is written below the output root. Answers on stdout are compared.
CASES = [
    ("init", f"{MODEL} --labels @<labels> --init file --init-file <npy> --seed 1 --out [p.npy]"),
    ("train", f"{MODEL} --train <train> --eval <eval> --labels @<labels> --init file --init-file <npy> {TRAIN} --out [run]"),
    ("train", f"--gin_file=<gin> --model <model> --train <train> --eval <eval> --labels @<labels> --init file "
              "--init-file <npy> --out [again]"),
    ("train", f"{GIN} --tfds_data_dir=<tfds> --gin.USE_CACHED_TASKS=False --gin.MODEL_DIR=\"'[gin]'\""),
    ("train", f"{GIN} --seqio_additional_cache_dirs=<caches> --gin.USE_CACHED_TASKS=True --gin.MODEL_DIR=\"'[cached]'\""),
    ("sweep", f"{MODEL} --train <train> --eval <eval> --labels @<labels> --init file --init-file <npy> "
              f"--runs <runs> {TRAIN} --out [sweep]"),
    ("check", f"{MODEL} --train <train> --eval <eval> --labels @<labels> --prompt <prompt> --init file --init-file <npy> "
              "--length 4 --seed 1"),
    ("plan", f"{MODEL} --train <train> --eval <eval> --labels @<labels> --init file --init-file <npy> --runs <runs> "
             "--length 4 --seed 1"),
    ("eval", f"{MODEL} --prompt <prompt> --data <data> --labels @<labels> --output [ev.jsonl]"),
    ("eval", f"{MODEL} --ensemble <prompts> --data <data> --labels @<labels>"),
    ("eval", "--predictions <predictions> --data <data> --labels @<labels>"),
    ("eval", f"{MODEL} --prompt <prompt> --data <data> --by generate --stop @<stop> --max-output 2"),
    ("infer", f"{MODEL} --prompt <prompt> <texts> --labels @<labels> --output [infer.txt]"),
    ("infer", f"{MODEL} --prompts <prompts> --data <data> --generate --stop @<stop> --max-output 3"),
    ("infer", f"{MODEL} --prompt <run> --data <data> --mode predict --max-output 2 --out [infer]"),
    ("score", f"{MODEL} --prompt <npy> --data <data> --labels @<labels> --output [score.jsonl]"),
    ("inspect", "<file> <prompt> <npy> <vocab>"),
    ("inspect", "<run> <checkpoint>"),
    ("convert", "--model <model> <npy> [c.safetensors]"),
    ("convert", "<run> --out [c.peft]"),
    ("extract", "<checkpoint> token_embedder/embedding [emb.npy]"),
    ("extract", "<checkpoint> encoder/encoder_norm/scale --out [norm.npy]"),
    ("tokenize", "--model <model> <texts>"),
    ("tokenize", "--vocab <vocab> <texts>"),
    ("neighbors", f"<prompt> {MODEL} --start <npy> --html [near.html]"),
    ("report", "<run> --model <model> --data <data> --out [report.html]"),
    ("tasks", "show glue_sst2_v200_examples --model <model> --tfds-data-dir <tfds>"),
    ("tasks", "show glue_sst2_v200_examples --vocab <vocab> --tfds-data-dir <tfds>"),
    ("cache", "glue_sst2_v200_examples --vocab <vocab> --tfds_data_dir=<tfds> --shards 2 --out [caches]"),
    ("cache", "glue_sst2_v200_examples --model <model> --tfds_data_dir=<tfds> --shards 1 --out [single]"),
    ("bench", "--model <model> --steps 1 --tokens 4 --batch 2"),
    ("demo", "--out [demo] --steps 1"),
    ("data", "prepare glue/sst2 --from <archive> --no-verify --out [tfds]"),
    ("data", "convert <data> [dev.jsonl]"),
]
REFUSED = [  # command, arguments, exit code, what is said, option, why
    ("train", f"--model I/t5-mini --train I/desk/train.tsv --plugin gs://in/x.so --out {DIR}/no", 2, "must be a local file", "--plugin",
     "the system loads it"),
    ("inspect", f"I/p.npy --cache-dir gs://in/cache", 2, "local directory", "--cache-dir", "it holds the copies"),
]
VOLATILE = {"bench", "check", "plan", "demo"}  # their text holds times

failures = 0
web_tried = set()
seen = {}  # (command, option) -> (gs, https, note)


def tell(name, good, why=""):
    global failures
    failures += not good
    if not ONLY_TABLE or not good:
        print(("ok " if good else "not ok ") + name + ("" if good else "\n  " + why.replace("\n", "\n  ")), flush=True)


def control(what, body=b""):
    context = ssl.create_default_context(cafile=CA)
    url = f"https://127.0.0.1:{PORT}/_control/{what}"
    return urllib.request.urlopen(urllib.request.Request(url, body if what != "log" else None), context=context).read()


def fill(text, read, written):
    def one(m):
        if m[0][0] == "[":
            return f"{OUT[written]}/{m[1]}"
        path = READ[m[1]][0].format(root=ROOT[scheme_of(m[1], read)])
        return f"{ROOT[scheme_of(m[1], read)]}/{path}"
    return re.sub(r"[<\[]([\w.-]+)[>\]]", one, text)


def scheme_of(name, scheme):
    return "local" if scheme == "https" and READ[name][1] == "-" else scheme


def words(text):
    return [re.sub(r'"', "", w) for w in re.findall(r'(?:"[^"]*"|\S)+', text)]


def run(command, text):
    return subprocess.run([SPT, command] + words(text) + (["--quiet"] if command not in ("tasks", "plan") else []),
                          capture_output=True, text=True, timeout=300)


def options(text):
    """The (option, name) pairs of a case; arguments have no option. The writing ones have "[name]"."""
    out, last = [], None
    for w in text.split():
        m = re.search(r"[<\[]([\w.-]+)[>\]]", w)
        own = re.match(r"(--[\w.-]+)=", w)
        if own and m:
            out.append((own[1], m[0]))
        elif m:
            out.append((last or ("argument" if m[0][0] == "<" else "result argument"), m[0]))
        last = w if w.startswith("--") and "=" not in w else None
    return out


def clean(text):
    """Answers with the roots made alike."""
    for root in list(ROOT.values()) + list(OUT.values()):
        text = text.replace(root, "ROOT")
    return text


def written(scheme, name):
    base = DIR / ("dump" if scheme == "gs" else scheme) / name
    files = sorted(f for f in (base.rglob("*") if base.is_dir() else [base]) if f.is_file() and f.name != ".lock")
    def content(f):
        data = f.read_bytes()
        for root in list(ROOT.values()) + list(OUT.values()):
            data = data.replace(root.encode(), b"ROOT")
        return data
    exact = [f for f in files if f.suffix in (".npy", ".jsonl", ".txt") or ".tfrecord" in f.name or "prompt.prompt" in f.name]
    names = [re.sub(r"tfevents.*", "tfevents", str(f.relative_to(base))) for f in files]
    return names, {str(f.relative_to(base)): content(f) for f in exact if "tfevents" not in f.name}


def note(command, text, scheme_ok):
    for option, name in options(text):
        if name[0] == "[":
            seen.setdefault((command, option), ("written", "-", ""))
        else:
            seen.setdefault((command, option), ("read", READ[name[1:-1]][1], READ[name[1:-1]][2]))


def case(command, text):
    label = "_".join([command] + [re.sub(r"\W", "", o) for o, _ in options(text) if o not in ("--model", "--vocab")])
    local = run(command, fill(text, "local", "local"))
    if local.returncode:
        tell(label + "_local", False, local.stderr)
        return
    note(command, text, True)
    if ONLY_TABLE:
        return
    control("clear")
    gs = run(command, fill(text, "gs", "gs"))
    log = json.loads(control("log"))
    why = gs.stderr if gs.returncode else ""
    control(f"dump?bucket=out&dir={DIR}/dump")
    if not why and command not in VOLATILE and clean(gs.stdout) != clean(local.stdout):
        why = f"other answers:\n{local.stdout[:600]}\n{gs.stdout[:600]}"
    asked = urllib.parse.unquote(" ".join(e["path"] for e in log))
    for option, name in options(text):
        if name[0] == "[":
            a, b = written("local", name[1:-1]), written("gs", name[1:-1])
            if not why and (not a[0] or a != b):
                why = f"{name}: {len(a[0])} and {len(b[0])} files, of one side only {sorted(set(a[0]) ^ set(b[0]))[:9]}, " \
                      f"different {[k for k in a[1] if a[1][k] != b[1].get(k)][:9]}"
        else:
            for path in READ[name[1:-1]][0].replace("{root}/", "").split(","):
                if not why and "/in/o/" + path not in asked and "prefix=" + path not in asked:
                    why = f"{option}: nobody asked for gs://in/{path}"
    tell(label + "_gs", not why, why)
    readable = [n for _, n in options(text) if n[0] == "<" and READ[n[1:-1]][1] == "read"]
    # One reader behind an option is enough: the web was tried with it in another command.
    new = {(o, n) for o, n in options(text) if n in readable} - web_tried
    if not new:
        return
    web_tried.update(new)
    subprocess.run(["rm", "-rf", OUT["https"]])
    os.mkdir(OUT["https"])
    control("clear")
    web = run(command, fill(text, "https", "https"))
    asked = " ".join(e["path"] for e in json.loads(control("log")))
    why = web.stderr if web.returncode else ""
    if not why and command not in VOLATILE and clean(web.stdout) != clean(local.stdout):
        why = f"other answers:\n{local.stdout[:600]}\n{web.stdout[:600]}"
    for name in readable:
        for path in READ[name[1:-1]][0].replace("{root}/", "").split(","):
            if not why and "/files/" + path not in asked:
                why = f"nobody asked for https://.../{path}"
    tell(label + "_https", not why, why)


def refused(command, text, code, say, option, why):
    r = run(command, text.replace("I/", ROOT["local"] + "/"))
    lines = [x for x in r.stderr.splitlines() if x.startswith("spt: ")]
    tell(f"{command}_{option.strip('-')}_is_refused", r.returncode == code and len(lines) == 1 and say in lines[0],
         f"exit {r.returncode}: {r.stderr}")


def of_help():
    """(command, option) of all options whose values are paths."""
    out = set()
    listing = subprocess.run([SPT, "help"], capture_output=True, text=True).stdout
    for command in re.findall(r"^  ([a-z-]+) {2,}", listing.split("Concepts")[0], re.M):
        text = subprocess.run([SPT, "help", command], capture_output=True, text=True).stdout
        for option, value, rest in re.findall(r"^  (--[\w-]+) (\S+)( .*)?$", text, re.M):
            if re.search(r"FILE|DIR|MODEL|RUN", value) or "@FILE" in rest or option in ("--prompts", "--ensemble"):
                out.add((command, option))
    return out


def table():
    rows, last = {}, None
    for (command, option), (gs, https, how) in seen.items():
        option = f"`{option}`" if option[0] == "-" else option
        rows.setdefault((option, gs, https, how), []).append(command)
    lines = ["| option | of | `gs://` | `https://` | fetched |", "|---|---|---|---|---|"]
    for (option, gs, https, how), commands in sorted(rows.items()):
        lines.append(f"| {option} | {', '.join(sorted(set(commands)))} | {gs} | {https} | {how} |")
    for _, _, _, _, option, why in REFUSED:
        lines.append(f"| `{option}` | all that have it | no: {why} | no | |")
    return "\n".join(lines) + "\n"


def main():
    for command, text in CASES:
        case(command, text)
    for r in REFUSED:
        refused(*r) if not ONLY_TABLE else None
    everywhere = {r[4] for r in REFUSED} | {"--cache-size"}
    for command, option in sorted(of_help()):
        if (command, option) not in seen and option not in everywhere:
            tell(f"{command}_{option.strip('-')}_is_tested", False, "a path option that no case has")
    if ONLY_TABLE:
        print(table(), end="")
    else:
        doc = pathlib.Path("docs/reference/buckets.md").read_text()
        part = re.search(r"<!-- paths -->\n(.*?)<!-- -->", doc, re.S)
        tell("table_of_the_documentation", bool(part) and part[1] == table(), "make it with paths.py ... table:\n" + table())
    sys.exit(failures > 0)


main()
