"""`predict workers`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from blockwise_predict.errors import ConfigError

KINDS = {
    "slurm": ("slurm.sbatch", "job script for Slurm: predict run --fleet ./slurm.sbatch"),
    "lsf": ("lsf.bsub", "job script for IBM LSF: predict run --fleet ./lsf.bsub"),
    "local": ("local.sh", "adds one worker per GPU of a machine to a run"),
    "kubernetes": ("kubernetes.yaml", "indexed Job whose pods are workers"),
    "docker": ("Dockerfile", "image with predict"),
    "apptainer": ("apptainer.def", "image with predict, for Apptainer"),
    "readme": ("README.md", "how to use them, and what each variable means"),
}


@click.group(short_help="List or copy the scripts that start workers elsewhere.")
def workers() -> None:
    """Scripts that start workers on clusters and in containers, to be copied and edited.

    \b
    predict workers list
    predict workers copy slurm .
    predict run --fleet ./slurm.sbatch ...
    """


@workers.command("list", short_help="List the scripts.")
def list_() -> None:
    """List the scripts, by the names that `copy` takes.

    \b
    predict workers list
    """
    for kind, (name, what) in KINDS.items():
        click.echo(f"{kind:<12}{name:<18}{what}")


@workers.command(short_help="Copy a script.")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("target", type=click.Path(path_type=Path), default=Path())
def copy(kind: str, target: Path) -> None:
    """Copy the script of a KIND to TARGET, a folder or a new file. [default: .]

    \b
    predict workers copy slurm .
    """
    from blockwise_predict.config.resources import resource_folder

    source = resource_folder("workers") / KINDS[kind][0]
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise ConfigError(f"{target} exists. Give another name, or remove it first.")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is not a folder.")
    shutil.copy(source, target)
    click.echo(f"{target}")
