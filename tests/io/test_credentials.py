"""Whose credentials S3 requests are signed with: the usual variables and files decide."""

from __future__ import annotations

import http.server
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import kvstore, open_array
from tests.support.runs import write_volume
from tests.support.webserver import served_by


@contextmanager
def listening(heard: list[str]) -> Iterator[str]:
    """A server that has nothing, and notes the key that each request is signed with."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            signature = self.headers.get("Authorization", "")
            found = re.search("Credential=([^/]+)/", signature)
            heard.append(found[1] if found else signature)
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with served_by(Handler) as address:
        yield address


@pytest.mark.parametrize(
    ("environment", "signed_with"),
    [
        ({"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "secret"}, "KEY"),
        ({}, "OF-DEFAULT"),
        ({"AWS_PROFILE": "lab"}, "OF-LAB"),
        ({"AWS_PROFILE": "lab", "AWS_NO_SIGN_REQUEST": "YES"}, ""),
        ({"AWS_ACCESS_KEY_ID": "KEY", "AWS_NO_SIGN_REQUEST": "YES"}, ""),
    ],
)
def test_requests_are_signed_as_the_environment_says(
    environment: dict[str, str],
    signed_with: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = OF-DEFAULT\naws_secret_access_key = secret\n"
        "[lab]\naws_access_key_id = OF-LAB\naws_secret_access_key = secret\n"
    )
    given = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_REGION": "us-east-1", **environment}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    heard: list[str] = []
    with listening(heard) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        kvstore._context.cache_clear()
        try:
            with pytest.raises(ArrayError):
                open_array("s3://bucket/volume.zarr/raw")
        finally:
            kvstore._context.cache_clear()
    assert set(heard) == {signed_with}


def test_profiles_without_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    config = tmp_path / "config"
    config.write_text("[profile lab]\nsso_session = institute\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with pytest.raises(ArrayError, match=r"'lab' has no keys.*export-credentials --profile lab"):
        open_array("s3://bucket/volume.zarr/raw")
    monkeypatch.setenv("AWS_PROFILE", "labb")
    with pytest.raises(ArrayError, match=f"'labb': there is no such profile in .* or {config}"):
        open_array("s3://bucket/volume.zarr/raw")


def test_profiles_do_not_matter_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_PROFILE", "of a laptop")
    location = write_volume(tmp_path / "volume.zarr", np.ones((4, 4, 4), np.uint8))
    assert open_array(location).shape == (4, 4, 4)
