"""The memory that is really available: on the machine, in a container, a cluster job, a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

CGROUP_V2 = Path("/sys/fs/cgroup")
CGROUP_V1 = Path("/sys/fs/cgroup/memory")
CPU_EXHAUSTED = ("can't allocate memory", "not enough memory", "could not create a primitive")


def available_bytes(device: torch.device) -> int:
    """Bytes that this process and its workers may still use on a device, within known limits."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return min([psutil.virtual_memory().available, *_cgroup_limits(), *_slurm_limits()])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, NumPy or torch reports that an allocation failed."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # For CPU memory torch and oneDNN raise a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CPU_EXHAUSTED)


class PeakMemory:
    """Peak memory from its creation on, beyond what was in use then.

    Creating one resets the peak that the kernel, or torch for a GPU, records for this process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            # See clear_refs in proc(5).
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _own_status("VmRSS")

    def bytes(self) -> int:
        """The peak so far."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        return _own_status("VmHWM") - self._before


def _own_status(name: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _cgroup_limits() -> list[int]:
    """Bytes left within the limits of this process's control groups, if it has any."""
    pairs = [(CGROUP_V1 / "memory.limit_in_bytes", CGROUP_V1 / "memory.usage_in_bytes")]
    for folder in _own_groups():
        pairs.append((folder / "memory.max", folder / "memory.current"))
    return [
        limit - usage + _reclaimable(files[0].parent)
        for files in pairs
        for limit, usage in [_limit_and_usage(files)]
        if limit is not None
    ]


def _own_groups() -> list[Path]:
    """This process's version 2 control group and its ancestors."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = [line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")]
    found = [CGROUP_V2]
    for group in groups:
        path = CGROUP_V2 / group
        found += [path, *(parent for parent in path.parents if CGROUP_V2 in parent.parents)]
    return found


def _reclaimable(folder: Path) -> int:
    """Bytes of a control group's usage that are page cache, which is reclaimed on demand."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    counts = dict(line.split() for line in lines)
    return int(counts.get("inactive_file", 0))


def _limit_and_usage(files: tuple[Path, Path]) -> tuple[int | None, int]:
    try:
        limit, usage = (int(file.read_text()) for file in files)
    except (OSError, ValueError):
        # The file is missing or says "max": there is no limit.
        return None, 0
    return limit, usage


def _slurm_limits() -> list[int]:
    """Bytes allocated to a Slurm job on this node (its variables are in MiB)."""
    limits = []
    if per_node := os.environ.get("SLURM_MEM_PER_NODE"):
        limits.append(int(per_node) * 2**20)
    if per_cpu := os.environ.get("SLURM_MEM_PER_CPU"):
        limits.append(int(per_cpu) * 2**20 * int(os.environ.get("SLURM_CPUS_ON_NODE", "1")))
    # 0 means all memory of the node.
    return [limit for limit in limits if limit > 0]
