"""From a plan to what does its blocks: network, arrays, and the precision of the run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from funlib.geometry import Coordinate, Roi

from blockwise_predict.block import BlockProcessor
from blockwise_predict.checkpoint import load_checkpoint
from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.passes import Pass, make_pass, predict_tile
from blockwise_predict.engine.precision import PrecisionChoice, choose_precision
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.errors import RunStateError
from blockwise_predict.geometry import exact_lengths
from blockwise_predict.io import InputArray, open_input, open_output
from blockwise_predict.plan import Plan
from blockwise_predict.rundir import RunDir

# Output voxels along an axis of the tile that precisions are tried on.
PROBE_EDGE_2D, PROBE_EDGE_3D = 512, 48


def build_processor(plan: Plan, device: torch.device, run_dir: RunDir) -> BlockProcessor:
    """Load and open what a plan names.

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
    source = open_input(
        config.input,
        voxel_size=exact_lengths(plan.input.voxel_size),
        offset=exact_lengths(plan.input.offset),
    )
    network = model.build()

    def passes(precision: str) -> Pass:
        return make_pass(
            network,
            model.shapes,
            len(plan.block_shape),
            plan.tiling_for(precision).streaming,
            precision,
            plan.normalization,
            device,
        )

    choice = _settled(run_dir, plan, source, passes, device)
    print(f"precision {choice}", flush=True)
    predictor = Predictor(
        passes(choice.precision),
        plan.tiling_for(choice.precision).lattice,
        len(plan.network.channel_names),
        plan.output.encoding,
        plan.output.chunk_shape,
    )
    return BlockProcessor(plan, source, open_output(plan.output.path), predictor)


def _settled(
    run_dir: RunDir,
    plan: Plan,
    source: InputArray,
    passes: Callable[[str], Pass],
    device: torch.device,
) -> PrecisionChoice:
    """The run's precision: given, found by an earlier worker, or found now."""
    if plan.precision != "auto":
        return PrecisionChoice(plan.precision)
    settled = run_dir.precision()
    if settled is not None:
        return settled
    tile = probe_tile(plan)
    raw = read_padded(source, tile, plan.border)

    choice = choose_precision(
        lambda precision: predict_tile(passes(precision), raw), plan.output.encoding, device
    )
    return run_dir.settle_precision(choice)


def probe_tile(plan: Plan) -> Roi:
    """Input of a small pass in the middle of the ROI, to try precisions on."""
    roi = plan.output.roi
    edge = {2: PROBE_EDGE_2D, 3: PROBE_EDGE_3D}[plan.network.dims]
    shape = Coordinate(min(edge, size) for size in roi.shape)
    begin = roi.begin + (roi.shape - shape) / 2
    lattice = plan.lattice
    if plan.tiling.streaming is None:
        return lattice.cover(Roi(begin, (1,) * len(shape)))[0].read
    return lattice.cover(Roi(begin, shape))[0].read
