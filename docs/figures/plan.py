"""`python docs/figures/plan.py` draws docs/images/plan.png: a plan over the demo's phantom, with a
mask, as `predict plan --picture` does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from funlib.geometry import Coordinate
from funlib.persistence import prepare_ds

from blockwise_predict.cli.demonstration import Demonstration
from blockwise_predict.config.model import load_config
from blockwise_predict.run.overview.document import Overview
from blockwise_predict.run.overview.picture import save_picture
from blockwise_predict.run.planned import plan_run

FILE = Path(__file__).parents[1] / "images" / "plan.png"
MASK, MASK_NM = "tissue.zarr/mask", 32


def write_mask() -> None:
    """An ellipsoid, in larger voxels than the phantom's."""
    z, y, x = np.ogrid[:18, :48, :48]
    inside = ((z - 9) / 10) ** 2 + ((y - 24) / 20) ** 2 + ((x - 20) / 17) ** 2 < 1
    array = prepare_ds(
        Path(MASK),
        shape=inside.shape,
        offset=Coordinate(0, 0, 0),
        voxel_size=Coordinate((MASK_NM,) * 3),
        axis_names=["z", "y", "x"],
        units=["nm"] * 3,
        dtype=np.uint8,
    )
    array[:] = inside.astype(np.uint8)


def main() -> None:
    """Plan in a temporary folder, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        demo = Demonstration(Path("predict-demo"))
        demo.write_phantom()
        write_mask()
        blocks = {"chunk_shape": "24,24,24", "block_shape": "24,24,24"}
        options = {**demo.options(), **blocks, "mask": MASK, "roi": "[:,:,:1400]"}
        run = plan_run(load_config(options))
        # Paths, and the room on the disk, are those of the machine that draws it.
        text = run.overview().model_dump_json()
        for place in (folder, str(Path(demo.options()["checkpoint"]).parent)):
            text = text.replace(f"{place}/", "")
        overview = Overview.model_validate_json(text)
        output = overview.output.model_copy(update={"disk": None})
        save_picture(FILE, run.subject, overview.model_copy(update={"output": output}))


if __name__ == "__main__":
    main()
