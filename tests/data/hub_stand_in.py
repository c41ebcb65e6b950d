"""A local stand-in of the Hugging Face hub: what ``datasets`` and ``huggingface_hub`` ask for, nothing more.

Repositories are dictionaries of files in memory, every one at a single commit on ``main``. Use::

    with HubStandIn(datasets={"lab/texts": {"data/train-00000-of-00001.parquet": ...}}) as hub:
        subprocess.run(..., env={..., "HF_ENDPOINT": hub.url, "HF_HOME": ...})
    hub.log  # [("GET", "/api/datasets/lab/texts"), ...]
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Repositories = dict[str, dict[str, bytes]]


class HubStandIn:
    """Serves on a free port of the loopback interface while its context is open."""

    def __init__(self, datasets: Repositories | None = None, models: Repositories | None = None):
        self.repositories = {"datasets": datasets or {}, "models": models or {}}
        self.log: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubStandIn:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr: ``hub.log`` holds it."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.log.append((self.command, self.path))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        api = re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(/.*)?)?", path)
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            kind, name, question, revision, below = api.groups()
        elif file:
            kind, name, question, revision = "datasets" if file[1] else "models", file[2], "resolve", file[3]
        else:
            return self._refuse("EntryNotFound")
        files = self.hub.repositories[kind].get(name)
        if files is None:
            return self._refuse("RepoNotFound")
        if revision not in (None, "main", COMMIT):
            return self._refuse("RevisionNotFound")
        match question:
            case "tree":
                return self._json(_entries(files, (below or "/").strip("/"), "recursive=true" in self.path.lower()))
            case "paths-info":
                asked = _asked_paths(body, self.headers.get("Content-Type", ""))
                return self._json([entry for path in asked for entry in _entries(files, path, True, exact=True)])
            case "resolve":
                return self._file(files, file[4] if file else "")
        siblings = [{"rfilename": path} for path in files]
        flags = {"private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
        self._json({"_id": "1", "id": name, "sha": COMMIT, "siblings": siblings, **flags})

    def _file(self, files: dict[str, bytes], path: str) -> None:
        if path not in files:
            return self._refuse("EntryNotFound")
        content, status, headers = files[path], 200, {"Accept-Ranges": "bytes"}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        headers |= {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": COMMIT}
        self._send(status, content, "application/octet-stream", headers)

    def _json(self, plain: Any) -> None:
        self._send(200, json.dumps(plain).encode(), "application/json", {"X-Repo-Commit": COMMIT})

    def _refuse(self, code: str) -> None:
        self._send(404, b'{"error": "not here"}', "application/json", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: dict[str, bytes], folder: str, recursive: bool, exact: bool = False) -> list[dict[str, Any]]:
    """Files and folders below ``folder``, or the one entry of that name."""
    folders = {path.rsplit("/", n)[0] for path in files for n in range(1, path.count("/") + 1)}
    rows = [{"type": "file", "path": p, "size": len(files[p]), "oid": _oid(files[p])} for p in files]
    rows += [{"type": "directory", "path": path, "oid": _oid(path.encode()), "size": 0} for path in folders]
    if exact:
        return [row for row in rows if row["path"] == folder]
    prefix = f"{folder}/" if folder else ""
    below = [row for row in rows if str(row["path"]).startswith(prefix)]
    return below if recursive else [row for row in below if "/" not in str(row["path"])[len(prefix) :]]


def _asked_paths(body: bytes, kind: str) -> list[str]:
    if "json" in kind:
        paths = json.loads(body)["paths"]
        return [paths] if isinstance(paths, str) else paths
    return urllib.parse.parse_qs(body.decode())["paths"]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
