"""A hub on 127.0.0.1: as much of Hugging Face's API, over real HTTP, as it takes to list and download repositories."""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

Files = dict[str, bytes]


@dataclass
class LocalHub:
    """``push`` makes commits; the attributes make trouble. ``asked``: method and path of every request so far."""

    token: str = ""
    gated: set[str] = field(default_factory=set)
    unlisted_sizes: set[str] = field(default_factory=set)
    extra_files: dict[str, int] = field(default_factory=dict)  # listed in every repository, and not there
    cut_bodies: set[str] = field(default_factory=set)  # half of these arrives, after HEAD has promised all
    cut_files: set[str] = field(default_factory=set)  # half of these is there, though the listing says more
    status: int = 0
    asked: list[str] = field(default_factory=list)
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)

    def push(self, repo: str, files: Path | Mapping[str, bytes], branch: str = "main") -> str:
        """A commit with these files and no others. Gives its hash."""
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        number = len(self.commits.setdefault(repo, {}))
        commit = hashlib.sha1(f"{repo} {number}".encode(), usedforsecurity=False).hexdigest()
        self.commits[repo][commit] = dict(files)
        self.branches.setdefault(repo, {})[branch] = commit
        return commit

    def downloads(self) -> list[str]:
        """The files that were sent, by their paths in the repository."""
        paths = [line.removeprefix("GET /") for line in self.asked if line.startswith("GET /")]
        return [path.split("/", 4)[4] for path in paths if not path.startswith("api/")]

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"served": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def point(self, monkeypatch: pytest.MonkeyPatch, cache: Path, *, offline: bool = False, token: str = "") -> None:
        """Have huggingface_hub in this process talk to this hub and keep what it fetches in ``cache``."""
        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no token"))
        monkeypatch.setenv("HF_TOKEN", token)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: LocalHub

    def log_message(self, *args: Any) -> None:
        """Not to the terminal."""

    def do_GET(self) -> None:
        hub = self.served
        path = unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        if hub.status:
            self._send(hub.status)
        elif path.startswith("/api/models/"):
            repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._describe(repo, revision or "main")
        else:
            owner, name, _, revision, *parts = path.lstrip("/").split("/")
            self._file(f"{owner}/{name}", revision, "/".join(parts))

    do_HEAD = do_GET

    def _describe(self, repo: str, revision: str) -> None:
        found = self._commit(repo, revision)
        if found is None:
            return
        commit, files = found
        sizes = {path: len(content) for path, content in files.items()} | self.served.extra_files
        siblings = [
            {"rfilename": path} | ({} if path in self.served.unlisted_sizes else {"size": size})
            for path, size in sizes.items()
        ]
        answer = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": [], "downloads": 0}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _file(self, repo: str, revision: str, path: str) -> None:
        hub = self.served
        found = self._commit(repo, revision)
        if found is None:
            return
        commit, files = found
        if repo in hub.gated and not (hub.token and self.headers["Authorization"] == f"Bearer {hub.token}"):
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif path not in files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            content = files[path]
            etag = hashlib.sha256(content).hexdigest()
            if path in hub.cut_files or (path in hub.cut_bodies and self.command == "GET"):
                content = content[: len(content) // 2]
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _commit(self, repo: str, revision: str) -> tuple[str, Files] | None:
        commits = self.served.commits.get(repo)
        if commits is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return None
        commit = self.served.branches[repo].get(revision, revision)
        if commit not in commits:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, commits[commit]

    def _send(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
