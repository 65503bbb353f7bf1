"""`omero` of an OME-NGFF group: how viewers label, colour and scale the channels of its image."""

from __future__ import annotations

import colorsys

import numpy as np

from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.spec import OutputSpec


def omero_of(spec: OutputSpec) -> Json:
    """The `omero` of an output: its channel names, colours and windows.

    The window of integers is their type's range, which is what an output's values span; that of
    floats is 0 to 1.
    """
    # Imported here, since that takes a second and the workers do not need it.
    from ome_zarr_models.common.omero import Channel, Omero, Window

    low, high = _window(spec.dtype)
    window = Window(min=low, max=high, start=low, end=high)
    channels = [
        Channel(label=name, color=color, window=window, active=True)
        for name, color in zip(spec.channel_names, colors(spec.channels), strict=True)
    ]
    written: Json = Omero(channels=channels).model_dump(mode="json")
    return written


def colors(count: int) -> list[str]:
    """Colours (RRGGBB) for so many channels: white for one, else hues as far apart as possible.

    Three are red, green and blue, as affinities are usually shown.
    """
    if count == 1:
        return ["FFFFFF"]
    return [_hex(colorsys.hsv_to_rgb(index / count, 1, 1)) for index in range(count)]


def _hex(color: tuple[float, float, float]) -> str:
    return "".join(f"{round(255 * part):02X}" for part in color)


def _window(dtype: str) -> tuple[float, float]:
    if np.dtype(dtype).kind == "f":
        return 0.0, 1.0
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)
