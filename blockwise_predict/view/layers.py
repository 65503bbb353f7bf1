"""Neuroglancer's layers, as the JSON of its state: raw data, channels, mask, ROI, block states."""

from __future__ import annotations

import re
from collections.abc import Sequence

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.omero import colors
from blockwise_predict.io.timing import seconds_of
from blockwise_predict.records.ledger import State
from blockwise_predict.view import shaders
from blockwise_predict.view.documents import displayed_begin
from blockwise_predict.view.served import ServedImage
from blockwise_predict.view.windows import fitting_window

# The page replaces them by the URL of images, and by that of images that are computed when they are
# read.
ORIGIN, COMPUTED = "{origin}", "{computed}"
# Of more channels only one is drawn at a time.
MAX_LAYERS = 6
_AFFINITY = re.compile(r"aff", re.IGNORECASE)

STATE_COLORS = {
    State.DONE: "#2a9d8f",
    State.FAILED: "#e63946",
    State.FILLED: "#f4a261",
    State.SKIPPED: "#9b5de5",
    State.MASKED: "#6c757d",
    State.EMPTY: "#adb5bd",
    State.OUTSIDE: "#495057",
}


def dimensions(image: ServedImage) -> Json:
    """The axes of the view: nm, and the unit of frames."""
    units = {name: [1e-9, "m"] for name in image.axis_names}
    if image.time_unit is not None:
        seconds = seconds_of(image.time_unit)
        units[image.axis_names[0]] = [1, ""] if seconds is None else [float(seconds), "s"]
    return units


def raw_layer(image: ServedImage, window: tuple[float, float], name: str = "raw") -> Json:
    """Raw data, with a window of values that are black and white; 64-bit integers are labels."""
    if _is_labels(image):
        return _label_layer(image, ORIGIN, name)
    return {
        "type": "image",
        "name": name,
        "source": _source(image),
        "shader": shaders.grayscale(*fitting_window(window, image.dtype)),
        "opacity": 1,
    }


def channel_layers(
    image: ServedImage,
    window: tuple[float, float],
    *,
    labels: bool = False,
    computed: bool = False,
) -> list[Json]:
    """The channels of a prediction: as RGB, one by one, or one of many.

    `window` are the stored values that stand for the ends of the values' range. `labels` tells that
    they are numbers of classes, `computed` that they are computed when they are read.
    """
    root = COMPUTED if computed else ORIGIN
    count, names = image.channels or 1, image.channel_names
    if labels or _is_labels(image):
        return [_label_layer(image, root, image.name)]
    window = fitting_window(window, image.dtype)
    image_layer = {"type": "image", "source": _source(image, root), "opacity": 0.7}
    image_layer |= {"tab": "rendering", "codeVisible": False}
    if count >= 3 and names and all(map(_AFFINITY.match, names)):
        return [{**image_layer, "name": image.name, "shader": shaders.rgb(*window)}]
    if count > MAX_LAYERS:
        return [{**image_layer, "name": image.name, "shader": shaders.chosen_channel(*window)}]
    palette = ["FF3D6E"] if count == 1 else colors(count)
    layers = []
    for channel, color in enumerate(palette):
        own = channel if image.channels else None
        shader = shaders.overlay(*window, channel=own, color=f"#{color.lower()}")
        layers.append({**image_layer, "name": _layer_name(image, channel), "shader": shader})
    return layers


def _is_labels(image: ServedImage) -> bool:
    """Whether values are too many for a range of grays: numbers of segments."""
    return image.dtype.kind == "u" and image.dtype.itemsize == 8


def _label_layer(image: ServedImage, root: str, name: str) -> Json:
    source = _source(image, root, channel="c'")
    layer = {"type": "segmentation", "source": source, "selectedAlpha": 0.5}
    return {**layer, "name": name, "tab": "rendering"}


def _layer_name(image: ServedImage, channel: int) -> str:
    if (image.channels or 1) == 1:
        return image.name
    names = image.channel_names
    return f"{image.name} {names[channel] if channel < len(names) else channel}"


def mask_layer(image: ServedImage) -> Json:
    """A mask, of which all that is not 0 is foreground."""
    shader = shaders.overlay(0, 1, channel=None, color="#3a86ff")
    return {
        "type": "image",
        "name": "mask",
        "source": _source(image),
        "shader": shader,
        "opacity": 0.35,
        "visible": False,
    }


def roi_layer(image: ServedImage, begin: Lengths, end: Lengths) -> Json:
    """The box from `begin` to `end` (nm), on the axes of an image."""
    box = {
        "type": "axis_aligned_bounding_box",
        "id": "roi",
        "description": "ROI",
        "pointA": [float(corner) for corner in begin],
        "pointB": [float(corner) for corner in end],
    }
    space = {"outputDimensions": dimensions(image)}
    return {
        "type": "annotation",
        "name": "ROI",
        "source": {"url": "local://annotations", "transform": space},
        "annotations": [box],
        "annotationColor": "#ffd60a",
    }


def state_layer(image: ServedImage, *, visible: bool) -> Json:
    """The states of blocks: a colour for each, and its name under the cursor."""
    return {
        "type": "segmentation",
        "name": "blocks",
        "source": [_source(image), {"url": f"{ORIGIN}/states/|neuroglancer-precomputed:"}],
        "segments": [str(int(state)) for state in STATE_COLORS],
        "segmentColors": {str(int(state)): color for state, color in STATE_COLORS.items()},
        "selectedAlpha": 0.3,
        "visible": visible,
    }


def state_names() -> Json:
    """The names of the states of blocks, as neuroglancer reads the labels of segments."""
    labels = {
        "id": "label",
        "type": "label",
        "values": [state.name.lower() for state in STATE_COLORS],
    }
    inline = {"ids": [str(int(state)) for state in STATE_COLORS], "properties": [labels]}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}


def _source(image: ServedImage, root: str = ORIGIN, *, channel: str = "c^") -> Json:
    """The URL of an image, and the transform that puts its begin corner where it is in the world.

    Its channels are those of each voxel, which shaders see all at once, unless `channel` names
    another kind of axis.
    """
    axes = {channel: [1, ""], **dimensions(image)}
    names = image.stored(channel, image.axis_names)
    found = displayed_begin(image)
    wanted: Sequence[float] = image.stored(0, [float(corner) for corner in image.offset])
    rank = len(names)
    matrix = [
        [*(float(row == column) for column in range(rank)), wanted[row] - found[row]]
        for row in range(rank)
    ]
    return {
        "url": f"{root}/data/{image.name}/|zarr3:",
        "transform": {"matrix": matrix, "outputDimensions": {name: axes[name] for name in names}},
    }
