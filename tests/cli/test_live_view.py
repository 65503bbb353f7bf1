"""The live view of a run, on terminals of several sizes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from blockwise_predict.cli.terminal import LiveView, RunDisplay
from blockwise_predict.cli.worker_table import worker_lines
from blockwise_predict.records.status import Counts, WorkerStatus
from tests.support.forked import Forked
from tests.support.jobs import Job
from tests.support.sabotage import SLOW, at_startup
from tests.support.terminals import Terminal, terminal

PLAN: Any = SimpleNamespace(
    output=SimpleNamespace(roi=SimpleNamespace(size=8 * 64**3)), num_blocks=8
)


def status(number: int, **changes: Any) -> WorkerStatus:
    given: dict[str, Any] = {
        **{"number": number, "name": f"node{number} process 7", "host": f"node{number}.cluster"},
        **{"job": "", "device": "cuda:0, NVIDIA H100", "joined": 0.0, "done": 12, "rate": 0.5},
        **{"busy": 0.93, "held": 2, "away": False, "leaving": False, "last_error": ""},
    }
    return WorkerStatus(**{**given, **changes})


def table(workers: list[WorkerStatus], width: int, height: int = 24) -> list[str]:
    lines = worker_lines(workers, width=width, height=height, voxels_per_block=64.0**3)
    return [line.plain for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 15)])
def test_a_run_of_three_workers(
    columns: int, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_startup(monkeypatch, tmp_path, SLOW.replace("0.2", "0.4"))
    job = Job(tmp_path)
    kept = {key: text for key, text in os.environ.items() if key not in ("COLUMNS", "LINES")}
    environment = {**kept, "TERM": "xterm-256color", **({"NO_COLOR": "1"} if columns == 40 else {})}
    with terminal(columns, lines) as shown:
        words = [str(word) for word in job.arguments("a", "--workers", "3")]
        process = Forked(words, environment, terminal=shown.device)
        seen = screens(shown, process)
        assert process.wait(60) == 0, seen[-1]
        last = shown.read()
    rows = r"#  +(host +)?.*state.*\n" + "".join(rf"{n} .*working.*\n" for n in range(3))
    with_workers = [screen for screen in seen if re.search(rows, screen)]
    assert with_workers, seen[-1]
    assert re.search(r"^\d+/27 blocks|^Predicting .* \d+/27 blocks", with_workers[-1], re.MULTILINE)
    assert any(re.search(r"^\d+ s left, .*voxel/s", screen, re.MULTILINE) for screen in seen)
    # No line was wrapped, so that no frame was left behind.
    assert all(screen.count("/27 blocks") == 1 for screen in with_workers)
    assert len([line for line in last if "27/27 blocks 100%" in line]) == 1
    assert not any("working" in line for line in last)
    assert any(line.startswith("Done: ") for line in last)
    coloured = re.search(rb"\x1b\[[0-9;]*[39][0-9]", shown.sent)
    assert bool(coloured) == (columns == 80)


def screens(shown: Terminal, process: Forked) -> list[str]:
    """All screens until the process ends."""
    seen = [""]
    while process.poll() is None:
        text = "\n".join(shown.read()) + "\n"
        if text != seen[-1]:
            seen.append(text)
    return seen


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    # Where nothing says otherwise, it would be taken for a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("blockwise_predict.cli.terminal.LINE_INTERVAL_S", 0.0)
    stderr = os.dup(2)
    with terminal(80, 24) as shown:
        os.dup2(os.open(shown.device, os.O_WRONLY | os.O_NOCTTY), 2)
        try:
            show_a_run()
        finally:
            os.dup2(stderr, 2)
        shown.read()
    assert shown.sent.decode().splitlines() == ["0/8 blocks", "1/8 blocks, 1 failed"]


def test_what_is_piped_gets_plain_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("blockwise_predict.cli.terminal.LINE_INTERVAL_S", 0.0)
    show_a_run()
    assert re.sub(r"\x1b\[\d*m", "", capfd.readouterr().err).splitlines() == [
        "0/8 blocks",
        "1/8 blocks, 1 failed",
    ]


def show_a_run() -> None:
    display = RunDisplay()
    display.begin(PLAN, Counts(8, 0, 0, 0))
    for counts in (Counts(8, 0, 0, 0), Counts(8, 1, 1, 6)):
        display.progress(counts)
        display.workers((status(0),))
    display.end()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 160])
def test_narrow_terminals_drop_columns(width: int) -> None:
    workers = [status(n, last_error="the chunk\x1b[31m at 0,0,0 is damaged") for n in (2, 0, 1)]
    lines = table(workers, width)
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert not any("\x1b" in line for line in lines)
    assert [line.split()[0] for line in lines] == ["#", "0", "1", "2"]
    titles = lines[0]
    assert {"blocks", "state"} <= {*titles.split()}
    assert ("host" in titles, "rate" in titles, "device" in titles) == (
        width >= 40,
        width >= 60,
        width >= 80,
    )
    assert ("last error" in titles) == (width >= 120)
    assert any("is damaged" in line for line in lines) == (width >= 120)


def test_what_does_not_fit_is_summed_up_and_trouble_comes_first() -> None:
    workers = [status(n, away=n in (40, 49)) for n in range(50)]
    lines = table(workers, 80, height=12)
    assert len(lines) == 12
    assert [line.split()[0] for line in lines[1:-1]] == ["40", "49", *map(str, range(8))]
    assert lines[-1] == "and 40 more: 40 working"
    workers = [status(n, away=n % 3 == 0, last_error="x" * (n > 1)) for n in range(5)]
    assert table(workers, 40, height=2) == ["5 workers: 3 working, 2 away"]
    assert table(workers, 80, height=1) == []
    assert len(table(workers, 80, height=6)) == 6


def test_states_are_named() -> None:
    workers = [
        status(0, done=0, held=0),
        status(1, held=0),
        status(2, away=True, leaving=True),
        status(3, leaving=True),
        status(4),
    ]
    states = [line.split()[-1] for line in table(workers, 100)[1:]]
    assert states == ["starting", "waiting", "away", "leaving", "working"]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("lines", [3, 6, 24])
def test_the_view_fits_into_the_terminal(columns: int, lines: int) -> None:
    view = LiveView(64.0**3)
    view.observe(Counts(1_000_000, 1200, 34, 80, 5, 6))
    view.workers = [status(n, host="x" * 90) for n in range(40)]
    console = Console(width=columns, height=lines, force_terminal=True, color_system=None)
    drawn = [line.rstrip() for line in capture(console, view).splitlines()]
    assert len(drawn) <= max(lines - 1, 2)
    assert all(len(line) <= columns for line in drawn)
    assert "1211/1000000 blocks" in drawn[0] or columns == 20


def test_workers_are_missed_only_while_there_is_work() -> None:
    console = Console(width=80, force_terminal=True, color_system=None)
    view = LiveView()
    view.observe(Counts(8, 0, 0, 0))
    assert "no worker yet" in capture(console, view)
    view.show_workers([status(0)])
    assert "no worker" not in capture(console, view)
    view.show_workers([])
    assert "no worker, " in capture(console, view)
    view.observe(Counts(8, 7, 1, 0))
    assert "no worker" not in capture(console, view)
    # What remains of a run that was interrupted.
    view.observe(Counts(8, 6, 0, 0))
    view.end()
    assert "no worker" not in capture(console, view)


def capture(console: Console, view: LiveView) -> str:
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_a_run_that_is_complete_fills_the_bar() -> None:
    display = RunDisplay()
    display.begin(PLAN, Counts(8, 5, 0, 0, skipped=2, empty=1))
    console = Console(width=80, force_terminal=True, color_system=None)
    assert "8/8 blocks 100%" in capture(console, display._view)
