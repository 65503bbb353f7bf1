"""A group of commands whose help lists them in sections."""

from __future__ import annotations

from typing import Any

import click


class SectionedGroup(click.Group):
    """Lists its commands by `sections`: a title, and the names of its commands in order."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections: dict[str, list[str]] = {}

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the commands, section by section."""
        width = max(map(len, self.commands))
        for title, names in self.sections.items():
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(limit=60))
                for name in names
            ]
            with formatter.section(title):
                formatter.write_dl(rows)
