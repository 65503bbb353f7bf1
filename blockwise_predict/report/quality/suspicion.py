"""How suspicious each block is, and why.

A block's suspicion is the largest of several measures, each of which is 1 where it becomes worth a
look. None proves an error: an empty part of the volume is constant for good reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from blockwise_predict.report.quality.sample import BlockSample, FaceSample
from blockwise_predict.report.quality.seams import Seams
from blockwise_predict.report.trace import Floats

# Share of clipped values at which a block is suspicious, and by how many times it must exceed the
# median of all blocks.
CLIPPED_SHARE, CLIPPED_TIMES = 0.05, 5.0
# Share of values at one end of the range at which a block counts as saturated.
SATURATED_SHARE = 0.99
# Share of the sampled blocks that may be constant or saturated before that is usual here.
USUAL_SHARE = 0.25
# How far a block's mean may be from the median of all sampled ones, in robust standard deviations
# (1.4826 times the median absolute deviation), of which this share of the range is the least.
MEAN_DEVIATIONS, LEAST_DEVIATION = 8.0, 0.02


@dataclass
class Suspicion:
    """A block, how suspicious it is (from 1 on it is listed), and the reasons."""

    block: int
    score: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def add(self, score: float, reason: str) -> None:
        """Take a measure into account; a reason counts from 1 on."""
        self.score = max(self.score, score)
        if score >= 1 and reason not in self.reasons:
            self.reasons.append(reason)


class Suspicions:
    """The suspicion of each block for which something is known."""

    def __init__(self) -> None:
        self._found: dict[int, Suspicion] = {}

    def of(self, block: int) -> Suspicion:
        """The suspicion of a block, to be added to."""
        return self._found.setdefault(block, Suspicion(block))

    @property
    def ranked(self) -> list[Suspicion]:
        """All of them, the most suspicious first."""
        return sorted(self._found.values(), key=lambda one: (-one.score, one.block))

    def add_counts(self, clipped: Floats, nonfinite: Floats, values: Floats) -> None:
        """Take the counts of all blocks into account: `values` were written of each, 0 for blocks
        that are not predicted."""
        share = np.divide(clipped, values, out=np.zeros(len(values)), where=values > 0)
        known = share[values > 0]
        usual = float(np.median(known)) if known.size else 0.0
        limit = max(CLIPPED_SHARE, CLIPPED_TIMES * usual)
        for block in _largest(np.where(values > 0, nonfinite, 0)):
            text = f"{nonfinite[block]:,.0f} values are NaN or infinite"
            self.of(block).add(2 + nonfinite[block] / values[block], text)
        for block in _largest(np.where(share >= limit, share, 0)):
            self.of(block).add(
                share[block] / limit, f"{share[block]:.1%} of the values are clipped"
            )

    def add_samples(self, samples: Sequence[BlockSample], span: float) -> None:
        """Take the windows of blocks into account; `span` is the range of values."""
        kinds = [_uniform(sample) for sample in samples]
        for kind in ("constant", "saturated"):
            usual = kinds.count(kind) > USUAL_SHARE * len(kinds)
            for sample, own in zip(samples, kinds, strict=True):
                if own == kind:
                    text = f"its values are {kind}"
                    self.of(sample.block).add(0.5 if usual else 1.0, text)
        for sample, deviation in zip(samples, _deviations(samples, span), strict=True):
            text = f"its mean is unlike that of other blocks ({deviation:.0f} deviations off)"
            self.of(sample.block).add(deviation / MEAN_DEVIATIONS, text)

    def add_seams(
        self, samples: Sequence[FaceSample], channels: Sequence[Seams], axis: str
    ) -> None:
        """Take the faces across an axis into account, in the order of their samples, with what was
        found in each channel; the worst channel of a face counts."""
        for number, sample in enumerate(samples):
            face = sample.face
            worst = max(channels, key=lambda seams: float(seams.suspicion[number]))
            for block, other in ((face.low, face.high), (face.high, face.low)):
                text = (
                    f"values change at its face to block {other} along {axis}: differences are "
                    f"{worst.ratios[number]:.1f} times those beside it, and the step is "
                    f"{worst.steps[number]:.2g}"
                )
                self.of(block).add(float(worst.suspicion[number]), text)


def _uniform(sample: BlockSample) -> str:
    if sample.constant:
        return "constant"
    ends = np.maximum(sample.low_share, sample.high_share)
    return "saturated" if bool((ends >= SATURATED_SHARE).all()) else ""


def _deviations(samples: Sequence[BlockSample], span: float) -> Iterator[float]:
    """How far each block's means are from the median, in robust standard deviations."""
    if not samples:
        return
    means = np.stack([sample.means for sample in samples])
    means = np.where(np.isfinite(means), means, np.nan)
    known = np.isfinite(means).any(0)
    if not known.any():
        yield from [0.0] * len(samples)
        return
    means = means[:, known]
    middle = np.nanmedian(means, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(means - middle), axis=0)
    spread = np.maximum(spread, max(LEAST_DEVIATION * span, np.finfo(np.float64).tiny))
    yield from np.nan_to_num(np.abs(means - middle) / spread).max(axis=1).tolist()


def _largest(values: Floats, most: int = 20) -> Iterable[int]:
    """The places of the largest values above 0."""
    order = np.argsort(-values, kind="stable")[:most]
    return [int(place) for place in order if values[place] > 0]
