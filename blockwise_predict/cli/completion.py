"""`predict completion`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from blockwise_predict.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PREDICT_COMPLETE"


@click.command(short_help="Let bash, zsh or fish complete commands and options.")
@click.argument("shell", type=click.Choice(SHELLS), required=False, metavar="[SHELL]")
@click.option("--install", is_flag=True, help="Write it where the shell looks for completions.")
def completion(shell: str | None, install: bool) -> None:
    """Print the script by which SHELL (bash, zsh or fish) completes commands and options.

    With --install, write it to the folder of your own completions, and nothing else. Without
    SHELL, the one that $SHELL names.

    \b
    predict completion bash --install
    predict completion zsh > ~/.zfunc/_predict
    """
    from click.shell_completion import get_completion_class

    shell = shell or Path(os.environ.get("SHELL", "")).name
    found = get_completion_class(shell)
    if shell not in SHELLS or found is None:
        raise ConfigError(f"name the shell: {', '.join(SHELLS)}; $SHELL is {shell!r}.")
    root = click.get_current_context().find_root().command
    script = found(root, {}, "predict", VARIABLE).source()
    if not install:
        click.echo(script)
        return
    target = _target(shell)
    _write(target, script)
    click.echo(f"Written: {target}")
    click.echo(_advice(shell, target))
    click.echo(f"To undo: rm {target}")


def _target(shell: str) -> Path:
    """Where a shell looks for the completions of this user."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    if shell == "bash":
        folder = os.environ.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion"
        return Path(folder) / "completions" / "predict"
    if shell == "zsh":
        return data / "zsh" / "site-functions" / "_predict"
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return config / "fish" / "completions" / "predict.fish"


def _write(target: Path, script: str) -> None:
    """Write the script, unless something else is there."""
    try:
        if target.exists() and VARIABLE not in target.read_text(errors="replace"):
            raise ConfigError(f"{target} exists and is not of this program; remove it first.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{script}\n")
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror}).") from None


def _advice(shell: str, target: Path) -> str:
    """What is left to do until the shell completes."""
    if shell == "bash":
        return "New shells complete `predict`, if the package bash-completion is installed."
    if shell == "fish":
        return "New shells complete `predict`."
    return (
        "New shells complete `predict`, if ~/.zshrc has this line before compinit:\n"
        f"  fpath=({target.parent} $fpath)"
    )
