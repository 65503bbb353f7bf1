"""A small synthetic volume that looks like FIB-SEM of neuropil, with its ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.demo.cells import Tissue, grow_tissue
from blockwise_predict.demo.fields import Field, Shape, gaussian_blur, smooth_noise, soft_step
from blockwise_predict.demo.organelles import (
    add_microtubules,
    add_mitochondria,
    add_reticulum,
    add_vesicles,
)

MEMBRANE_HALF_WIDTH = 1.3  # voxels; two membranes and the cleft between them, at 10 nm voxels
STAIN_HALF_WIDTH = 1.85  # voxels; stain reaches a little into the cytoplasm
VOXEL_SIZE_NM = 10


@dataclass(frozen=True)
class Phantom:
    """A synthetic volume of 10 nm voxels; all arrays are [z, y, x]."""

    raw: NDArray[np.uint8]
    membrane: NDArray[np.bool_]  # between two cells; excludes the membranes of organelles
    labels: NDArray[np.int32]  # the cell of every voxel, counted from 1, membrane included

    def affinities(self, neighborhood: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        """True affinities [offset, z, y, x]: whether a voxel and its neighbour lie in one cell.

        False where either lies in a membrane, or the neighbour beyond the volume. Offsets must not
        be negative.
        """
        inside = np.where(self.membrane, 0, self.labels)
        result = np.zeros((len(neighborhood), *inside.shape), bool)
        for channel, offset in zip(result, neighborhood, strict=True):
            kept = tuple(slice(0, n - o) for n, o in zip(inside.shape, offset, strict=True))
            moved = tuple(slice(o, None) for o in offset)
            channel[kept] = (inside[kept] == inside[moved]) & (inside[kept] > 0)
        return result


def make_phantom(shape: Shape, seed: int) -> Phantom:
    """Make neuropil of `shape` voxels; the same shape and seed give the same phantom."""
    rng = np.random.default_rng(seed)
    tissue = grow_tissue(rng, shape)
    light = _stain(rng, tissue)
    raw = _image(rng, light)
    return Phantom(raw, tissue.depth < MEMBRANE_HALF_WIDTH, tissue.labels + 1)


def _stain(rng: np.random.Generator, tissue: Tissue) -> Field:
    """Brightness of each voxel under a perfect microscope, 0 to about 1."""
    shape = tissue.labels.shape
    count = len(tissue.cells)
    cytoplasm = rng.choice([0.84, 0.74, 0.58], count, p=[0.45, 0.35, 0.20])
    cytoplasm = (cytoplasm + rng.normal(0, 0.035, count)).astype(np.float32)
    mottle = (0.06 + 0.08 * rng.random(count)).astype(np.float32)
    texture = 0.5 * smooth_noise(rng, shape, 8) - np.maximum(smooth_noise(rng, shape, 2.8), 0)
    light = cytoplasm[tissue.labels] + mottle[tissue.labels] * texture

    occupied = add_mitochondria(rng, tissue, light)
    add_reticulum(rng, tissue, light, occupied)
    add_microtubules(rng, tissue, light, occupied)
    add_vesicles(rng, tissue, light, occupied)
    _add_membranes(rng, tissue, light)
    return light


def _add_membranes(rng: np.random.Generator, tissue: Tissue, light: Field) -> None:
    """Cell boundaries, in places thickened and darkened by the density of a synapse."""
    density = soft_step(smooth_noise(rng, light.shape, 11) - 1.9, 0.3)
    stain = 0.20 + 0.05 * smooth_noise(rng, light.shape, 7) - 0.12 * density
    width = STAIN_HALF_WIDTH + 1.6 * density
    light += soft_step(width - tissue.depth, 0.7) * (stain - light)


def _image(rng: np.random.Generator, light: Field) -> NDArray[np.uint8]:
    """Point spread, brightness drift, slice-to-slice flicker, grain."""
    shape = light.shape
    grey = np.float32(45) + np.float32(165) * gaussian_blur(light, 0.95)
    grey += 5 * smooth_noise(rng, shape, 60)
    grey += rng.normal(0, 1.2, (shape[0], 1, 1)).astype(np.float32)
    grain = gaussian_blur(rng.standard_normal(shape, dtype=np.float32), 0.6)
    grey += (np.float32(6) + np.float32(0.08) * grey) * grain
    return np.asarray(np.clip(np.rint(grey), 0, 255), np.uint8)
