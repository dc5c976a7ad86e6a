"""The JSON API of Google Cloud Storage as far as a client can tell: objects with generations,
CRC-32C, ranges, paged listings, simple, multipart and resumable uploads, preconditions, rewrite,
compose, delete; the token endpoint for service accounts and users; the metadata server.

Buckets are served from directories (--bucket NAME=DIR: what lies there, read-only on disk) or start
empty (--empty-bucket NAME). --private NAME[=TOKEN]: needs a token that /token or the metadata server
gave out, or with TOKEN this one and no other.
"""
import base64
import email.utils
import hashlib
import json
import os
import pathlib
import struct
import subprocess
import threading
import time
import urllib.parse

from crc32c import crc32c

KIB256 = 256 << 10


class Object:
    def __init__(self, name, generation, data=None, path=None, meta=None):
        self.name, self.generation, self.data, self.path = name, generation, data, path
        self.size = len(data) if data is not None else path.stat().st_size
        self.meta = meta or {}
        self.updated = time.time()
        self._crc = None

    def read(self):
        return self.data if self.data is not None else self.path.read_bytes()

    @property
    def crc(self):
        if self._crc is None:
            self._crc = base64.b64encode(struct.pack(">I", crc32c(self.read()))).decode()
        return self._crc


class Problem(Exception):
    def __init__(self, status, message, reason="invalid"):
        self.status, self.message, self.reason = status, message, reason


