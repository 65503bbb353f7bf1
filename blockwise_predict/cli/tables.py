"""Label and value rows on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows with their values aligned, each further line of a value below its first."""
    width = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        first, *rest = value.splitlines() or [""]
        click.echo(f"{label:<{width}}{first}")
        for line in rest:
            click.echo(" " * width + line)
