"""Faults by rule. A rule is a dictionary; the first that matches a request is used up once.

    {"path": REGEX over the path with its query, "method": "GET" (absent: any),
     "skip": N matches to let pass first, "count": N times to act (-1: always; default 1),
     "do": "status" (with "status": 503, "headers": {...}, "body": "..."),
           "drop"     close the connection: after "after" bytes of the body (default: before the headers),
           "truncate" announce the whole body, send "after" bytes, close,
           "corrupt"  flip one bit at byte "after" of the body,
           "lost"     do what was asked and close the connection before the answer,
           "delay"    wait "seconds" first,
           "stall"    send "after" bytes of the body, then nothing for "seconds",
           "raw"      send "text", then "piece" "times" times (-1: for ever) as they are (latin-1),
                      instead of an answer, and close,
           "call"     run the test's Python hook of this name (server.hooks)}
"""
import re
import threading


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []

    def set(self, rules):
        with self.lock:
            self.rules = [dict(r, regex=re.compile(r.get("path", ""))) for r in rules]

    def take(self, method, path):
        """The rule that acts on this request, or None."""
        with self.lock:
            for r in self.rules:
                if r.get("method", method) != method or not r["regex"].search(path):
                    continue
                if r.get("skip", 0) > 0:
                    r["skip"] -= 1
                    continue
                count = r.get("count", 1)
                if count == 0:
                    continue
                r["count"] = count - 1 if count > 0 else count
                return r
        return None
