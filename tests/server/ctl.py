#!/usr/bin/env python3
"""Talks to the test server: ctl.py PORT faults JSON | log [FORMAT] | clear

FORMAT is of Python's str.format over an entry, e.g. "{method} {path} {range}"; one line each."""
import json
import sys
import urllib.request

port, what = sys.argv[1:3]
base = f"http://127.0.0.1:{port}/_control/"
if what == "faults":
    urllib.request.urlopen(base + "faults", data=sys.argv[3].encode()).read()
elif what == "clear":
    urllib.request.urlopen(base + "clear", data=b"").read()
else:
    for e in json.load(urllib.request.urlopen(base + "log")):
        print((sys.argv[3] if len(sys.argv) > 3 else "{method} {path} {status}").format(**e))
