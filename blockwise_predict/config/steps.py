"""What takes long, told to whoever shows it.

Hashing weights or reading a mask happens deep in the package, and the command line shows it. As
with logging, nothing in between passes it on: `watched_by` names the watcher of all that is called
in its context. Without one, as in workers, a step costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Doing:
    """A step that is going on: what it is, and how much of how much is done, if that is known."""

    what: str
    done: int = 0
    total: int | None = None

    def __str__(self) -> str:
        if not self.total:
            return self.what
        return f"{self.what}, {min(1.0, self.done / self.total):.0%}"


Watcher = Callable[[Doing | None], None]
"""Receives the innermost step whenever it begins, proceeds or ends; None between steps."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
_doing: ContextVar[Doing | None] = ContextVar("doing", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Have `watcher` told of the steps in this context."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def step(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A step that may take long; gives a function that tells how much of `total` is done."""
    watcher = _watcher.get()
    if watcher is None:
        yield _ignore
        return
    tell, outer = watcher, _doing.get()
    token = _doing.set(Doing(what, 0, total))
    tell(_doing.get())
    try:
        yield lambda done: tell(Doing(what, done, total))
    finally:
        _doing.reset(token)
        tell(outer)


def _ignore(done: int) -> None:
    pass
