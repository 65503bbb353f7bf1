"""Chunks that reach beyond the ROI: what they hold, what they cost, and a ROI that grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from blockwise_predict.engine.memory import PeakMemory
from blockwise_predict.io import create_output
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.opened import reopen
from blockwise_predict.records.output_spec import output_specs
from blockwise_predict.worker.block import BlockProcessor
from blockwise_predict.worker.setup import make_predictor
from tests.support.jobs import Job
from tests.support.runs import predict, read_output, tiny_config

SIZES = ("--chunk-shape", "48,48,48", "--block-shape", "48,48,48")


@pytest.mark.parametrize("format_", ["zarr3", "zarr2"])
def test_chunks_beyond_the_roi_are_valid_and_the_roi_can_be_extended(
    format_: str, tmp_path: Path
) -> None:
    job = Job(tmp_path)
    arguments = job.arguments("c", *SIZES, "--format", format_)
    told = predict(*arguments, "--roi", "[:160,:200,:330]")
    assert (
        "chunks of 48,48,48 voxels reach beyond the ROI, of 16,20,33: they are stored whole, with "
        "zeros there"
    ) in told
    expected = read_output(job.undisturbed())
    array = zarr.open_array(job.output("c"), mode="r")
    assert (array.shape, array.chunks) == ((2, 16, 20, 33), (2, 48, 48, 48))
    np.testing.assert_allclose(array[...], expected[:, :16, :20, :33], atol=1e-5)
    predict(*arguments)
    array = zarr.open_array(job.output("c"), mode="r")
    assert array.chunks == (2, 48, 48, 48)
    np.testing.assert_allclose(array[...], expected, atol=1e-5)


@pytest.mark.parametrize("roi", [(60, 60, 60), (60, 60, 380)])
def test_memory_that_is_planned_is_enough_for_chunks_beyond_the_roi(
    roi: tuple[int, ...], tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, roi, precision="float32", chunk_shape="384,384,384")
    plan = make_plan(config).plan
    (block,) = plan.blocks()
    cpu = torch.device("cpu")
    opened = reopen(plan, cpu)
    targets = [create_output(spec) for spec in output_specs(plan, "predict run")]
    predictor = make_predictor(plan, opened, "float32")
    processor = BlockProcessor(plan, opened.array, targets, predictor)
    peak = PeakMemory(cpu)
    processor.process(block)
    assert peak.bytes() <= plan.tiling.memory_bytes
