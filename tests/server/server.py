#!/usr/bin/env python3
"""A small HTTP server for tests: files with ranges, a bucket service, injected faults.

    python3 tests/server/server.py --port-file F [--files DIR] [--bucket NAME=DIR ...]
                                   [--empty-bucket NAME ...] [--private NAME=TOKEN ...]
                                   [--hub DIR [--hub-token TOKEN]] [--tls CERT KEY] [--parent PID]

It listens on a free port of 127.0.0.1 and writes the number to F when it is ready. It ends when the
process PID is gone (--parent), so that a killed test leaves nothing behind. Python's own library only.

Modules (each answers the paths it knows; see their texts):
    files.py   /files/...              a directory, with ranges, ETag, Last-Modified
    gcs.py     /storage/v1, /upload/.. the JSON API of Google Cloud Storage, tokens, metadata server
    hub.py     /api/models/.., /ORG/NAME/resolve/..   a model hub and its CDN on another port
Further modules: a class with `handle(self, rq)` that returns False when the path is not its own,
added to the list in main().

Control, for test scripts (python3 tests/server/ctl.py PORT ... or plain curl):
    POST /_control/faults   a JSON list of rules (faults.py); replaces the old list
    GET  /_control/log      JSON list of the requests so far: method, path, status, range, sent, auth
    POST /_control/clear    forgets log and rules
    POST /_control/dump?bucket=B&dir=D   writes a bucket's objects as files below D
    POST /_control/put?bucket=B&name=N   puts the body as an object (behind the client's back)
"""
import argparse
import json
import os
import pathlib
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from faults import Faults  # noqa: E402
from files import Files  # noqa: E402
from gcs import Gcs  # noqa: E402
from hub import Hub  # noqa: E402


class Dropped(Exception):
    """The connection is to be closed without another byte."""


