"""The voxel size that a network was trained at, as far as its YAML tells.

DaCapo's configurations do not state it as such. It can be seen where a run's datasplit describes
the raw data of its training datasets: `voxel_size` of TIFF files; of zarr arrays `snap_to_grid`, in
which DaCapo's DataSplitGenerator notes the resolution that it was asked for. Other zarr arrays only
state it in their own attributes, which are not looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blockwise_predict.errors import CheckpointError, shown

KEY = "input_voxel_size"
"""Key beside the architecture, called as in cellmap-models' metadata."""

TRAINED_AT = "trained at"
"""Label of the voxel size in a checkpoint's record."""

Size = tuple[float, ...]

# Maximum number of configurations around that of an array.
_MAX_DEPTH = 16
_NANOMETERS = {"", "nm", "nanometer", "nanometers"}


def document_voxel_size(document: Mapping[str, Any], origin: Path) -> tuple[Size | None, str]:
    """The voxel size in nm and what says so; None if the document does not tell, or if the training
    datasets differ. Raises CheckpointError for an `input_voxel_size` that is none."""
    if KEY in document and "architecture" in document:
        size = usable_size(document[KEY])
        if size is None:
            raise CheckpointError(
                f"{origin}: {KEY} is {shown(document[KEY])}, but must be a list of lengths in nm, "
                "one for each spatial axis."
            )
        return size, f"{KEY} of {origin}"
    found = set(_datasets(document.get("datasplit_config")))
    size, key = found.pop() if len(found) == 1 else (None, "")
    return size, f"{key} of the training data in {origin}" if size else ""


def usable_size(value: Any) -> Size | None:
    """Positive numbers, one for each axis; None for anything else."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= 4:
        return None
    if not all(type(number) in (int, float) and 0 < number <= 1e30 for number in value):
        return None
    return tuple(map(float, value))


def size_record(label: str, size: Size | None) -> dict[str, str]:
    """The record of a voxel size, if it is known."""
    return {} if size is None else {label: f"{', '.join(f'{s:g}' for s in size)} nm"}


def _datasets(datasplit: Any) -> Iterator[tuple[Size | None, str]]:
    """What is known of each training dataset's raw data, and the key that says so."""
    if not isinstance(datasplit, Mapping):
        return
    listed = datasplit.get("train_configs")
    datasets = listed if isinstance(listed, list | tuple) else [datasplit.get("train_config")]
    for dataset in datasets:
        raw = dataset.get("raw_config") if isinstance(dataset, Mapping) else None
        yield _array(raw)


def _array(config: Any) -> tuple[Size | None, str]:
    """The voxel size of an array's configuration: of the innermost one, resampled by the others."""
    factors: list[Size] = []
    for _ in range(_MAX_DEPTH):
        if not isinstance(config, Mapping):
            break
        if "source_array_config" not in config:
            return _innermost(config, factors)
        if "downsample" in config or "upsample" in config:
            down, up = (usable_size(config.get(key)) for key in ("downsample", "upsample"))
            if down is None or up is None or len(down) != len(up):
                break
            factors.append(tuple(d / u for d, u in zip(down, up, strict=True)))
        config = config["source_array_config"]
    return None, ""


def _innermost(config: Mapping[str, Any], factors: list[Size]) -> tuple[Size | None, str]:
    if (snapped := usable_size(config.get("snap_to_grid"))) is not None:
        # What the array is resampled to, if it is.
        return snapped, "snap_to_grid"
    size, units = usable_size(config.get("voxel_size")), config.get("units") or ()
    if size is None or not {str(unit).lower() for unit in units} <= _NANOMETERS:
        return None, ""
    for factor in factors:
        if len(factor) != len(size):
            return None, ""
        size = tuple(s * f for s, f in zip(size, factor, strict=True))
    return size, "voxel_size"