class Gcs:
    def __init__(self, options):
        self.options = options
        self.lock = threading.RLock()
        self.generation = 1700000000000000
        self.buckets, self.private, self.sessions, self.tokens = {}, {}, {}, {}
        self.token_seconds = 3600
        self.bare = False
        self.endless = "none"
        for text in options.bucket:
            name, _, folder = text.partition("=")
            bucket = self.buckets.setdefault(name, {})
            root = pathlib.Path(folder)
            for f in sorted(root.rglob("*")):
                if f.is_file():
                    key = f.relative_to(root).as_posix()
                    bucket[key] = Object(key, self.next_generation(), path=f)
        for name in options.empty_bucket:
            self.buckets.setdefault(name, {})
        for text in options.private:
            name, _, token = text.partition("=")
            self.private[name] = token or None

    def next_generation(self):
        with self.lock:
            self.generation += 7
            return self.generation

    def now(self):
        return time.time() + self.options.clock

    # --- dispatch ---

    def handle(self, rq):
        parts = [urllib.parse.unquote(p) for p in rq.raw_path.split("/")][1:]
        try:
            if parts[:2] == ["storage", "v1"] and parts[2:3] == ["b"]:
                self.storage(rq, parts[3:])
            elif parts[:3] == ["download", "storage", "v1"] and parts[3:4] == ["b"]:
                rq.query["alt"] = "media"
                self.storage(rq, parts[4:])
            elif parts[:3] == ["upload", "storage", "v1"] and parts[3:4] == ["b"]:
                self.upload(rq, parts[4])
            elif parts == ["token"] and rq.method == "POST":
                self.token(rq)
            elif parts[0] == "computeMetadata":
                self.metadata_server(rq, parts[1:])
            elif len(parts) > 1 and parts[0] in self.buckets and rq.method in ("GET", "HEAD"):
                self.media(rq, self.find(parts[0], "/".join(parts[1:])))
            else:
                return False
        except Problem as e:
            if e.status == 404 and self.bare:
                rq.reply(404)
            else:
                rq.error_json(e.status, e.message, e.reason)
        return True

    # --- who may ---

    def identity(self, rq, bucket, permission):
        if bucket not in self.buckets:
            raise Problem(404, "The specified bucket does not exist.", "notFound")
        if bucket not in self.private:
            return
        auth = rq.headers.get("Authorization")
        what = (f"{permission} access to the Google Cloud Storage object. Permission "
                f"'{permission}' denied on resource (or it may not exist).")
        if not auth:
            raise Problem(401, "Anonymous caller does not have " + what, "required")
        token = auth.removeprefix("Bearer ")
        own = self.private[bucket]
        if token == own if own else self.tokens.get(token, 0) > time.time():
            return
        if token in self.tokens and not own:
            raise Problem(401, "Invalid Credentials", "authError")
        raise Problem(403, "someone@example.com does not have " + what, "forbidden")

    def find(self, bucket, name):
        with self.lock:
            o = self.buckets[bucket].get(name)
        if not o:
            raise Problem(404, f"No such object: {bucket}/{name}", "notFound")
        return o

    def precondition(self, rq, bucket, name, key="ifGenerationMatch"):
        want = rq.query.get(key)
        if want is None or self.options.no_preconditions:
            return
        have = self.buckets[bucket].get(name)
        if int(want) != (have.generation if have else 0):
            raise Problem(412, "At least one of the pre-conditions you specified did not hold.",
                          "conditionNotMet")

    def describe(self, bucket, o):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(o.updated + self.options.clock))
        stamp += f".{int(o.updated % 1 * 1000):03d}Z"
        return {"kind": "storage#object", "id": f"{bucket}/{o.name}/{o.generation}",
                "name": o.name, "bucket": bucket, "generation": str(o.generation),
                "metageneration": "1", "size": str(o.size), "crc32c": o.crc, "updated": stamp,
                "timeCreated": stamp, "etag": f"C{o.generation}",
                "contentType": o.meta.get("contentType", "application/octet-stream"),
                **({"metadata": o.meta["metadata"]} if "metadata" in o.meta else {})}

    # --- objects ---

    def storage(self, rq, parts):
        bucket = parts[0] if parts else ""
        if len(parts) == 1:
            self.identity(rq, bucket, "storage.buckets.get")
            rq.reply_json(200, {"kind": "storage#bucket", "name": bucket})
        elif parts[1] != "o":
            raise Problem(404, "Not Found")
        elif len(parts) == 2:
            self.identity(rq, bucket, "storage.objects.list")
            self.list(rq, bucket)
        elif "rewriteTo" in parts[3:]:
            self.rewrite(rq, bucket, parts)
        elif parts[-1] == "compose" and len(parts) == 4 and rq.method == "POST":
            self.compose(rq, bucket, parts[2])
        else:
            self.one(rq, bucket, "/".join(parts[2:]))

    def one(self, rq, bucket, name):
        verb = {"DELETE": "delete", "PATCH": "update"}.get(rq.method, "get")
        self.identity(rq, bucket, "storage.objects." + verb)
        if rq.method == "DELETE":
            with self.lock:
                self.find(bucket, name)
                self.precondition(rq, bucket, name)
                del self.buckets[bucket][name]
            rq.reply(204)
            return
        o = self.find(bucket, name)
        if rq.query.get("generation", str(o.generation)) != str(o.generation):
            raise Problem(404, f"No such object: {bucket}/{name}", "notFound")
        self.precondition(rq, bucket, name)
        if rq.query.get("alt") == "media":
            self.media(rq, o)
        else:
            rq.reply_json(200, self.describe(bucket, o))

    def media(self, rq, o):
        headers = {"X-Goog-Generation": str(o.generation), "X-Goog-Hash": "crc32c=" + o.crc,
                   "X-Goog-Stored-Content-Length": str(o.size), "Accept-Ranges": "bytes",
                   "Content-Type": o.meta.get("contentType", "application/octet-stream")}
        modified = email.utils.formatdate(o.updated, usegmt=True)
        tag = f'"{o.generation:x}"'
        if o.data is not None:
            rq.reply_content(o.size, headers, lambda at, n: o.data[at:at + n], None, tag, modified)
            return
        with open(o.path, "rb") as f:
            def piece(at, n):
                f.seek(at)
                return f.read(n)
            rq.reply_content(o.size, headers, piece, f, tag, modified)

    def list(self, rq, bucket):
        if self.endless != "none":  # names without end, or pages without names
            n = int(rq.query.get("pageToken", 0)) + 1
            prefix = rq.query.get("prefix", "")
            rq.reply_json(200, {"nextPageToken": str(n), "items": [] if self.endless == "empty" else [
                {"name": f"{prefix}{n:09}-{i}" + "x" * 900, "generation": "1", "size": "1"}
                for i in range(20000)]})
            return
        prefix, delimiter = rq.query.get("prefix", ""), rq.query.get("delimiter", "")
        most = min(int(rq.query.get("maxResults", 1000)), self.options.page)
        after = rq.query.get("pageToken", "")
        items, prefixes, token, last = [], [], None, ""
        with self.lock:
            names = sorted(n for n in self.buckets[bucket] if n.startswith(prefix))
            for n in names:
                key = n
                if delimiter and delimiter in n[len(prefix):]:
                    key = prefix + n[len(prefix):].split(delimiter)[0] + delimiter
                if key <= after or key in prefixes[-1:]:
                    continue
                if len(items) + len(prefixes) == most:
                    token = last
                    break
                if key != n:
                    prefixes.append(key)
                else:
                    items.append(self.describe(bucket, self.buckets[bucket][n]))
                last = key
        answer = {"kind": "storage#objects"}
        if items:
            answer["items"] = items
        if prefixes:
            answer["prefixes"] = prefixes
        if token:
            answer["nextPageToken"] = token
        rq.reply_json(200, answer)

    def put(self, rq, bucket, name, data, meta):
        """Makes an object; the checksum in the metadata is held against the data, as there."""
        o = Object(name, self.next_generation(), data=bytes(data), meta=meta)
        want = meta.get("crc32c")
        if want and want != o.crc:
            raise Problem(400, f"Provided CRC32C \"{want}\" doesn't match calculated CRC32C "
                               f"\"{o.crc}\".", "invalid")
        with self.lock:
            if rq:
                self.precondition(rq, bucket, name)
            self.buckets[bucket][name] = o
        return o

    def rewrite(self, rq, bucket, parts):
        at = parts.index("rewriteTo")
        name, target, to = "/".join(parts[2:at]), parts[at + 2], "/".join(parts[at + 4:])
        self.identity(rq, bucket, "storage.objects.get")
        self.identity(rq, target, "storage.objects.create")
        rq.body()
        o = self.find(bucket, name)
        token = rq.query.get("rewriteToken")
        if o.size > (1 << 20) and not token:  # large ones take a second call, as there
            rq.reply_json(200, {"kind": "storage#rewriteResponse", "done": False,
                                "totalBytesRewritten": str(1 << 20), "objectSize": str(o.size),
                                "rewriteToken": "again"})
            return
        made = self.put(rq, target, to, o.read(), {k: v for k, v in o.meta.items() if k != "crc32c"})
        rq.reply_json(200, {"kind": "storage#rewriteResponse", "done": True,
                            "totalBytesRewritten": str(o.size), "objectSize": str(o.size),
                            "resource": self.describe(target, made)})

    def compose(self, rq, bucket, name):
        self.identity(rq, bucket, "storage.objects.create")
        if self.options.no_compose:
            raise Problem(501, "compose is not implemented")
        q = json.loads(rq.body())
        data = b""
        with self.lock:
            for s in q["sourceObjects"]:
                o = self.find(bucket, s["name"])
                want = s.get("objectPreconditions", {}).get("ifGenerationMatch")
                if want is not None and int(want) != o.generation:
                    raise Problem(412, "a component changed", "conditionNotMet")
                data += o.read()
            if not 1 <= len(q["sourceObjects"]) <= 32:
                raise Problem(400, "The number of source components provided is not in [1, 32].")
            made = self.put(rq, bucket, name, data, q.get("destination", {}))
        rq.reply_json(200, self.describe(bucket, made))

    # --- uploads ---

    def upload(self, rq, bucket):
        kind = rq.query.get("uploadType")
        if rq.query.get("upload_id") in self.sessions:
            self.resume(rq, self.sessions[rq.query["upload_id"]])
            return
        if rq.query.get("upload_id"):
            raise Problem(404, "no such upload")
        self.identity(rq, bucket, "storage.objects.create")
        meta, name = {}, rq.query.get("name")
        if kind == "media":
            data = rq.body()
        elif kind == "multipart":
            meta, data = self.parts(rq)
        elif kind == "resumable":
            meta = json.loads(rq.body() or b"{}")
        else:
            raise Problem(400, "uploadType?")
        name = name or meta.get("name")
        if kind != "resumable":
            rq.reply_json(200, self.describe(bucket, self.put(rq, bucket, name, data, meta)))
            return
        self.precondition(rq, bucket, name)
        number = hashlib.md5(os.urandom(8)).hexdigest()
        self.sessions[number] = {"bucket": bucket, "name": name, "meta": meta, "data": bytearray(),
                                 "query": dict(rq.query), "done": None}
        host = rq.headers["Host"]
        rq.reply(200, b"", {"Location": f"http://{host}/upload/storage/v1/b/{bucket}/o?"
                                        f"uploadType=resumable&upload_id={number}"})

    def parts(self, rq):
        kind = rq.headers.get("Content-Type", "")
        mark = b"--" + kind.split("boundary=")[1].strip('"').encode()
        body = rq.body().split(b"\r\n" + mark) if not rq.body().startswith(mark) else \
            (b"\r\n" + rq.body()).split(b"\r\n" + mark)
        pieces = [p.split(b"\r\n\r\n", 1)[1] for p in body[1:3]]
        return json.loads(pieces[0]), pieces[1]

    def resume(self, rq, s):
        text = rq.headers.get("Content-Range", "")
        span, _, total = text.removeprefix("bytes ").partition("/")
        total = None if total in ("*", "") else int(total)
        if rq.method == "DELETE":
            rq.reply(499)
            return
        if span != "*" and s["done"] is None:
            if span:
                first = int(span.split("-")[0])
            else:
                first, total = 0, int(rq.headers["Content-Length"])
            if first != len(s["data"]):
                rq.body()
                raise Problem(400, "Invalid request. The number of bytes uploaded is different "
                                   "from where this request starts.")
            # Bytes count as they come: a client that dies in the middle leaves what arrived.
            left = int(rq.headers["Content-Length"])
            rule = rq.rule or {}
            stop = rule.get("after") if rule.get("do") == "drop" else None
            while left:
                if stop is not None and len(s["data"]) >= stop:
                    rq.close_now()
                    return
                piece = rq.rfile.read(min(left, KIB256))
                if len(piece) < min(left, KIB256):
                    rq.close_now()
                    return
                s["data"] += piece
                left -= len(piece)
            rq.body_bytes = b""
        rq.body()
        if s["done"] is None and total is not None and len(s["data"]) == total:
            class Later:  # the preconditions of the start count at the end as well
                query = s["query"]
            s["done"] = self.put(Later, s["bucket"], s["name"], s["data"], s["meta"])
            given = rq.headers.get("X-Goog-Hash", "")
            if given.startswith("crc32c=") and given[7:] != s["done"].crc:
                with self.lock:
                    del self.buckets[s["bucket"]][s["name"]]
                raise Problem(400, "Provided CRC32C doesn't match calculated CRC32C.")
        if rq.rule and rq.rule["do"] == "lost":
            rq.close_now()
        elif s["done"] is not None:
            rq.reply_json(200, self.describe(s["bucket"], s["done"]))
        else:
            n = len(s["data"])
            rq.reply(308, b"", {"Range": f"bytes=0-{n - 1}"} if n else {})

    # --- credentials ---

    def issue(self, rq):
        token = f"test-token-{len(self.tokens) + 1}"
        self.tokens[token] = time.time() + self.token_seconds
        rq.reply_json(200, {"access_token": token, "expires_in": self.token_seconds,
                            "token_type": "Bearer"})

    def token(self, rq):
        form = dict(urllib.parse.parse_qsl(rq.body().decode()))
        rq.entry["form"] = {k: v for k, v in form.items() if k == "grant_type"}
        if form.get("grant_type") == "refresh_token":
            if form.get("refresh_token") != "refresh-secret" or form.get("client_secret") != "client-secret":
                rq.reply_json(400, {"error": "invalid_grant", "error_description": "Bad Request"})
                return
            self.issue(rq)
            return
        problem = self.check_assertion(form.get("assertion", ""))
        if problem:
            rq.reply_json(400, {"error": "invalid_grant", "error_description": problem})
            return
        self.issue(rq)

    def check_assertion(self, text):
        def part(p):
            return base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))
        try:
            head, claims, signature = text.split(".")
            h, c = json.loads(part(head)), json.loads(part(claims))
        except (ValueError, KeyError):
            return "Invalid JWT"
        if h.get("alg") != "RS256" or not c.get("iss") or "devstorage" not in c.get("scope", ""):
            return "Invalid JWT claims"
        if not c["iat"] - 300 <= self.now() <= c["exp"] or c["exp"] - c["iat"] > 3600:
            return ("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                    "timeframe. Check your iat and exp values in the JWT claim.")
        n = int(subprocess.run(["openssl", "rsa", "-in", self.options.key, "-noout", "-modulus"],
                               capture_output=True, check=True, text=True).stdout.split("=")[1], 16)
        size = (n.bit_length() + 7) // 8
        digest = hashlib.sha256(f"{head}.{claims}".encode()).digest()
        info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
        want = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info
        got = pow(int.from_bytes(part(signature), "big"), 65537, n).to_bytes(size, "big")
        return None if got == want else "Invalid JWT Signature."

    def metadata_server(self, rq, parts):
        if rq.headers.get("Metadata-Flavor") != "Google":
            raise Problem(403, "Missing Metadata-Flavor")
        if parts[-1] == "token":
            self.issue(rq)
        elif parts[-1] == "email":
            rq.reply(200, b"machine@project.example.com", {"Metadata-Flavor": "Google"})
        else:
            rq.reply(200, b"", {"Metadata-Flavor": "Google"})

    # --- control ---

    def control_dump(self, rq):
        root = pathlib.Path(rq.query["dir"])
        with self.lock:
            objects = list(self.buckets[rq.query["bucket"]].values())
        for o in objects:
            f = root / o.name
            f.parent.mkdir(parents=True, exist_ok=True)
            f.write_bytes(o.read())
        rq.reply(200)

    def control_endless(self, rq):
        self.endless = rq.query["kind"]
        rq.reply(200)

    def control_put(self, rq):
        self.put(None, rq.query["bucket"], rq.query["name"], rq.body(), {})
        rq.reply(200)

    def control_preconditions(self, rq):
        """?ignore=1: as emulators that take no notice of them."""
        self.options.no_preconditions = rq.query.get("ignore") == "1"
        rq.reply(200)

    def control_bare(self, rq):
        """?on=1: 404 without a word, as emulators answer."""
        self.bare = rq.query.get("on") == "1"
        rq.reply(200)

    def control_expire(self, rq):
        """Every token given out so far is worth nothing any more; new ones last ?seconds=N."""
        self.tokens = {t: 0 for t in self.tokens}
        self.token_seconds = int(rq.query.get("seconds", 3600))
        rq.reply(200)
