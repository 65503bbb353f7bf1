"""The parts of `predict demo`: a phantom on disk, the options of a run over it, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from funlib.geometry import Coordinate
from funlib.persistence import open_ds, prepare_ds
from numpy.typing import NDArray

from blockwise_predict.demo import MODEL
from blockwise_predict.demo.phantom import VOXEL_SIZE_NM, Phantom, make_phantom
from blockwise_predict.demo.picture import save_picture
from blockwise_predict.demo.score import Score, score
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import RunStateError
from blockwise_predict.io import open_output
from blockwise_predict.records.find import find_run
from blockwise_predict.report.make import ReportMaker

# Seed of a phantom that was used neither for training nor for validation.
SEED = 2025
SHAPE = (72, 192, 192)
VALUE_RANGE = (0.0, 1.0)
NEIGHBORHOOD = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@dataclass(frozen=True)
class Demonstration:
    """The demonstration's files in a folder, and the steps that make them."""

    folder: Path

    @property
    def raw(self) -> Path:
        """Path of the phantom."""
        return self.folder / "phantom.zarr" / "raw"

    @property
    def prediction(self) -> Path:
        """Path of the prediction."""
        return self.folder / "prediction.zarr" / "affinities"

    @property
    def picture(self) -> Path:
        """Path of the picture: raw data and prediction side by side."""
        return self.folder / "demo.png"

    @property
    def report(self) -> Path:
        """Path of the report on the run."""
        return self.folder / "report.html"

    def options(self) -> dict[str, str]:
        """The options of `predict run` for the prediction, by key."""
        return {
            "checkpoint": str(MODEL / "weights.safetensors"),
            "architecture": str(MODEL / "architecture.yaml"),
            "input": str(self.raw),
            "output": str(self.prediction),
            "output_dtype": "uint8",
        }

    def write_phantom(self) -> Phantom:
        """Make the phantom, and write it unless it exists already.

        Raises RunStateError if another array exists in its place.
        """
        phantom = make_phantom(SHAPE, SEED)
        if not self.raw.exists():
            self._write(phantom)
        elif not np.array_equal(open_ds(self.raw)[:], phantom.raw):
            raise RunStateError(
                f"{self.raw} is not the phantom of this version. "
                "Give another --folder, or remove it."
            )
        return phantom

    def _write(self, phantom: Phantom) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        array = prepare_ds(
            self.raw,
            shape=phantom.raw.shape,
            offset=Coordinate(0, 0, 0),
            voxel_size=Coordinate((VOXEL_SIZE_NM,) * 3),
            axis_names=["z", "y", "x"],
            units=["nm"] * 3,
            chunk_shape=Coordinate(64, 64, 64),
            dtype=phantom.raw.dtype,
        )
        array[:] = phantom.raw

    def draw(self, phantom: Phantom) -> None:
        """Write the picture of the middle slice."""
        z = SHAPE[0] // 2
        predicted = self._predicted()[:, z]
        save_picture(self.picture, phantom.raw[z], predicted, voxel_size_nm=VOXEL_SIZE_NM)

    def write_report(self) -> None:
        """Write the report on the run."""
        run_dir, plan = find_run(str(self.prediction), None)
        ReportMaker(run_dir, plan, self.report).make()

    def score(self, phantom: Phantom) -> Score:
        """How well the prediction distinguishes boundaries between cells from their inside."""
        # The last voxel along an axis has no neighbour, and so no affinity.
        scored = (slice(None), *(slice(0, -1),) * 3)
        boundary = ~phantom.affinities(NEIGHBORHOOD)[scored]
        return score(1 - self._predicted()[scored], boundary)

    def _predicted(self) -> NDArray[np.float32]:
        """Affinities in 0 to 1, `[c, z, y, x]`."""
        array = open_output(self.prediction)
        stored = array.read((0, 0, 0), array.shape)
        return Encoding(str(array.dtype), VALUE_RANGE).decode(stored)
