"""An overview as a page: sections of rows, for a terminal, a notebook or a log."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from blockwise_predict.run.overview.document import Overview
from blockwise_predict.run.overview.rows import (
    block_rows,
    cost_rows,
    duration_lines,
    input_rows,
    measured_rows,
    network_rows,
    output_rows,
)

Rows = list[tuple[str, str]]
WIDTH = 80


@dataclass(frozen=True)
class Section:
    """A heading, rows of a label and a value, and a `table` with its head, right-aligned."""

    title: str
    rows: Rows
    table: tuple[tuple[str, ...], ...] = ()


def sections_of(overview: Overview) -> list[Section]:
    """The sections of the page; those without content are left out."""
    measured = overview.measured
    table = tuple(duration_lines(measured)) if measured else ()
    sections = [
        Section("Network", list(network_rows(overview.network))),
        Section("Input", list(input_rows(overview.input))),
        Section("Output", list(output_rows(overview.output))),
        Section("Blocks", list(block_rows(overview.blocks, overview.workers))),
        Section("Cost", [*cost_rows(overview.cost), *measured_rows(overview)], table),
        Section("Notes", [("", note) for note in overview.notes]),
        Section("Warnings", [("", f"Warning: {warning}") for warning in overview.warnings]),
    ]
    return [section for section in sections if section.rows]


def as_text(overview: Overview, width: int = WIDTH) -> str:
    """The page in lines of at most `width` characters, as far as words (paths) are no longer."""
    sections = sections_of(overview)
    column = max(len(label) for section in sections for label, _ in section.rows) + 4
    lines: list[str] = []
    for section in sections:
        lines += ["", section.title]
        for label, value in section.rows:
            lines += _wrapped(f"  {label:<{column - 2}}" if label else "  ", value, width)
        lines += _aligned(section.table)
    return "\n".join(lines[1:])


def _wrapped(label: str, value: str, width: int) -> list[str]:
    """A value beside its label, each further line below its first."""
    lines = [
        part
        for line in value.splitlines()
        for part in textwrap.wrap(
            line, width - len(label), break_long_words=False, break_on_hyphens=False
        )
    ] or [""]
    return [(label if not number else " " * len(label)) + line for number, line in enumerate(lines)]


def _aligned(table: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, with numbers to the right and the last column to the left."""
    if not table:
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    yield ""
    for row in table:
        cells = [f"{cell:>{size}}" for cell, size in zip(row[:-1], widths, strict=False)]
        yield "  " + "   ".join((*cells, row[-1]))


def as_html(overview: Overview) -> str:
    """The page as tables, for notebooks."""
    parts = []
    left = "style='text-align: left'"
    for section in sections_of(overview):
        if section.title == "Warnings":
            parts += [
                f"<p><b>Warning:</b> {escape(text.removeprefix('Warning: '))}</p>"
                for _, text in section.rows
            ]
            continue
        rows = "".join(
            f"<tr><th {left}>{escape(label)}</th><td {left}>{escape(value)}</td></tr>"
            for label, value in section.rows
        )
        parts.append(f"<h4>{section.title}</h4><table>{rows}</table>")
        if section.table:
            head, *body = section.table
            cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            lines = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in body
            )
            parts.append(f"<table><tr>{cells}</tr>{lines}</table>")
    return "".join(parts)
