"""What a process can know of the cluster's job that it runs in."""

from __future__ import annotations

import os
from pathlib import Path


def own_job() -> str:
    """The job's name in logs and in the queue: `slurm-123_4`, `lsf-123_4`; empty outside of one."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"slurm-{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"slurm-{job}"
    if job := os.environ.get("LSB_JOBID"):
        return f"lsf-{job}_{os.environ.get('LSB_JOBINDEX', '0')}"
    return ""


def own_log(logs: Path) -> str:
    """The file that this process's output goes to: its stdout, or the job's log in `logs`."""
    out = os.readlink("/proc/self/fd/1")
    if os.path.isfile(out):
        return out
    # Slurm passes the output of a job step on to the job's.
    job = own_job()
    found = [(file.stat().st_mtime, str(file)) for file in logs.glob(f"{job}-*.log")] if job else []
    return max(found)[1] if found else ""
