"""Label and value rows on the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import click

# What a page is as wide as, in columns, where the terminal is not in between.
NARROWEST, WIDEST = 60, 100


def row_lines(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Rows as lines with their values aligned, each further line of a value below its first."""
    width = max(len(label) for label, _ in rows) + 2
    lines = []
    for label, value in rows:
        first, *rest = value.splitlines() or [""]
        lines.append(f"{label:<{width}}{first}".rstrip())
        lines += [" " * width + line for line in rest]
    return lines


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print the lines of rows."""
    for line in row_lines(rows):
        click.echo(line)


def page_width() -> int:
    """The columns of a page of text: those of the terminal, within bounds, and 80 without one."""
    return min(max(NARROWEST, shutil.get_terminal_size().columns), WIDEST)
