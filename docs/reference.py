"""`python docs/reference.py` writes docs/reference.md and docs/cli.md, from the options as they are
declared and from what `predict COMMAND --help` prints."""

from __future__ import annotations

from pathlib import Path

import click

from blockwise_predict.cli import predict
from blockwise_predict.cli.run import EXIT_CODES
from blockwise_predict.config.consent import CONSENT
from blockwise_predict.config.model import OPTIONS
from blockwise_predict.config.option import Group, Option

FILE = Path(__file__).with_suffix(".md")
CLI_FILE = FILE.with_name("cli.md")
HEAD = """\
# Options of a run

Generated from the fields in blockwise_predict/config by `python docs/reference.py`: edit those.

`predict run` and `predict plan` take these options on the command line and, under the keys beside
them, from a YAML file (`predict run config.yaml`). Options on the command line win. Shapes are in
voxels, lengths in nm, axes in the order z, y, x. The other commands have some of the same options:
see `predict COMMAND --help`, or [cli.md](cli.md).

`--unsafe-load-pickle`, `--trust-run-dir`, `--submit-options`, `--notify`, and a `--fleet` that is a
job script or a command let others' files or programs be executed. They are accepted on the command
line only, never from a file; see [security.md](security.md).
"""
EXIT_CODES_HEAD = """\
## Exit codes

| code | of `predict run` and `predict retry` |
|---|---|
"""
CLI_HEAD = """\
# Commands

Generated from the commands in blockwise_predict/cli by `python docs/reference.py`: edit those.
[reference.md](reference.md) has the options of a run with their keys in a YAML file.
"""
# Characters in a line, as in a terminal of 80.
WIDTH = 80


def reference() -> str:
    """The text of docs/reference.md."""
    sections = [HEAD, *map(_section, Group)]
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return "\n".join([*sections, EXIT_CODES_HEAD + codes])


def cli() -> str:
    """The text of docs/cli.md."""
    context = click.Context(predict, info_name="predict", **predict.context_settings)
    return "\n".join([CLI_HEAD, *_help_texts(predict, context)])


def _help_texts(command: click.Command, context: click.Context) -> list[str]:
    """What `--help` of a command, and of those below it, says."""
    context.terminal_width = WIDTH
    level = "##" if context.parent is None or context.parent.parent is None else "###"
    text = f"{level} {context.command_path}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    below = command.commands.items() if isinstance(command, click.Group) else ()
    contexts = [(c, click.Context(c, context, info_name=name)) for name, c in sorted(below)]
    return [text, *(part for c, ctx in contexts for part in _help_texts(c, ctx))]


def _section(group: Group) -> str:
    rows = "".join(_row(option) for option in OPTIONS.values() if option.group is group)
    return (
        f"## {group}\n\n"
        "| option | key | value | default | meaning |\n"
        "|---|---|---|---|---|\n" + rows
    )


def _row(option: Option) -> str:
    meaning = option.description
    if option.example is not None:
        meaning += f" Example: `{option.example}`"
    cells = (
        f"`{option.name}`",
        "" if option.key in CONSENT else f"`{option.key}`",
        _value(option),
        "required" if option.required else option.default or "none",
        meaning,
    )
    return f"| {' | '.join(map(cell, cells))} |\n"


def cell(text: str) -> str:
    """A text in a table, in which `|` and `][` have no other meaning."""
    return text.replace("|", "&#124;").replace("][", "]&#91;")


def _value(option: Option) -> str:
    """What may be given."""
    if option.choices:
        return ", ".join(f"`{choice}`" for choice in option.choices)
    if option.kind is bool:
        return "flag" if option.key in CONSENT else "true or false"
    kind = f"`{option.metavar}`" if option.metavar else "integer"
    return f"{kind}, {option.limits}" if option.limits else kind


if __name__ == "__main__":
    FILE.write_text(reference())
    CLI_FILE.write_text(cli())
