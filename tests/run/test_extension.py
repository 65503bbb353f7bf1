"""Extending the ROI of a run: what is done stays, and the rest is as if predicted at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.io.extend import chunk_key
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.records.ledger import PREDICTED, State, records_of
from blockwise_predict.run.extension import carried_records
from tests.support.jobs import Job
from tests.support.runs import blocks_done, predict, read_output
from tests.support.sabotage import at_startup

SMALL = "[100:260,100:270,60:230]"
"""16 x 17 x 17 voxels: 8 blocks, of which those at the far ends are cut."""


def chunk_times(job: Job, name: str) -> dict[str, int]:
    """When each chunk was written."""
    root = Path(job.output(name))
    files = (p for p in root.rglob("*") if p.is_file() and p.name[0].isdigit())
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in files}


@pytest.mark.parametrize("format_", ["zarr3", "zarr2", "n5"])
def test_extended_at_both_ends_and_equal_to_one_run(format_: str, job: Job) -> None:
    if format_ == "n5":
        job.output = lambda name: str(job.folder / f"{name}.n5" / "out")  # type: ignore[method-assign]
    options = ("--format", format_)
    predict(*job.arguments("e", "--roi", SMALL, *options))
    before = chunk_times(job, "e")
    # 16 and 32 voxels before the begin, and any number after the end.
    larger = "[0:260,:,]".replace(",]", ",60:330]").replace("[0:", "[100:")
    output = predict(*job.arguments("e", "--roi", larger, *options), code=2)
    assert "by whole blocks of (16, 16, 16) voxels only" in output
    assert "Nearest begin of --roi: 100, -60, 60 nm" in output
    larger = "[100:400,100:360,60:330]"
    output = predict(*job.arguments("e", "--roi", larger, *options))
    assert f"Extending {SMALL} to {larger} nm; 1 finished blocks are kept" in output
    predict(*job.arguments("whole", "--roi", larger, *options))
    np.testing.assert_array_equal(read_output(job.output("e")), read_output(job.output("whole")))
    kept = chunk_key(format_, (0, 0, 0), OutputAxes(("z", "y", "x")))  # type: ignore[arg-type]
    name = next(path for path in before if path == kept or path.endswith(kept))
    assert chunk_times(job, "e")[name] == before[name], "what was done is not done again"


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["zarr3", "zarr2", "n5"])
def test_extended_before_its_begin(format_: str, job: Job) -> None:
    if format_ == "n5":
        job.output = lambda name: str(job.folder / f"{name}.n5" / "out")  # type: ignore[method-assign]
    options = ("--format", format_)
    predict(*job.arguments("e", "--roi", "[170:330,160:320,163:323]", *options))
    output = predict(*job.arguments("e", "--roi", "[10:330,160:330,3:323]", *options))
    assert "to [10:330,160:330,0:330] nm; 2 finished blocks are kept" in output
    predict(*job.arguments("whole", "--roi", "[10:330,160:330,3:323]", *options))
    np.testing.assert_array_equal(read_output(job.output("e")), read_output(job.output("whole")))
    assert not list(Path(job.output("e")).parent.glob(".*before-extension"))
    assert predict("verify", job.output("e"), "--sample", "3")


@pytest.mark.slow
@pytest.mark.parametrize("call", ["os.replace", "write_atomically"])
def test_an_extension_that_is_cut_off_can_be_completed(
    call: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    predict(*job.arguments("e", "--roi", "[160:400,160:320,160:320]"))
    larger = "[0:400,:,0:330]"
    module = "blockwise_predict.records.rundir" if call == "write_atomically" else "os"
    with monkeypatch.context() as patch:
        at_startup(
            patch,
            tmp_path,
            "import sys\n"
            'if "run" in sys.orig_argv:\n'
            f"    import os, blockwise_predict.run.execute, {module}\n"
            f"    from blockwise_predict.io import extend\n"
            f"    real = {call if '.' in call else module + '.' + call}\n"
            "    calls = []\n"
            "    def cut(*arguments, **options):\n"
            "        if 'extension' in str(arguments) or 'plan.json' in str(arguments[0]):\n"
            "            calls.append(1)\n"
            "            if len(calls) == 2 or 'plan.json' in str(arguments[0]):\n"
            "                os._exit(9)\n"
            "        return real(*arguments, **options)\n"
            f"    {call if '.' in call else module + '.' + call} = cut\n",
        )
        predict(*job.arguments("e", "--roi", larger), code=9)
    text = predict(*job.arguments("e", "--roi", "[160:400,160:320,160:320]"), code=2)
    assert "an extension of" in text
    assert "was interrupted. Complete it first" in text
    predict(*job.arguments("e", "--roi", larger))
    np.testing.assert_array_equal(read_output(job.output("e")), read_output(job.undisturbed()))
    assert blocks_done(job.run_dir("e")) == 27
    leftovers = [p.name for p in job.run_dir("e").iterdir()]
    assert "extension.json" not in leftovers
    assert sum(name.startswith("blocks-") for name in leftovers) == 1


def plan_of(begin: int, size: int, chunk: int, block: int) -> Any:
    """What of a plan the mapping of blocks needs, along one axis."""
    blocks = -(-size // block)
    return SimpleNamespace(
        output=SimpleNamespace(
            path="out",
            arrays=(SimpleNamespace(path="out"),),
            roi_begin=(begin,),
            shape=(size,),
            chunk_shape=(chunk,),
            roi=Roi((begin,), (size,)),
        ),
        block_shape=(block,),
        blocks_per_axis=(blocks,),
    )


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_block_is_carried_over_if_it_is_done_and_whole(data: st.DataObject) -> None:
    chunk = data.draw(st.integers(1, 4))
    block = chunk * data.draw(st.integers(1, 3))
    size = data.draw(st.integers(1, 30))
    before = block * data.draw(st.integers(0, 3))
    after = data.draw(st.integers(0, 9))
    old = plan_of(7, size, chunk, block)
    new = plan_of(7 - before, before + size + after, chunk, block)
    count = old.blocks_per_axis[0]
    states = data.draw(st.lists(st.sampled_from(list(State)), min_size=count, max_size=count))
    records = records_of(np.array(states, np.uint8))
    records["clipped"] = np.arange(count) + 1
    carried = carried_records(old, new, records)
    assert carried.shape == new.blocks_per_axis
    for number, record in enumerate(carried):
        voxels = range(number * block, min((number + 1) * block, new.output.shape[0]))
        in_old = number - before // block
        same = all(0 <= voxel - before < size for voxel in voxels)
        if same and states[in_old] in PREDICTED:
            assert record == records[in_old]
        else:
            assert record["state"] == State.TODO
            assert record["clipped"] == 0
