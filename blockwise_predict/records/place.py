"""Where a run's records go unless the user says it."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.errors import RunStateError


def default_run_dir(output: str) -> Path:
    """The run directory of an output `container/name`, beside its container.

    Raises RunStateError for an output on an object store, which has no "beside" that can be locked,
    and for one that is a file system's root, or lies in it.
    """
    if "://" in output:
        raise RunStateError(
            f"{output} is not on a file system: say with --run-dir where the run's records go."
        )
    path = Path(output).absolute()
    containers = [p for p in (path, *path.parents) if p.name.lower().endswith((".zarr", ".n5"))]
    container = containers[-1] if containers else path.parent
    # As in JSON pointers (RFC 6901), so that each output has a name of its own.
    parts = [p.replace("~", "~0") for p in path.relative_to(container).parts]
    if not container.name:
        raise RunStateError(f"{output} lies in no container: say where it goes, as out.zarr/affs.")
    return container.with_name(container.name + ".predict-run") / ("~1".join(parts) or "root")
