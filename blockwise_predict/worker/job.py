"""The cluster job that this process runs in, and the file that its output goes to."""

from __future__ import annotations

import os
from pathlib import Path


def job_name() -> str:
    """The job's name in logs and job tables: `slurm-123_4`, `lsf-123_4`; empty outside of jobs."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"slurm-{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"slurm-{job}"
    if job := os.environ.get("LSB_JOBID"):
        return f"lsf-{job}_{os.environ.get('LSB_JOBINDEX', '0')}"
    return ""


def log_path(logs: Path) -> str:
    """The file that this process's output goes to: its stdout, or the job's log in `logs`.

    Empty if it goes to neither.
    """
    stdout = os.readlink("/proc/self/fd/1")
    if os.path.isfile(stdout):
        return stdout
    # In a job step of Slurm, stdout is a pipe that ends in the job's log.
    job = job_name()
    found = [(file.stat().st_mtime, str(file)) for file in logs.glob(f"{job}-*.log")] if job else []
    return max(found)[1] if found else ""
