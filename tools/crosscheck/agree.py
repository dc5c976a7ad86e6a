#!/usr/bin/env python3
"""agree.py --verdicts build/release/tools/crosscheck/verdicts --n 100000: bar C7.

For each format inputs are made by damaging valid ones at random until N were accepted by the reference
reader and N refused (numpy, safetensors, msgpack, json; torch and spm when they are named: `pip install numpy
safetensors msgpack torch sentencepiece`), and our
reader is asked about every one.  Same verdict, and the same content where both accept: agreement.  A
difference is counted under the reason that explains it (REASONS below); any without a reason fails.
"""
import argparse
import collections
import io
import json
import math
import os
import pathlib
import random
import re
import select
import struct
import subprocess
import sys
import zlib

import numpy as np
try:
    import msgpack
except ImportError:
    msgpack = None
try:
    import safetensors
except ImportError:
    safetensors = None

ap = argparse.ArgumentParser()
ap.add_argument("--verdicts", required=True)
ap.add_argument("--n", type=int, default=100000)
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--keep", default="", help="differences without a reason go to files in this folder")
ap.add_argument("formats", nargs="*", default=[])
a = ap.parse_args()
rng = random.Random(a.seed)

NAMES = {"f4": "float32", "f8": "float64", "f2": "float16", "i1": "int8", "u1": "uint8", "i2": "int16",
         "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64", "u8": "uint64", "b1": "bool"}


# --- damage ------------------------------------------------------------------------------------

def damaged(seed):
    b = bytearray(seed)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6])):
        how = rng.randrange(7)
        at = rng.randrange(len(b) + 1)
        if how == 0 and b:
            b[min(at, len(b) - 1)] ^= 1 << rng.randrange(8)
        elif how == 1 and b:
            b[min(at, len(b) - 1)] = rng.choice(b"\x00\x01\x7f\x80\xff 0123456789,:'\"()[]{}TrueFalsnot<>|fiub")
        elif how == 2:
            b[at:at] = bytes([rng.choice(b"\x00\xff 0189,:'\"()[]{}-+.eE\\u\n\t")])
        elif how == 3:
            del b[at:at + rng.randrange(1, 5)]
        elif how == 4:
            del b[at:]
        elif how == 5 and len(b) > 8:
            k = rng.randrange(len(b) - 4)
            b[at:at] = b[k:k + rng.randrange(1, 12)]
        elif how == 6:
            digits = [m.span() for m in re.finditer(rb"\d+", bytes(b))]
            if digits:
                s, e = rng.choice(digits)
                b[s:e] = str(rng.choice([0, 1, 2, 3, 4, 6, 8, 12, 24, 2**31, 2**63, 2**64, -1])).encode()
    return bytes(b)


# --- the reference readers: None (refused) or the content in the form of verdicts.c ------------------

def arrays(items):
    out = ["yes"]
    for name, dtype, shape, data in sorted(items, key=lambda x: x[0].encode()):
        out.append(f"{name} {dtype} [{', '.join(map(str, shape))}] {zlib.crc32(data):08x}")
    return "|".join(out)


def read_npy(b):
    f = io.BytesIO(b)
    try:
        x = np.lib.format.read_array(f, allow_pickle=False)
    except Exception:
        return None
    if f.read(1):
        return "more behind the array"
    if x.dtype.kind not in "fiub" or x.dtype.str[1:] not in NAMES or x.dtype.fields:
        return "a type that we do not have"
    little = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"))
    return arrays([("", NAMES[x.dtype.str[1:]], x.shape, little.tobytes())])


def read_safetensors(b):
    try:
        items = safetensors.deserialize(b)
    except Exception:
        return None
    table = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "U8": "uint8",
             "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32", "I64": "int64", "U64": "uint64",
             "BOOL": "bool"}
    if any(x["dtype"] not in table for _, x in items):
        return "a type that we do not have"
    return arrays([(n, table[x["dtype"]], x["shape"], bytes(x["data"])) for n, x in items])


def tokens(x):
    if x is None:
        return " n"
    if isinstance(x, bool):
        return f" b{int(x)}"
    if isinstance(x, int):
        return f" i{x}"
    if isinstance(x, float):
        return " f" + c_hex(x)
    if isinstance(x, Raw):
        return " s" + x.b.hex()
    if isinstance(x, str):
        return " s" + x.encode("utf-8", "surrogateescape").hex()
    if isinstance(x, bytes):
        return " x" + x.hex()
    if isinstance(x, list):
        return f" a{len(x)}" + "".join(map(tokens, x))
    if isinstance(x, Pairs):
        return f" m{len(x.p)}" + "".join(tokens(k) + tokens(v) for k, v in x.p)
    if isinstance(x, msgpack.ExtType):
        return f" e{x.code}:" + x.data.hex()
    raise TypeError(type(x))


