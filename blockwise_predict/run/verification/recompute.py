"""Computing blocks again, to compare them with what is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.precision import tolerance_of
from blockwise_predict.engine.settings import PRECISION_BYTES, PrecisionChoice
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import RunStateError
from blockwise_predict.io import CheckedInput, OutputArray
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import reopen
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.records import RunDir
from blockwise_predict.records.atomic import damaged
from blockwise_predict.records.find import find_precision
from blockwise_predict.run.verification.decisions import decision_problem, with_values
from blockwise_predict.worker.setup import make_predictor

# Allowed root mean square difference in float32, as a share of the values' span: another machine or
# another tile may round differently.
FLOAT32_TOLERANCE = 1e-4
# Allowed largest difference, in units of the allowed root mean square.
LARGEST_PER_RMS = 20


class Recomputer:
    """Predicts blocks of a plan again, as its workers did, in the precision of the run.

    Raises as `reopen`, and RunStateError if the run's precision is not recorded.
    """

    def __init__(self, plan: Plan, run_dir: RunDir, device: torch.device) -> None:
        self._plan = plan
        self._precision = _recorded_precision(plan, run_dir)
        self._opened = reopen(plan, device)
        self._predictor = make_predictor(with_values(plan), self._opened, self._precision.precision)

    def difference(self, outputs: Sequence[OutputArray], block: Roi) -> str | None:
        """How a stored block differs from what is computed now; None if it does not.

        `outputs` are the arrays of the plan's output.

        Integers may differ by one step, since both sides were rounded. Decisions on values may
        differ where a difference of the values that would be allowed changes them.
        """
        lattice = self._predictor.lattice
        read = lattice.read_roi(block)
        # A block that was predicted without filling had all its chunks: one that is gone by now
        # must not be taken for the fill value.
        source = CheckedInput(self._opened.array, "fail")
        raw = read_padded(source, read, self._plan.border)
        for row in self._predictor.predict(raw, read, block, lattice):
            region = row.roi - self._plan.output.roi.begin
            for number, (output, part) in enumerate(zip(outputs, row.parts, strict=True)):
                array = self._plan.output.arrays[number]
                stored = output.read(tuple(region.begin), tuple(region.end)).astype(np.float64)
                problem = self._compare(array.encoding, stored, part.data.astype(np.float64))
                if problem is not None:
                    return in_array(array, problem)
        return None

    def _compare(
        self, encoding: Encoding, stored: NDArray[np.float64], computed: NDArray[np.float64]
    ) -> str | None:
        if encoding.postprocess is not None:
            _, largest = self._allowed(encoding, computed)
            return decision_problem(encoding.postprocess, stored, computed, largest)
        if not np.array_equal(np.isfinite(stored), np.isfinite(computed)):
            return "NaN or infinite values are in other places than when computed again"
        difference = np.abs(stored - computed)[np.isfinite(stored)]
        if not difference.size or not difference.any():
            return None
        error = float(np.sqrt(np.mean(difference**2)))
        allowed, largest = self._allowed(encoding, computed)
        if error <= allowed and difference.max() <= largest:
            return None
        return (
            f"computed again, values differ by up to {difference.max():.3g} (rms {error:.3g}; "
            f"allowed {largest:.3g} and {allowed:.3g})"
        )

    def _allowed(self, encoding: Encoding, computed: NDArray[np.float64]) -> tuple[float, float]:
        """The allowed root mean square and the allowed largest difference, in stored values."""
        if encoding.step is not None:
            # Stored integers have a step of 1.
            exact = self._precision.precision == "float32"
            return 0.5, 1.0 if exact else LARGEST_PER_RMS / 2
        if self._precision.precision == "float32":
            finite = computed[np.isfinite(computed)]
            allowed = FLOAT32_TOLERANCE * float(np.ptp(finite)) if finite.size else 0.0
        else:
            allowed = tolerance_of(encoding, computed.astype(np.float32))
        return allowed, LARGEST_PER_RMS * allowed


def in_array(array: ArrayPlan, problem: str) -> str:
    """A problem, with the name of the array if the output has several."""
    return f"{array.name}: {problem}" if array.name else problem


def _recorded_precision(plan: Plan, run_dir: RunDir) -> PrecisionChoice:
    """The precision that the run computed in; in another, all its blocks would seem different."""
    file = run_dir.path / "precision.json"
    choice = find_precision(plan, run_dir)
    if choice is None:
        raise RunStateError(
            f"the precision of the run's blocks is unknown: {file} is missing, and the attributes "
            f"of {plan.output.arrays[0].path} do not name it. Restore the file from a backup."
        )
    if choice.precision not in PRECISION_BYTES:
        raise damaged(file, f"there is no precision {choice.precision!r}")
    return choice
