"""`predict workers`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from blockwise_predict.errors import ConfigError

KINDS = {
    "slurm": ("slurm.sbatch", "a job script for Slurm: predict run --fleet ./slurm.sbatch"),
    "lsf": ("lsf.bsub", "a job script for IBM LSF: predict run --fleet ./lsf.bsub"),
    "local": ("local.sh", "adds a worker per GPU of a machine to a running run"),
    "kubernetes": ("kubernetes.yaml", "an indexed Job whose pods are workers"),
    "docker": ("Dockerfile", "an image that holds predict"),
    "apptainer": ("apptainer.def", "the same for Apptainer"),
    "readme": ("README.md", "what they are, and what each variable means"),
}


@click.group(short_help="The scripts that start workers elsewhere, to edit.")
def workers() -> None:
    """The scripts that start workers on clusters and in containers, meant to be edited.

    \b
    predict workers list
    predict workers copy slurm .        then: predict run --fleet ./slurm.sbatch ...
    """


@workers.command("list", short_help="What there is.")
def list_() -> None:
    """List the scripts, by the names that `copy` knows."""
    for kind, (name, what) in KINDS.items():
        click.echo(f"{kind:<12}{name:<18}{what}")


@workers.command(short_help="Copy a script, to edit it.")
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("target", type=click.Path(path_type=Path), default=Path())
def copy(kind: str, target: Path) -> None:
    """Copy the script of a KIND to TARGET, a folder or a new file. [default: here]"""
    from blockwise_predict.config.resources import resource_folder

    source = resource_folder("workers") / KINDS[kind][0]
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise ConfigError(f"{target} exists. Give another name, or remove it first.")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is no folder.")
    shutil.copy(source, target)
    click.echo(f"{target}")
