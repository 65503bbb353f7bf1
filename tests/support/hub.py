"""A local server that speaks as much of the Hugging Face Hub's API as a download needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from tests.support.webserver import served_by


@dataclass
class Hub:
    """Repositories by name: the files of each commit, and the commit of each branch.

    `private` ones answer 401. `requests` are the paths that were asked for.
    """

    address: str = ""
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def push(self, repo: str, folder: Path, branch: str = "main") -> str:
        """Commit a folder's files to a branch; returns the commit."""
        files = {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        content = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in files.items()})
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.files[repo, commit] = files
        self.branches[repo, branch] = commit
        return commit


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A running server without repositories."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        """Answers for `hub`."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            hub.requests.append(self.path)
            parts = [unquote(part) for part in self.path.partition("?")[0].strip("/").split("/")]
            is_api = parts[:2] == ["api", "models"]
            repo = "/".join(parts[2:4] if is_api else parts[:2])
            if repo in hub.private:
                self._send(401, b"", {"X-Error-Message": "Invalid username or password."})
            elif not any(repo == known for known, _ in hub.branches):
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif is_api:
                self._describe(repo, parts[5] if len(parts) > 5 else "main")
            else:
                self._file(repo, parts[3], "/".join(parts[4:]))

        def _describe(self, repo: str, revision: str) -> None:
            commit = hub.branches.get((repo, revision), revision)
            if (repo, commit) not in hub.files:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            siblings = [{"rfilename": name} for name in hub.files[repo, commit]]
            described = {"id": repo, "sha": commit, "siblings": siblings, "tags": []}
            self._send(200, json.dumps(described).encode(), {})

        def _file(self, repo: str, revision: str, name: str) -> None:
            commit = hub.branches.get((repo, revision), revision)
            data = hub.files.get((repo, commit), {}).get(name)
            if data is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self._send(200, data, {"X-Repo-Commit": commit, "ETag": etag})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with served_by(Handler) as hub.address:
        yield hub
