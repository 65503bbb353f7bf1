"""What a report says and shows of the values of an output, from its sample."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blockwise_predict.io import open_output
from blockwise_predict.plan.planned_input import open_planned
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.quality.check import QualityChecker
from blockwise_predict.report.quality.sample import ArraySampler
from blockwise_predict.report.quality.shown import quality_values
from blockwise_predict.report.quality.slices import Shown, Slicer
from blockwise_predict.report.record import read_run
from tests.support.invented import invented_run
from tests.support.networks import save_network
from tests.support.runs import tiny_config

BLOCKS = {"chunk_shape": "8,8,8", "block_shape": "8,8,8", "precision": "float32"}


def test_windows_without_a_finite_value_count(tmp_path: Path) -> None:
    """Also a channel that has none at all: it is the one to be told of."""
    run = invented_run(tiny_config(tmp_path, (16, 16, 16), output_dtype="float32", **BLOCKS))
    output = open_output(run.plan.output.arrays[0].path)
    values = output.read((0, 0, 0), output.shape)
    values[0, :8] = np.nan
    values[1] = np.inf
    output.write((0, 0, 0), values)
    record = read_run(run.run_dir, run.plan)
    quality = QualityChecker(run.plan, record.grid).check(record.trace, lambda *_: None)
    (array,) = quality.arrays
    part, nothing = (channel.whole for channel in array.channels)
    assert part.nonfinite_share == 0.5
    assert part.mean == pytest.approx(values[0, 8:].mean(), rel=1e-5)
    cells = quality_values(record, quality)["summary_cells"]
    assert cells(nothing) == ["-", "-", "-", "-", "0", "0", "0", "100.00%"]
    assert [len(region.channels) for region in array.regions] == [2] * 8
    assert sum(region.channels[0][1].nonfinite_share for region in array.regions) == 4


def test_raw_is_at_the_scale_of_the_prediction(tmp_path: Path) -> None:
    """Also where the network's voxels are smaller, and one bar stands for both."""
    config = tiny_config(tmp_path, (20, 20, 20), **BLOCKS)
    save_network(tmp_path, upsample_factors=[[2, 2, 2]])
    run = invented_run(config)
    assert run.plan.scale == (2, 2, 2)
    (array,) = run.plan.output.arrays
    shown = [Shown(array, open_output(array.path), 0, 255)]
    slicer = Slicer(run.plan, BlockGrid(run.plan), open_planned(run.plan), shown)
    slices = slicer.slices(0)
    assert len(slices) == 3
    for one in slices:
        raw, prediction = one.pictures
        assert raw.bar == prediction.bar == "10 nm"
        assert (raw.width, raw.height) == (prediction.width, prediction.height)


@pytest.mark.parametrize(
    ("block", "chunk", "window"),
    [
        (512, 128, (288, 352)),
        (128, 128, (32, 96)),
        (96, 96, (16, 80)),
        (80, 16, (0, 64)),
        (256, 32, (96, 160)),
    ],
)
def test_a_window_is_in_the_middle_of_its_block(
    block: int, chunk: int, window: tuple[int, int]
) -> None:
    """Or, of a block of large chunks, of the chunk that holds it, since that is read whole."""
    output: Any = SimpleNamespace(chunk_shape=(chunk,) * 3)
    edges = np.arange(4) * block
    grid: Any = SimpleNamespace(edges=[edges] * 3, index=lambda number: (number,) * 3)
    plan: Any = None
    begin, end = ArraySampler(plan, output, grid).window(1)
    assert set(zip(begin, end, strict=True)) == {(block + window[0], block + window[1])}
