"""Paths and URLs as tensorstore key-value stores, and small JSON files in them.

A location is a folder: `/data/vol.zarr/raw`, `file:///...`, `s3://bucket/...`, `gs://bucket/...`,
`http(s)://host/...`. S3 is configured by the usual environment variables: AWS_ENDPOINT_URL,
AWS_REGION or AWS_DEFAULT_REGION, AWS_PROFILE or keys, and AWS_NO_SIGN_REQUEST=YES for public
buckets.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import tensorstore as ts

from blockwise_predict.config.untrusted import (
    MAX_JSON_BYTES,
    MalformedError,
    check_regular,
    check_size,
    parse_json,
)
from blockwise_predict.errors import ArrayError, shortened
from blockwise_predict.io.aws import aws_credentials
from blockwise_predict.io.remote_errors import advice

Json = dict[str, Any]

_SCHEMES = ("file", "s3", "gs", "http", "https")
# With tensorstore's default of 32 attempts a mistyped endpoint takes 15 minutes to fail. These take
# half a minute: 1, 2, 4, 8, 8 and 8 s.
_RETRIES = {"max_retries": 6, "initial_delay": "1s", "max_delay": "8s"}
_UNREACHABLE = re.compile("ABORTED|PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE")
# Maximum number of attempts to replace a file that other processes change, too.
UPDATE_ATTEMPTS = 100


def normalize(path: str | Path) -> str:
    """The location in one spelling: absolute if local, no trailing slash."""
    # neuroglancer's prefix of a format, which its `info` file tells, too.
    text = os.fspath(path).removeprefix("precomputed://")
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme == "file":
        text, scheme = unquote(urlsplit(text).path), ""
    if not scheme:
        return os.path.abspath(os.path.expanduser(text))
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise ArrayError(
            f"{text}: unknown kind of location {scheme}://. Known: {known}, or a path."
        )
    return text.rstrip("/")


def root_and_parts(location: str) -> tuple[str, list[str]]:
    """A normalized location's root (`/`, `s3://bucket`, `https://host`) and the names below it."""
    if "://" not in location:
        return "/", [part for part in location.split("/") if part]
    url = urlsplit(location)
    return f"{url.scheme}://{url.netloc}", [part for part in url.path.split("/") if part]


def join(location: str, *names: str) -> str:
    """The location below `location`."""
    return "/".join((location.rstrip("/"), *names))


def parents(location: str) -> list[str]:
    """The locations above, nearest first, the root included."""
    root, parts = root_and_parts(location)
    return [join(root, *parts[:end]) or "/" for end in range(len(parts) - 1, -1, -1)]


def name_of(location: str) -> str:
    """The last name of a location; empty for a root."""
    parts = root_and_parts(location)[1]
    return parts[-1] if parts else ""


def is_local(location: str) -> bool:
    """Whether a normalized location is a path on this machine."""
    return "://" not in location


def kvstore_spec(location: str) -> Json:
    """tensorstore's JSON specification of the folder at a normalized location."""
    if is_local(location):
        return {"driver": "file", "path": location.rstrip("/") + "/"}
    url = urlsplit(location)
    folder = url.path.strip("/") + "/" if url.path.strip("/") else ""
    if url.scheme == "s3":
        return _s3_spec(url.netloc, folder)
    if url.scheme == "gs":
        return {"driver": "gcs", "bucket": url.netloc, "path": folder}
    base = f"{url.scheme}://{url.netloc}"
    return {"driver": "http", "base_url": base, "path": f"/{folder}"}


def _s3_spec(bucket: str, folder: str) -> Json:
    spec: Json = {"driver": "s3", "bucket": bucket, "path": folder}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        spec["endpoint"] = endpoint.rstrip("/")
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        spec["aws_region"] = region
    return spec


def storage_context(location: str, cache_bytes: int = 0) -> Any:
    """The tensorstore context to open what is at a location with: few retries; for S3, credentials
    that are looked up once.

    `cache_bytes` of decoded chunks are kept in memory, the most recently used ones.
    """
    credentials = aws_credentials() if location.startswith("s3://") else {}
    return _context(tuple(credentials.items()), cache_bytes)


@lru_cache
def _context(credentials: tuple[tuple[str, str], ...], cache_bytes: int) -> Any:
    spec: Json = {f"{kind}_request_retries": _RETRIES for kind in ("s3", "gcs", "http")}
    if credentials:
        spec["aws_credentials"] = dict(credentials)
    if cache_bytes:
        spec["cache_pool"] = {"total_bytes_limit": cache_bytes}
    return ts.Context(spec)


class DeniedError(ArrayError):
    """A remote store denies access to a file: many do so, too, if it does not exist."""