class Raw:
    def __init__(self, b):
        self.b = b


class Pairs:
    def __init__(self, p):
        self.p = list(p)


def c_hex(x):
    """C's %a of a double."""
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    s = x.hex()
    m = re.fullmatch(r"(-?0x[01])\.([0-9a-f]*)p([+-]\d+)", s)
    frac = m.group(2).rstrip("0")
    return m.group(1) + ("." + frac if frac else "") + "p" + m.group(3)


def read_msgpack(b):
    class Ext(Exception):
        pass
    try:
        x = msgpack.unpackb(b, raw=False, strict_map_key=False, unicode_errors="surrogateescape",
                            object_pairs_hook=Pairs, timestamp=0, ext_hook=msgpack.ExtType)
    except Exception:
        return None
    try:
        return "yes" + tokens(x)
    except TypeError:
        return "a timestamp"


def read_json(b):
    def events(x):
        if isinstance(x, Pairs):
            return " 1" + "".join(" 5" + k + events(v) for k, v in x.p) + " 2"
        if isinstance(x, list):
            return " 3" + "".join(map(events, x)) + " 4"
        if isinstance(x, str):
            return " 6" + x
        if x is True:
            return " 8"
        if x is False:
            return " 9"
        if x is None:
            return " 10"
        return " 7" + c_hex(x)
    def number(text):
        return float(text)
    try:
        x = json.loads(b.decode("utf-8"), object_pairs_hook=Pairs, parse_int=number, parse_float=number)
    except Exception:
        return None
    try:
        return f"yes {zlib.crc32(events(x).encode('utf-8')):08x}"
    except UnicodeEncodeError:
        return "a lone surrogate"
    except RecursionError:
        return "deep"


def read_torch(b):
    import torch
    import warnings
    warnings.filterwarnings("ignore")
    def load():
        try:
            return said(torch.load(io.BytesIO(b), weights_only=True, map_location="cpu"))
        except Exception:
            return None
    first = load()
    return first if not first or first == load() else "bytes of memory that nobody wrote, others every time"


def said(x):
    import torch
    if isinstance(x, torch.Tensor):
        x = {"tensor": x}
    if not isinstance(x, dict) or not all(isinstance(k, str) and isinstance(t, torch.Tensor) for k, t in x.items()):
        return "something else than a dict of tensors"
    items = []
    for name, t in x.items():
        t = t.detach()
        kind = str(t.dtype).replace("torch.", "")
        if kind not in NAMES.values() and kind != "bfloat16" or t.layout != torch.strided:
            return "a type that we do not have"
        if t.numel() > 1 << 16:
            return "a view of more elements than its storage has"
        if t.is_conj() or t.is_neg():
            return "a view with a flag"
        raw = t.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
        items.append((name, kind, list(t.shape), raw))
    return arrays(items)


TEXTS = ["", "a", "abc", "hello world", " two  spaces ", "\u00e4\u20ac", "xxxxxxxx", "the quick brown fox", "<unk></s>",
         "1234567890", "\ufb01ne", "\u65e5\u672c", "ab ba ab", "-!?"]


class Apart:
    """SentencePiece in a process of its own: a damaged model may end it, which counts as refused."""

    def __init__(self):
        self.pid, self.crashes = 0, 0

    def start(self):
        down, self.out = os.pipe()
        self.back, up = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(down)
            os.close(up)
            return
        os.close(self.out)
        os.close(self.back)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        import sentencepiece
        f, g = os.fdopen(down, "rb"), os.fdopen(up, "w")
        while len(head := f.read(8)) == 8:
            size, eos = struct.unpack("<Ii", head)
            b = f.read(size)
            try:
                sp = sentencepiece.SentencePieceProcessor()
                sp.LoadFromSerializedProto(b)
                text = ""
                for t in TEXTS:
                    ids = sp.EncodeAsIds(t)
                    text += "".join(f" {i}" for i in ids) + "|" + sp.DecodeIds(ids[:ids.index(eos)] if eos in ids else ids) + "\n"
                answer = f"yes {sp.GetPieceSize()} {zlib.crc32(text.encode()):08x}"
            except Exception as e:
                answer = "no " + str(e).replace("\n", " ")[:100]
            print(answer, file=g, flush=True)
        os._exit(0)

    def ask(self, b, eos=-1):
        if not self.pid:
            self.start()
        line = b""
        try:
            os.write(self.out, struct.pack("<Ii", len(b), eos) + b)
            while not line.endswith(b"\n"):
                if not select.select([self.back], [], [], 60)[0]:
                    os.kill(self.pid, 9)
                more = os.read(self.back, 4096)
                if not more:
                    raise BrokenPipeError
                line += more
        except BrokenPipeError:
            os.waitpid(self.pid, 0)
            os.close(self.out)
            os.close(self.back)
            self.pid, self.crashes = 0, self.crashes + 1
            return None
        line = line.decode().strip()
        return line if line.startswith("yes") else None


