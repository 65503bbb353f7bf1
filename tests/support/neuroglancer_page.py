"""Real neuroglancer in a Chromium without a window."""

from __future__ import annotations

import io
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blockwise_predict.view.chromium import OPTIONS

# How long a screenshot may take, in seconds, on the slowest machine.
PATIENCE_S = 120.0


class NeuroglancerPage:
    """A page that shows one cross section, whose x points right and y down."""

    def __init__(self, viewer: Any, size: tuple[int, int]) -> None:
        self.viewer = viewer
        with viewer.config_state.txn() as config:
            config.show_ui_controls = False
            config.show_panel_borders = False
            config.viewer_size = list(size)

    def picture(
        self,
        layers: Mapping[str, Mapping[str, Any]],
        *,
        center_nm: Sequence[float],
        nm_per_pixel: float,
        **state: Any,
    ) -> Image.Image:
        """What is shown of layers (their JSON, by name) around a point (z, y, x) once all of it
        is loaded. `state` is merged into the viewer's."""
        self.viewer.set_state(
            {
                "dimensions": {axis: [1e-9, "m"] for axis in "xyz"},
                "position": list(center_nm[::-1]),
                "crossSectionScale": nm_per_pixel,
                "layers": [{"name": name, **layer} for name, layer in layers.items()],
                "layout": "xy",
                "crossSectionBackgroundColor": "#000000",
                "showAxisLines": False,
                "showScaleBar": False,
                "showDefaultAnnotations": False,
                **state,
            }
        )
        replies: list[Any] = []
        taken = threading.Event()

        def take(reply: Any) -> None:
            replies.append(reply)
            taken.set()

        self.viewer.async_screenshot(take)
        assert taken.wait(PATIENCE_S), "neuroglancer does not answer"
        return Image.open(io.BytesIO(replies[0].screenshot.image)).convert("RGB")

    def pixels(self, *args: Any, **more: Any) -> np.ndarray:
        """`picture` as uint8 [y, x, RGB]."""
        return np.asarray(self.picture(*args, **more))


@contextmanager
def neuroglancer_page(folder: Path, size: tuple[int, int]) -> Iterator[NeuroglancerPage]:
    """A page of a number of pixels (x, y); skips the test where there is no Chromium.

    `folder` is for what Chromium writes.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    neuroglancer = pytest.importorskip("neuroglancer")
    viewer = neuroglancer.Viewer()
    options = [
        *OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
    ]
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen(
            [chromium, *options, viewer.get_viewer_url()], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield NeuroglancerPage(viewer, size)
        finally:
            process.terminate()
            process.wait()
            neuroglancer.stop()
