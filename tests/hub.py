"""A Hub on this machine: as much of its API as huggingface_hub asks for, in this process, with faults on request."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

TOKEN = "hf_token_of_the_test"


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""

    def commit(self, files: dict[str, bytes]) -> str:
        self.head = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[self.head] = files
        return self.head

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.head]


@dataclass
class Hub:
    """What is there, what was asked, and what is to go wrong."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    """Every body that arrived."""
    large: tuple[str, ...] = (".safetensors", ".parquet", ".png")
    """Endings of what goes by Git LFS."""
    faults: dict[str, int] = field(default_factory=dict)
    """A piece of an address to the status that it is answered with; 0: the connection is cut."""
    stored: dict[str, bytes] = field(default_factory=dict)
    makes_public: bool = False

    def made(self, key: str, *, private: bool = True, files: dict[str, bytes] | None = None) -> Repository:
        found = self.repositories[key] = Repository(private=private)
        found.commit({".gitattributes": b"*.bin lfs\n", **(files or {})})
        return found

    def everything(self) -> dict[str, bytes]:
        """All files of all commits."""
        return {
            f"{key}/{commit}/{name}": data
            for key, one in self.repositories.items()
            for commit, files in one.commits.items()
            for name, data in files.items()
        }


class _Cut(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def _serve(self) -> None:
        body = self._body()
        path = unquote(self.path.partition("?")[0])
        self.hub.asked.append((self.command, path))
        self.hub.sent.append(body)
        try:
            fault = next((status for piece, status in self.hub.faults.items() if piece in path), None)
            if fault == 0:
                raise _Cut
            if fault is not None:
                self._answer(fault, {"error": f"fault {fault}"})
            else:
                self._route(path, body)
        except _Cut:
            self.close_connection = True
            self.connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_POST = do_PUT = do_HEAD = _serve

    def _route(self, path: str, body: bytes) -> None:
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if found := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            self.hub.stored[found[1]] = body
            return self._answer(200, {})
        if found := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|preupload|commit)/(.+))?", path):
            return self._about(f"{found[1]}/{found[2]}", found[3] or "", found[4] or "main", body)
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(f"{(found[1] or 'models/')}{found[2]}", found[3], found[4])
        return self._answer(404, {"error": "no such address"})

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, key: str) -> Repository | None:
        one = self.hub.repositories.get(key)
        if one is None or (one.private and not self._known()):
            self._answer(
                404 if self._known() else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
            return None
        return one

    def _create(self, asked: dict[str, Any]) -> None:
        if not self._known():
            return self._answer(401, {"error": "Invalid credentials in Authorization header"})
        key = f"{asked.get('type') or 'model'}s/{asked['organization']}/{asked['name']}"
        if key in self.hub.repositories:
            return self._answer(409, {"error": "You already created this repository", "url": f"{self.hub.url}/{key}"})
        private = asked.get("private", asked.get("visibility") == "private") and not self.hub.makes_public
        self.hub.made(key, private=bool(private))
        return self._answer(200, {"url": f"{self.hub.url}/{key.removeprefix('models/')}", "id": key})

    def _about(self, key: str, what: str, revision: str, body: bytes) -> None:
        one = self._repository(key)
        if one is None:
            return None
        commit = one.head if revision == "main" else revision
        if commit not in one.commits:
            return self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        name = key.partition("/")[2]
        if what in ("", "revision"):
            files = [{"rfilename": name} for name in one.commits[commit]]
            return self._answer(200, {"id": name, "modelId": name, "private": one.private, "sha": commit, "tags": [],
                                      "siblings": files, "downloads": 0, "likes": 0})  # fmt: skip
        if what == "preupload":
            return self._answer(200, {"files": [
                {"path": file["path"], "shouldIgnore": False, "oid": self._oid(one, file["path"]),
                 "uploadMode": "lfs" if file["path"].endswith(self.hub.large) else "regular"}
                for file in json.loads(body)["files"]
            ]})  # fmt: skip
        return self._commit(one, name, [json.loads(line) for line in body.splitlines()])

    def _oid(self, one: Repository, name: str) -> str | None:
        data = one.files.get(name)
        if data is None:
            return None
        if name.endswith(self.hub.large):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def _commit(self, one: Repository, name: str, lines: list[dict[str, Any]]) -> None:
        if not self._known():
            return self._answer(403, {"error": "no write access"})
        [header, *rest] = lines
        if header["value"].get("parentCommit", one.head) != one.head:
            return self._answer(412, {"error": "A commit has happened since."})
        files = dict(one.files)
        for line in rest:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                self.hub.sent.append(files[value["path"]])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                del files[value["path"]]
        commit = one.commit(files)
        return self._answer(
            200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit, "hookOutput": ""}
        )

    def _batch(self, asked: dict[str, Any]) -> None:
        return self._answer(200, {"transfer": "basic", "objects": [
            {"oid": one["oid"], "size": one["size"],
             **({} if one["oid"] in self.hub.stored
                else {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}})}
            for one in asked["objects"]
        ]})  # fmt: skip

    def _resolve(self, key: str, revision: str, name: str) -> None:
        one = self._repository(key)
        if one is None:
            return None
        commit = one.head if revision == "main" else revision
        data = one.commits.get(commit, {}).get(name)
        if data is None:
            code = "EntryNotFound" if commit in one.commits else "RevisionNotFound"
            return self._answer(404, {"error": code}, {"X-Error-Code": code})
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
        return self._answer(200, data, headers)

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def served(patch: pytest.MonkeyPatch, cache: Any) -> Iterator[Hub]:
    """Let huggingface_hub in this process ask a Hub of our own, as its environment variables do in a new one."""
    import huggingface_hub

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setenv("HF_TOKEN", TOKEN)
    patch.setenv("HF_HUB_CACHE", str(cache))
    patch.setenv("NO_PROXY", "127.0.0.1")
    patch.setenv("no_proxy", "127.0.0.1")
    patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(cache / "no-token"))
    patch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its attempts
    forget = getattr(huggingface_hub, "close_session", None) or huggingface_hub.utils.reset_sessions  # before 1.0
    forget()
    try:
        yield hub
    finally:
        forget()
        server.shutdown()
        server.server_close()
        thread.join()
