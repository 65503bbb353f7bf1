"""Where a run's records go, and what is said when they cannot go there."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise_predict.errors import RunFailedError
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.records import RunDir, default_run_dir
from tests.support.disks import fill, small_disk
from tests.support.forked import predict_forked
from tests.support.jobs import Job
from tests.support.runs import PATIENCE_S, predict

ONE_BLOCK = ("--roi", "[:160,:160,:160]")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user or mount")


def test_the_simple_case_has_a_simple_name() -> None:
    assert default_run_dir("/d/c.zarr/affs") == Path("/d/c.zarr.predict-run/affs")
    assert default_run_dir("/d/c.n5/s.0") == Path("/d/c.n5.predict-run/s.0")


PART = st.text(st.sampled_from("ab.~1-"), min_size=1, max_size=4).filter(
    lambda part: part not in (".", "..")
)


@given(
    st.sampled_from([".zarr", ".n5", ".ZARR", ".Zarr", ".N5"]),
    st.lists(st.lists(PART, min_size=1), min_size=2),
)
def test_each_output_has_a_run_directory_of_its_own_outside_its_container(
    suffix: str, outputs: list[list[str]]
) -> None:
    container = Path(f"/d/c{suffix}")
    found = {}
    for parts in outputs:
        run_dir = default_run_dir(str(container.joinpath(*parts)))
        assert container not in run_dir.parents
        assert run_dir.parent == Path(f"/d/c{suffix}.predict-run")
        found[run_dir] = {*found.get(run_dir, set()), tuple(parts)}
    assert all(len(same) == 1 for same in found.values())


def test_a_container_within_one_is_not_beside_itself() -> None:
    assert default_run_dir("/d/O.ZARR/in.zarr/a") == Path("/d/O.ZARR.predict-run/in.zarr~1a")


def refused(job: Job, run_dir: Path, reason: str) -> None:
    """A run says that it cannot use a run directory, before anything is begun."""
    output = predict(*job.arguments("r", *ONE_BLOCK, "--run-dir", run_dir), code=2)
    assert f"the run directory {run_dir} cannot be used: {reason} (" in output
    assert "or name another one with --run-dir." in output
    assert not Path(job.output("r")).exists()


def test_a_file_is_in_the_way(job: Job) -> None:
    (job.folder / "file").write_text("mine")
    refused(job, job.folder / "file", "Not a directory")
    refused(job, job.folder / "file" / "below", "Not a directory")
    assert (job.folder / "file").read_text() == "mine"


def test_a_name_that_is_too_long(job: Job) -> None:
    run_dir = job.folder / ("x" * 300)
    output = predict(*job.arguments("r", *ONE_BLOCK, "--run-dir", run_dir), code=2)
    assert "xxx': a path may have at most 4000 bytes, and each name in it 255." in output
    assert not Path(job.output("r")).exists()
    output = predict("verify", job.input, "--run-dir", run_dir, code=2)
    assert "xxx': a path may have at most 4000 bytes, and each name in it 255." in output


@as_root
def test_a_folder_that_is_not_the_users_to_write() -> None:
    # Root may write anywhere; the folders of pytest are closed to others.
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        open_job = Job(folder)
        arguments = open_job.arguments("r", *ONE_BLOCK, "--run-dir", folder / "records")
        nobody = pwd.getpwnam("nobody").pw_uid
        words = [str(argument) for argument in arguments]
        code, output = predict_forked(words, os.environ, PATIENCE_S, nobody)
        assert code == 2, output
        assert f"the run directory {folder}/records cannot be used: Permission denied" in output
        assert sorted(p.name for p in folder.iterdir()) == [
            *("architecture.yaml", "volume.zarr", "weights.pt")
        ]
    finally:
        shutil.rmtree(folder)


@as_root
def test_a_full_disk(job: Job) -> None:
    with small_disk(job.folder / "disk", "256k") as disk:
        fill(disk / "ballast")
        output = predict(*job.arguments("r", *ONE_BLOCK, "--run-dir", disk / "records"), code=2)
        assert f"the records of 1 blocks take 0.0 MiB on the disk of {disk}/records" in output
        assert not Path(job.output("r")).exists()
        # Nothing is in the way once there is room.
        (disk / "ballast").unlink()
        predict(*job.arguments("r", *ONE_BLOCK, "--run-dir", disk / "records"))


@as_root
def test_a_job_that_cannot_be_written_down_ends_the_run_with_a_message(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        fill(disk / "ballast")
        ballast = (disk / "ballast").read_bytes()
        (disk / "ballast").write_bytes(ballast[:-8192])
        record = JobRecord(RunDir(disk))
        record.begin("slurm", "predict-x", {})
        fill(disk / "more")
        with pytest.raises(
            RunFailedError,
            match=r"be written: .*No space left.*jobs\.json",
        ):
            record.add("12")
        assert record.read() == {"queue": "slurm", "name": "predict-x", "terms": {}, "ids": []}
