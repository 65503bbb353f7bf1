"""Where a run's records go by default."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.errors import RunStateError


def default_run_dir(output: str) -> Path:
    """The run directory of an output `container/name`, beside its container.

    Raises RunStateError for an output on an object store, which cannot hold a lock, on a web
    server, and for one that is a file system's root or lies directly in it.
    """
    if output.startswith(("http://", "https://")):
        raise RunStateError(f"{output}: http can be read only. Write to a path, s3:// or gs://.")
    if "://" in output:
        raise RunStateError(
            f"{output} is not on a file system: choose a place for the run's records with "
            "--run-dir."
        )
    path = Path(output).absolute()
    containers = [p for p in (path, *path.parents) if p.name.lower().endswith((".zarr", ".n5"))]
    container = containers[-1] if containers else path.parent
    # Escaped as in JSON pointers (RFC 6901), so that no two outputs get the same name.
    parts = [p.replace("~", "~0") for p in path.relative_to(container).parts]
    if not container.name:
        raise RunStateError(
            f"{output} is not in a container: name one and the array in it, as in out.zarr/affs."
        )
    return container.with_name(container.name + ".predict-run") / ("~1".join(parts) or "root")
