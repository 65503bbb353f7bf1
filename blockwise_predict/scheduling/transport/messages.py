"""The protocol between scheduler and workers: JSON objects in the frames of a WebSocket (`wire`).

Only a peer that holds the run's key gets as far as exchanging messages (`tls`).

A worker says Hello, and is welcomed or refused. Its slots then request blocks (Next) and report
them (Done, Failed, Back); the scheduler answers with a Block when there is one, or with End when
there will be none. A slot has one block at a time, and requests the next one after it has reported
the last one, so the answer also acknowledges the report.

A worker whose connection broke says Hello again and names the blocks that it still holds, including
those whose report may not have arrived. Welcome says which of them it is to finish.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from blockwise_predict.records.ledger import State, outcome

PROTOCOL = 3
MAX_TEXT = 8000
MAX_SLOTS = 1000
MAX_ARRAYS = 1000
# Workers may ask for numbers below this.
MAX_NUMBER = 1_000_000
# Time for a new connection to say Hello, and for the scheduler to answer it (seconds).
HELLO_TIMEOUT_S = 10.0

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Name = Annotated[str, Field(max_length=300)]
Count = Annotated[int, Field(ge=0, lt=1 << 62)]
# A duration (seconds).
Seconds = Annotated[float, Field(ge=0, lt=1e10, allow_inf_nan=False)]
# One number for each array of the output.
ArrayCounts = Annotated[list[Count], Field(min_length=1, max_length=MAX_ARRAYS)]
Blocks = Annotated[list[Count], Field(max_length=2 * MAX_SLOTS)]


class Message(BaseModel):
    """Base class of all messages; `say` tells them apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hello(Message):
    """A worker joins.

    `number` is None if the scheduler is to assign one. `process` is a random id that identifies the
    worker when it reconnects (containers may share host names and process ids), and `held` are the
    blocks that it then holds. `job` is the cluster job that it runs in, `device` what it computes
    on and `log` the file that it writes to; "" if there is none.
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
    device: Text = ""
    log: Text = ""
    held: Blocks = []


class Next(Message):
    """A slot requests a block."""

    say: Literal["next"] = "next"
    slot: Count


class Done(Message):
    """A block is committed.

    `read`, `compute` and `write` are in seconds; `clipped` and `nonfinite` count the values of each
    array of the output, `filled` the input chunks that the fill value stood in for. `skipped`: the
    block was left out as configured, since its input could not be read (`note` says why); `empty`:
    since it is nothing but the fill value.
    """

    say: Literal["done"] = "done"
    block: Count
    read: Seconds
    compute: Seconds
    write: Seconds
    clipped: ArrayCounts
    nonfinite: ArrayCounts
    filled: Count = 0
    skipped: bool = False
    empty: bool = False
    note: Text = ""

    @property
    def state(self) -> State:
        """What has become of the block."""
        return outcome(skipped=self.skipped, empty=self.empty, filled=self.filled)


class Failed(Message):
    """A block failed; `fatal` if every other block would fail for the same reason."""

    say: Literal["failed"] = "failed"
    fatal: bool = False
    block: Count
    error: Text
    traceback: Text


class Back(Message):
    """A block is handed back unprocessed; this costs it no attempt."""

    say: Literal["back"] = "back"
    block: Count


class Leaving(Message):
    """The worker was told to end, and takes no more blocks."""

    say: Literal["leaving"] = "leaving"


class Bye(Message):
    """The worker ends. The scheduler closes the connection once it has received everything."""

    say: Literal["bye"] = "bye"


class Welcome(Message):
    """The worker is admitted under this number. Of the blocks that it holds, those not in `kept`
    have gone to others."""

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

# The content of one frame.
WorkerFrame = Annotated[list[FromWorker], Field(min_length=1, max_length=4 * MAX_SLOTS)]
SchedulerFrame = Annotated[list[FromScheduler], Field(min_length=1, max_length=4 * MAX_SLOTS)]
parse_worker: TypeAdapter[list[FromWorker]] = TypeAdapter(WorkerFrame)
"""Parses a worker's frame; raises ValidationError for anything but messages."""
parse_scheduler: TypeAdapter[list[FromScheduler]] = TypeAdapter(SchedulerFrame)
"""Parses a frame of the scheduler."""
