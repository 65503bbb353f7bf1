"""`predict run --pyramid`, `predict pyramid`, and levels through the life of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from blockwise_predict.io.downsampled import level_path, listed_levels
from blockwise_predict.worker.downsample import downsample
from tests.support.jobs import SMALL, Job
from tests.support.runs import forget_blocks, predict, read_output, stored_bytes


def check_level(output: str) -> None:
    """The only level of an output is the mean of its voxels."""
    ((location, level),) = listed_levels(output)
    expected = downsample(read_output(output), level.factors, "mean")
    np.testing.assert_array_equal(read_output(location), expected)


def test_a_run_makes_levels_and_verify_checks_them(job: Job) -> None:
    output = job.output("p")
    options = [*job.arguments("p", *SMALL), "--pyramid", "--output-dtype", "uint8"]
    options += ["--output-range", "0,1"]
    said = predict(*options)
    level = level_path(output, 1)
    assert f"Level {level}: 16 x 8 x 8 voxels of 20 x 20 x 20 nm." in said
    check_level(output)
    assert f"Level {level}: 1 blocks, as the level below says." in predict("verify", output)

    # The chunk of another array: it decodes, and is wrong.
    chunk = "c/0/0/0/0"
    shutil.copy(Path(output) / chunk, Path(level) / chunk)
    wrong = f"Level {level}: 1 blocks, 1 are wrong: voxels (0, 0, 0) to (16, 8, 8): other values"
    assert wrong in predict("verify", output, code=1)

    # Levels are not kept beside blocks that are computed again.
    forget_blocks(job.run_dir("p"))
    said = predict(*options)
    assert f"The levels of {output} are removed, since blocks of it are computed." in said
    check_level(output)


def test_levels_are_made_of_complete_runs_and_repaired(job: Job) -> None:
    output = job.output("q")
    predict(*job.arguments("q", *SMALL))
    predict("pyramid", output)
    level = level_path(output, 1)
    before = stored_bytes(level)
    predict("pyramid", output)
    # Nothing to do: levels stay.
    predict(*job.arguments("q", *SMALL))
    assert stored_bytes(level) == before
    (Path(level) / "c/0/0/0/0").unlink()
    found = json.loads(predict("verify", output, "--json", "--repair", code=1))
    assert found["levels"][0]["wrong"] == 1
    assert found["repaired"] == 0
    assert not Path(level).exists()
    predict("pyramid", output)
    assert stored_bytes(level) == before

    forget_blocks(job.run_dir("q"))
    said = predict("pyramid", output, code=2)
    assert f"2 of 2 blocks of {output} are not predicted yet" in said
    # An extension changes the array first.
    predict(*job.arguments("q", "--roi", "[:330,:160,:160]"))
    assert not listed_levels(output)
    predict("pyramid", output, "--levels", "1")
    check_level(output)


def test_what_cannot_have_levels_is_refused_before_the_run(job: Job) -> None:
    n5 = job.folder / "p.n5" / "out"
    said = predict("run", *job.options, "--output", n5, "--pyramid", code=2)
    assert f"{n5} is N5, for which no levels are made" in said
    assert not n5.parent.exists()
