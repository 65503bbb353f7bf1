"""Smooth random fields and blurs on a voxel grid, in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Shape = tuple[int, int, int]


def smooth_noise(rng: np.random.Generator, shape: Shape, spacing: float) -> Field:
    """A random field [z, y, x], twice differentiable, of mean 0 and standard deviation about 1.

    Cubic B-splines over normally distributed coefficients that lie `spacing` voxels apart.
    """
    bases = [_spline_basis(size, spacing) for size in shape]
    field = rng.standard_normal([basis.shape[1] for basis in bases]).astype(np.float32)
    # Contract the last axis last, to keep the intermediate results small.
    field = np.tensordot(bases[0], field, axes=(1, 0))
    field = np.einsum("yb,zbc->zyc", bases[1], field, optimize=True)
    field = field @ bases[2].T
    # The sum of squared B-spline weights is 0.48 per axis on average.
    return np.asarray(field * 0.48**-1.5, np.float32)


def _spline_basis(size: int, spacing: float) -> Field:
    """Weights [size, coefficients] of the uniform cubic B-spline."""
    position = np.arange(size) / spacing
    first = position.astype(int)
    t = position - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    basis = np.zeros((size, int(first[-1]) + 4), np.float32)
    for k in range(4):
        basis[np.arange(size), first + k] = weights[:, k] / 6
    return basis


def gaussian_blur(volume: Field, sigma: float) -> Field:
    """Blur along all three axes; the volume is mirrored at its border."""
    radius = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in range(3):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = np.pad(volume, padding, mode="symmetric")
        blurred = np.zeros_like(volume)
        for shift, weight in enumerate(weights):
            window = [slice(None)] * 3
            window[axis] = slice(shift, shift + volume.shape[axis])
            blurred += weight * padded[tuple(window)]
        volume = blurred
    return volume


def soft_step(distance: NDArray[np.floating], width: float = 0.5) -> Field:
    """0 below -width, 1 above +width, linear between: an anti-aliased edge."""
    return np.asarray(np.clip(distance / (2 * width) + 0.5, 0, 1), np.float32)
