"""Making a plan, in four phases: open the inputs, choose the region, choose the layout, assemble.

Nothing is written, so that `predict plan`, `predict run` and the Python API decide alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from funlib.geometry import Roi

from blockwise_predict.checkpoint import OpaqueModel, TrainedModel, UNetModel, nonfinite_weights
from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.shard_fields import NO_SHARDS
from blockwise_predict.config.steps import step
from blockwise_predict.config.values import BadInput
from blockwise_predict.config.version import __version__
from blockwise_predict.geometry.blending import blending_warning
from blockwise_predict.geometry.grid import format_length
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.resampling import FILTER
from blockwise_predict.geometry.tiling import fixed_tile_warnings, probed_tile_warnings
from blockwise_predict.io import (
    BlockSource,
    InputArray,
    ResampledArray,
    missing_sample,
    sample_digests,
    stored_array,
)
from blockwise_predict.plan.contrast import contrast_once
from blockwise_predict.plan.layout import Layout, choose_layout, memory_notes
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.numbers import Numbers, choose_numbers, sampled_chunks
from blockwise_predict.plan.opened import Opened, open_inputs
from blockwise_predict.plan.outputs import output_format, plan_arrays
from blockwise_predict.plan.parts import (
    EnsembleMember,
    InputPlan,
    NetworkPlan,
    OutputPlan,
    ResampledFrom,
)
from blockwise_predict.plan.pinned import commit_notes, with_commits, with_recorded_commits
from blockwise_predict.plan.region import Region, choose_region, first_lattice
from blockwise_predict.plan.voxel_size import (
    recorded_level,
    resampling_notes,
    voxel_size_warnings,
)


@dataclass(frozen=True)
class Planned:
    """A plan, and what was opened to make it."""

    plan: Plan
    opened: Opened


def make_plan(
    config: RunConfig,
    recorded: Plan | None = None,
    *,
    models: Sequence[TrainedModel] | None = None,
    array: BlockSource | None = None,
) -> Planned:
    """Make the plan of a run from its configuration.

    With the plan `recorded` by an earlier run, sizes that the configuration leaves open stay as
    they were. `models` and `array` are the configuration's checkpoints and input, if they are open
    already. Raises an InputError for anything that does not fit.
    """
    with step("opening checkpoint and input"):
        opened = open_inputs(
            with_recorded_commits(config, recorded),
            models=models,
            array=array,
            level=recorded_level(config, recorded),
        )
    opened = with_commits(opened, config)
    if recorded is not None:
        opened = replace(opened, config=_with_recorded_sizes(opened.config, recorded))
        if config.tile_shape is None and len(recorded.each) == len(opened.models):
            tiles = tuple(each.lattice.tile_shape for each in recorded.each)
            opened = replace(opened, tile_shapes=tiles)
    region = choose_region(opened)
    numbers = choose_numbers(opened, region.roi, recorded)
    with step("choosing blocks and tiles"):
        layout = choose_layout(opened, region)
    if recorded is not None and layout.tiling.lattice == recorded.lattice:
        layout = replace(layout, tiling=recorded.tiling, exact_tiling=recorded.exact_tiling)
    contrast = contrast_once(sampled_chunks(opened, region.roi), region.roi, recorded)
    plan = _assemble(opened, region, layout, numbers, contrast)
    further = _ensemble(opened, region, layout)
    return Planned(plan.model_copy(update={"ensemble": further}), opened)


def _ensemble(opened: Opened, region: Region, layout: Layout) -> tuple[EnsembleMember, ...]:
    """The further networks, with tilings for the blocks of the first."""
    members = []
    for number, each in enumerate(opened.each[1:], 1):
        sizes = {
            "block_shape": layout.block_shape,
            "shard_shape": layout.shard_shape or NO_SHARDS,
        }
        alone = replace(each, config=each.config.model_copy(update=sizes))
        lattice, shards = first_lattice(alone), layout.shard_shape
        own = choose_layout(alone, replace(region, lattice=lattice, shard_shape=shards))
        members.append(
            EnsembleMember(
                network=_network_plan(alone.model, opened.requested_as(number)),
                tiling=own.tiling,
                exact_tiling=own.exact_tiling,
            )
        )
    return tuple(members)


def _with_recorded_sizes(config: RunConfig, recorded: Plan) -> RunConfig:
    sizes = {
        "chunk_shape": recorded.output.chunk_shape,
        "shard_shape": recorded.output.shard_shape or NO_SHARDS,
        "block_shape": recorded.block_shape,
        "tile_shape": recorded.lattice.tile_shape,
    }
    open_sizes = {key: size for key, size in sizes.items() if getattr(config, key) is None}
    # Of the size of shards, nothing is left to choose.
    return config.model_copy(update={**open_sizes, "shard_size": None})


def _assemble(
    opened: Opened, region: Region, layout: Layout, numbers: Numbers, contrast: tuple[str, ...]
) -> Plan:
    config, model, array = opened.config, opened.model, opened.array
    return Plan(
        version=__version__,
        config=config,
        network=_network_plan(model, opened.requested_as(0)),
        input=_input_plan(array),
        output=OutputPlan(
            path=config.output,
            format=output_format(config),
            roi_begin=tuple(region.roi.begin),
            shape=tuple(region.roi.shape),
            chunk_shape=region.chunk_shape,
            shard_shape=layout.shard_shape,
            arrays=plan_arrays(config, model),
        ),
        normalize=numbers.rule,
        normalization=numbers.normalization,
        border=config.border,
        precision=config.precision,
        scale=opened.scale,
        block_shape=layout.block_shape,
        tiling=layout.tiling,
        exact_tiling=layout.exact_tiling,
        notes=(
            *commit_notes(opened),
            *array.placement.notes,
            *resampling_notes(config, array),
            *region.notes,
            *numbers.notes,
            *memory_notes(opened),
        ),
        warnings=(
            *(warning for each in opened.models for warning in nonfinite_weights(each)),
            *voxel_size_warnings(config, opened.models, array),
            *_tile_warnings(opened, region.lattice),
            *layout.warnings,
            *_missing_warnings(opened, layout.tiling.lattice.read_roi(region.roi)),
            *contrast,
        ),
        contrast=contrast,
    )


def _network_plan(model: TrainedModel, requested: str | None) -> NetworkPlan:
    return NetworkPlan(
        checkpoint=model.path,
        run=model.run,
        iteration=model.iteration,
        weights_sha256=model.sha256,
        architecture=model.architecture_dict(),
        head=model.head_dict(),
        activation=model.activation,
        record=dict(model.record),
        cached=model.cached,
        requested=requested,
        channel_names=model.channel_names,
        dims=model.shapes.dims,
        probed=model.probed if isinstance(model, OpaqueModel) else None,
        selected=None if model.selected is None else model.selected.channels,
    )


def _input_plan(array: BlockSource) -> InputPlan:
    placement, stored = array.placement, stored_array(array)
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
        sample_sha256=_digests(array),
        time_unit=placement.time_unit,
        level=stored.level if isinstance(stored, InputArray) else None,
        resampled_from=_resampled_from(array),
    )


def _digests(array: BlockSource) -> dict[str, str]:
    with step("hashing a sample of the input"):
        return sample_digests(array)


def _resampled_from(array: BlockSource) -> ResampledFrom | None:
    if not isinstance(array, ResampledArray):
        return None
    stored = array.source
    return ResampledFrom(
        shape=stored.shape,
        chunk_shape=stored.chunk_shape,
        dtype=str(np.dtype(stored.dtype)),
        voxel_size=tuple(format_length(size) for size in stored.placement.voxel_size),
        filter=FILTER,
    )


def _tile_warnings(opened: Opened, lattice: Lattice) -> list[str]:
    model = opened.model
    if opened.config.blend:
        return [blending_warning(lattice, model.shapes.dims)]
    if isinstance(model, UNetModel):
        return fixed_tile_warnings(model.shapes, lattice)
    return probed_tile_warnings(model.shapes)


def _missing_warnings(opened: Opened, read: Roi) -> Iterator[str]:
    """Warn about chunks of the input that are not stored, and what becomes of them."""
    config, array = opened.config, opened.array
    within = read.intersect(Roi((0,) * len(array.shape), array.shape))
    with step("looking for chunks of the input that are missing"):
        missing, sampled = missing_sample(array, within.begin, within.end)
    if missing:
        yield (
            f"{missing} of {sampled} sampled chunks of {array.path} ({missing / sampled:.0%}) are "
            f"not stored; {_outcome_of_missing(config.bad_input, array)}"
        )


def _outcome_of_missing(rule: BadInput, array: BlockSource) -> str:
    if rule in ("fill-missing", "fill"):
        return (
            f"they are read as the fill value, {array.fill_value}. If the volume is not empty "
            "there, a copy of it was cut short: complete it, or pass --bad-input fail."
        )
    outcome = {"fail": "fail", "skip": "be left out"}[rule]
    return (
        f"blocks that need such chunks will {outcome}. If this volume leaves out empty chunks on "
        "purpose, pass --bad-input fill-missing."
    )
