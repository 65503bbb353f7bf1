"""Files of strangers: real checkpoints, configurations, metadata and records, mutated by the
thousand, and opened as `predict` opens them.

    python tests/support/fuzz_files.py --count 10000  # all kinds
    python tests/support/fuzz_files.py --kind "zarr 3 metadata" --seed 5 --count 500
    python tests/support/fuzz_files.py --replay fuzz-failures/FILE  # one, with its traceback

A mutated file must be opened or be refused with a message that names it: never a traceback, a
signal, more than 1 GiB of memory, or more than 10 s. Cases run in children of a process that has
imported everything; each depends on seed, kind and number alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[2]))

from blockwise_predict.errors import PredictError
from tests.support.fuzz_kinds import KINDS, Kind

MEMORY = 1 << 30
PATIENCE_S = 10.0
# A message that is longer is no message.
MAX_MESSAGE = 4000
# glibc's number for the limit of its arenas, each of which takes 64 MiB of address space.
_M_ARENA_MAX = -8
_IMPORTED = (
    "blockwise_predict.run.planned",
    "blockwise_predict.checkpoint.describe",
    "blockwise_predict.records.workerlogs",
    "ome_zarr_models",
    "safetensors.torch",
)


@dataclass
class Result:
    """What became of the cases of a kind: how many were opened and refused, and which failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: int = 0


def fuzz(kind: Kind, seed: int, count: int, save: Path) -> Result:
    """Open `count` mutated files of a kind; files that failed are written to the folder `save`."""
    result = Result()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        _in_child(lambda: kind.prepare(Path(folder)))
        begin = 0
        while begin < count:
            begin = _batch(kind, Path(folder), seed, range(begin, count), save, result)
    return result


def _batch(kind: Kind, folder: Path, seed: int, cases: range, save: Path, result: Result) -> int:
    """Have a child open cases until it ends or is ended; returns the next case."""
    original = kind.file(folder).read_bytes()
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = os.fork()
    if process == 0:
        receiver.close()
        with contextlib.suppress(BaseException):
            _child(kind, folder, original, seed, cases, sender)
        os._exit(0)
    sender.close()
    current, why = cases.start, "it ended"
    with receiver:
        while current < cases.stop:
            if not receiver.poll(PATIENCE_S):
                os.kill(process, signal.SIGKILL)
                why = f"more than {PATIENCE_S:g} s"
                break
            try:
                outcome, reason, seconds, memory = receiver.recv()
            except EOFError:
                break
            result.outcomes[outcome] += 1
            result.slowest = max(result.slowest, seconds)
            result.memory = max(result.memory, memory)
            if outcome == "failed":
                _save(kind, _case(kind, original, seed, current), f"{seed}-{current}", save)
                result.failures.append(f"{kind.name}, case {current}: {reason}")
            current += 1
    _, status = os.waitpid(process, 0)
    kind.file(folder).write_bytes(original)
    if current == cases.stop:
        return current
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        why = signal.Signals(os.WTERMSIG(status)).name
    result.outcomes["failed"] += 1
    _save(kind, _case(kind, original, seed, current), f"{seed}-{current}", save)
    result.failures.append(f"{kind.name}, case {current}: {why}")
    return current + 1


def _case(kind: Kind, original: bytes, seed: int, case: int) -> bytes:
    return kind.mutated(original, random.Random(f"{seed} {kind.name} {case}"))


def _save(kind: Kind, content: bytes, name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{kind.name.replace(' ', '_')}-{name}").write_bytes(content)


def _child(
    kind: Kind, folder: Path, original: bytes, seed: int, cases: range, sender: Connection
) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    # Once, so that threads and caches of libraries do not count as a case's.
    if _opened(kind, folder) != ("opened", ""):
        sender.send(("failed", "the file is refused as it is, unmutated", 0.0, 0))
    taken = _memory()
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY,) * 2)
    for case in cases:
        kind.file(folder).write_bytes(_case(kind, original, seed, case))
        begin = time.monotonic()
        outcome, why = _opened(kind, folder)
        sender.send((outcome, why, time.monotonic() - begin, max(0, _memory() - taken)))


def _opened(kind: Kind, folder: Path) -> tuple[str, str]:
    """Open a kind's file: what became of it, and why it failed."""
    try:
        kind.open(folder)
    except PredictError as error:
        message = str(error)
        if len(message) > MAX_MESSAGE:
            return "failed", f"a message of {len(message)} characters: {message[:200]}"
        if kind.named and str(folder) not in message:
            return "failed", f"the message does not name the file: {message}"
        return "refused", ""
    except (Exception, SystemExit):  # noqa: BLE001, whatever it is, it is reported
        return "failed", traceback.format_exc(limit=-6)[-3000:]
    return "opened", ""


def replay(case: Path) -> str:
    """Open a saved case in this process; raises what is no refusal."""
    kind = KINDS[case.name.rsplit("-", 2)[0].replace("_", " ")]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        kind.prepare(folder)
        kind.file(folder).write_bytes(case.read_bytes())
        try:
            kind.open(folder)
        except PredictError as error:
            return f"refused: {error}"
    return "opened"


def _in_child(work) -> None:
    """Do work that starts threads in a process of its own, so that this one can be forked."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001, printed here, since nobody is above
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        raise RuntimeError("the files to mutate cannot be made")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _memory() -> int:
    """The most resident memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _imported() -> None:
    for module in _IMPORTED:
        __import__(module)


def _rows(results: dict[str, Result]) -> Iterator[str]:
    yield f"{'kind':24}{'opened':>8}{'refused':>9}{'failed':>8}{'slowest':>10}{'memory':>11}"
    for name, result in results.items():
        counts = [result.outcomes[outcome] for outcome in ("opened", "refused", "failed")]
        yield (
            f"{name:24}{counts[0]:8}{counts[1]:9}{counts[2]:8}{result.slowest:8.2f} s"
            f"{result.memory / 2**20:7.0f} MiB"
        )


@click.command()
@click.option("--kind", "names", multiple=True, type=click.Choice(list(KINDS)), help="[all]")
@click.option("--count", default=10_000, show_default=True, help="Cases of each kind.")
@click.option("--seed", default=0, show_default=True)
@click.option("--save", default=Path("fuzz-failures"), type=click.Path(path_type=Path))
@click.option("--replay", "case", type=click.Path(exists=True, path_type=Path))
def main(names: tuple[str, ...], count: int, seed: int, save: Path, case: Path | None) -> None:
    """Open mutated files; exit 1 if any of them did more than to be refused."""
    if case is not None:
        click.echo(replay(case))
        return
    _imported()
    results: dict[str, Result] = {}
    for name in names or KINDS:
        results[name] = fuzz(KINDS[name], seed, count, save)
        for failure in results[name].failures[:10]:
            click.echo(failure)
    click.echo("\n".join(_rows(results)))
    sys.exit(any(result.failures for result in results.values()))


if __name__ == "__main__":
    main()
