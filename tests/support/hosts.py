"""Several hosts on this machine: network namespaces, each with a cable to this one.

Needs root, and `apt-get install iproute2`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# The address of a network card that nobody has.
NOBODY = "02:00:00:00:00:01"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


class Host:
    """Another host. `here` is this machine's address as it sees it, `command` runs words there."""

    def __init__(self, number: int) -> None:
        self.name = f"bp{os.getpid()}-{number}"
        self._cable = f"bp{os.getpid() % 100000}v{number}"
        net = f"10.213.{os.getpid() % 250}.{number * 4}"
        base = net.rsplit(".", 1)[0]
        self.here = f"{base}.{number * 4 + 1}"
        self.there = f"{base}.{number * 4 + 2}"

    def plug_in(self) -> None:
        _ip("netns", "add", self.name)
        peer = f"{self._cable}p"
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", peer, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        for words in (
            ("addr", "add", f"{self.there}/30", "dev", peer),
            ("link", "set", peer, "up"),
        ):
            _ip("-n", self.name, *words)

    def command(self, *words: object) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def cut(self) -> None:
        """The cable is cut: nothing arrives any more, and neither end is told."""
        for words in self._ways():
            _ip(*words[0], "neigh", "replace", *words[1:], "lladdr", NOBODY, "nud", "permanent")

    def mend(self) -> None:
        for words in self._ways():
            _ip(*words[0], "neigh", "delete", *words[1:])

    def _ways(self) -> list[tuple[tuple[str, ...], str, str, str]]:
        """From here to there, and back: where to say so, to whom, by which device."""
        peer = f"{self._cable}p"
        return [((), self.there, "dev", self._cable), (("-n", self.name), self.here, "dev", peer)]

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many other hosts. Skips the test where that cannot be."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and ip (apt-get install iproute2), for network namespaces")
    made = [Host(number) for number in range(count)]
    try:
        for host in made:
            try:
                host.plug_in()
            except subprocess.CalledProcessError as error:
                pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode()}")
        yield made
    finally:
        for host in made:
            host.remove()
