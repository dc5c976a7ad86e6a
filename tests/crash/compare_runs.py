#!/usr/bin/env python3
"""compare_runs.py A B: two run directories hold the same results, bit for bit.

Compared: every prompt file, best.json, the logs, the newest state, numpy checkpoints, and the event
files record by record.  Masked: the wall time of events and the name of the event file (clock, host and
process), nothing else.  Prints the first difference and exits 1.
"""
import pathlib
import struct
import sys


def events(path):
    """Records of an event file without field 1 (wall_time, a fixed64)."""
    data, at, out = path.read_bytes(), 0, []
    while at < len(data):
        (n,) = struct.unpack_from("<Q", data, at)
        body = data[at + 12:at + 12 + n]
        if len(body) != n:
            sys.exit(f"{path}: truncated record at byte {at}")
        if body[:1] != b"\x09":
            sys.exit(f"{path}: record at byte {at} does not start with wall_time")
        out.append(body[9:])
        at += 16 + n
    return out


def content(root):
    found = {}
    states = sorted(root.glob("state-*"), key=lambda p: int(p.name.split("-")[1]))
    for path in sorted(root.rglob("*")):
        rel = path.relative_to(root)
        if not path.is_file() or rel.parts[0] in (".lock",):
            continue
        if rel.parts[0].startswith("state-") and rel.parts[0] != states[-1].name:
            continue
        if rel.name == "MANIFEST":
            continue  # names the event files, whose names hold clock and process
        if "tfevents" in rel.name:
            key = str(rel.parent) + "/events"
            if key in found:
                sys.exit(f"{rel.parent}: more than one event file")
            found[key] = events(path)
        else:
            found[str(rel)] = path.read_bytes()
    return found


def compare(a, b, other_steps=False):
    """The first difference or None. other_steps: a signal saves at steps of its own, so which old
    prompts are kept may differ; all that both have, and everything else, must be equal."""
    for name in sorted(set(a) | set(b)):
        if name not in a or name not in b:
            if other_steps and name.startswith("prompt-"):
                continue
            return f"{name}: only in {'the first' if name in a else 'the second'}"
        if a[name] != b[name]:
            return f"{name}: differs"
    return None


if __name__ == "__main__":
    one, two = (content(pathlib.Path(p)) for p in sys.argv[1:3])
    difference = compare(one, two)
    if difference:
        sys.exit(difference)
    print(f"{len(one)} files equal")
