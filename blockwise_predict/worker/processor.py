"""From a plan to what does its blocks: network, arrays, and the precision of the run."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from funlib.geometry import Coordinate, Roi
from torch import nn

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.checkpoint import load_checkpoint
from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.passes import Pass, make_pass, predict_tile
from blockwise_predict.engine.precision import choose_precision, faster_precisions
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.geometry.grid import exact_lengths
from blockwise_predict.io import CheckedInput, InputArray, open_input, open_output
from blockwise_predict.plan.model import Plan
from blockwise_predict.records import RunDir
from blockwise_predict.worker.block import BlockProcessor

_log = logging.getLogger(__name__)

# Output voxels along an axis of the tile that precisions are tried on.
TRIAL_EDGE_2D, TRIAL_EDGE_3D = 512, 48


@dataclass(frozen=True)
class Parts:
    """What a plan names, loaded and opened."""

    plan: Plan
    network: nn.Module
    shapes: UNetShapes
    source: InputArray
    device: torch.device

    def make_pass(self, precision: str) -> Pass:
        """The network at a precision, over tiles of the plan."""
        plan = self.plan
        return make_pass(
            self.network,
            self.shapes,
            len(plan.block_shape),
            plan.tiling_for(precision).streaming,
            precision,
            plan.normalization,
            self.device,
        )

    def predictor(self, precision: str) -> Predictor:
        """What predicts the plan's blocks."""
        plan = self.plan
        return Predictor(
            self.make_pass(precision),
            plan.tiling_for(precision).lattice,
            len(plan.network.channel_names),
            plan.output.encoding,
            plan.output.chunk_shape,
        )

    def choose_precision(self) -> PrecisionChoice:
        """The precision that is given, or the one that `auto` finds on a tile of the input."""
        if self.plan.precision != "auto":
            return PrecisionChoice(self.plan.precision)
        # Here a damaged chunk is no matter: a block that needs it is told of it.
        source = CheckedInput(self.source, "fill")
        raw = read_padded(source, trial_tile(self.plan), self.plan.border)
        return choose_precision(
            lambda precision: predict_tile(self.make_pass(precision), raw),
            self.plan.output.encoding,
            faster_precisions(self.device, self.shapes, self.plan.tiling.streaming is not None),
        )


def open_parts(plan: Plan, device: torch.device) -> Parts:
    """Load the network and open the input.

    Raises RunStateError if the weights have changed since the plan was made, and an InputError if
    something cannot be opened any more.
    """
    config = plan.config
    model = load_checkpoint(
        config.checkpoint,
        iteration=plan.network.iteration,
        architecture=config.architecture,
        unsafe=config.unsafe_load_pickle,
    )
    if model.sha256 != plan.network.weights_sha256:
        raise RunStateError(
            f"{model.path} has changed since the run began: its weights' sha256 was "
            f"{plan.network.weights_sha256}, is now {model.sha256}."
        )
    return Parts(plan, model.build(), model.shapes, open_source(plan), device)


def open_source(plan: Plan) -> InputArray:
    """The plan's input. Raises ArrayError if it cannot be opened any more."""
    return open_input(
        plan.input.path,
        voxel_size=exact_lengths(plan.input.voxel_size),
        offset=exact_lengths(plan.input.offset),
        cache_bytes=plan.tiling.cache_bytes,
    )


def build_processor(plan: Plan, device: torch.device, run_dir: RunDir) -> BlockProcessor:
    """Load and open what a plan names, and settle the run's precision. Raises as `open_parts`."""
    parts = open_parts(plan, device)
    choice = run_dir.precision() or parts.choose_precision()
    if plan.precision == "auto":
        # Another worker may have been faster; then it is that one's.
        choice = run_dir.settle_precision(choice)
    _log.info("computing on %s, precision %s", device, choice)
    target = open_output(plan.output.path)
    return BlockProcessor(plan, parts.source, target, parts.predictor(choice.precision))


def trial_tile(plan: Plan) -> Roi:
    """Input of a small pass in the middle of the ROI, to try precisions on."""
    roi = plan.output.roi
    edge = {2: TRIAL_EDGE_2D, 3: TRIAL_EDGE_3D}[plan.network.dims]
    shape = Coordinate(min(edge, size) for size in roi.shape)
    begin = roi.begin + (roi.shape - shape) / 2
    lattice = plan.lattice
    if plan.tiling.streaming is None:
        return next(lattice.cover(Roi(begin, (1,) * len(shape)))).read
    return next(lattice.cover(Roi(begin, shape))).read
