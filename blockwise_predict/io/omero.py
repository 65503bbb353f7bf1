"""The windows of values that viewers show, in the `omero` metadata of OME-NGFF, up to 0.5.

https://ngff.openmicroscopy.org/0.4/#omero-md: `channels` is a list with a `window` for each, of
which `start` and `end` are shown as black and white; `min` and `max` only bound what can be chosen.
"""

from __future__ import annotations

from math import isfinite

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.io.formats import find_array, groups_above
from blockwise_predict.io.ngff import multiscales_of

# A list that is longer is not one of channels.
_MAX_CHANNELS = 10_000


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
        return [_window(channel, f"{where}[{n}]") for n, channel in enumerate(channels)]
    raise ArrayError(f"{location} is not in an OME-NGFF group, whose omero metadata has windows.")


def _window(channel: object, where: str) -> tuple[float, float]:
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
