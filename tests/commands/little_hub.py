"""As much of the Hugging Face Hub's HTTP API as a push needs, on loopback: repositories, files, commits.

The calls are those that huggingface_hub makes: repos/create, tree, resolve, validate-yaml, preupload, commit (NDJSON)
and Git LFS's batch call with its upload.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_quite-secret"


@dataclass
class Repo:
    """`files` by their path; `commits` are the messages of all that were made."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.parquet filter=lfs\n"})
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    big: str = ".parquet"
    """Files that end so are uploaded through Git LFS."""
    stalled: threading.Event | None = None
    """Commits wait for it."""
    reached: threading.Event = field(default_factory=threading.Event)
    """A commit has come."""
    broken: int = 0
    """HTTP status that every commit is answered with, where it is not 0."""
    calls: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        self._answer(*self._get())

    def do_HEAD(self) -> None:
        self._answer(*self._get())

    def do_POST(self) -> None:
        self._answer(*self._post(self._body()))

    def do_PUT(self) -> None:
        self.hub.stored[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _known(self) -> bool:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.hub.tokens.add(token)
        self.hub.calls.append(f"{self.command} {self.path}")
        return token == TOKEN

    def _get(self) -> tuple[int, Any]:
        self._known()
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/main", path):
            files = self.hub.repos[found[1]].files
            return 200, [
                {"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in files.items()
            ]
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/main)?", path):
            return (200, {"id": found[1], "sha": "0" * 40}) if found[1] in self.hub.repos else (404, {})
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/main/(.+)", path):
            return 200, self.hub.repos[found[1]].files[found[2]]
        return 404, {"error": f"no {path}"}

    def _post(self, body: bytes) -> tuple[int, Any]:
        path = self.path.partition("?")[0]
        if not self._known():
            return 401, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": [{"message": "empty or missing yaml metadata"}]}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/main", path):
            files = self.hub.repos[found[1]].files
            return 200, {"files": [self._mode(one["path"], files) for one in json.loads(body)["files"]]}
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            return 200, {"transfer": "basic", "objects": [self._upload(one) for one in objects]}
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        return 404, {"error": f"no {path}"}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] == "forbidden":
            return 403, {"error": 'You don\'t have the rights to create a dataset under the namespace "forbidden"'}
        url = {"url": f"{self.hub.url}/datasets/{name}", "id": "1", "name": name}
        if name in self.hub.repos:
            return 409, {"error": "You already created this dataset repo", **url}
        private = wanted.get("visibility") == "private" or wanted.get("private") is True
        self.hub.repos[name] = Repo(private)
        return 200, url

    def _mode(self, path: str, files: dict[str, bytes]) -> dict[str, Any]:
        oid = {"oid": _oid(files[path])} if path in files else {}
        mode = "lfs" if path.endswith(self.hub.big) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, **oid}

    def _upload(self, one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        repo = self.hub.repos[name]
        self.hub.reached.set()
        if self.hub.stalled is not None:
            self.hub.stalled.wait(30)
        if self.hub.broken:
            return self.hub.broken, {"error": "the Hub is out of order"}
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    repo.commits.append(value["summary"])
                case "file":
                    repo.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    repo.files[value["path"]] = self.hub.stored[value["oid"]]
                case "deletedFile":
                    del repo.files[value["path"]]
        return 200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/1", "commitOid": "1" * 40, "success": True}

    def _answer(self, status: int, said: Any) -> None:
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        if isinstance(said, dict) and "error" in said:
            self.send_header("X-Error-Message", said["error"])
        self.send_header("Content-Type", "text/plain" if isinstance(said, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def hub() -> Iterator[Hub]:
    """A Hub that knows one token and nobody's repositories."""
    made = Hub()
    handler = type("Handler", (_Handler,), {"hub": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
