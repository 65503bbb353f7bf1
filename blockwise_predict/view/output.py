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
from blockwise_predict.view.states import progress, states_image
from blockwise_predict.view.subject import Recorded, Subject
from blockwise_predict.view.windows import sampled_window

_LAYERS = ("raw", "mask", "blocks", "ROI")


def output_scene(subject: Subject) -> tuple[Scene, list[ServedImage]]:
    """The scene of what is looked at, and the images that it needs."""
    images: list[ServedImage] = []
    layers: list[Json] = []
    if subject.raw is not None:
        images.append(serve_image("raw", subject.raw, for_display=True))
        layers.append(raw_layer(images[-1], sampled_window(subject.raw)))
    names = unique_names((array.name for array in subject.arrays), taken=_LAYERS)
    predicted = [
        serve_image(name, array.image, for_display=True)
        for name, array in zip(names, subject.arrays, strict=True)
    ]
    images += predicted
    shown = [
        channel_layers(image, array.window, labels=array.labels)
        for image, array in zip(predicted, subject.arrays, strict=True)
    ]
    layers += [layer for of_array in shown for layer in of_array]
    if subject.mask is not None:
        images.append(serve_image("mask", subject.mask, for_display=True))
        layers.append(mask_layer(images[-1]))
    main = predicted[0] if predicted else images[0]
    begin, end = _box(main)
    changing = [image.name for image in predicted]
    if subject.arrays:
        layers.append(roi_layer(main, begin, end))
    if (run := subject.run) is not None:
        images.append(states_image(run))
        counts = progress(run)
        layers.append(state_layer(images[-1], visible=counts["done"] < counts["total"]))
        changing.append(images[-1].name)
    scene = Scene(
        title=subject.path.rstrip("/"),
        image=main,
        layers=layers,
        begin=begin,
        end=end,
        status=lambda: _status(run),
        changing=changing,
        selected=shown[0][0]["name"] if shown else None,
    )
    return scene, images


def _status(run: Recorded | None) -> Json:
    if run is None:
        return {"facts": []}
    counts = progress(run)
    facts = [["blocks", f"{counts['done']} of {counts['total']}"]]
    if counts["failed"]:
        facts.append(["failed", str(counts["failed"])])
    return {"facts": facts, "progress": counts}


def _box(image: ServedImage) -> tuple[Lengths, Lengths]:
    first = image.levels[0]
    sizes = zip(image.offset, first.shape, first.voxel_size, strict=True)
    return image.offset, tuple(begin + count * size for begin, count, size in sizes)
