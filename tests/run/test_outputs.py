"""Networks with several outputs: one pass, and an array for each."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi

import blockwise_predict as bp
from blockwise_predict.config.values import Format
from blockwise_predict.io import open_output, read_attributes
from blockwise_predict.records.provenance import ATTRIBUTE
from tests.support.arrays import OUTPUT_FORMATS
from tests.support.jobs import Job
from tests.support.runs import blocks_done, command, predict, processes_of, until
from tests.support.sabotage import SLOW, at_startup
from tests.support.two_tasks import HALF_STEP, NEIGHBORHOOD, SIZE, TwoTasks

DTYPES = ("--output-dtype", "affs=uint8,lsds=float32")
ONE_BLOCK = ("--roi", "[:160,:160,:160]")
# Two blocks.
SMALL = ("--roi", "[:320,:160,:160]")
SMALL_ROI = Roi((0, 0, 0), (32, 16, 16))
SUFFIX = {"zarr2": "zarr", "zarr3": "zarr", "n5": "n5"}


@pytest.fixture
def job(tmp_path: Path) -> TwoTasks:
    return TwoTasks(tmp_path)


# Number of expanding paths, and the kernel size of the second head.
NETWORKS = {"zarr2": (1, 1), "zarr3": (2, 3), "n5": (1, 3)}


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_each_output_has_its_array_dtype_and_range(kind: Format, tmp_path: Path) -> None:
    job, output = TwoTasks(tmp_path, *NETWORKS[kind]), f"out.{SUFFIX[kind]}/both"
    roi = ("--roi", "[30:350,20:180,10:170]")
    told = predict(*job.arguments(output, "--format", kind, *DTYPES, *roi, "--workers", "2"))
    assert "affs: 0.00% of the values were outside 0..1 and were clipped." in told
    job.check(output, Roi((3, 2, 1), (32, 16, 16)))
    array = open_output(job.array(output, "affs"))
    assert array.channel_names == tuple("aff_" + "_".join(map(str, o)) for o in NEIGHBORHOOD)
    assert open_output(job.array(output, "lsds")).channel_names == ("lsds_0", "lsds_1")
    record = read_attributes(job.array(output, "lsds"))[ATTRIBUTE]
    assert (record["output_dtype"], record["output_range"]) == ("float32", None)
    assert (record["complete"], record["values"]) == (True, 2 * 32 * 16 * 16)
    for path in (str(job.folder / output), job.array(output, "lsds")):
        report = predict("verify", path, "--sample", "1")
        assert "2 blocks: 2 complete." in report
        assert "1 blocks were computed again" in report
    if kind == "zarr3":
        ome = json.loads((job.folder / output / "zarr.json").read_text())["attributes"]["ome"]
        assert {entry["name"] for entry in ome["multiscales"]} == {"affs", "lsds"}


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_run_leave_no_gap(
    job: TwoTasks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, SLOW)
        process = subprocess.Popen(
            command(*job.arguments("out.zarr/k", *DTYPES, "--workers", "2")),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        until(lambda: blocks_done(job.run_dir("out.zarr/k")) >= 2)
        processes_of(job.run_dir("out.zarr/k"))[0].kill()
        done = blocks_done(job.run_dir("out.zarr/k"))
        until(lambda: blocks_done(job.run_dir("out.zarr/k")) > done)
        process.kill()
        process.communicate()
    assert blocks_done(job.run_dir("out.zarr/k")) < 27
    assert "Resuming" in predict(*job.arguments("out.zarr/k", *DTYPES))
    job.check("out.zarr/k", Roi((0, 0, 0), SIZE))


def test_a_block_counts_as_done_only_with_all_its_arrays(job: TwoTasks) -> None:
    run = job.arguments("out.zarr/b", *DTYPES, *SMALL)
    predict(*run)
    (job.folder / "out.zarr/b/lsds/c/0/1/0/0").unlink()
    report = predict("verify", job.folder / "out.zarr/b", code=1)
    assert "2 blocks: 1 complete, 1 damaged." in report
    assert "lsds: a chunk is not stored" in report
    predict("verify", job.array("out.zarr/b", "affs"), "--repair", code=1)
    assert "Resuming: 1 of 2 blocks are done" in predict(*run)
    job.check("out.zarr/b", SMALL_ROI)
    # Without the ledger, only blocks with all their arrays are found again.
    (ledger,) = job.run_dir("out.zarr/b").glob("blocks-*.npy")
    ledger.unlink()
    (job.folder / "out.zarr/b/affs/c/0/0/0/0").unlink()
    report = predict("verify", job.folder / "out.zarr/b", "--repair", code=1)
    assert "2 blocks: 1 complete, 1 missing." in report
    predict(*run)
    job.check("out.zarr/b", SMALL_ROI)
    # An array that is gone is not made again behind finished blocks.
    shutil.rmtree(job.array("out.zarr/b", "lsds"))
    assert f"{job.array('out.zarr/b', 'lsds')} is gone" in predict(*run, code=2)


def test_overwrite_deletes_the_runs_arrays_and_nothing_else(job: TwoTasks) -> None:
    predict(*job.arguments("out.zarr/o", *DTYPES, *SMALL))
    mine = zarr.create_array(job.folder / "out.zarr/o/mine", shape=(2, 2), dtype="u1")
    mine[...] = 7
    told = predict(*job.arguments("out.zarr/o", *SMALL), code=2)
    assert "output dtype: was {'affs': 'uint8', 'lsds': 'float32'}, is now {" in told
    told = predict(*job.arguments("out.zarr/o", *SMALL, "--overwrite"))
    for name in ("affs", "lsds"):
        assert f"--overwrite: deleting the array {job.array('out.zarr/o', name)}" in told
    assert (mine[...] == 7).all()
    assert open_output(job.array("out.zarr/o", "affs")).dtype == np.float32
    job.check("out.zarr/o", SMALL_ROI)


def test_an_extension_grows_all_arrays(job: TwoTasks) -> None:
    predict(*job.arguments("out.zarr/e", *DTYPES, "--roi", "[160:320,:160,:160]"))
    told = predict(*job.arguments("out.zarr/e", *DTYPES, "--roi", "[:320,:160,:330]"))
    assert "1 finished blocks are kept" in told
    job.check("out.zarr/e", Roi((0, 0, 0), (32, 16, 33)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--output-dtype", "affs=uint8,mito=uint8"),
            "--output-dtype mito: {weights} has no such output; its outputs are affs, lsds.",
        ),
        (("--output-range", "mito=0,1"), "output_range is only for integer outputs"),
        (
            ("--output-dtype", "affs=uint8,affs=uint16"),
            "--output-dtype 'affs=uint8,affs=uint16': an output is named twice.",
        ),
        (("--output-dtype", "affs=int64"), "Input should be 'uint8', 'int8', 'uint16'"),
        (
            ("--output-dtype", "lsds=uint8", "--output-range", "affs=0,1"),
            "output_range is only for integer outputs, but output_dtype of affs is float32",
        ),
    ],
)
def test_mistakes_name_the_output(options: tuple[str, ...], message: str, job: TwoTasks) -> None:
    told = predict(*job.arguments("out.zarr/m", *options), code=2)
    assert message.format(weights=job.folder / "weights.pt") in told
    assert not (job.folder / "out.zarr").exists()


def test_one_value_is_for_all_outputs_and_activations_bound_integers(job: TwoTasks) -> None:
    told = predict("plan", *job.arguments("out.zarr/p", "--output-dtype", "int8", *SMALL)[1:])
    page = " ".join(told.split())
    assert f" output {job.array('out.zarr/p', 'affs')}: zarr3, 3 channels " in page
    assert f" output {job.array('out.zarr/p', 'lsds')}: zarr3, 2 channels " in page
    assert " output values int8 spanning 0..1 " in page
    assert " output values int8 spanning -1..1 " in page
    assert " bytes out 40 KiB " in page


def test_in_memory_each_output_is_a_prediction(job: TwoTasks) -> None:
    model = bp.open_checkpoint(
        job.folder / "weights.pt", architecture=job.folder / "architecture.yaml"
    )
    assert [output.name for output in model.outputs] == ["affs", "lsds"]
    given: dict[str, Any] = {
        **{"voxel_size": (10, 10, 10), "roi": SMALL[1]},
        **{"device": "cpu", "precision": "float32", "progress": False},
    }
    with pytest.raises(bp.ConfigError, match="has the outputs affs, lsds: use predict_outputs"):
        bp.predict(model, job.raw, **given)
    found = bp.predict_outputs(model, job.raw, output_dtype={"affs": "uint8"}, **given)
    assert {name: each.channel_names[0] for name, each in found.items()} == {
        "affs": "aff_1_0_0",
        "lsds": "lsds_0",
    }
    np.testing.assert_allclose(
        found["affs"].data / 255, job.expected("affs", SMALL_ROI), rtol=0, atol=HALF_STEP
    )
    np.testing.assert_allclose(
        found["lsds"].data, job.expected("lsds", SMALL_ROI), rtol=0, atol=1e-5
    )


def test_a_run_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    job = Job(tmp_path)
    predict(*job.arguments("r", *ONE_BLOCK))
    file = job.run_dir("r") / "plan.json"
    plan = json.loads(file.read_text())
    (array,) = plan["output"].pop("arrays")
    plan["output"] |= {"dtype": array["dtype"], "value_range": array["value_range"]}
    file.write_text(json.dumps(plan))
    predict("verify", job.output("r"), "--sample", "1")
    told = predict(*job.arguments("r", *SMALL))
    assert "1 finished blocks are kept" in told
    assert "2 complete" in predict("verify", job.output("r"), "--sample", "2")
