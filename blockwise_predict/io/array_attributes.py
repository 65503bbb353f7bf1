"""The attributes that place an output array for its readers."""

from __future__ import annotations

from blockwise_predict.io import funlib, n5, ngff
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.spec import OutputSpec


def array_attributes(spec: OutputSpec) -> Json:
    """The attributes of an array that is to be created, those of its spec included."""
    names = {"channel_names": list(spec.channel_names)}
    if spec.format == "n5":
        shift = ngff.translation(spec.offset, spec.voxel_size, spec.input_voxel_size)
        own = n5.attributes(spec.voxel_size, spec.offset, shift, spec.axes)
    else:
        own = funlib.attributes(spec.voxel_size, spec.offset, spec.axes)
        own |= ngff.direct_attributes(spec.format, spec.axes, spec.voxel_size)
    return {**spec.attributes, **own, **names}
