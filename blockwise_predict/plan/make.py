"""Making a plan, in four phases: open the inputs, choose the region, choose the layout, assemble.

Nothing is written, so that `predict plan`, `predict run` and the Python API decide alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from funlib.geometry import Roi

from blockwise_predict.checkpoint import OpaqueModel, TrainedModel, UNetModel, nonfinite_weights
from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.values import Format
from blockwise_predict.config.version import __version__
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.grid import format_length
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import fixed_tile_warnings, probed_tile_warnings
from blockwise_predict.io import BlockSource, guess_format, missing_sample, sample_digests
from blockwise_predict.plan.layout import Layout, choose_layout, memory_notes
from blockwise_predict.plan.model import InputPlan, NetworkPlan, OutputPlan, Plan
from blockwise_predict.plan.opened import Opened, open_inputs
from blockwise_predict.plan.region import Region, choose_region


@dataclass(frozen=True)
class Planned:
    """A plan, and what was opened to make it."""

    plan: Plan
    opened: Opened


def make_plan(
    config: RunConfig,
    recorded: Plan | None = None,
    *,
    model: TrainedModel | None = None,
    array: BlockSource | None = None,
) -> Planned:
    """Make the plan of a run from its configuration.

    With the plan `recorded` by an earlier run, sizes that the configuration leaves open stay as
    they were. `model` and `array` are the configuration's checkpoint and input, if they are open
    already. Raises an InputError for anything that does not fit.
    """
    opened = open_inputs(config, model=model, array=array)
    if recorded is not None:
        opened = replace(opened, config=_with_recorded_sizes(config, recorded))
    region = choose_region(opened)
    layout = choose_layout(opened, region)
    if recorded is not None and layout.tiling.lattice == recorded.lattice:
        layout = replace(layout, tiling=recorded.tiling, exact_tiling=recorded.exact_tiling)
    return Planned(_assemble(opened, region, layout), opened)


def _with_recorded_sizes(config: RunConfig, recorded: Plan) -> RunConfig:
    sizes = {
        "chunk_shape": recorded.output.chunk_shape,
        "block_shape": recorded.block_shape,
        "tile_shape": recorded.lattice.tile_shape,
    }
    return config.model_copy(
        update={key: size for key, size in sizes.items() if getattr(config, key) is None}
    )


def _assemble(opened: Opened, region: Region, layout: Layout) -> Plan:
    config, model, array = opened.config, opened.model, opened.array
    return Plan(
        version=__version__,
        config=config,
        network=_network_plan(model),
        input=_input_plan(array),
        output=OutputPlan(
            path=config.output,
            format=output_format(config),
            roi_begin=tuple(region.roi.begin),
            shape=tuple(region.roi.shape),
            chunk_shape=region.chunk_shape,
            dtype=config.output_dtype,
            value_range=_value_range(config, model),
        ),
        normalization=Normalization.parse(config.normalize, array.storage.dtype),
        border=config.border,
        precision=config.precision,
        scale=opened.scale,
        block_shape=layout.block_shape,
        tiling=layout.tiling,
        exact_tiling=layout.exact_tiling,
        notes=(*array.placement.notes, *region.notes, *memory_notes(opened)),
        warnings=(
            *nonfinite_weights(model),
            *_tile_warnings(model, region.lattice),
            *layout.warnings,
            *_missing_warnings(opened, layout.tiling.lattice.read_roi(region.roi)),
        ),
    )


def output_format(config: RunConfig) -> Format:
    """The format of the output: as configured, else that of its container, else zarr 3."""
    return config.format or guess_format(config.output) or "zarr3"


def _network_plan(model: TrainedModel) -> NetworkPlan:
    return NetworkPlan(
        checkpoint=model.path,
        run=model.run,
        iteration=model.iteration,
        weights_sha256=model.sha256,
        architecture=model.architecture_dict(),
        head=model.head_dict(),
        channel_names=model.channel_names,
        dims=model.shapes.dims,
        probed=model.probed if isinstance(model, OpaqueModel) else None,
    )


def _input_plan(array: BlockSource) -> InputPlan:
    placement = array.placement
    return InputPlan(
        path=array.path,
        format=array.format,
        shape=array.shape,
        channels=array.channels,
        dtype=str(np.dtype(array.dtype)),
        chunk_shape=array.chunk_shape,
        axis_names=placement.axis_names,
        voxel_size=tuple(format_length(size) for size in placement.voxel_size),
        offset=tuple(format_length(offset) for offset in placement.offset),
        voxel_size_source=placement.voxel_size_source,
        offset_source=placement.offset_source,
        metadata_sha256=array.metadata_sha256,
        sample_sha256=sample_digests(array),
    )


def _value_range(config: RunConfig, model: TrainedModel) -> tuple[float, float] | None:
    """The range of values that an integer output spans; None for floating-point outputs."""
    if config.output_dtype.startswith("float"):
        return None
    value_range = config.output_range or model.output_range
    if value_range is None:
        raise ConfigError(
            f"--output-dtype {config.output_dtype} needs --output-range LOW,HIGH: nothing in "
            f"{model.path} bounds the network's output."
        )
    return value_range


def _tile_warnings(model: TrainedModel, lattice: Lattice) -> list[str]:
    if isinstance(model, UNetModel):
        return fixed_tile_warnings(model.shapes, lattice)
    return probed_tile_warnings(model.shapes)


def _missing_warnings(opened: Opened, read: Roi) -> Iterator[str]:
    """Warn about blocks that will fail or be skipped because their input is not stored."""
    config, array = opened.config, opened.array
    if config.bad_input not in ("fail", "skip"):
        return
    within = read.intersect(Roi((0,) * len(array.shape), array.shape))
    missing, sampled = missing_sample(array, within.begin, within.end)
    if missing:
        outcome = {"fail": "fail", "skip": "be left out"}[config.bad_input]
        yield (
            f"{missing} of {sampled} sampled chunks of {array.path} are not stored; "
            f"blocks that need such chunks will {outcome}. If this volume leaves out empty chunks "
            "on purpose, pass --bad-input fill-missing."
        )
