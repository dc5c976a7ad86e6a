"""A model hub: repositories below a directory, answered as huggingface.co does.

    DIR/ORG/NAME/REVISION/FILE ...     REVISION: "main", "v1.0", "refs%2Fpr%2F2"
    DIR/ORG/NAME/.gated                needs --hub-token (401 without one, 403 with another)
    DIR/ORG/NAME/.private              as if it were not there, without the token
    DIR/ORG/NAME/.renamed              holds the new "ORG/NAME": relative redirects

A revision's commit is the SHA-1 of what it holds. Files of 10,000 bytes or more are "LFS": their
etag is their SHA-256, and they are fetched from the CDN, a server of its own on another port that
refuses requests with a token. Faults and the log are shared; the CDN's paths begin with /cdn/.
"""
import hashlib
import pathlib
import threading
import urllib.parse

LFS = 10000


def git_blob(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    def __init__(self, options, server, server_class, handler):
        self.root = pathlib.Path(options.hub).resolve()
        self.token = options.hub_token
        self.known = {}  # (path, size, mtime) -> sha256, blob id
        self.lock = threading.Lock()
        self.cdn = server_class(("127.0.0.1", 0), handler, None if options.plain_cdn else options.tls)
        for name in ("faults", "log", "log_lock", "hooks", "options"):
            setattr(self.cdn, name, getattr(server, name))
        self.cdn.modules = [Cdn(self)]
        threading.Thread(target=self.cdn.serve_forever, daemon=True).start()

    def digests(self, path):
        info = path.stat()
        key = (str(path), info.st_size, info.st_mtime_ns)
        with self.lock:
            if key not in self.known:
                data = path.read_bytes()
                self.known[key] = hashlib.sha256(data).hexdigest(), git_blob(data)
            return self.known[key]

    def files(self, folder):
        return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".spt"))

    def commit(self, folder):
        text = "".join(f"{p.relative_to(folder)} {self.digests(p)[1]}\n" for p in self.files(folder))
        return hashlib.sha1(text.encode()).hexdigest()

    def find(self, repo, revision):
        """The folder of a revision: by its name, or by its commit."""
        named = repo / urllib.parse.quote(revision, safe="")
        if named.is_dir():
            return named
        for folder in repo.iterdir():
            if folder.is_dir() and self.commit(folder) == revision:
                return folder
        return None

    def refuse(self, rq, status, code, message):
        headers = {"X-Error-Message": message}
        if code:
            headers["X-Error-Code"] = code
        rq.reply_json(status, {"error": message}, headers)

    def enter(self, rq, name, after):
        """The repository's folder, or None when the request is answered already."""
        repo = self.root / name
        auth = rq.headers.get("Authorization")
        right = auth == f"Bearer {self.token}" and self.token is not None
        if (repo / ".renamed").is_file():
            rq.reply(307, b"", {"Location": after((repo / ".renamed").read_text().strip())})
            return None
        if self.root not in repo.resolve().parents or not repo.is_dir() or \
                ((repo / ".private").exists() and not right):
            self.refuse(rq, 404 if right else 401, "RepoNotFound", "Repository not found")
            return None
        if (repo / ".gated").exists() and not right:
            if auth is None:
                self.refuse(rq, 401, "GatedRepo", f"Access to model {name} is restricted.")
            else:
                self.refuse(rq, 403, "GatedRepo", f"Access to model {name} is restricted and you are"
                                                  " not in the authorized list.")
            return None
        if auth is not None and not right:
            self.refuse(rq, 401, None, "Invalid credentials in Authorization header")
            return None
        return repo

    def handle(self, rq):
        part = [urllib.parse.unquote(p) for p in rq.raw_path.split("/")[1:]]
        if part[:2] == ["api", "models"] and len(part) >= 4:
            return self.listing(rq, "/".join(part[2:4]), part[5] if len(part) > 5 else "main")
        if len(part) >= 5 and part[2] == "resolve" and rq.method in ("GET", "HEAD"):
            return self.resolve(rq, "/".join(part[:2]), part[3], "/".join(part[4:]))
        return False

    def listing(self, rq, name, revision):
        quoted = urllib.parse.quote(revision, safe="")
        repo = self.enter(rq, name, lambda new: f"/api/models/{new}/revision/{quoted}")
        if not repo:
            return True
        folder = self.find(repo, revision)
        if not folder:
            self.refuse(rq, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return True
        rq.reply_json(200, {"_id": "0", "id": name, "modelId": name, "private": False, "gated": False,
                            "sha": self.commit(folder), "tags": ["t5"], "config": {"a": [1, {"b": None}]},
                            "siblings": [{"rfilename": p.relative_to(folder).as_posix()}
                                         for p in self.files(folder)]})
        return True

    def resolve(self, rq, name, revision, path):
        tail = urllib.parse.quote(revision, safe="") + "/" + urllib.parse.quote(path)
        repo = self.enter(rq, name, lambda new: f"/{new}/resolve/{tail}")
        if not repo:
            return True
        folder = self.find(repo, revision)
        if not folder:
            self.refuse(rq, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return True
        file = folder / path
        headers = {"X-Repo-Commit": self.commit(folder)}
        if not file.is_file():
            self.refuse(rq, 404, "EntryNotFound", "Entry not found")
            return True
        size = file.stat().st_size
        sha256, blob = self.digests(file)
        if size >= LFS:
            headers.update({"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(size),
                            "Location": f"{self.cdn.scheme}://127.0.0.1:{self.cdn.server_address[1]}/cdn/{name}/"
                                        f"{folder.name}/{path}?signature=secret"})
            rq.reply(302, b"", headers)
            return True
        with open(file, "rb") as f:
            def piece(at, n):
                f.seek(at)
                return f.read(n)
            weak = "W/" if path == "config.json" else ""  # as behind a proxy that compresses
            rq.reply_content(size, headers, piece, f, f'{weak}"{blob}"')
        return True


class Cdn:
    def __init__(self, hub):
        self.hub = hub

    def handle(self, rq):
        if not rq.raw_path.startswith("/cdn/"):
            return False
        file = self.hub.root / urllib.parse.unquote(rq.raw_path[5:])
        if rq.headers.get("Authorization") or rq.query.get("signature") != "secret":
            rq.reply(400, b"only one auth mechanism allowed")
            return True
        if self.hub.root not in file.resolve().parents or not file.is_file():
            rq.reply(404, b"no such object")
            return True
        with open(file, "rb") as f:
            def piece(at, n):
                f.seek(at)
                return f.read(n)
            rq.reply_content(file.stat().st_size, {"Accept-Ranges": "bytes"}, piece, f,
                             f'"{self.hub.digests(file)[0]}"')
        return True
