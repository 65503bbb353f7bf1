"""Building what processes a plan's blocks: precision, predictor, block processor."""

from __future__ import annotations

import logging

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.mean import MeanPredictor
from blockwise_predict.engine.passes import Pass
from blockwise_predict.engine.precision import choose_precision, faster_precisions
from blockwise_predict.engine.predictor import BlockPredictor, Predictor
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.engine.values import Part
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from blockwise_predict.io import CheckedInput, open_output
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened, reopen
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.records import RunDir
from blockwise_predict.worker.block import BlockProcessor
from blockwise_predict.worker.members import make_members

_log = logging.getLogger(__name__)

# Shape (output voxels) of the tile on which precisions are tried, by the network's dimensions.
TRIAL_SHAPE = {2: (512, 512), 3: (48, 48, 48), 4: (1, 48, 48, 48)}


def build_processor(plan: Plan, device: torch.device, run_dir: RunDir) -> BlockProcessor:
    """Open what a plan names, and settle the run's precision if it is still open.

    Raises the errors of `reopen`.
    """
    opened = reopen(plan, device)
    choice = run_dir.precision() or decide_precision(plan, opened)
    if plan.precision == "auto":
        # The first worker to settle it decides for all.
        choice = run_dir.settle_precision(choice)
    _log.info("computing on %s, precision %s", device, choice)
    targets = [open_output(array.path) for array in plan.output.arrays]
    predictor = make_predictor(plan, opened, choice.precision)
    return BlockProcessor(plan, opened.array, targets, predictor, reading=reading_of(plan))


def decide_precision(plan: Plan, opened: Opened) -> PrecisionChoice:
    """The configured precision, or the one that `auto` chooses on a tile of the input.

    All networks of an ensemble compute in one precision, which is accurate enough for each of them.
    """
    if plan.precision != "auto":
        return PrecisionChoice(plan.precision)
    # Damaged chunks do not matter here: the blocks that need them will report them.
    source = CheckedInput(opened.array, "fill")
    networks = list(zip(plan.each, opened.each, strict=True))
    tiles = [read_padded(source, trial_tile(own), plan.border) for own, _ in networks]

    def predict(precision: str) -> list[NDArray[np.float32]]:
        passes = (_make_pass(own, alone, precision) for own, alone in networks)
        return [predict_tile(*pair) for pair in zip(passes, tiles, strict=True)]

    return choose_precision(predict, output_parts(plan), _faster(opened))


def _faster(opened: Opened) -> tuple[str, ...]:
    """Precisions that all networks can compute in and that may speed them up, fastest first."""
    first, *others = [_faster_alone(each) for each in opened.each]
    return tuple(p for p in first if all(p in other for other in others))


def _faster_alone(opened: Opened) -> tuple[str, ...]:
    found = faster_precisions(opened.device, opened.streamed_shapes)
    return tuple(p for p in found if p == "tfloat32" or not opened.model.float32_only)


def make_predictor(plan: Plan, opened: Opened, precision: str) -> BlockPredictor:
    """The predictor for the plan's blocks in a precision."""
    if plan.config.is_mean:
        return MeanPredictor(
            make_members(plan, opened, precision),
            parts=output_parts(plan),
            row_shape=plan.output.write_shape,
            device=opened.device,
        )
    return Predictor(
        _make_pass(plan, opened, precision),
        plan.tiling_for(precision).lattice,
        parts=output_parts(plan),
        row_shape=plan.output.write_shape,
    )


def output_parts(plan: Plan) -> list[Part]:
    """The network's channels as the plan stores them."""
    return [Part(len(array.channel_names), array.encoding) for array in plan.output.arrays]


def _make_pass(plan: Plan, opened: Opened, precision: str) -> Pass:
    """A pass of the network in a precision, over tiles of the plan."""
    return make_pass(
        opened.model.build(),
        opened.model.shapes,
        volume_dims=len(plan.block_shape),
        streaming=plan.tiling_for(precision).streaming,
        precision=precision,
        normalization=plan.normalization,
        device=opened.device,
    )


def trial_tile(plan: Plan) -> Roi:
    """Input ROI of a small pass in the middle of the output ROI, for trying precisions."""
    roi = plan.output.roi
    wanted = TRIAL_SHAPE[plan.network.dims]
    wanted = (1,) * (roi.dims - len(wanted)) + wanted
    shape = Coordinate(min(edge, size) for edge, size in zip(wanted, roi.shape, strict=True))
    begin = roi.begin + (roi.shape - shape) / 2
    lattice = plan.lattice
    if plan.tiling.streaming is None:
        return next(lattice.cover(Roi(begin, (1,) * len(shape)))).read
    return next(lattice.cover(Roi(begin, shape))).read
