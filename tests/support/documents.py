"""What the documents show to be typed: commands and pieces of code, in their order."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tests.support.shared import ROOT

DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "workers" / "README.md"),
    *sorted((ROOT / "docs").glob("*.md")),
]
# Pages made from the code show what it says.
GENERATED = {"cli.md", "reference.md", "api-reference.md"}
COMMAND = re.compile(r"\bpredict (?=[a-z]+\b)")
FENCE = re.compile(r"( *)(`{3,})(\w*).*")


@dataclass(frozen=True)
class Snippet:
    """A piece of code, or the lines of a terminal."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """Each `predict ...` in it, as it would be typed, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [found for line in lines if (found := _command(line))]


def _command(line: str) -> str | None:
    match = COMMAND.search(line)
    if match is None or line.lstrip().startswith("#"):
        return None
    before, command = line[: match.start()], line[match.start() :]
    # What another command is given to run.
    if before.count('"') % 2:
        command = command.rpartition('"')[0]
    return shlex.join(shlex.split(command, comments=True))


def name_of(document: Path) -> str:
    """A document's name, beside which the README of the workers has its folder."""
    return "workers/README.md" if document.parent.name == "workers" else document.name


def snippets(document: Path) -> Iterator[Snippet]:
    """The fenced blocks of a document."""
    lines = enumerate(document.read_text().splitlines(), 1)
    for number, line in lines:
        if fence := FENCE.fullmatch(line):
            body = [text for _, text in takewhile(lambda each: not _ends(each[1], fence), lines)]
            text = textwrap.dedent("\n".join(body)) + "\n"
            yield Snippet(name_of(document), number, fence[3], text)


def _ends(line: str, fence: re.Match[str]) -> bool:
    return line.strip() == fence[2]


def inline_commands(document: Path) -> list[str]:
    """Commands with options within sentences and tables."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    quoted = re.findall(r"`(predict [a-z]+ [^`\n]*)`", text)
    return [line for whole in quoted for line in whole.split(" && ") if "--" in line]
