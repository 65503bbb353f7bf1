"""Opening the input that a plan names. Imports no torch: reports and viewers read it as well."""

from __future__ import annotations

from blockwise_predict.geometry.grid import exact_lengths
from blockwise_predict.io import BlockSource, ResampledArray, open_input
from blockwise_predict.plan.model import Plan


def open_planned(plan: Plan, *, cache_bytes: int = 0) -> BlockSource:
    """Open the input that a plan names, resampled if it is to be; see `open_input`."""
    source = plan.input
    array = open_input(
        source.path,
        voxel_size=source.stored_voxel_size,
        offset=exact_lengths(source.offset),
        cache_bytes=cache_bytes,
    )
    if source.resampled_from is None:
        return array
    return ResampledArray(array, exact_lengths(source.voxel_size))
