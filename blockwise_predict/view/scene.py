"""What the page shows: neuroglancer's state around the layers, and what the bar above it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.kvstore import Json
from blockwise_predict.view.layers import dimensions
from blockwise_predict.view.served import ServedImage


@dataclass(frozen=True)
class Scene:
    """Layers on the axes of an image, which begin with the box from `begin` to `end` (nm) in view.

    `changing` are the images whose values may change. `status` tells what the bar shows, every
    `interval_s` seconds: `facts`, pairs of a name and a value, and maybe `progress`. `command`
    gives the command for a box with a centre and a size (nm, x y z), if there is one.
    """

    title: str
    image: ServedImage
    layers: Sequence[Json]
    begin: Lengths
    end: Lengths
    status: Callable[[], Json]
    interval_s: float = 0.5
    changing: Sequence[str] = ()
    selected: str | None = None
    layout: str = "4panel"
    command: Callable[[Sequence[float], Sequence[float]], str] | None = None

    def as_json(self) -> Json:
        """The scene as the page reads it."""
        names = self.image.axis_names
        corners = zip(self.begin, self.end, strict=True)
        center = {n: float((b + e) / 2) for n, (b, e) in zip(names, corners, strict=True)}
        sizes = {n: float(e - b) for n, b, e in zip(names, self.begin, self.end, strict=True)}
        axes = dimensions(self.image)
        # neuroglancer shows the first axis to the right and the second one down.
        ordered = sorted(axes, key=lambda name: "xyz".find(name) % (len(axes) + 3))
        state = {
            "dimensions": {name: axes[name] for name in ordered},
            "position": [center[name] for name in ordered],
            "projectionScale": 1.5 * max(sizes[name] for name in ordered[:3]),
            "layers": list(self.layers),
            "layout": self.layout if "z" in axes else "xy",
            "showAxisLines": True,
            "showScaleBar": True,
            # The bounds of each array.
            "showDefaultAnnotations": False,
            "crossSectionBackgroundColor": "#16181d",
        }
        if self.selected is not None:
            state["selectedLayer"] = {"visible": True, "layer": self.selected, "size": 300}
        return {
            "title": self.title,
            "state": state,
            "extent": [sizes.get(name, 1.0) for name in ordered[:2]],
            "changing": list(self.changing),
            "command": self.command is not None,
        }
