"""Whether disk and memory have room for the records of a run's blocks."""

from __future__ import annotations

import shutil

import psutil

from blockwise_predict.plan.model import Plan
from blockwise_predict.records.ledger_file import record_dtype
from blockwise_predict.records.rundir import RunDir

# Bytes of memory per block in the scheduler: its state, whether mask and ROIs select it, its entry
# in the skip mask, and temporary copies of these.
MEMORY_PER_BLOCK = 8


def ledger_bytes(plan: Plan) -> int:
    """Size of the ledger of a plan's blocks."""
    return plan.num_blocks * record_dtype(len(plan.output.arrays)).itemsize


def room_problem(plan: Plan, run_dir: RunDir) -> str | None:
    """Why the blocks of a plan cannot be recorded: too little disk or memory; else None."""
    if run_dir.ledger_file(plan).exists():
        return None
    existing = next(p for p in (run_dir.path, *run_dir.path.absolute().parents) if p.exists())
    disk, memory = shutil.disk_usage(existing).free, psutil.virtual_memory().available
    for what, needed, free in (
        (f"on the disk of {run_dir}", ledger_bytes(plan), disk),
        ("of memory in the scheduler", plan.num_blocks * MEMORY_PER_BLOCK, memory),
    ):
        if needed > free:
            return (
                f"the records of {plan.num_blocks:,} blocks take {needed / 2**20:,.1f} MiB {what}, "
                f"and {free / 2**20:,.1f} MiB are free. Use larger blocks (--block-shape), or a "
                "smaller --roi."
            )
    return None
