"""Real links of workers to a scheduler, and workers over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from blockwise_predict.records.address import Address
from blockwise_predict.scheduling.client import Client, ClientOptions
from tests.support.peers import done


def joined(
    find: Callable[[], Address], slots: int = 1, wait: float = 20.0, number: int | None = None
) -> Client:
    terms = ClientOptions("run", number, slots, wait=wait)
    return Client(find, terms, threading.Event(), lambda *_: None)


class Worker(threading.Thread):
    """Does blocks over a link, each by its own time."""

    def __init__(self, address: Address, slots: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self.done: list[int] = []
        self._address, self._slots, self._seconds = address, slots, seconds

    def run(self) -> None:
        connection = joined(lambda: self._address, self._slots)
        with ThreadPoolExecutor(self._slots) as slots:
            list(slots.map(lambda slot: self._work(connection, slot), range(self._slots)))
        connection.close()

    def _work(self, connection: Client, slot: int) -> None:
        while (number := connection.next(slot)) is not None:
            time.sleep(self._seconds)
            self.done.append(number)
            connection.report(slot, done(number))
