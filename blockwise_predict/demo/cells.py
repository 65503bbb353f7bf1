"""Cells of the phantom: a tessellation of space into long, bent, densely packed processes.

Every cell is an ellipsoid with one long axis. A voxel belongs to the cell whose ellipsoid, scaled
about its centre, reaches it first: an anisotropic, multiplicatively weighted Voronoi diagram,
whose faces are curved. A smooth warp of the coordinates bends the processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.demo.fields import Field, Shape, smooth_noise

BRICK = 16  # voxels: few cells reach a brick of this size, and it still amortises a numpy call
NEIGHBOURS = 2  # cells per voxel, besides its own, whose boundary is considered
MARGIN = 70  # voxels around the volume in which cells are placed: they are long and reach in
VOLUME_PER_CELL = 75_000  # voxels; sets how densely the processes are packed


@dataclass(frozen=True)
class Cells:
    """The ellipsoids, in warped voxel coordinates."""

    centres: NDArray[np.float64]  # [cell, 3]
    metrics: NDArray[np.float64]  # [cell, 3, 3]; the scaled distance is sqrt((w-c)^T metric (w-c))
    frames: NDArray[np.float64]  # [cell, 3, 3]; rows are the axes, the long one first
    radii: NDArray[np.float64]  # [cell], voxels, of the cross section
    shortest: NDArray[np.float64]  # [cell], voxels, the shortest semi-axis

    def __len__(self) -> int:
        return len(self.radii)


@dataclass(frozen=True)
class Tissue:
    """The cells, and the cell and depth of every voxel [z, y, x]."""

    cells: Cells
    warped: Field  # [3, z, y, x], the coordinates in which the cells are ellipsoids
    labels: NDArray[np.int32]  # index into `cells`
    depth: Field  # voxels to the nearest boundary between two cells; good near the boundary


def grow_tissue(rng: np.random.Generator, shape: Shape) -> Tissue:
    """Fill a volume of at least 16 voxels along each axis with cells."""
    if min(shape) < BRICK:
        raise ValueError(f"a phantom of {shape} voxels is too small: at least {BRICK} per axis")
    cells = _place_cells(rng, shape)
    warped = _warp(rng, shape)
    labels = np.empty(shape, np.int32)
    depth = np.empty(shape, np.float32)
    # The last brick along an axis is shifted back to have full size, which gradients need.
    begins = ([min(b, size - BRICK) for b in range(0, size, BRICK)] for size in shape)
    for corner in product(*begins):
        brick = tuple(slice(begin, begin + BRICK) for begin in corner)
        points = warped[(slice(None), *brick)]
        labels[brick], depth[brick] = _tessellate(cells, points)
    return Tissue(cells, warped, labels, depth)


def _place_cells(rng: np.random.Generator, shape: Shape) -> Cells:
    extent = np.array(shape) + 2 * MARGIN
    count = max(1 + NEIGHBOURS, round(float(np.prod(extent)) / VOLUME_PER_CELL))
    centres = rng.uniform(-MARGIN, np.array(shape) + MARGIN, (count, 3))
    radii = np.clip(np.exp(rng.normal(np.log(13), 0.55, count)), 5, 38)
    semi_axes = np.stack(
        [
            radii * rng.uniform(3, 9, count),
            radii * rng.uniform(1.0, 1.5, count),
            radii * rng.uniform(0.65, 1.0, count),
        ],
        axis=1,
    )
    frames = np.linalg.qr(rng.standard_normal((count, 3, 3)))[0].transpose(0, 2, 1)
    metrics = np.einsum("nki,nk,nkj->nij", frames, semi_axes**-2, frames)
    return Cells(centres, metrics, frames, radii, semi_axes.min(axis=1))


def _warp(rng: np.random.Generator, shape: Shape) -> Field:
    """Voxel coordinates [3, z, y, x] plus bends of two wavelengths that never fold space."""
    grid = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"))
    for axis in range(3):
        grid[axis] += 9.0 * smooth_noise(rng, shape, 36)
        grid[axis] += 1.6 * smooth_noise(rng, shape, 11)
    return grid


def _tessellate(cells: Cells, points: Field) -> tuple[NDArray[np.int64], Field]:
    """Nearest cell of each warped point [3, z, y, x], and voxels to that cell's boundary.

    The difference of two scaled distances is zero on the boundary between the two cells; divided
    by its gradient it is, to first order, a distance in voxels. The depth is the smallest over the
    nearest neighbours.
    """
    middle = points.mean(axis=(1, 2, 3), keepdims=True)
    near = _cells_in_reach(cells, middle.reshape(3), points - middle)
    centres = (cells.centres[near] - middle.reshape(3)).astype(np.float32)
    metrics = cells.metrics[near].astype(np.float32)
    local = (points - middle).reshape(3, -1).T
    slopes = np.stack([np.gradient(row) for row in points]).reshape(3, 3, -1)

    scaled = _scaled_distances(local, centres, metrics)
    rows = np.arange(len(local))

    def pop_nearest() -> tuple[NDArray[np.int64], Field, Field]:
        """The nearest cell left, its scaled distance and that distance's gradient [point, 3]."""
        index = scaled.argmin(axis=1)
        distance = scaled[rows, index]
        scaled[rows, index] = np.inf
        normals = np.einsum("nij,nj->ni", metrics[index], local - centres[index])
        return index, distance, normals / distance[:, None]

    owner, own_distance, own_gradient = pop_nearest()
    depth = np.full(len(local), np.inf, np.float32)
    for _ in range(NEIGHBOURS):
        _, distance, gradient = pop_nearest()
        gradient = np.einsum("ni,ijn->nj", gradient - own_gradient, slopes)
        steepness = np.sqrt(np.einsum("nj,nj->n", gradient, gradient))
        np.minimum(depth, (distance - own_distance) / np.maximum(steepness, 1e-3), out=depth)
    return near[owner].reshape(points.shape[1:]), depth.reshape(points.shape[1:])


def _scaled_distances(local: Field, centres: Field, metrics: Field) -> Field:
    """[point, cell] of sqrt((p-c)^T M (p-c)), as one product of polynomial coefficients."""
    monomials = np.concatenate(
        [(local[:, :, None] * local[:, None, :]).reshape(-1, 9), local, np.ones_like(local[:, :1])],
        axis=1,
    )
    linear = np.einsum("kij,kj->ki", metrics, centres)
    constant = np.einsum("ki,ki->k", linear, centres)
    coefficients = np.concatenate([metrics.reshape(-1, 9), -2 * linear, constant[:, None]], axis=1)
    return np.asarray(np.sqrt(np.maximum(monomials @ coefficients.T, 1e-6)), np.float32)


def _cells_in_reach(cells: Cells, middle: Field, local: Field) -> NDArray[np.int64]:
    """Indices of all cells that can be the nearest or a nearest neighbour at any of the points.

    A scaled distance changes by at most (root of the metric's largest eigenvalue) per voxel, so
    its value at the middle bounds it from both sides.
    """
    reach = np.sqrt((local**2).sum(axis=0).max())
    offsets = middle - cells.centres
    scaled = np.sqrt(np.einsum("ni,nij,nj->n", offsets, cells.metrics, offsets))
    change = reach / cells.shortest
    worst = np.partition(scaled + change, NEIGHBOURS)[NEIGHBOURS]
    return np.flatnonzero(scaled - change <= worst)
