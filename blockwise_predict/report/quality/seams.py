"""Seams: whether values change more from block to block than inside blocks.

Across the face between two blocks, and across planes one and two voxels beside it, all differences
between neighbouring voxels along the face's axis are taken at the same places. If blocks fit
together, the face is one plane like the others. Two measures are compared: the mean of the absolute
differences relative to the other planes, and the mean of the differences, whose size is the step
from one block to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Planes that are read on each side of a face, and the place of the face among the differences.
DEPTH = 3
_ACROSS = DEPTH - 1
# A face is suspicious if a measure is this many times the largest one of all planes inside blocks.
FACE_FACTOR = 2.0
# Faces of an axis are suspicious together if the median of their ratios exceeds that of the planes
# inside blocks by this many standard errors, and by this factor.
AXIS_ERRORS, AXIS_FACTOR = 6.0, 1.2
# Standard deviation of a normal distribution by its median absolute deviation, and the standard
# error of a median by that of a mean.
_BY_MAD, _OF_MEDIAN = 1.4826, 1.2533
# Least spread of ratios (in logarithms) that is believed, and least difference that counts (as a
# share of the values' range).
_LEAST_SPREAD, _LEAST_DIFFERENCE = 0.02, 1e-3
# Least step that counts, as a share of the values' range.
_LEAST_STEP = 0.01


@dataclass(frozen=True)
class Seams:
    """What was found at the faces of an axis, for one channel.

    `ratios` are the mean absolute differences across each face by those beside it, `steps` the
    sizes of the mean differences; `inside_ratio` and `inside_step` are the largest ones of planes
    inside blocks. `suspicion` of a face is 1 where it becomes suspicious. `systematic` tells
    whether all faces together are suspicious.
    """

    ratios: Floats
    steps: Floats
    inside_ratio: float
    inside_step: float
    suspicion: Floats
    systematic: bool

    @property
    def median_ratio(self) -> float:
        """The median of the faces' ratios."""
        return float(np.median(self.ratios))


def differences(slab: NDArray[np.generic], axis: int, *, labels: bool) -> tuple[Floats, Floats]:
    """Means of the absolute differences, and of the differences, [channel, plane].

    `slab` [channel, *spatial] holds DEPTH voxels on each side of a face across a spatial `axis`.
    Labels differ or do not.
    """
    along = np.moveaxis(slab, axis + 1, 1).reshape(slab.shape[0], 2 * DEPTH, -1)
    low, high = along[:, :-1], along[:, 1:]
    with np.errstate(invalid="ignore"):
        signed = np.subtract(high, low, dtype=np.float64)
    if labels:
        signed = (low != high).astype(np.float64)
    finite = np.where(np.isfinite(signed), signed, 0.0)
    return np.abs(finite).mean(2), np.zeros(finite.shape[:2]) if labels else finite.mean(2)


def find_seams(absolute: Floats, signed: Floats, span: float) -> Seams:
    """The seams of the faces of an axis, for one channel.

    `absolute` and `signed` are means of `differences` [face, plane]; `span` is the range of values.
    """
    least = _LEAST_DIFFERENCE * span + np.finfo(np.float64).tiny
    ratios = absolute[:, _ACROSS] / (_others(absolute, _ACROSS) + least)
    planes = [plane for plane in range(absolute.shape[1]) if plane != _ACROSS]
    # The same for each plane inside, against the other ones inside.
    inside = np.delete(absolute, _ACROSS, axis=1)
    references = np.stack(
        [inside[:, i] / (_others(inside, i) + least) for i in range(len(planes))], axis=1
    )
    steps = np.abs(signed[:, _ACROSS])
    inside_steps = np.abs(np.delete(signed, _ACROSS, axis=1))
    ratio_limit = FACE_FACTOR * max(1.0, float(references.max()))
    step_limit = max(FACE_FACTOR * float(inside_steps.max()), _LEAST_STEP * span, least)
    return Seams(
        ratios=ratios,
        steps=steps,
        inside_ratio=float(references.max()),
        inside_step=float(inside_steps.max()),
        suspicion=np.maximum(ratios / ratio_limit, steps / step_limit),
        systematic=_is_systematic(ratios, references),
    )


def _others(planes: Floats, own: int) -> Floats:
    """The mean of all planes but one."""
    return np.asarray(np.delete(planes, own, axis=1).mean(1))


def _is_systematic(ratios: Floats, references: Floats) -> bool:
    """Whether the ratios of all faces together are too large."""
    faces, inside = (np.log(np.maximum(values, 1e-6)) for values in (ratios, references.ravel()))
    middle = float(np.median(inside))
    spread = max(_LEAST_SPREAD, _BY_MAD * float(np.median(np.abs(inside - middle))))
    excess = float(np.median(faces)) - middle
    error = spread * _OF_MEDIAN / np.sqrt(len(faces))
    return bool(excess > max(AXIS_ERRORS * error, np.log(AXIS_FACTOR)))
