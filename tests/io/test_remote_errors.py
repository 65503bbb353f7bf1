"""Errors of object stores and web servers: short, soon, with the URL, the cause and what to set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import create_output, kvstore, open_array, open_input
from tests.support.arrays import output_spec, ramp
from tests.support.faulty_server import Fault, faulty_server

KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
S3_ERRORS = [
    ((403, "AccessDenied"), rf"AccessDenied.*Access is denied.*{KEYS}.*AWS_NO_SIGN_REQUEST=YES"),
    ((403, "SignatureDoesNotMatch"), rf"does not accept these credentials\. {KEYS}"),
    ((301, "PermanentRedirect"), "in another region. Set AWS_REGION"),
    ((400, "AuthorizationHeaderMalformed"), "in another region. Set AWS_REGION"),
    ((404, "NoSuchBucket"), "no such bucket at this endpoint.*AWS_ENDPOINT_URL"),
    ((503, "SlowDown"), "All 2 retry attempts failed: SlowDown.*throttling.*fewer workers"),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: Any) -> Iterator[None]:
    """The same errors, after shorter waits."""
    quick = {"max_retries": 2, "initial_delay": "10ms", "max_delay": "20ms"}
    monkeypatch.setattr(kvstore, "_RETRIES", quick)
    kvstore._context.cache_clear()
    yield
    kvstore._context.cache_clear()


@pytest.fixture
def s3(monkeypatch: Any) -> pytest.MonkeyPatch:
    """Credentials and a region; the endpoint is the test's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@contextmanager
def proxied(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A faulty server before moto's, which is talked to from now on."""
    with faulty_server(os.environ["AWS_ENDPOINT_URL"], fault) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield


@pytest.mark.parametrize(("answer", "message"), S3_ERRORS)
def test_s3_says_what_to_set(s3: Any, answer: tuple[int, str], message: str) -> None:
    with faulty_server("", lambda *_: answer) as url:
        s3.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(ArrayError, match=rf"s3://bucket/a\.zarr/raw: .*{message}"):
            open_input("s3://bucket/a.zarr/raw")
        with pytest.raises(ArrayError, match=rf"s3://bucket/.*{message}"):
            create_output(output_spec("s3://bucket/a.zarr/raw"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "HTTP code 403.*The server denies access"),
        (503, "throttling"),
        (500, "retry attempts failed.*keeps failing"),
        (404, "no zarr, N5 or precomputed array"),
    ],
)
def test_http_says_what_is_wrong(status: int, message: str) -> None:
    with (
        faulty_server("", lambda *_: (status, "")) as url,
        pytest.raises(ArrayError, match=rf"{url}/a\.zarr/raw.*{message}"),
    ):
        open_input(f"{url}/a.zarr/raw")


def test_a_wrong_endpoint(s3: Any) -> None:
    s3.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ArrayError, match=r"endpoint cannot be reached\. Check AWS_ENDPOINT_URL"):
        open_input("s3://bucket/a.zarr/raw")
    with pytest.raises(ArrayError, match=r"server cannot be reached\. Check the URL"):
        open_input("http://127.0.0.1:9/a.zarr/raw")


def test_throttling_that_passes_is_waited_for(bucket: str, monkeypatch: Any) -> None:
    seen: dict[tuple[str, str], int] = {}

    def throttled(method: str, path: str) -> tuple[int, str] | None:
        times = seen[method, path] = seen.get((method, path), 0) + 1
        return (503, "SlowDown") if times == 1 else None

    with proxied(throttled, monkeypatch):
        data = ramp((2, 4, 4, 8))
        create_output(output_spec(f"{bucket}/a.zarr/raw")).write((0, 0, 0), data)
        array = open_array(f"{bucket}/a.zarr/raw")
        np.testing.assert_array_equal(array.read((0, 0, 0), (4, 4, 8)), data)


def test_a_write_that_is_denied(bucket: str, monkeypatch: Any) -> None:
    with (
        proxied(lambda method, _: (403, "AccessDenied") if method == "PUT" else None, monkeypatch),
        pytest.raises(ArrayError, match=rf"cannot write s3://bucket/no\.zarr.*{KEYS}"),
    ):
        create_output(output_spec(f"{bucket}/no.zarr/raw"))


def test_real_missing_buckets_and_keys(bucket: str) -> None:
    with pytest.raises(ArrayError, match=r"s3://nobucket/a\.zarr/raw: There is no such bucket"):
        open_input("s3://nobucket/a.zarr/raw")
    with pytest.raises(ArrayError, match="no zarr, N5 or precomputed array"):
        open_input(f"{bucket}/none.zarr/raw")
