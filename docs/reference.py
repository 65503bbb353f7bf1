"""`python docs/reference.py` writes docs/reference.md, from the options as they are declared."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.cli.run import EXIT_CODES
from blockwise_predict.config.consent import CONSENT
from blockwise_predict.config.model import OPTIONS
from blockwise_predict.config.option import Group, Option

FILE = Path(__file__).with_suffix(".md")
HEAD = """\
# Options of a run

Generated from the fields in blockwise_predict/config by `python docs/reference.py`: edit those.

`predict run` and `predict plan` take these options on the command line and, under the keys beside
them, from a YAML file (`predict run config.yaml`). Options on the command line win. Shapes are in
voxels, lengths in nm, axes in the order z, y, x. The other commands have some of the same options:
see `predict COMMAND --help`.

`--unsafe-load-pickle`, `--trust-run-dir`, `--submit-options`, `--notify`, and a `--fleet` that is a
job script or a command let others' files or programs be executed. They are accepted on the command
line only, never from a file; see [security.md](security.md).
"""
EXIT_CODES_HEAD = """\
## Exit codes

| code | of `predict run` and `predict retry` |
|---|---|
"""


def reference() -> str:
    """The text of docs/reference.md."""
    sections = [HEAD, *map(_section, Group)]
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    return "\n".join([*sections, EXIT_CODES_HEAD + codes])


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