class Handler(BaseHTTPRequestHandler):
    """One request. Modules use: method, path, query, headers, body(), reply(), reply_json(),
    reply_file(), error_json(), note."""
    protocol_version = "HTTP/1.1"
    wbufsize = 0
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def date_time_string(self, timestamp=None):
        return super().date_time_string((timestamp or time.time()) + self.server.options.clock)

    def handle_one(self):
        self.method = self.command
        split = urllib.parse.urlsplit(self.path)
        self.raw_path = split.path
        self.query = dict(urllib.parse.parse_qsl(split.query, keep_blank_values=True))
        self.entry = {"method": self.method, "path": self.path, "status": 0, "sent": 0,
                      "range": self.headers.get("Range"), "auth": self.headers.get("Authorization"),
                      "time": time.time()}
        self.rule = None
        self.body_bytes = None
        server = self.server
        try:
            if self.raw_path.startswith("/_control/"):
                self.control()
                return
            with server.log_lock:
                server.log.append(self.entry)
            self.rule = server.faults.take(self.method, self.path)
            if self.rule and self.before():
                return
            for module in server.modules:
                if module.handle(self) is not False:
                    return
            self.error_json(404, "Not Found")
        except Dropped:
            self.close_now()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_one

    # --- faults ---

    def before(self):
        """Faults that act before the answer. True: nothing more to do."""
        r = self.rule
        if r["do"] == "delay":
            time.sleep(r["seconds"])
        elif r["do"] == "call":
            self.server.hooks[r["name"]](self)
        elif r["do"] == "status":
            self.body()
            self.reply(r["status"], r.get("body", "").encode(), r.get("headers", {}))
            return True
        elif r["do"] == "raw":
            self.body()
            self.wfile.write(r.get("text", "").encode("latin-1"))
            piece, left = r.get("piece", "").encode("latin-1"), r.get("times", 1)
            while piece and left:
                self.wfile.write(piece)
                left -= 1
            raise Dropped
        elif r["do"] == "drop" and "after" not in r:
            if not r.get("unread"):
                self.body()
            raise Dropped
        return False

    def close_now(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    # --- what modules use ---

    def body(self):
        """The request's body. A client that goes away in the middle raises Dropped."""
        if self.body_bytes is not None:
            return self.body_bytes
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while True:
                n = int(self.rfile.readline().split(b";")[0] or b"0", 16)
                parts.append(self.rfile.read(n))
                self.rfile.readline()
                if not n:
                    break
            self.body_bytes = b"".join(parts)
            return self.body_bytes
        want = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(want) if want else b""
        if len(data) != want:
            raise Dropped
        self.body_bytes = data
        return data

    def head(self, status, length, headers):
        self.entry["status"] = status
        if self.rule and self.rule["do"] == "lost":  # done, but nobody hears of it
            raise Dropped
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def reply(self, status, data=b"", headers=None):
        self.body()
        self.send_body(status, len(data), headers or {}, lambda at, n: data[at:at + n])

    def reply_json(self, status, value, headers=None):
        self.reply(status, json.dumps(value).encode(),
                   {"Content-Type": "application/json; charset=UTF-8", **(headers or {})})

    def error_json(self, status, message, reason="invalid"):
        self.reply_json(status, {"error": {"code": status, "message": message, "errors": [
            {"message": message, "domain": "global", "reason": reason}]}})

    def send_body(self, status, length, headers, piece, file=None, base=0):
        """Sends `length` bytes that piece(at, n) gives, or that lie in `file` from `base` on, with the
        rule's fault if any."""
        r = self.rule or {"do": ""}
        stop = r.get("after") if r["do"] in ("drop", "truncate", "stall") else None
        self.head(status, length, headers)
        if self.command == "HEAD":
            return
        end = length if stop is None else min(stop, length)
        if file and r["do"] != "corrupt":
            sent = 0
            if isinstance(self.connection, ssl.SSLSocket):
                while sent < end:
                    file.seek(base + sent)
                    chunk = file.read(min(1 << 20, end - sent))
                    self.wfile.write(chunk)
                    sent += len(chunk)
            elif end:
                self.connection.sendfile(file, base, end)
            self.entry["sent"] += end
        else:
            at = 0
            while at < end:
                n = min(1 << 20, end - at)
                chunk = piece(at, n)
                if r["do"] == "corrupt" and at <= r.get("after", 0) < at + n:
                    k = r.get("after", 0) - at
                    chunk = chunk[:k] + bytes([chunk[k] ^ 1]) + chunk[k + 1:]
                self.wfile.write(chunk)
                self.entry["sent"] += len(chunk)
                at += n
        if stop is not None and r["do"] == "stall":
            time.sleep(r.get("seconds", 3600))
        if stop is not None:
            raise Dropped

    def wanted_range(self, size):
        """(first, last + 1) of a Range header, None without one, False when it cannot be met."""
        text = self.headers.get("Range", "")
        if not text.startswith("bytes=") or "," in text:
            return None
        a, _, b = text[6:].partition("-")
        if not a:
            return (max(0, size - int(b)), size) if int(b) else False
        first = int(a)
        last = min(int(b) + 1, size) if b else size
        return (first, last) if first < size else False

    def reply_content(self, size, headers, piece, file=None, tag=None, modified=None):
        """A file's content: 200, 206 or 416; If-Range and If-Match are obeyed."""
        self.body()
        headers = dict(headers)
        if tag:
            headers["ETag"] = tag
        if modified:
            headers["Last-Modified"] = modified
        match = self.headers.get("If-Match")
        if match and tag and match != tag and match != "*":
            self.reply(412, b"precondition failed", headers)
            return
        want = self.wanted_range(size)
        if_range = self.headers.get("If-Range")
        if if_range and if_range not in (tag, modified):
            want = None
        if want is False:
            self.reply(416, b"", {"Content-Range": f"bytes */{size}"})
        elif want is None:
            self.send_body(200, size, headers, piece, file)
        else:
            a, b = want
            headers["Content-Range"] = f"bytes {a}-{b - 1}/{size}"
            self.send_body(206, b - a, headers, lambda at, n: piece(a + at, n), file, a)

    # --- control ---

    def control(self):
        s = self.server
        what = self.raw_path[len("/_control/"):]
        if what == "faults":
            s.faults.set(json.loads(self.body() or b"[]"))
            self.reply(200)
        elif what == "log":
            with s.log_lock:
                copy = list(s.log)
            self.reply_json(200, copy)
        elif what == "clear":
            s.faults.set([])
            with s.log_lock:
                s.log.clear()
            self.reply(200)
        else:
            for m in s.modules:
                f = getattr(m, "control_" + what.replace("-", "_"), None)
                if f:
                    f(self)
                    return
            self.reply(404)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, handler, tls=None):
        super().__init__(address, handler)
        self.scheme = "https" if tls else "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True,
                                              do_handshake_on_connect=False)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, Dropped)):
            super().handle_error(request, client_address)


def watch(parent):
    while True:
        try:
            os.kill(parent, 0)
        except OSError:
            os._exit(0)
        time.sleep(0.5)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--port-file", required=True)
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--files")
    p.add_argument("--bucket", action="append", default=[])
    p.add_argument("--empty-bucket", action="append", default=[])
    p.add_argument("--private", action="append", default=[])
    p.add_argument("--hub", help="directory of repositories (hub.py)")
    p.add_argument("--hub-token", help="the token that opens gated and private repositories")
    p.add_argument("--no-preconditions", action="store_true", help="as emulators that ignore them")
    p.add_argument("--no-compose", action="store_true", help="as emulators that lack it")
    p.add_argument("--page", type=int, default=1000, help="items of a listing's page at most")
    p.add_argument("--key", help="PEM private key whose public half checks signed requests")
    p.add_argument("--clock", type=int, default=0, help="seconds that this server is ahead")
    p.add_argument("--tls", nargs=2, help="certificate and key, PEM")
    p.add_argument("--plain-cdn", action="store_true", help="the hub's CDN without --tls")
    p.add_argument("--parent", type=int)
    a = p.parse_args()
    server = Server(("127.0.0.1", a.port), Handler, a.tls)
    server.faults = Faults()
    server.log = []
    server.log_lock = threading.Lock()
    server.hooks = {}
    server.options = a
    server.modules = [Files(a.files), Gcs(a)]
    if a.hub:
        server.modules.append(Hub(a, server, Server, Handler))
    if a.parent:
        threading.Thread(target=watch, args=(a.parent,), daemon=True).start()
    with open(a.port_file + ".tmp", "w") as f:
        f.write(str(server.server_address[1]))
    os.rename(a.port_file + ".tmp", a.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