@contextmanager
def storage_errors(location: str, action: str) -> Iterator[None]:
    """Turn tensorstore's errors into ArrayError: `cannot ACTION LOCATION: reason`."""
    try:
        yield
    except ArrayError:
        raise
    except (ValueError, RuntimeError, NotImplementedError, OSError) as error:
        reason = reason_of(error)
        text = f"cannot {action} {location}: {reason}"
        if meaning := advice(location, reason):
            text = f"{text.rstrip('.')}. {meaning}."
        denied = not is_local(location) and reason.startswith("PERMISSION_DENIED")
        raise (DeniedError if denied else ArrayError)(text) from error


def reason_of(error: Exception) -> str:
    """The message of a tensorstore error, without the JSON and source locations that follow it."""
    return shortened(re.split(r" \[[\w -]+=", str(error))[0])


def open_store(location: str) -> Any:
    """The open key-value store of the folder at a normalized location."""
    return ts.KvStore.open(kvstore_spec(location), context=storage_context(location)).result()


def read_json(location: str, name: str) -> Json | None:
    """The JSON object in file `name` of a location; None if there is no such file.

    Raises ArrayError if it cannot be read, is too large, or is not a JSON object.
    """
    with storage_errors(location, "read"):
        store = open_store(location)
        _check_readable(store, location, name)
        result = store.read(name).result()
    return _parse(result.value, join(location, name)) if result.state == "value" else None


def _check_readable(store: Any, location: str, name: str) -> None:
    """Raise ArrayError for a file too large for metadata, or not a file (a pipe)."""
    where = join(location, name)
    try:
        if is_local(location):
            status = os.stat(where)
            check_regular(status)
            check_size(status.st_size, MAX_JSON_BYTES)
            return
        beyond = slice(MAX_JSON_BYTES, MAX_JSON_BYTES + 1)
        if store.read(name, byte_range=beyond).result().state == "value":
            check_size(MAX_JSON_BYTES + 1, MAX_JSON_BYTES)
    except MalformedError as error:
        raise ArrayError(f"cannot read {where}: {error}.") from None
    except (OSError, RuntimeError, ValueError) as error:
        # What has been tried several times already need not be tried as often again.
        if not is_local(location) and _UNREACHABLE.match(str(error)):
            raise
        # Missing, or not that large; any other problem surfaces when it is read.


def _parse(data: bytes, where: str) -> Json:
    try:
        value = parse_json(data)
    except MalformedError as error:
        raise ArrayError(f"{where} is not valid JSON ({error}). Is it complete?") from error
    if not isinstance(value, dict):
        raise ArrayError(f"{where} holds a JSON {type(value).__name__}; an object is needed.")
    return value


@dataclass(frozen=True)
class Document:
    """A JSON file as it was read: `content` is None if there was none."""

    content: Json | None
    generation: bytes


def read_document(store: Any, location: str, name: str) -> Document:
    """The JSON file `name` of an open store, to be replaced by `replace_document`."""
    _check_readable(store, location, name)
    result = store.read(name).result()
    content = _parse(result.value, join(location, name)) if result.state == "value" else None
    return Document(content, result.stamp.generation)


def replace_document(store: Any, name: str, content: Json, before: Document) -> bool:
    """Atomically replace a JSON file unless it has changed since it was read; whether it was."""
    data = json.dumps(content, indent=2).encode()
    stamp = store.write(name, data, if_equal=before.generation).result()
    # An empty generation says that the condition did not hold.
    return bool(stamp.generation)


def update_json(location: str, name: str, change: Callable[[Json | None], Json | None]) -> None:
    """Atomically replace a JSON file by `change(its content)`, also with concurrent writers.

    `change` gets None for a missing file, and may return None to leave the file as it is. It may
    run several times: the file is replaced only if it has not changed since it was read.
    """
    with storage_errors(location, "write"):
        store = open_store(location)
        for _ in range(UPDATE_ATTEMPTS):
            before = read_document(store, location, name)
            after = change(before.content)
            if after is None or replace_document(store, name, after, before):
                return
    raise ArrayError(f"cannot write {join(location, name)}: other processes keep changing it.")


def check_bucket(location: str) -> None:
    """Raise ArrayError if there is no S3 bucket of a location; else its files just seem missing."""
    if not location.startswith("s3://"):
        return
    bucket = root_and_parts(location)[0]
    try:
        open_store(bucket).list(ts.KvStore.KeyRange("\1", "\2")).result()
    except (RuntimeError, ValueError) as error:
        # Those who may read need not be allowed to list.
        if "NoSuchBucket" in str(error):
            reason = reason_of(error)
            raise ArrayError(f"cannot open {location}: {advice(location, reason)}.") from error


def is_empty(location: str, besides: Collection[str]) -> bool:
    """Whether a folder is missing, or holds no file other than `besides`.

    The locks that tensorstore holds while it writes these do not count.
    """
    besides = {*besides, *(f"{name}.__lock" for name in besides)}
    if is_local(location):
        return all(
            besides.issuperset(files) if folder == location else not files
            for folder, _, files in os.walk(location)
        )
    with storage_errors(location, "list"):
        return set(open_store(location).list().result()) <= {name.encode() for name in besides}
