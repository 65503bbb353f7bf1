"""A run's workers as a table that fits into a terminal, one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from blockwise_predict.config.plain import plain
from blockwise_predict.config.quantities import format_rate
from blockwise_predict.records.status import WorkerStatus

# Longer names are cut (columns of the terminal).
MAX_NAME = 24
# Less of an error says nothing.
MIN_ERROR = 12
GAP = "  "


@dataclass(frozen=True)
class _Column:
    """A column; of those that do not fit, the one with the highest `rank` is left away first."""

    title: str
    rank: int
    text: Callable[[WorkerStatus], str]
    right: bool = False


def worker_lines(
    workers: Sequence[WorkerStatus],
    *,
    width: int,
    height: int,
    voxels_per_block: float,
) -> list[Text]:
    """The table of workers, in at most `height` lines of `width` columns.

    Ordered by their numbers. If not all fit, those that are away or have an error come first, and
    the last line sums up the others.
    """
    if not workers or height < 2:
        return []
    shown = sorted(workers, key=lambda worker: worker.number)
    left: list[WorkerStatus] = []
    if len(shown) > height - 1:
        shown.sort(key=lambda worker: not (worker.away or worker.last_error))
        shown, left = shown[: height - 2], shown[height - 2 :]
    lines = _table(shown, width, voxels_per_block) if shown else []
    if left:
        lines.append(_fit(Text(_summary(left, more=bool(shown)), style="dim"), width))
    return lines


def _summary(workers: Sequence[WorkerStatus], *, more: bool) -> str:
    """`and 40 more: 38 working, 2 away`."""
    states = Counter(worker.state for worker in workers).most_common()
    text = ", ".join(f"{count} {state}" for state, count in states)
    return f"and {len(workers)} more: {text}" if more else f"{len(workers)} workers: {text}"


def _columns(voxels_per_block: float) -> list[_Column]:
    def rate(worker: WorkerStatus) -> str:
        return "" if worker.rate is None else format_rate(worker.rate * voxels_per_block)

    return [
        _Column("#", 0, lambda worker: str(worker.number), right=True),
        _Column("host", 3, lambda worker: _cut(worker.host)),
        _Column("device", 6, lambda worker: _cut(worker.device)),
        _Column("blocks", 2, lambda worker: str(worker.done), right=True),
        _Column("rate", 4, rate, right=True),
        _Column("busy", 5, lambda w: "" if w.busy is None else f"{w.busy:.0%}", right=True),
        _Column("state", 1, lambda worker: worker.state),
    ]


def _table(workers: Sequence[WorkerStatus], width: int, voxels_per_block: float) -> list[Text]:
    columns = _columns(voxels_per_block)
    cells = {
        column: [column.title, *(column.text(worker) for worker in workers)] for column in columns
    }
    sizes = {column: max(map(cell_len, cells[column])) for column in columns}

    def needed() -> int:
        return sum(sizes[column] for column in columns) + len(GAP) * (len(columns) - 1)

    while len(columns) > 1 and needed() > width:
        columns.remove(max(columns, key=lambda column: column.rank))
    room = width - needed() - len(GAP)
    errors = ["last error", *(plain(worker.last_error).split("\n")[0] for worker in workers)]
    with_errors = room >= MIN_ERROR and any(errors[1:])
    lines = []
    for row in range(len(workers) + 1):
        parts = [_pad(cells[column][row], sizes[column], column.right) for column in columns]
        if with_errors:
            parts.append(errors[row])
        style = "dim" if row == 0 else "yellow" if workers[row - 1].away else ""
        lines.append(_fit(Text(GAP.join(parts).rstrip(), style=style), width))
    return lines


def _cut(name: str) -> str:
    text = Text(plain(name).replace("\n", " "))
    text.truncate(MAX_NAME, overflow="ellipsis")
    return text.plain


def _pad(text: str, size: int, right: bool) -> str:
    return " " * (size - cell_len(text)) + text if right else set_cell_size(text, size)


def _fit(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line
