#!/usr/bin/env python3
"""The verdicts of tests/boundary/gin against gin-config (pip install gin-config): run in the project's root.

Prints every file whose name says something else than the reference; exits 0 when only those differ
that lie beyond our limits (64 brackets, 64 bits)."""
import glob
import os
import sys
import types

import gin

LIMITS = ("bad_depth_65", "bad_int_2^6", "bad_int_minus_2^6", "bad_hex_2^6")
fx, mod = types.ModuleType("fx"), types.ModuleType("fx.mod")
sys.modules.update({"fx": fx, "fx.mod": mod})
fx.mod = mod


def pair(left=None, right=None):
    return left, right


def kw(**kwargs):
    return kwargs


class dyn:
    def __init__(self, a=1, b=(1, 2), c="x"):
        pass


pair.__module__ = kw.__module__ = "fx"
dyn.__module__ = "fx.mod"
fx.pair, fx.kw, mod.dyn = gin.configurable(pair, module="fx"), gin.configurable(kw, module="fx"), dyn
same = limits = differ = 0
for path in sorted(glob.glob("tests/boundary/gin/*_*")):
    name = os.path.basename(path)
    gin.clear_config()
    try:
        gin.parse_config(open(path, "rb").read().decode())
        gin.finalize()
        fx.pair()
        ok = True
    except Exception:
        ok = False
    if ok == name.startswith("ok_"):
        same += 1
    elif ok and name.startswith(LIMITS):
        limits += 1
    else:
        differ += 1
        print(f"{name}: the reference {'accepts' if ok else 'refuses'} it")
print(f"{same} verdicts equal, {limits} beyond our limits, {differ} different")
sys.exit(differ > 0)
