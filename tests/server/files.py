"""/files/PATH: a directory with ranges, ETag and Last-Modified.

In the query: noranges=1 (always the whole file), noetag=1, chunked=1 (no Content-Length),
redirect=URL (302 to it, or N for N redirects to itself first).
"""
import email.utils
import pathlib
import urllib.parse


class Files:
    def __init__(self, root):
        self.root = pathlib.Path(root).resolve() if root else None

    def handle(self, rq):
        if not self.root or not rq.raw_path.startswith("/files/") or rq.method not in ("GET", "HEAD"):
            return False
        q = rq.query
        to = q.get("redirect")
        if to:
            if to.isdigit():
                left = int(to) - 1
                to = rq.raw_path + (f"?redirect={left}" if left else "")
            rq.reply(302, b"", {"Location": to})
            return True
        path = (self.root / urllib.parse.unquote(rq.raw_path[len("/files/"):])).resolve()
        if self.root not in path.parents or not path.is_file():
            rq.reply(404, b"no such file")
            return True
        info = path.stat()
        tag = None if "noetag" in q else f'"{info.st_mtime_ns:x}-{info.st_size:x}"'
        modified = None if "noetag" in q else email.utils.formatdate(info.st_mtime, usegmt=True)
        if "noranges" in q or "chunked" in q:
            del rq.headers["Range"]
        with open(path, "rb") as f:
            def piece(at, n):
                f.seek(at)
                return f.read(n)
            if "chunked" in q:
                rq.entry["status"] = 200
                rq.send_response(200)
                rq.send_header("Transfer-Encoding", "chunked")
                rq.end_headers()
                while rq.command != "HEAD":
                    chunk = f.read(50000)
                    rq.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                    if not chunk:
                        break
                return True
            rq.reply_content(info.st_size, {} if "noranges" in q else {"Accept-Ranges": "bytes"},
                             piece, f, tag, modified)
        return True
