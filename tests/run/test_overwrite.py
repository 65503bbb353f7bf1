"""--overwrite deletes what a run wrote, says what it leaves, and touches nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import boto3
import numpy as np
import pytest
import zarr

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import create_output, delete_output, open_output, output_exists
from blockwise_predict.io.delete import ChunkKeys
from tests.support.arrays import OUTPUT_FORMATS, output_path, output_spec
from tests.support.jobs import Job
from tests.support.runs import predict, read_output, stored_bytes

ONE_BLOCK = ("--roi", "[:160,:160,:160]")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_a_folder_of_the_users_own_is_never_cleared(job: Job) -> None:
    project = job.folder / "project"
    (project / "logs").mkdir(parents=True)
    names = ("plan.json", "config.yaml", "events.jsonl", "identity.json", "lock")
    for name in (*names, "blocks-mine.npy", "logs/worker-0000.log"):
        (project / name).write_text("mine")
    before = contents(project)
    for more in ((), ("--overwrite",)):
        output = predict(*job.arguments("a", *ONE_BLOCK, "--run-dir", project, *more), code=2)
        assert f"{project} is not a run directory, and holds other files: blocks-mine.npy" in output
        assert "--overwrite" not in output
        assert contents(project) == before
    assert not Path(job.output("a")).exists()


def test_what_the_user_put_beside_a_runs_files_stays_and_is_named(job: Job) -> None:
    records = job.folder / "records"
    run = job.arguments("a", *ONE_BLOCK, "--run-dir", records)
    predict(*run)
    expected = stored_bytes(job.output("a"))
    array = Path(job.output("a"))
    mine = {records / "blocks-mine.npy", records / "NOTES.txt", records / "logs" / "notes.txt"}
    mine |= {array / "NOTES.txt", array / "c" / "0" / "notes.txt"}
    for file in mine:
        file.write_text("mine")
    nested = zarr.create_array(array / "nested", shape=(2, 2), dtype="u1")
    nested[...] = 7
    output = predict(*run, "--overwrite")
    assert all(file.read_text() == "mine" for file in mine)
    assert (zarr.open_array(array / "nested", mode="r")[...] == 7).all()
    written = "since no run wrote it"
    assert f"left in {array}, {written}: NOTES.txt, c/0/notes.txt, nested" in output
    assert f"left in {records}, {written}: NOTES.txt, blocks-mine.npy, logs/notes.txt" in output
    chunks = {k: v for k, v in stored_bytes(str(array)).items() if k in expected}
    assert chunks == expected
    predict("verify", array, "--run-dir", records, "--sample", "1")


def test_the_records_of_another_output_stay(job: Job) -> None:
    records = job.folder / "records"
    predict(*job.arguments("a", *ONE_BLOCK, "--run-dir", records))
    before = contents(records)
    run = job.arguments("b", *ONE_BLOCK, "--run-dir", records, "--overwrite")
    output = predict(*run, code=2)
    assert f"{records} holds the records of {job.output('a')}, not of {job.output('b')}" in output
    # The lock was held meanwhile, and given back.
    assert contents(records) == before


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_an_array_is_deleted_and_not_what_is_in_its_folder(kind: str, tmp_path: Path) -> None:
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind)).write((0, 0, 0), np.ones((2, 4, 4, 8), "uint8"))
    chunk = next(p for p in path.rglob("*") if p.is_file() and p.name.isdigit())
    # What a kill leaves of a write; and what looks like a chunk, but is none of this array's.
    chunk.with_name(f"{chunk.name}.__lock").write_text("torn")
    chunk.with_name("77").write_text("mine")
    (path / "NOTES.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "0").mkdir(parents=True)
    (elsewhere / "0" / "0").write_text("mine")
    link = chunk.parents[1] / "1"
    link.symlink_to(elsewhere)
    left = delete_output(path)
    names = ["NOTES.txt", str(chunk.with_name("77").relative_to(path))]
    assert left == sorted([*names, str(link.relative_to(path))])
    assert not output_exists(path)
    assert contents(elsewhere) == {"0/0": b"mine"}
    with pytest.raises(ArrayError, match="holds files that are not part of an array"):
        create_output(output_spec(path, kind))
    assert (
        not create_output(output_spec(path, kind), overwrite=True).read((0, 0, 0), (1,) * 3).any()
    )
    assert (path / "NOTES.txt").read_text() == "mine"


def test_files_that_an_array_would_take_for_its_chunks_are_no_place_for_it(tmp_path: Path) -> None:
    path = output_path(tmp_path, "zarr3")
    (path / "c/0/0/0").mkdir(parents=True)
    (path / "c/0/0/0/1").write_text("mine")
    with pytest.raises(ArrayError, match=r"would take for its chunks, for example c/0/0/0/1"):
        create_output(output_spec(path), overwrite=True)


@pytest.mark.parametrize(
    ("key", "is_chunk"),
    [
        ("c/0/1", True),
        ("c/0/1.__lock", True),
        ("c/0/2", False),
        ("c/0/01", False),
        ("c/0/١", False),
        ("c/0/-1", False),
        ("c/0", False),
        ("c/0/1/0", False),
        ("0/1", False),
    ],
)
def test_keys_of_chunks(key: str, is_chunk: bool) -> None:
    assert ChunkKeys(("c",), (1, 2), "/").holds(key) is is_chunk


def test_an_array_that_is_a_link_is_not_deleted(job: Job) -> None:
    run = job.arguments("a", *ONE_BLOCK)
    predict(*run)
    array, target = Path(job.output("a")), job.folder / "elsewhere"
    array.rename(target)
    array.symlink_to(target)
    before = contents(target)
    output = predict(*run, "--overwrite", code=2)
    assert f"{array} is a symbolic link to {target}" in output
    assert "Traceback" not in output
    assert contents(target) == before
    # It goes on, all the same.
    assert "Resuming: 1 of 1" in predict(*run)


def test_on_an_object_store_too(bucket: str) -> None:
    path = f"{bucket}/out.zarr/group/affs"
    spec = output_spec(path)
    create_output(spec).write((0, 0, 0), np.ones((2, 4, 4, 8), "uint8"))
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    mine = ("out.zarr/group/affs/NOTES.txt", "out.zarr/group/affs/nested/zarr.json")
    for key in mine:
        client.put_object(Bucket="bucket", Key=key, Body=b"{}")
    assert delete_output(path) == ["NOTES.txt", "nested/zarr.json"]

    def keys() -> set[str]:
        listed = client.list_objects_v2(Bucket="bucket", Prefix="out.zarr/group/affs")
        return {entry["Key"] for entry in listed["Contents"]}

    assert keys() == set(mine)
    group = client.get_object(Bucket="bucket", Key="out.zarr/group/zarr.json")
    assert "multiscales" not in json.loads(group["Body"].read())["attributes"].get("ome", {})
    create_output(spec, overwrite=True)
    assert not open_output(path).read((0, 0, 0), (4, 4, 8)).any()
    assert keys() == {*mine, "out.zarr/group/affs/zarr.json"}


@pytest.mark.slow
def test_an_extension_brings_along_what_is_not_its_own(job: Job) -> None:
    array = Path(job.output("e"))
    predict(*job.arguments("e", "--roi", "[160:320,160:320,160:320]"))
    (array / "NOTES.txt").write_text("mine")
    (array / "c" / "notes.txt").write_text("mine")
    predict(*job.arguments("e", "--roi", "[0:320,160:320,160:320]"))
    assert (array / "NOTES.txt").read_text() == (array / "c" / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in array.parent.iterdir()) == ["out", "zarr.json"]
    assert read_output(job.output("e")).any()


@pytest.mark.slow
def test_what_an_extension_set_aside_goes_with_its_array(job: Job) -> None:
    predict(*job.arguments("e", *ONE_BLOCK))
    array = Path(job.output("e"))
    # As if it had been cut off.
    before = array.with_name(".out.before-extension")
    array.rename(before)
    predict(*job.arguments("e", *ONE_BLOCK, "--overwrite"))
    assert not before.exists()


def test_overwrite_says_what_goes_and_starts_afresh(job: Job) -> None:
    roi = ("--roi", "[:160,:160,:160]")
    predict(*job.arguments("o", *roi))
    output = predict(*job.arguments("o", *roi, "--border", "edge", "--overwrite"))
    assert f"deleting the array {job.output('o')}" in output
    assert "deleting the records of 1 finished blocks" in output
