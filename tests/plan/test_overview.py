"""What a plan says of its output, its blocks, and the hours it takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_origin

import numpy as np
import pytest
import torch
import zarr
from pydantic import BaseModel

from blockwise_predict.config.price import Price
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.plan.estimate import Estimate
from blockwise_predict.run.overview import writing
from blockwise_predict.run.overview.document import Overview
from blockwise_predict.run.overview.durations import duration, measured_for
from blockwise_predict.run.overview.page import as_html, as_text, sections_of
from blockwise_predict.run.planned import PlannedRun, plan_run
from blockwise_predict.worker.probe import Probe
from tests.support.runs import completed_run, tiny_config, write_volume
from tests.support.shared import ROOT

PROBE = Probe(PrecisionChoice("float32"), 1e9, 1e8, 1 << 20, torch.device("cpu"))
SMALL = {"chunk_shape": "8,8,8", "block_shape": "16,16,16"}


def planned(folder: Path, **options: object) -> PlannedRun:
    folder.mkdir(exist_ok=True)
    return plan_run(tiny_config(folder, (40, 36, 33), **{**SMALL, **options}))


def planned_over(folder: Path, shape: tuple[int, ...], **options: object) -> PlannedRun:
    """The plan of a run over a volume that is empty, whatever its size."""
    folder.mkdir()
    config = tiny_config(folder, (20, 20, 20), **options)
    path = folder / "empty.zarr"
    array = zarr.create_array(
        str(path), name="raw", shape=shape, chunks=(64,) * 3, dtype="uint8", zarr_format=2
    )
    array.attrs.update(voxel_size=[10] * 3, offset=[0] * 3, axis_names=["z", "y", "x"])
    return plan_run(config.model_copy(update={"input": f"{path}/raw"}))


def keys_of(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The keys of the values in a document, joined by dots."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        parts = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        many = "[]" if get_origin(field.annotation) is tuple else ""
        yield from keys_of(parts[0], f"{above}{name}{many}.") if parts else [above + name]


def test_the_document_has_all_that_is_printed(tmp_path: Path) -> None:
    run = planned(tmp_path, pyramid=True, rois=["[:200,:300,:300]"])
    overview = run.overview(measured_for(run.subject, PROBE, Price(2.5, "USD")))
    read = Overview.model_validate_json(overview.model_dump_json())
    assert read == overview
    assert as_text(read) == as_text(overview)
    page = " ".join(as_text(overview).split())
    assert f" forward passes {overview.cost.passes} " in page
    assert f" files up to {overview.output.files:,} with all levels: " in page
    assert "limited by" in page
    assert "cost (USD)" in page


def test_every_key_is_documented() -> None:
    table = (ROOT / "docs" / "planning.md").read_text()
    assert re.findall(r"^\| `([\w.\[\]]+)` \|", table, re.MULTILINE) == [*keys_of(Overview)]


def test_the_page_fits_into_80_columns(tmp_path: Path) -> None:
    overview = planned(tmp_path).overview()
    # A path is not broken.
    lines = as_text(overview).replace(str(tmp_path), "/volumes").splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line and line[0] != " "] == [
        section.title for section in sections_of(overview)
    ]
    assert "<h4>Blocks</h4>" in as_html(overview)


@pytest.mark.parametrize("options", [{}, {"format": "zarr2"}, {"shard_size": "64KiB"}])
def test_files_and_bytes_are_what_a_complete_output_has(
    options: dict[str, str], tmp_path: Path
) -> None:
    expected = planned(tmp_path / "plan", **options).overview().output
    output = completed_run(tmp_path, (40, 36, 33), **SMALL, **options)
    names = [p.name for p in Path(output).rglob("*") if p.is_file()]
    stored = [name for name in names if re.fullmatch(r"[\d.]+", name)]
    assert len(stored) == expected.files
    assert zarr.open_array(output, mode="r").nbytes == expected.bytes


def test_of_blocks_that_are_left_out_nothing_is_counted(tmp_path: Path) -> None:
    run = planned(tmp_path, shard_shape="none")
    generator = np.random.default_rng(0)
    computed = generator.random(run.plan.blocks_per_axis) < 0.4
    blocks = [block for number, block in enumerate(run.plan.blocks()) if computed.flat[number]]
    found = writing.writing_of(run.plan, computed)
    files = [np.prod([-(-n // 8) for n in block.shape]) for block in blocks]
    assert found.files == sum(files)
    assert found.bytes == sum(block.size for block in blocks) * run.plan.output.voxel_bytes


def test_the_levels_of_a_pyramid_are_counted(tmp_path: Path) -> None:
    output = planned(tmp_path, pyramid=True, shard_shape="none").overview().output
    assert [level.shape_voxels for level in output.levels] == [
        (20, 18, 17),
        (10, 9, 9),
        (5, 5, 5),
    ]
    assert [level.files for level in output.levels] == [27, 8, 1]
    alone = planned(tmp_path / "alone", shard_shape="none").overview().output
    assert output.files == alone.files + 36
    assert output.bytes == alone.bytes + sum(level.bytes for level in output.levels)


def cost(**changes: float) -> Estimate:
    return Estimate(
        **{
            **{"passes": 100, "flops": 3.6e12, "halo_overhead": 1.0, "bytes_in": 10**9},
            **{"bytes_out": 10**9, "read_amplification": 1.0, "exact": True},
            **changes,
        }  # type: ignore[arg-type]
    )


def test_hours_are_those_of_what_limits() -> None:
    # 3600 s of computing, and 10 s of reading.
    rows = [duration(cost(), PROBE, n, blocks=6400, price=Price(2.0)) for n in (1, 8, 64)]
    assert [row.seconds for row in rows] == [3600, 450, 56.25]
    assert [row.worker_hours for row in rows] == [1, 1, 1]
    assert [row.cost for row in rows] == [2, 2, 2]
    assert {row.limited_by for row in rows} == {"computing"}
    assert [row.seconds_shared_reading for row in rows] == [3600, 450, 56.25]
    # 600 s of reading: 64 workers may find that storage is no faster for all of them.
    row = duration(cost(bytes_in=6 * 10**10), PROBE, 64, blocks=6400, price=None)
    assert (row.seconds, row.seconds_shared_reading) == (56.25, 600)
    assert row.worker_hours_shared_reading == pytest.approx(64 / 6)
    assert row.cost is None
    row = duration(cost(bytes_in=10**12), PROBE, 1, blocks=6400, price=None)
    assert (row.seconds, row.limited_by) == (10_000, "reading")
    # Four blocks keep no more than four workers busy.
    row = duration(cost(), PROBE, 64, blocks=4, price=None)
    assert (row.seconds, row.worker_hours, row.limited_by) == (900, 16, "number of blocks")


def warnings_of(run: PlannedRun, about: str) -> list[str]:
    return [warning for warning in run.cautions if about in warning]


def test_an_output_that_the_disk_cannot_hold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path)
    assert not warnings_of(run, "free at")
    small = SimpleNamespace(f_bavail=1, f_frsize=4096, f_files=100, f_favail=3)
    monkeypatch.setattr(os, "statvfs", lambda _: small)
    run = planned(tmp_path / "small")
    (room,) = warnings_of(run, "before compression, and 4 KiB are free at")
    assert "quotas are not looked at" in room
    assert warnings_of(run, "has room for 3 more")


def test_small_files_are_told_with_the_option_that_mends_it(tmp_path: Path) -> None:
    shape = (3000, 3000, 3000)
    many = planned_over(tmp_path / "a", shape, chunk_shape="16,16,16", shard_shape="none")
    (warning,) = warnings_of(many, "files of")
    assert warning.startswith("the output is 6,644,672 files of 31.7 KiB on average")
    assert warning.endswith("Store more chunks in each file: --shard-size 1GB.")
    assert not warnings_of(planned_over(tmp_path / "b", shape, shard_size="1GB"), "files of")
    old = planned_over(tmp_path / "c", shape, chunk_shape="16,16,16", format="zarr2")
    assert "--format zarr3" in warnings_of(old, "files of")[0]


def test_blocks_smaller_than_their_context_are_told(tmp_path: Path) -> None:
    (warning,) = warnings_of(planned(tmp_path, block_shape="16,8,16"), "context")
    assert "blocks of 16 x 8 x 16 voxels are smaller than their context along y: " in warning
    assert "32 x 24 x 32 input voxels are read for each, 12 times its own" in warning
    assert not warnings_of(planned(tmp_path / "even"), "context")
    # Of a ROI that is as small, blocks cannot be larger.
    thin = planned(tmp_path / "thin", block_shape="16,8,16", roi="[:,:80,:]")
    assert not warnings_of(thin, "context")


def test_a_roi_mostly_outside_the_mask_is_told(tmp_path: Path) -> None:
    data = np.zeros((40, 36, 33), np.uint8)
    data[2, 20, 3] = 1
    mask = write_volume(tmp_path / "mask.zarr", data)
    (warning,) = warnings_of(planned(tmp_path / "sparse", mask=mask), "outside the mask")
    assert "3.7% of its blocks are computed" in warning
    assert "These lie in [0:160,160:320,0:160], 9% of the ROI" in warning
    data[:, :, 5:] = 1
    most = write_volume(tmp_path / "other.zarr", data)
    assert not warnings_of(planned(tmp_path / "most", mask=most), "outside the mask")
