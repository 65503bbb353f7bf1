"""The scene of an output of `predict run`, or of an array."""

from __future__ import annotations

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.kvstore import Json
from blockwise_predict.view.layers import (
    channel_layers,
    mask_layer,
    raw_layer,
    roi_layer,
    state_layer,
)
from blockwise_predict.view.names import unique_names
from blockwise_predict.view.scene import Scene
from blockwise_predict.view.served import ServedImage, serve_image
from blockwise_predict.view.states import is_finished, states_image, status_of
from blockwise_predict.view.subject import Subject
from blockwise_predict.view.windows import sampled_window

# How often the bar is brought up to date: it reads the records of all blocks.
RUN_INTERVAL_S = 2.0
_LAYERS = ("raw", "mask", "blocks", "ROI")


def output_scene(subject: Subject) -> tuple[Scene, list[ServedImage]]:
    """The scene of what is looked at, and the images that it needs."""
    below, above, images = _around(subject)
    names = unique_names((array.name for array in subject.arrays), taken=_LAYERS)
    predicted = [
        serve_image(name, array.image, for_display=True)
        for name, array in zip(names, subject.arrays, strict=True)
    ]
    channels = [
        layer
        for image, array in zip(predicted, subject.arrays, strict=True)
        for layer in channel_layers(image, array.window, labels=array.labels)
    ]
    main = (*predicted, *images)[0]
    begin, end = _box(main)
    roi = [roi_layer(main, begin, end)] if predicted else []
    run = subject.run
    scene = Scene(
        title=subject.path.rstrip("/"),
        image=main,
        # Those further down the list are drawn over the others.
        layers=[*below, *channels, *roi, *above],
        begin=begin,
        end=end,
        status=lambda: {"facts": []} if run is None else status_of(run),
        interval_s=RUN_INTERVAL_S,
        changing=[*names, "blocks"],
        selected=channels[0]["name"] if channels else None,
    )
    return scene, [*images, *predicted]


def _around(subject: Subject) -> tuple[list[Json], list[Json], list[ServedImage]]:
    """The layers below predictions (raw data) and above them (mask, states), and their images."""
    below: list[Json] = []
    above: list[Json] = []
    images: list[ServedImage] = []
    if subject.raw is not None:
        images.append(serve_image("raw", subject.raw, for_display=True))
        below.append(raw_layer(images[-1], sampled_window(subject.raw)))
    if subject.mask is not None:
        images.append(serve_image("mask", subject.mask, for_display=True))
        above.append(mask_layer(images[-1]))
    if subject.run is not None:
        images.append(states_image(subject.run))
        above.append(state_layer(images[-1], visible=not is_finished(subject.run)))
    return below, above, images


def _box(image: ServedImage) -> tuple[Lengths, Lengths]:
    first = image.levels[0]
    sizes = zip(image.offset, first.shape, first.voxel_size, strict=True)
    return image.offset, tuple(begin + count * size for begin, count, size in sizes)
