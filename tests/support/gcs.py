"""A stand-in for Google Cloud Storage: the part of its JSON API that reads and writes objects.

https://cloud.google.com/storage/docs/json_api/v1: reads with ranges, metadata, uploads, deletions
and lists of objects, with preconditions on generations. It refuses requests without a token, and
what is not that part.
"""

from __future__ import annotations

import http.server
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.webserver import served_by

TOKEN = "a-token"
# Objects of a page of a list, so that there are several pages.
PAGE = 5


@dataclass
class _Bucket:
    """Content and generation of each object, by name."""

    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    generation: int = 1000
    lock: Lock = field(default_factory=Lock)


@contextmanager
def gcs_server(bucket: str) -> Iterator[str]:
    """The address of a server with an empty bucket."""
    held = _Bucket()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the end of each answer waits for 40 ms.
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            found = re.fullmatch(r"(/upload)?/storage/v1/b/([^/]+)/o(?:/([^/]+))?", url.path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._fail(HTTPStatus.UNAUTHORIZED)
            elif found is None or found[2] != bucket:
                self._fail(HTTPStatus.NOT_FOUND)
            else:
                upload, name = found[1] is not None, unquote(found[3] or query.get("name", ""))
                with held.lock:
                    self._answer_about(name, upload=upload, query=query, body=body)

        def _answer_about(
            self, name: str, *, upload: bool, query: dict[str, str], body: bytes
        ) -> None:
            content, generation = held.objects.get(name, (b"", 0))
            if int(query.get("ifGenerationMatch", generation)) != generation:
                self._fail(HTTPStatus.PRECONDITION_FAILED)
            elif self.command == "POST" and upload and query.get("uploadType") == "media":
                held.generation += 1
                held.objects[name] = body, held.generation
                self._send_metadata(name)
            elif self.command == "GET" and not name and not upload:
                self._list(query)
            elif not generation:
                self._fail(HTTPStatus.NOT_FOUND)
            elif self.command == "DELETE" and not upload:
                del held.objects[name]
                self._send(HTTPStatus.NO_CONTENT, b"")
            elif self.command == "GET" and query.get("alt") == "media":
                if query.get("ifGenerationNotMatch") == str(generation):
                    self._send(HTTPStatus.NOT_MODIFIED, b"")
                else:
                    self._send_range(content, generation)
            elif self.command == "GET" and query.get("alt", "json") == "json":
                self._send_metadata(name)
            else:
                self._fail(HTTPStatus.NOT_IMPLEMENTED)

        def _send_metadata(self, name: str) -> None:
            content, generation = held.objects[name]
            resource = {"name": name, "generation": str(generation), "size": str(len(content))}
            self._send_json({"kind": "storage#object", "bucket": bucket, **resource})

        def _send_range(self, content: bytes, generation: int) -> None:
            about = {"x-goog-generation": str(generation)}
            wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if wanted is None:
                self._send(HTTPStatus.OK, content, about)
                return
            size = len(content)
            begin = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
            end = min(size, int(wanted[2]) + 1) if wanted[1] and wanted[2] else size
            if begin >= end:
                self._fail(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            about["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            self._send(HTTPStatus.PARTIAL_CONTENT, content[begin:end], about)

        def _list(self, query: dict[str, str]) -> None:
            begin = max(query.get("startOffset", ""), query.get("pageToken", ""))
            end = query.get("endOffset")
            names = sorted(
                name
                for name in held.objects
                if name.startswith(query.get("prefix", ""))
                and name >= begin
                and (end is None or name < end)
            )
            items = [
                {"name": name, "size": str(len(held.objects[name][0]))} for name in names[:PAGE]
            ]
            more = {"nextPageToken": names[PAGE]} if len(names) > PAGE else {}
            self._send_json({"kind": "storage#objects", "items": items, **more})

        def _fail(self, status: HTTPStatus) -> None:
            error = {"error": {"code": status.value, "message": status.phrase}}
            self._send(status, json.dumps(error).encode())

        def _send_json(self, value: object) -> None:
            self._send(HTTPStatus.OK, json.dumps(value).encode())

        def _send(
            self, status: HTTPStatus, content: bytes, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with served_by(Handler) as address:
        yield address
