"""Whether a run that is resumed is the one that was begun."""

from __future__ import annotations

import json

from blockwise_predict.errors import RunFailedError, RunStateError
from blockwise_predict.io import changed_places
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.rundir import RunDir


def check_identity(plan: Plan, run_dir: RunDir, *, larger_roi: bool) -> None:
    """Raise RunStateError if a plan differs from the recorded run; shows both values of each
    difference. A `larger_roi` is allowed."""
    recorded = run_dir.identity()
    now = json.loads(json.dumps(plan.identity()))
    changed = [key for key in now | recorded if now.get(key) != recorded.get(key)]
    if larger_roi:
        changed.remove("ROI")
    lines = [f"  {key}: was {recorded.get(key)}, is now {now.get(key)}" for key in changed]
    places = changed_places(run_dir.plan().input.sample_sha256, plan.input.sample_sha256)
    if places:
        lines.append(f"  input: the values of the chunk at voxel ({places[0]}) have changed")
    if not lines:
        return
    raise RunStateError(
        f"{plan.output.path} was begun by a run that differs:\n"
        + "\n".join(lines)
        + f"\nResume with what it was begun with ({run_dir.path / 'config.yaml'}), give another "
        "--output, or start afresh with --overwrite."
    )


def check_unchanged(plan: Plan, sample: dict[str, str]) -> None:
    """Raise RunFailedError if a new sample of the input differs from the plan's."""
    places = changed_places(plan.input.sample_sha256, sample)
    if places:
        raise RunFailedError(
            f"the input {plan.input.path} was changed while the run went on: the values of its "
            f"chunk at voxel ({places[0]}) have changed. {plan.output.path} may hold a mixture; "
            "predict it again with --overwrite."
        )