apart = Apart()


def read_spm(b):
    return apart.ask(b)


# --- seeds -------------------------------------------------------------------------------------

def npy(x, **k):
    f = io.BytesIO()
    np.lib.format.write_array(f, x, **k)
    return f.getvalue()


def seeds_npy():
    out = []
    for t in ("<f4", ">f4", "<f8", "<f2", "|i1", "|u1", "<i2", ">i4", "<i8", "<u8", "|b1"):
        for shape in ((), (3,), (2, 3), (0, 4)):
            x = (np.arange(int(np.prod(shape))) % 7).astype(t).reshape(shape)
            out += [npy(x), npy(np.asfortranarray(x)), npy(x, version=(2, 0))]
    return out


def st(header, data=b""):
    h = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(h)) + h + data


def seeds_safetensors():
    t = lambda d, s, o: {"dtype": d, "shape": s, "data_offsets": o}
    return [st({}), st({"a": t("F32", [2], [0, 8])}, b"x" * 8),
            st({"a": t("F32", [2], [0, 8]), "b": t("BF16", [1, 3], [8, 14])}, b"y" * 14),
            st({"__metadata__": {"k": "v"}, "z": t("I8", [], [0, 1]), "a": t("U16", [2, 2], [1, 9])}, b"z" * 9),
            st({"e": t("F64", [0, 3], [0, 0]), "f": t("BOOL", [4], [0, 4])}, b"\0\1\0\1")]


def seeds_msgpack():
    objects = [None, True, 0, 127, 128, 255, 256, 65535, 65536, 2**32, 2**63, 2**64 - 1, -1, -32, -33, -128, -129,
               -2**31, -2**63, 1.5, "", "a", "x" * 31, "y" * 32, "z" * 300, b"", b"q" * 300, [], [1, [2, [3]]],
               {}, {"a": 1, "b": [None, {"c": b"d"}]}, list(range(20)), {str(i): i for i in range(20)},
               msgpack.ExtType(1, b"abcd"), msgpack.ExtType(3, b"x" * 20), [0.1, -0.0, 1e300]]
    return [msgpack.packb(o) for o in objects] + [msgpack.packb(1.5, use_single_float=True), b"\xc1", b"\xd9\x02hi"]


def seeds_json():
    objects = [None, True, 0, -1, 1.5, 1e300, 1e-7, "", "a\n\"\\/\u00e9\U0001f600", [], [1, [2, [3]]], {},
               {"a": 1, "b": [None, {"c": "d"}]}, {"k" + str(i): i for i in range(40)}, [[[[[[[]]]]]]],
               {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}]
    out = [json.dumps(o).encode() for o in objects] + [json.dumps(o, indent=1, ensure_ascii=False).encode() for o in objects]
    return out + [b" [1 , 2]\n", b"1E5", b"-0", b"0.5e-3", b"\"\\ud83d\\ude00\"", b"[NaN, Infinity, -Infinity]"]


def seeds_torch():
    import torch
    from collections import OrderedDict
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    objects = [{"a": x}, OrderedDict(a=x, b=x.bfloat16()), x, {"v": x.t(), "w": x[1:, ::2]}, {}, OrderedDict(),
               {"i": torch.tensor([1, 2]), "h": x.half(), "u": torch.tensor([1, 2], dtype=torch.uint8),
                "t": torch.tensor([True]), "d": x.double(), "s": torch.tensor(3, dtype=torch.int16)},
               {"p": torch.nn.Parameter(x), "e": torch.zeros(0, 3)}, torch.nn.Linear(2, 2).state_dict()]
    out = []
    for o in objects:
        for new in (True, False):
            f = io.BytesIO()
            torch.save(o, f, _use_new_zipfile_serialization=new)
            out.append(f.getvalue())
    return out


