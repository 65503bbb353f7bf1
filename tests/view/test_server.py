"""The web server: the token, names of hosts, paths, ranges, requests that are given up."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from urllib.parse import urlsplit

import numpy as np
import pytest

from blockwise_predict.errors import ConfigError
from blockwise_predict.view.app import Page
from blockwise_predict.view.demand import Abandon, Demand, Key, Values
from blockwise_predict.view.scene import Scene
from blockwise_predict.view.served import ServedImage, ServedLevel, Voxels
from blockwise_predict.view.server import Address, served
from tests.support.runs import until

VALUES = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(1, 4, 6, 8)
CHUNK = VALUES[0, :4, :4, 4:].astype("<u2").tobytes()


async def stored(begin: Sequence[int], end: Sequence[int]) -> Voxels:
    return VALUES[:, *map(slice, begin, end)]


def image(read: Callable[..., object] = stored) -> ServedImage:
    sizes = (Fraction(4),) * 3
    level = ServedLevel((4, 6, 8), (4, 4, 4), sizes, read)
    return ServedImage(
        name="raw",
        levels=(level,),
        offset=(Fraction(0),) * 3,
        channels=None,
        dtype=np.dtype(np.uint16),
        axis_names=("z", "y", "x"),
    )


def page(one: ServedImage, **more: object) -> Page:
    corner = tuple(map(Fraction, (16, 24, 32)))
    return Page(Scene("raw", one, [], one.offset, corner, lambda: {"facts": []}), [one], **more)


@contextmanager
def serving(page: Page) -> Iterator[str]:
    """Serve a page on a thread of its own; gives its URL."""
    urls: list[str] = []
    ended: list[Callable[[], None]] = []

    async def main() -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with page.running(), served(page.site, Address()) as url:
            ended.append(lambda: loop.call_soon_threadsafe(end.set))
            urls.append(url)
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    until(lambda: bool(urls))
    try:
        yield urls[0]
    finally:
        ended[0]()
        thread.join()


def request(
    url: str, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and headers of the answer to exactly this path."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(page(image())) as address:
        yield address


def test_only_paths_that_begin_with_the_token_are_answered(url: str) -> None:
    token = urlsplit(url).path
    assert len(token) > 30
    assert request(url, f"{token}/data/raw/s0/c/0/0/1")[:2] == (200, CHUNK)
    for wrong in ("", "/", "/x", token[:-1], f"{token}x", f"/x{token}", token.upper()):
        for path in ("", "/", "/scene.json", "/data/raw/zarr.json", "/v/neuroglancer/"):
            assert request(url, f"{wrong}{path}" or "/")[0] == 404, f"{wrong}{path}"


@pytest.mark.parametrize(
    "path",
    [
        *("page.py", "../page.js", "%2e%2e/app.py", "..%2fapp.py", "v/neuroglancer/../../page.js"),
        *("v/neuroglancer/..%2f..%2f__init__.py", "v/neuroglancer/%2fetc%2fpasswd"),
        *("data/raw/../../scene.json", "data/%2fetc/passwd", "data/etc/zarr.json"),
        *(
            "data/raw/s0/c/0/0/2",
            "data/raw/s0/c/-1/0/0",
            "data/raw/s0/c/0/0",
            "data/raw/s1/c/0/0/0",
        ),
        *("data/raw/s0/c/0/0/0/0", "data/raw/s0/c/0/0/9999999999999", "data/raw/s0", "data/raw/"),
        *("data/raw/s0/c/0/0/%D9%A1", "states/", "command?center=x&size=1", "command"),
    ],
)
def test_nothing_but_what_is_named_is_served(url: str, path: str) -> None:
    assert request(url, f"{urlsplit(url).path}/{path}")[0] in (400, 404)


def test_a_name_that_others_have_made_to_lead_here_is_refused(url: str) -> None:
    path = f"{urlsplit(url).path}/data/raw/zarr.json"
    port = urlsplit(url).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        assert request(url, path, Host=host)[0] == 403, host
    # Also through a tunnel, which may begin at another port.
    for host in (f"127.0.0.1:{port}", "localhost", "localhost:9999", "[::1]:80"):
        assert request(url, path, Host=host)[0] == 200, host


def test_parts_of_a_chunk_and_only_its_head(url: str) -> None:
    path = f"{urlsplit(url).path}/data/raw/s0/c/0/0/1"
    status, body, headers = request(url, path, Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, CHUNK[10:20], "bytes 10-19/128")
    assert request(url, path, Range="bytes=-5")[:2] == (206, CHUNK[-5:])
    assert request(url, path, Range="bytes=120-")[:2] == (206, CHUNK[120:])
    assert request(url, path, Range="bytes=128-")[0] == 416
    status, body, headers = request(url, path, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "128")
    for method in ("POST", "PUT", "DELETE"):
        assert request(url, path, method)[0] == 405
    status, _, headers = request(url, path, "OPTIONS", Origin="https://example.org")
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, "*")
    # The page itself is not for other sites.
    _, _, headers = request(url, f"{urlsplit(url).path}/scene.json")
    assert headers["Access-Control-Allow-Origin"] is None


def test_a_client_that_has_gone_away_is_not_computed_for() -> None:
    begun: list[Key] = []
    go = threading.Event()

    def compute(key: Key, abandon: Abandon) -> Values:
        begun.append(key)
        go.wait(60)
        abandon()
        return (np.zeros((1, 4, 4, 4), np.uint16),)

    demand = Demand(compute, 1000, ThreadPoolExecutor(1))

    async def read(begin: Sequence[int], _: Sequence[int]) -> Voxels:
        return (await demand.get(tuple(begin)))[0]

    with serving(page(image(read), running=demand.running)) as url:
        parts = urlsplit(url)
        clients = []
        for place in ("0/0/0", "0/0/1"):
            client = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
            client.request("GET", f"{parts.path}/data/raw/s0/c/{place}")
            clients.append(client)
            until(lambda: bool(begun))
        until(lambda: demand.status.waiting == 1)
        clients[1].close()
        until(lambda: demand.status.waiting == 0)
        go.set()
        assert clients[0].getresponse().status == 200
        clients[0].close()
    assert begun == [(0, 0, 0)]


def test_what_cannot_be_read_is_told_without_a_traceback(capfd: pytest.CaptureFixture) -> None:
    async def broken(*_: object) -> Voxels:
        raise ValueError("the chunk is damaged")

    with serving(page(image(broken))) as url:
        status, body, _ = request(url, f"{urlsplit(url).path}/data/raw/s0/c/0/0/1")
    assert (status, body) == (500, b"the chunk is damaged")
    assert capfd.readouterr().err == ""


def test_pages_that_are_open_at_the_same_time_share_one_status() -> None:
    asked: list[None] = []

    def status() -> dict[str, object]:
        asked.append(None)
        return {"facts": [["asked", str(len(asked))]]}

    one = page(image())
    with serving(replace(one, scene=replace(one.scene, status=status, interval_s=60.0))) as url:
        parts = urlsplit(url)
        told = []
        for _ in range(3):
            client = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
            client.request("GET", f"{parts.path}/events")
            told.append(client.getresponse().readline())
            client.close()
    assert told == [b'data: {"facts": [["asked", "1"]]}\n'] * 3


def test_an_address_that_is_taken_is_a_plain_message(url: str) -> None:
    async def second() -> None:
        address = Address(port=urlsplit(url).port or 0)
        async with served(page(image()).site, address):
            raise AssertionError("two servers at one port")

    with pytest.raises(ConfigError, match=r"--port \d+: this address cannot be listened at"):
        asyncio.run(second())
