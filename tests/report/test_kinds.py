"""Reports of outputs of all kinds: 2-D, with time, several arrays, labels, of earlier versions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.io import open_output
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import State, read_records, records_of
from blockwise_predict.records.ledger_file import record_dtype
from blockwise_predict.report.make import ReportMaker
from blockwise_predict.report.maps import Map, state_maps
from blockwise_predict.report.record import read_run
from tests.support.invented import Invented, invented_run
from tests.support.movies import write_movie
from tests.support.networks import save_network
from tests.support.pages import Page
from tests.support.runs import tiny_config, write_volume

BLOCKS = {"chunk_shape": "8,8,8", "block_shape": "8,8,8", "precision": "float32"}


def report(run: Invented) -> Page:
    """The page of a run."""
    maker = ReportMaker(run.run_dir, run.plan, None)
    maker.make()
    page = Page(maker.file.read_text())
    page.check_self_contained()
    return page


def flat_config(folder: Path) -> RunConfig:
    """A run over an image."""
    weights, architecture = save_network(folder, input_shape=[20, 20], downsample_factors=[[2, 2]])
    image = np.random.default_rng(0).integers(0, 256, (40, 36), np.uint8)
    return load_config(
        {
            "checkpoint": str(weights),
            "architecture": str(architecture),
            "input": write_volume(folder / "raw.zarr", image, (4, 4)),
            "output": f"{folder}/out.zarr/prediction",
            "device": "cpu",
            "precision": "float32",
            "block_shape": "16,16",
            "chunk_shape": "16,16",
        }
    )


def movie_config(folder: Path) -> RunConfig:
    """A run over a movie."""
    weights, architecture = save_network(folder)
    movie = np.random.default_rng(0).integers(0, 256, (3, 16, 18, 20), np.uint8)
    return load_config(
        {
            "checkpoint": str(weights),
            "architecture": str(architecture),
            "input": write_movie(folder, "zarr3", movie, "tzyx"),
            "output": f"{folder}/out.zarr/prediction",
            "device": "cpu",
            "precision": "float32",
            "block_shape": "1,8,8,8",
            "chunk_shape": "1,8,8,8",
        }
    )


def test_an_image_has_one_projection_and_one_plane(tmp_path: Path) -> None:
    page = report(invented_run(flat_config(tmp_path)))
    assert page.classes("map") == 2
    assert page.tags.count("img") == 3 * 2
    assert "block 0: [0:64,0:64] nm" in page.text


def test_a_movie_is_also_seen_over_time(tmp_path: Path) -> None:
    page = report(invented_run(movie_config(tmp_path)))
    assert page.classes("map") == 2 * 4
    assert "t ↓, x →" in page.text
    assert page.tags.count("img") == 3 * 3 * 2
    assert "(second, nm, nm, nm)" in page.text


def test_each_array_is_checked_and_shown_beside_raw(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20), split="each", **BLOCKS)
    page = report(invented_run(config))
    assert page.tags.count("img") == 3 * 3 * 3
    for name in ("channel_0", "channel_1"):
        assert f"Seams between blocks of {name}" in page.text


def test_labels_are_coloured_and_may_jump_at_faces(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20), postprocess="argmax", **BLOCKS)
    page = report(invented_run(config))
    assert "Labels are shown in colours" in page.text
    assert "seams at" not in page.text


def test_a_planted_seam_is_named_with_its_block(tmp_path: Path) -> None:
    run = invented_run(tiny_config(tmp_path, (24, 24, 24), output_dtype="float32", **BLOCKS))
    assert "None among those that were sampled." in report(run).text
    output = open_output(run.plan.output.arrays[0].path)
    block = output.read((8, 8, 8), (16, 16, 16))
    output.write((8, 8, 8), block + np.float32(3 * block.std()))
    page = report(run)
    assert "Most suspicious: block 13" in page.text
    assert "values change at its face to block 14 along x" in page.text


@pytest.mark.parametrize("recorded", [False, True])
def test_what_is_not_recorded_is_said(recorded: bool, tmp_path: Path) -> None:
    """Before the first block, and of runs of earlier versions."""
    run = invented_run(tiny_config(tmp_path, (20, 20, 20), **BLOCKS))
    file = run.run_dir.ledger_file(run.plan)
    states = np.full(run.plan.blocks_per_axis, State.DONE if recorded else State.TODO, np.uint8)
    old = np.zeros(states.shape, record_dtype(has_work=False))
    old["state"] = states
    run.run_dir.replace_ledger(run.plan, old if recorded else records_of(states))
    assert file.exists()
    page = report(run)
    assert "The times of blocks are not recorded" in page.text
    assert ("complete" if recorded else "stopped early") in page.text
    assert ("No block has been predicted yet" in page.text) is not recorded


def test_times_that_cannot_be_are_not_recorded(tmp_path: Path) -> None:
    run = invented_run(tiny_config(tmp_path, (20, 20, 20), **BLOCKS))
    records = read_records(run.run_dir.ledger_file(run.plan), run.plan.blocks_per_axis)
    flat = records.reshape(-1)
    flat["ended"][:5] = [1e18, np.nan, np.inf, -np.inf, -1]
    for name in ("took", "read", "compute", "write"):
        flat[name][5:10] = [1e30, np.nan, np.inf, -np.inf, -1]
    run.run_dir.replace_ledger(run.plan, records)
    assert "complete" in report(run).text
    read = read_records(run.run_dir.ledger_file(run.plan), run.plan.blocks_per_axis).reshape(-1)
    assert not read[["ended", "took"]][:5].astype("f8,f8").view("f8").any()
    assert not read["took"][5:10].any()
    assert read["took"][10:].all()


def test_the_maps_of_a_run_have_one_scale(tmp_path: Path) -> None:
    run = invented_run(tiny_config(tmp_path, (40, 30, 20), **BLOCKS))
    yx, zx, zy = (size(one) for one in state_maps(read_run(run.run_dir, run.plan)))
    assert (yx, zx, zy) == ((240, 160), (320, 160), (320, 240))


def size(map_: Map) -> tuple[float, float]:
    """Height and width of a map in pixels."""
    found = re.search(r' width="([\d.]+)" height="([\d.]+)" role', map_.picture)
    assert found is not None
    return float(found[2]), float(found[1])


def test_events_of_strangers_are_text(tmp_path: Path) -> None:
    run = invented_run(tiny_config(tmp_path, (20, 20, 20), **BLOCKS))
    hostile = "<img src=http://x/y onerror=alert(1)>\u202e\x1b[2J"
    events = [
        {"event": "join", "time": 1.0, "worker": 7, "name": hostile, "log": None}
        | {"host": hostile, "device": hostile, "job": hostile},
        {"event": "exit", "time": 2.0, "worker": 7, "how": hostile},
        {"event": "error", "time": 2.0, "worker": 7, "block": 0, "error": hostile}
        | {"traceback": hostile},
        {"event": "error", "time": 2.0, "worker": 7, "block": 1e99, "error": hostile},
        {"event": "warning", "time": 2.0, "text": hostile},
        {"event": "begin", "time": 3.0, "command": hostile},
        {"event": "begin", "time": 4.0, "command": ["no", "text"]},
    ]
    with (run.run_dir.path / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    page = report(run)
    assert page.text.count("<img src=http://x/y onerror=alert(1)>") >= 6
    assert not {"\u202e", "\x1b"} & set(page.text)
    RunDir(run.run_dir.path).check()
