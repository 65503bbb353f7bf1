"""Output that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.disks import small_disk
from tests.support.jobs import Job
from tests.support.runs import events, predict, stored_bytes
from tests.support.sabotage import at_startup


@pytest.mark.slow
def test_a_full_disk_ends_the_run_cleanly_and_it_goes_on_later(job: Job, tmp_path: Path) -> None:
    expected = stored_bytes(job.undisturbed())
    with small_disk(tmp_path / "disk", "2m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2_000_000))
        job.output = lambda name: str(disk / f"{name}.zarr" / "out")  # type: ignore[method-assign]
        records = ("--run-dir", tmp_path / "records")
        output = predict(*job.arguments("full", *records), code=1)
        assert "the output cannot be written:" in output
        assert "No space left on device" in output
        assert "Make room, then run the same command again." in output
        assert not events(tmp_path / "records", "failed"), "no block is to blame"
        ballast.unlink()
        predict(*job.arguments("full", *records))
        got = {k: v for k, v in stored_bytes(job.output("full")).items() if "__lock" not in k}
        assert got == expected


@pytest.mark.parametrize(
    "reason", ["Disk quota exceeded [OS error 122: EDQUOT]", "Read-only file system"]
)
def test_a_used_up_quota_is_told_as_such(
    reason: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(
        monkeypatch,
        tmp_path,
        "import sys\n"
        'if "worker" in sys.orig_argv:\n'
        "    from blockwise_predict.io.output import OutputArray\n"
        "    def full(self, *arguments):\n"
        f"        raise ValueError({reason!r})\n"
        "    OutputArray.start_write = full\n",
    )
    output = predict(*job.arguments("q"), code=1)
    assert f"the output cannot be written: ValueError: {reason.split(' [')[0]}" in output
