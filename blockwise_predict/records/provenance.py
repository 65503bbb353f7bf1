"""How an output was made, written into its attributes: enough to reproduce it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan, NetworkPlan

ATTRIBUTE = "blockwise_predict"
PACKAGES = ("blockwise-predict", "torch", "numpy", "daisy", "tensorstore", "zarr")


def provenance(plan: Plan, array: ArrayPlan, command: str) -> dict[str, Any]:
    """The record of a run as it begins, for JSON, in the attributes of one of its arrays."""
    network, source = plan.network, plan.input
    encoding = array.encoding
    return {
        "command": command,
        # The run's output is the group above the array.
        **({"output_name": array.name} if array.name else {}),
        "config": plan.config.model_dump(mode="json", exclude_none=True),
        "begun": _now(),
        "complete": False,
        "checkpoint": _checkpoint(network),
        "ensemble": [_checkpoint(member.network) for member in plan.ensemble],
        "architecture": network.architecture,
        "head": network.head,
        "activation": network.activation,
        "input": source.model_dump(mode="json"),
        **_roi(plan),
        "border": plan.border,
        "normalization": _normalization(plan),
        "precision": PrecisionChoice(plan.precision).as_dict(),
        "output_dtype": array.dtype,
        "output_range": array.value_range and list(array.value_range),
        **({"postprocess": array.postprocess} if array.postprocess else {}),
        **({"classes": list(array.classes)} if array.classes else {}),
        "decode": _decode_formula(encoding.dtype, array.value_range, encoding.step),
        "block_shape": list(plan.block_shape),
        "tile_shape": list(plan.lattice.tile_shape),
        "versions": {"python": platform.python_version(), **_versions(PACKAGES)},
    }


def _normalization(plan: Plan) -> dict[str, Any]:
    """What was done to the input's values, and the rule with its numbers."""
    found = plan.normalization
    return {
        "scale": found.scale,
        "shift": found.shift,
        **({"clip": list(found.bounds)} if found.bounds else {}),
        **({"rule": plan.normalize} if plan.normalize else {}),
    }


def _roi(plan: Plan) -> dict[str, str]:
    """The ROI; in the units of its axes if the first of them is time."""
    grid, bounds = plan.output_grid, plan.output_grid.world_bounds(plan.output.roi)
    return {"roi": f"{bounds} {grid.units}"} if grid.has_time else {"roi_nm": bounds}


def _checkpoint(network: NetworkPlan) -> dict[str, Any]:
    return {
        "path": network.checkpoint,
        "run": network.run,
        "iteration": network.iteration,
        "sha256": network.weights_sha256,
        **({"package": network.record} if network.record else {}),
    }


def ending(
    *, complete: bool, values: int, clipped: int, nonfinite: int, precision: PrecisionChoice
) -> dict[str, Any]:
    """What a run adds to its record when it ends; `values`, `clipped` and `nonfinite` are counts of
    output values."""
    return {
        "complete": complete,
        "ended": _now(),
        "values": values,
        "clipped_fraction": clipped / values if values else 0.0,
        "nonfinite_values": nonfinite,
        "precision": precision.as_dict(),
    }


def _decode_formula(
    dtype: str, value_range: tuple[float, float] | None, step: float | None
) -> str | None:
    if value_range is None or step is None:
        return None
    zero = {"int8": 128, "int16": 32768}.get(dtype, 0)
    stored = f"(stored + {zero})" if zero else "stored"
    return f"value = {value_range[0]!r} + {stored} * {step!r}"


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {package: version(package) for package in packages}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
