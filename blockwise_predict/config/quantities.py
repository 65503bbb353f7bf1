"""Quantities as people read them."""

from __future__ import annotations


def format_rate(voxels_per_second: float) -> str:
    """`1.25 Mvoxel/s`."""
    for unit, size in (("Gvoxel/s", 1e9), ("Mvoxel/s", 1e6), ("kvoxel/s", 1e3)):
        if voxels_per_second >= size:
            return f"{voxels_per_second / size:.3g} {unit}"
    return f"{voxels_per_second:.3g} voxel/s"


def format_bytes(size: float) -> str:
    """`1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} PiB"


def format_seconds(seconds: float) -> str:
    """`2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def format_duration(seconds: float) -> str:
    """`0.25 s`, and from 10 s on as `format_seconds`."""
    return f"{seconds:.2g} s" if seconds < 10 else format_seconds(seconds)


def format_hours(seconds: float, longer: float | None = None) -> str:
    """`2.08 h`; with a `longer` time both, in the unit of that: `0.52 to 2.08 h`."""
    longest = seconds if longer is None else max(seconds, longer)
    units = (("d", 172800.0, 86400), ("h", 3600.0, 3600), ("min", 60.0, 60), ("s", 0.0, 1))
    unit, size = next((unit, size) for unit, least, size in units if longest >= least)
    texts = dict.fromkeys(f"{value / size:.3g}" for value in (seconds, longest))
    return f"{' to '.join(texts)} {unit}"
