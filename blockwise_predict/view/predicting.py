"""The scene of predictions on demand: an array, and what a network makes of it where one looks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from blockwise_predict.io.images import open_image
from blockwise_predict.io.kvstore import Json
from blockwise_predict.view.command import box_roi, run_command
from blockwise_predict.view.computed import OnDemand
from blockwise_predict.view.layers import channel_layers, raw_layer, roi_layer
from blockwise_predict.view.scene import Scene
from blockwise_predict.view.served import ServedImage, serve_image
from blockwise_predict.view.subject import CACHE_BYTES
from blockwise_predict.view.windows import Window, sampled_window, type_limits


def predicting_scene(made: OnDemand) -> tuple[Scene, list[ServedImage]]:
    """The scene, and the images that it needs."""
    plan, config = made.plan, made.plan.config
    source = open_image(
        plan.input.path,
        voxel_size=config.voxel_size,
        offset=config.offset,
        cache_bytes=CACHE_BYTES,
    )
    raw = serve_image("raw", source, for_display=True)
    predicted = made.images(taken=["raw", "ROI"])
    layers = [raw_layer(raw, sampled_window(source))]
    shown = [
        channel_layers(image, _window(made, number), labels=bool(array.classes), computed=True)
        for number, (image, array) in enumerate(zip(predicted, plan.output.arrays, strict=True))
    ]
    layers += [layer for of_array in shown for layer in of_array]
    begin, end = (
        plan.output_grid.world(corner) for corner in (plan.output.roi.begin, plan.output.roi.end)
    )
    layers.append(roi_layer(predicted[0], begin, end))

    def command(center: Sequence[float], size: Sequence[float]) -> str:
        named = (dict(zip("xyz", values, strict=True)) for values in (center, size))
        return run_command(plan, made.precision.precision, box_roi(plan, *named))

    scene = Scene(
        title=_title(made),
        image=predicted[0],
        layers=layers,
        begin=begin,
        end=end,
        status=lambda: _status(made),
        selected=shown[0][0]["name"],
        # One plane takes a third of the time of three.
        layout="xy",
        command=command,
    )
    return scene, [raw, *predicted]


def _window(made: OnDemand, number: int) -> Window:
    """The stored values that stand for the ends of the values' range."""
    array = made.plan.output.arrays[number]
    return array.window or type_limits(np.dtype(array.dtype)) or (0.0, 1.0)


def _title(made: OnDemand) -> str:
    network = made.plan.network
    name = network.run or PurePath(network.checkpoint).name
    iteration = "" if network.iteration is None else f", iteration {network.iteration}"
    source = "/".join(PurePath(made.plan.input.path).parts[-2:])
    return f"{name}{iteration} on {source}"


def _status(made: OnDemand) -> Json:
    now = made.demand.status
    facts = [
        ["computing", f"{now.computing}"],
        ["waiting", f"{now.waiting}"],
    ]
    if now.last is not None and now.median is not None:
        facts.append(["last chunk", f"{_seconds(now.last)}, median {_seconds(now.median)}"])
    facts.append(["on", f"{made.device}, {made.precision.precision}"])
    if now.error:
        facts.append(["last error", now.error])
    return {"facts": facts}


def _seconds(duration: float) -> str:
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"
