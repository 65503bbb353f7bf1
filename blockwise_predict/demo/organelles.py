"""Organelles of the phantom's cells: mitochondria, vesicles, reticulum, microtubules.

They are as dark as membranes, and a network must learn not to mistake them for cell boundaries.
Each function darkens `light` [z, y, x] in place; 1 is empty resin, 0 the heaviest stain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.demo.cells import Tissue
from blockwise_predict.demo.fields import Field, smooth_noise, soft_step

Voxel = tuple[int, int, int]

CLEARANCE = 3.5  # voxels of cytoplasm between an organelle and the cell's boundary
VOXELS_PER_MITOCHONDRION = 75_000
VOXELS_PER_VESICLE_CLUSTER = 60_000


def add_mitochondria(rng: np.random.Generator, tissue: Tissue, light: Field) -> NDArray[np.bool_]:
    """Rods along the cell's axis with a dark rim, a dark matrix and cristae; returns a mask."""
    occupied = np.zeros(light.shape, bool)
    wobble = smooth_noise(rng, light.shape, 13)
    for centre in _sites(rng, tissue, VOXELS_PER_MITOCHONDRION, depth=10):
        radius = float(np.clip(tissue.depth[centre] * rng.uniform(0.42, 0.75), 5, 19))
        half_length = radius * rng.uniform(0.5, 3.0)
        box = _box(centre, half_length + 1.6 * radius, light.shape)
        cell = tissue.labels[centre]
        along, across = _along_and_across(tissue, cell, centre, box)
        distance = np.hypot(np.maximum(np.abs(along) - half_length, 0), across)
        inside = radius * (1 + 0.10 * wobble[box]) - distance
        inside = np.minimum(inside, tissue.depth[box] - CLEARANCE)
        inside[(tissue.labels[box] != cell) | occupied[box]] = -np.inf

        matrix = rng.uniform(0.12, 0.26)
        period = rng.uniform(5.0, 7.5)
        phase = (along + rng.uniform(-0.6, 0.6) * across + 2.5 * wobble[box]) / period
        cristae = rng.uniform(0.02, 0.16) * np.cos(2 * np.pi * phase)
        cristae *= soft_step(inside - 3, 1.0)
        stained = np.where(inside < 2.0, 0.12, matrix + cristae).astype(np.float32)
        weight = soft_step(inside, 0.6)
        light[box] += weight * (stained - light[box])
        occupied[box] |= inside > 0
    return occupied


def add_vesicles(
    rng: np.random.Generator, tissue: Tissue, light: Field, occupied: NDArray[np.bool_]
) -> None:
    """Clusters of small spheres: a dark shell, a pale or a dense core."""
    for centre in _sites(rng, tissue, VOXELS_PER_VESICLE_CLUSTER, depth=7):
        cell = tissue.labels[centre]
        spread = rng.uniform(5, 11)
        dense_core = rng.random() < 0.2
        for position in rng.normal(centre, spread, (rng.integers(12, 60), 3)):
            nearest = _nearest_voxel(position)
            if not _is_free(tissue, occupied, nearest, cell):
                continue
            radius = rng.uniform(2.6, 3.8) if dense_core else rng.uniform(2.3, 3.2)
            box = _box(nearest, radius + 1, light.shape)
            grid = np.ogrid[box]
            distance = np.sqrt(sum((g - p) ** 2 for g, p in zip(grid, position, strict=True)))
            shell = soft_step(radius - distance)
            if not dense_core:
                shell *= 0.25 + 0.75 * soft_step(distance - radius + 1.5)
            light[box] *= 1 - np.float32(0.62) * shell


def add_reticulum(
    rng: np.random.Generator, tissue: Tissue, light: Field, occupied: NDArray[np.bool_]
) -> None:
    """Thin winding sheets and tubules, at the zeros of one random field or of two at once."""
    first, second = (smooth_noise(rng, light.shape, 15) for _ in range(2))
    where = smooth_noise(rng, light.shape, 26)
    # A field of this spacing changes by about 1/10 per voxel near its zeros.
    sheets = soft_step(1.3 - 10 * np.abs(first)) * soft_step(where - 0.7, 0.2)
    tubules = soft_step(1.8 - 10 * np.hypot(first, second)) * soft_step(0.6 - where, 0.3)
    room = soft_step(tissue.depth - np.float32(CLEARANCE), 0.8) * ~occupied
    light *= 1 - np.float32(0.5) * np.maximum(sheets, tubules) * room


def add_microtubules(
    rng: np.random.Generator, tissue: Tissue, light: Field, occupied: NDArray[np.bool_]
) -> None:
    """Thin straight lines along the axis of some cells."""
    free = (tissue.depth > CLEARANCE) & ~occupied
    order = np.argsort(tissue.labels[free], kind="stable")
    voxels = np.flatnonzero(free)[order]
    cells, begins = np.unique(tissue.labels.reshape(-1)[voxels], return_index=True)
    flat = light.reshape(-1)
    coordinates = tissue.warped.reshape(3, -1)
    for cell, members in zip(cells, np.split(voxels, begins[1:]), strict=True):
        radius = tissue.cells.radii[cell]
        if radius < 8 or rng.random() < 0.35:
            continue
        offsets = coordinates[:, members].T - tissue.cells.centres[cell].astype(np.float32)
        section = offsets @ tissue.cells.frames[cell, 1:].T.astype(np.float32)
        nearest = np.full(len(members), np.inf, np.float32)
        for line in rng.uniform(-radius, radius, (int(radius**2 / 22), 2)).astype(np.float32):
            distance = ((section - line) ** 2).sum(axis=1)
            np.minimum(nearest, distance, out=nearest)
        flat[members] *= 1 - np.float32(0.42) * soft_step(1.3 - np.sqrt(nearest))


def _sites(
    rng: np.random.Generator, tissue: Tissue, voxels_per_site: int, depth: float
) -> list[Voxel]:
    """Random voxels that lie at least `depth` voxels inside their cell."""
    count = max(1, round(tissue.labels.size / voxels_per_site))
    tries = rng.integers(0, tissue.labels.shape, (6 * count, 3))
    deep = tissue.depth[tuple(tries.T)] > depth
    return [(int(z), int(y), int(x)) for z, y, x in tries[deep][:count]]


def _nearest_voxel(position: NDArray[np.float64]) -> Voxel:
    z, y, x = np.rint(position).astype(int).tolist()
    return z, y, x


def _is_free(tissue: Tissue, occupied: NDArray[np.bool_], voxel: Voxel, cell: np.int32) -> bool:
    if any(not 0 <= v < size for v, size in zip(voxel, tissue.labels.shape, strict=True)):
        return False
    return bool(
        tissue.labels[voxel] == cell and tissue.depth[voxel] > CLEARANCE + 2 and not occupied[voxel]
    )


def _box(centre: Voxel, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    r = int(np.ceil(reach))
    z, y, x = (slice(max(0, c - r), min(n, c + r + 1)) for c, n in zip(centre, shape, strict=True))
    return z, y, x


def _along_and_across(
    tissue: Tissue, cell: np.int32, centre: Voxel, box: tuple[slice, slice, slice]
) -> tuple[Field, Field]:
    """Signed distance from the centre along the cell's long axis, and distance from that axis."""
    origin = tissue.warped[:, centre[0], centre[1], centre[2]]
    offsets = tissue.warped[(slice(None), *box)] - origin[:, None, None, None]
    axis = tissue.cells.frames[cell, 0].astype(np.float32)
    along = np.tensordot(axis, offsets, axes=1)
    across = np.sqrt(np.maximum((offsets**2).sum(axis=0) - along**2, 0))
    return along, across