def seeds_spm():
    """The small models of the fuzz corpus that the reference opens, and those in the pack."""
    here = pathlib.Path(__file__).resolve().parent.parent.parent / "tests/fuzz/corpus/spm"
    out = []
    for f in sorted(here.iterdir()):
        b = f.read_bytes()
        if f.suffix == ".pack":
            while b:
                n = struct.unpack("<I", b[:4])[0]
                out.append(b[4:4 + n])
                b = b[4 + n:]
        else:
            out.append(b)
    return [b for b in out if len(b) < 3000 and read_spm(b)]


# --- differences with their reasons: (they accept, our message or theirs) -> text or None -------------

def odd_wire(b, deep=True):
    """Whether a protobuf message has a field number of 0 or beyond 29 bits, or a number beyond 64 bits."""
    def number(i):
        v = shift = 0
        while True:
            c = b[i]
            v |= (c & 127) << shift
            i, shift = i + 1, shift + 7
            if c < 128:
                return v, i
    i = 0
    try:
        while i < len(b):
            tag, i = number(i)
            if tag >> 3 == 0 or tag >> 32:
                return True
            if tag & 7 == 0:
                v, i = number(i)
                if v >> 64:
                    return True
            elif tag & 7 in (1, 5):
                i += 8 if tag & 7 == 1 else 4
            elif tag & 7 == 2:
                n, i = number(i)
                if deep and tag >> 3 < 4 and odd_wire(b[i:i + n], False):
                    return True
                i += n
            else:
                return False
    except IndexError:
        pass
    return False


def floats(b):
    """The scores of the pieces: tag 0x15 and four bytes, wherever they stand."""
    return [x for x in (struct.unpack("<f", m.group(1))[0] for m in re.finditer(rb"\x15(.{4})", b, re.S)) if x == x]


def why(fmt, b, theirs, ours):
    """None: no explanation."""
    m = ours[3:] if ours.startswith("no") else ""
    if fmt == "msgpack" and " e-" in ours and (theirs is None or theirs == "a timestamp"):
        return "an extension type that the format reserves: a token for us, refused by the reader above (it knows 1 and 3)"
    if theirs and not theirs.startswith("yes"):
        return f"{theirs}: refused by us, or outside of what the reference checks" if m else None
    if fmt == "npy":
        if theirs and re.search(r"type|descr|bytes|dimension", m) and re.search(rb"'descr': *'[^']*'", b) is not None \
                and not re.search(rb"'descr': *'[<>|=]?[fiub]\d'", b):
            return "a spelling of the type that NumPy itself never writes"
        if theirs and ("key" in m or "header" in m or "line" in m or "expected" in m or "spaces" in m):
            return "a header that is Python, but not as NumPy writes it (the reference evaluates it)"
        if theirs and ("bytes" in m or "elements" in m):
            return "NumPy ignores what lies behind an array without elements, or reads a shape with negative or huge parts"
        if not theirs and "Fortran" not in m:
            return "shape or type that this NumPy refuses for its own limits (a dimension beyond its index)" \
                if re.search(rb"\d{10}", b) else None
    if fmt == "safetensors":
        if theirs and re.search(r"line \d+|metadata|name|NUL|byte", m):
            return "the reference ignores unknown keys and doubled names in a header; we refuse them"
        if not theirs and re.search(rb"\x00{1,7}$|[ \t\n]", b[8:]):
            return "white space or padding that the reference refuses"
    if fmt == "msgpack":
        if theirs and "deep" in m:
            return "nesting beyond our limit of 32"
    if fmt == "torch":
        if theirs and re.search(r"memo entries|pickle protocol above", m):
            return "a pickle with numbers that Python's pickler does not give, which the reference does not look at"
        if theirs and re.search(r"local header|end record|ZIP64 end|ZIP entries|is damaged", m):
            return "a damaged ZIP record that the reference does not read; we check them all"
        if theirs and re.search(r"behind the last storage|elements \(the pickle|as it is described|sys_info|twice|"
                               r"two tensors|beyond its storage|byte order|keys are not a list", m):
            return "bytes, sizes or names that the reference does not compare"
        if theirs and re.search(r"goes beyond|overlap|forbidden name|is outside|ZIP64 sizes|compressed or enc|two ZIP", m):
            return "an entry of the ZIP file that the reference does not read"
        if not theirs and ours.startswith("yes") and b.startswith(b"PK"):
            return "a member that only the reference reads (its alignment, version, byte order)" \
                if re.search(rb"alignment|version|byteorder", b) else None
    if fmt == "spm":
        if theirs and ours.startswith("yes") and any(abs(x) > 2.0 ** 20 for x in floats(b)):
            return "scores so large that sums are ties by rounding, which releases of SentencePiece cut differently"
        if theirs and "end-of-sequence piece" in m:
            return "no </s>: not a vocabulary that can end a text"
        if theirs and re.search(r"not valid text|is not text of", m):
            return "a piece that is not UTF-8: the reference does not look"
        if theirs and "damaged" in m and odd_wire(b):
            return "field numbers of 0 or beyond 29 bits, or numbers beyond 64: protobuf stops there or drops bits"
        if theirs and re.search(r"word model|nameless model|BPE model|character model|\d model;|as a suffix", m):
            return "a model of another kind than T5's"
        if theirs and re.search(r"no normal piece|the same text", m):
            return "no piece to write with, or two with one text: the second can never come out"
        if theirs and "unknown type" in m:
            return "a type of piece that does not exist: protobuf takes it for the default"
    if fmt == "json":
        if theirs and "twice" in m:
            return "doubled keys"
        if theirs and ("deep" in m or "nest" in m):
            return "nesting beyond our limit of 64"
        if theirs and "surrogate" in m:
            return "a lone surrogate"
    return None


