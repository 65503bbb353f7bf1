"""What scheduler and workers say to each other: JSON objects, one per line, over one connection.

Only who holds the run's key comes so far as to say anything (`tls`).

A worker says Hello, and is welcomed or refused. Its slots then ask for blocks (Next) and report
them (Done, Failed, Back); the scheduler answers with a Block when there is one, or with End when
there will be none. A Beat now and then says that the worker lives.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PROTOCOL = 1
# Longer lines are refused. A failed block's traceback is the longest thing to say.
MAX_LINE = 1 << 16
MAX_TEXT = 8000
# Who connects has so long to show the key and to say who it is (seconds).
GREETING_S = 10.0
# A worker says so often that it lives (seconds).
BEAT_S = 2.0

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=300)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def line(self) -> bytes:
        """As it is sent."""
        return self.model_dump_json().encode() + b"\n"


class Hello(Message):
    """A worker joins.

    `number` is None if it leaves it to the scheduler; `process` is its own mark, by which it is
    known when it connects anew (containers on one host may share host names and process ids); `job`
    names the cluster's job that it runs in, and `log` the file that it writes to, where it knows
    one.
    """

    say: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    run: Name
    version: Name
    number: Count | None
    process: Name
    host: Name
    pid: int
    slots: Annotated[int, Field(ge=1, le=1000)]
    job: Text = ""
    log: Text = ""


class Next(Message):
    """A slot has nothing to do."""

    say: Literal["next"] = "next"
    slot: Count


class Done(Message):
    """A block is committed: seconds of reading, computing and writing; values of each kind.

    `filled` is the number of input chunks that the fill value stood in for; `skipped` that the
    block was left out, as asked for, since its input could not be read (`note` says why).
    """

    say: Literal["done"] = "done"
    block: Count
    read: float
    compute: float
    write: float
    clipped: Count
    nonfinite: Count
    filled: Count = 0
    skipped: bool = False
    note: Text = ""


class Failed(Message):
    """A block failed; `fatal` if every other one would, through no fault of its own."""

    say: Literal["failed"] = "failed"
    fatal: bool = False
    block: Count
    error: Text
    traceback: Text


class Back(Message):
    """A block is handed back as it was; no attempt."""

    say: Literal["back"] = "back"
    block: Count


class Beat(Message):
    """The worker lives."""

    say: Literal["beat"] = "beat"


class Leaving(Message):
    """The worker was told to end, and takes no more blocks."""

    say: Literal["leaving"] = "leaving"


class Welcome(Message):
    """The worker is admitted, under this number."""

    say: Literal["welcome"] = "welcome"
    number: int


class Refused(Message):
    """The worker is not admitted."""

    say: Literal["refused"] = "refused"
    why: Text


class Block(Message):
    """A block for a slot."""

    say: Literal["block"] = "block"
    slot: int
    block: int


class End(Message):
    """There are no more blocks for this worker."""

    say: Literal["end"] = "end"
    why: Text


FromWorker = Annotated[
    Hello | Next | Done | Failed | Back | Beat | Leaving, Field(discriminator="say")
]
FromScheduler = Annotated[Welcome | Refused | Block | End, Field(discriminator="say")]

parse_worker: TypeAdapter[FromWorker] = TypeAdapter(FromWorker)
"""Reads a line of a worker; ValidationError for anything that is no message."""
parse_scheduler: TypeAdapter[FromScheduler] = TypeAdapter(FromScheduler)
"""Reads a line of the scheduler."""
