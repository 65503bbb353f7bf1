"""`omero` of an OME-NGFF group: how viewers label, colour and scale the channels of its image.

https://ngff.openmicroscopy.org/0.4/#omero-md: `channels` is a list with a `window` for each, of
which `start` and `end` are shown as black and white; `min` and `max` only bound what can be chosen.
"""

from __future__ import annotations

import colorsys
from math import isfinite

import numpy as np

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.io.formats import find_array, groups_above
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.ngff import multiscales_of
from blockwise_predict.io.spec import OutputSpec

# A list that is longer is not one of channels.
_MAX_CHANNELS = 10_000


def omero_of(spec: OutputSpec) -> Json:
    """The `omero` of an output: its channel names, colours and windows.

    The window is the spec's, if it has one. Otherwise that of integers is their type's range, which
    is what an output's values span, and that of floats is 0 to 1.
    """
    # Imported here, since that takes a second and the workers do not need it.
    from ome_zarr_models.common.omero import Channel, Omero, Window

    low, high = spec.window or _window(spec.dtype)
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


def display_windows(path: str) -> list[tuple[float, float]]:
    """Start and end of the window of each channel of the image that an array belongs to.

    Raises ArrayError if the nearest OME-NGFF group above the array has no such windows.
    """
    location = find_array(path).location
    for group in groups_above(location):
        if not multiscales_of(group.attributes)[1]:
            continue
        inner = group.attributes.get("ome")
        omero = (inner if isinstance(inner, dict) else group.attributes).get("omero")
        channels = omero.get("channels") if isinstance(omero, dict) else None
        where = f"omero.channels of {group.attributes_name}"
        if not isinstance(channels, list) or not 0 < len(channels) <= _MAX_CHANNELS:
            raise ArrayError(f"{where}: there is no list of channels with their windows.")
        return [_start_and_end(channel, f"{where}[{n}]") for n, channel in enumerate(channels)]
    raise ArrayError(f"{location} is not in an OME-NGFF group, whose omero metadata has windows.")


def _start_and_end(channel: object, where: str) -> tuple[float, float]:
    window = channel.get("window") if isinstance(channel, dict) else None
    found = [window.get(key) for key in ("start", "end")] if isinstance(window, dict) else []
    numbers = [
        float(value)
        for value in found
        if isinstance(value, (int, float)) and abs(value) < 1e30 and isfinite(value)
    ]
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ArrayError(f"{where}.window {shown(window)} has no start below its end.")
    return numbers[0], numbers[1]