FORMATS = {"npy": (read_npy, seeds_npy), "safetensors": (read_safetensors, seeds_safetensors),
           "msgpack": (read_msgpack, seeds_msgpack), "json": (read_json, seeds_json),
           "torch": (read_torch, seeds_torch), "spm": (read_spm, seeds_spm)}
bad = 0
for fmt in a.formats or ["npy", "safetensors", "msgpack", "json"]:
    read, make = FORMATS[fmt]
    corpus, want = make(), {True: a.n, False: a.n}
    count = collections.Counter()
    reasons = collections.Counter()
    shown = 0
    while want[True] > 0 or want[False] > 0:
        batch = []
        while len(batch) < 2000:
            b = damaged(rng.choice(corpus))
            theirs = read(b)
            accepted = bool(theirs)
            odd = accepted and not theirs.startswith("yes")  # counts as neither
            if (want[accepted] <= 0 or odd) and rng.random() < 0.99:
                continue
            want[accepted] -= not odd
            batch.append((b, theirs))
            if accepted and len(corpus) < 3000 and len(b) < 4000 and rng.random() < 0.02:
                corpus.append(b)
        data = b"".join(struct.pack("<I", len(b)) + b for b, _ in batch)
        answers = subprocess.run([a.verdicts, fmt], input=data, capture_output=True, check=True).stdout.splitlines()
        if len(answers) != len(batch):
            sys.exit(f"{fmt}: our reader ended after {len(answers)} of {len(batch)}: {batch[len(answers)][0]!r}")
        for (b, theirs), line in zip(batch, answers):
            ours = line.decode("utf-8", "replace")
            accepted = bool(theirs)
            count["refused" if not accepted else "accepted" if theirs.startswith("yes") else "odd"] += 1
            if fmt == "spm" and accepted and ours.startswith("yes"):
                # Our texts end at the first end-of-sequence id; the reference gets ids up to there.
                _, eos, ours = ours.split(" ", 2)
                ours, theirs = "yes " + ours, apart.ask(b, int(eos))
            if fmt == "npy" and ours.startswith("yes|"):
                ours = re.sub(r"^yes\|\S* ?(?=\w+ \[)", "yes| ", ours)
            if (not accepted and ours.startswith("no")) or (accepted and ours == theirs):
                continue
            if accepted and ours.startswith("yes") and "nan" in ours and fmt == "msgpack":
                ours = ours.replace("-nan", "nan")
                if ours == theirs:
                    continue
            reason = why(fmt, b, theirs, ours)
            if reason:
                reasons[reason] += 1
                continue
            count["without a reason"] += 1
            if a.keep:
                name = pathlib.Path(a.keep) / f"{fmt}-{count['without a reason']}"
                name.write_bytes(b)
                name.with_suffix(".txt").write_text(f"reference: {theirs}\nours: {ours}\n")
            if shown < 10:
                shown += 1
                print(f"  {fmt}: {b!r}\n    reference: {theirs}\n    ours: {ours}"[:2000], flush=True)
    bad += count["without a reason"]
    print(f"{fmt}: {count['accepted']} accepted and {count['refused']} refused by the reference, "
          f"{sum(reasons.values())} differences with a reason, {count['without a reason']} without", flush=True)
    for r, n in reasons.most_common():
        print(f"    {n}: {r}")
print(f"C7: {bad} differences without a reason")
sys.exit(bad > 0)
