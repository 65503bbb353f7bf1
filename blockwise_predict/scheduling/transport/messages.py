"""What scheduler and workers say to each other: JSON objects in the frames of a WebSocket (`wire`).

Only who holds the run's key comes so far as to say anything (`tls`).

A worker says Hello, and is welcomed or refused. Its slots then ask for blocks (Next) and report
them (Done, Failed, Back); the scheduler answers with a Block when there is one, or with End when
there will be none. A slot has one block at a time, and asks for the next one after it has reported
the last one; so an answer tells it that the report has arrived.

A worker whose connection broke says Hello again, and which blocks it still holds, reports that may
not have arrived included. Welcome says which of those are its own to finish.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PROTOCOL = 2
MAX_TEXT = 8000
MAX_SLOTS = 1000
# Workers may ask for a number below this one.
MAX_NUMBER = 1_000_000
# Seconds that a newcomer has to say who it is.
GREETING_S = 10.0

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=300)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]
Blocks = Annotated[list[Count], Field(max_length=2 * MAX_SLOTS)]


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hello(Message):
    """A worker joins.

    `number` is None if it leaves it to the scheduler; `process` is its own mark, by which it is
    known when it comes back (containers on one host may share host names and process ids), and
    `held` are the blocks that it then holds; `job` names the cluster's job that it runs in, and
    `log` the file that it writes to, where it knows one.
    """

    say: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    run: Name
    version: Name
    number: Annotated[int, Field(ge=0, lt=MAX_NUMBER)] | None
    process: Name
    host: Name
    pid: int
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)]
    job: Text = ""
    log: Text = ""
    held: Blocks = []


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


class Leaving(Message):
    """The worker was told to end, and takes no more blocks."""

    say: Literal["leaving"] = "leaving"


class Bye(Message):
    """The worker ends. The scheduler closes the connection, which shows that it has heard all."""

    say: Literal["bye"] = "bye"


class Welcome(Message):
    """The worker is admitted, under this number; blocks that it holds and that are not `kept` are
    others' to do."""

    say: Literal["welcome"] = "welcome"
    number: int
    kept: Blocks = []


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
    Hello | Next | Done | Failed | Back | Leaving | Bye, Field(discriminator="say")
]
FromScheduler = Annotated[Welcome | Refused | Block | End, Field(discriminator="say")]

# One frame holds what is said at one moment.
Said = Annotated[list[FromWorker], Field(min_length=1, max_length=4 * MAX_SLOTS)]
Answered = Annotated[list[FromScheduler], Field(min_length=1, max_length=4 * MAX_SLOTS)]
parse_worker: TypeAdapter[list[FromWorker]] = TypeAdapter(Said)
"""Reads a frame of a worker; ValidationError for anything that holds no messages."""
parse_scheduler: TypeAdapter[list[FromScheduler]] = TypeAdapter(Answered)
"""Reads a frame of the scheduler."""
