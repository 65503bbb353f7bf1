"""What `predict run` refuses before it writes anything, and what it tells the user then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.runs import (
    predict,
    stored_bytes,
    write_volume,
)
from tests.support.sabotage import SLOW, at_startup


def test_bad_gpu_is_found_before_anything_is_written(job: Job) -> None:
    output = predict(*job.arguments("g"), "--device", "cuda:77", code=2)
    assert "--device cuda:77" in output
    assert not Path(job.output("g")).exists()


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (("--border", "edge"), ["border: was reflect, is now edge"]),
        (("--normalize", "none"), ["normalization: was raw * 0.003921", "is now raw * 1"]),
        (("--block-shape", "32,32,32"), ["block shape: was [16, 16, 16], is now [32, 32, 32]"]),
        (("--roi", "[0:160,:,:]"), ["ROI: was [0:400,0:360,0:330], is now [0:160,0:360,0:330]"]),
        (
            ("--output-dtype", "uint8", "--output-range", "0,1"),
            ["output dtype: was float32, is now uint8"],
        ),
    ],
)
def test_a_run_that_differs_is_refused_with_both_values(
    options: tuple[str, ...], messages: list[str], job: Job
) -> None:
    predict(
        *job.arguments("r", "--roi", "[:160,:160,:160]" if "--roi" not in options else "[:,:,:]")
    )
    output = predict(
        *job.arguments(
            "r", *([] if "--roi" in options else ["--roi", "[:160,:160,:160]"]), *options
        ),
        code=2,
    )
    for message in messages:
        assert message in output


def test_another_checkpoint_is_refused(job: Job) -> None:
    roi = ("--roi", "[:160,:160,:160]")
    predict(*job.arguments("c", *roi))
    save_network(job.folder, seed=1)
    output = predict(*job.arguments("c", *roi), code=2)
    assert "weights (sha256): was" in output


def test_an_array_of_somebody_else_is_not_touched(job: Job) -> None:
    write_volume(Path(job.output("f")).parent, np.zeros((4, 4, 4), np.uint8))
    (Path(job.output("f")).parent / "raw").rename(job.output("f"))
    before = stored_bytes(job.output("f"))
    output = predict(*job.arguments("f"), code=2)
    assert "exists, and" in output
    assert "--overwrite" not in output
    output = predict(*job.arguments("f"), "--overwrite", code=2)
    assert "was not made by predict run" in output
    assert stored_bytes(job.output("f")) == before


@pytest.mark.slow
def test_a_second_run_on_the_same_output_is_told_who_holds_it(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, SLOW.replace("0.2", "3"))
        process = job.start("l")
        output = predict(*job.arguments("l"), code=2)
        assert f"in use by process {process.pid}" in output
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input", "nowhere.zarr/raw"), "nowhere.zarr/raw"),
        (("--roi", "[5000:6000,:,:]"), "misses the volume, which spans [0:400,0:360,0:330]"),
        (("--block-shape", "20,16,16"), "Nearest: 16,16,16"),
        (("--tile-shape", "21,21,21"), "Nearest that it can"),
        (("--output-dtype", "uint8"), "needs --output-range"),
        (("--checkpoint", "nowhere.pt"), "nowhere.pt"),
        (("--voxel-size", "4,4"), "--voxel-size"),
        (("--output", "no_container/out"), "lies in no container"),
        (("--format", "n5", "--output-dtype", "float16"), "n5 cannot hold float16"),
    ],
)
def test_mistakes_end_with_a_short_message_before_anything_is_written(
    options: tuple[str, ...], message: str, job: Job
) -> None:
    before = sorted(job.folder.rglob("*"))
    output = predict(*job.arguments("m"), *options, code=2)
    assert message in output
    assert len(output.splitlines()) <= 6, output
    assert sorted(job.folder.rglob("*")) == before
