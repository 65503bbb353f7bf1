"""The options of LSF's bsub, as IBM's command reference documents them."""

from __future__ import annotations

import re

# What each option's argument must look like; None: it has none.
OPTIONS: dict[str, str | None] = {
    "-J": r"[A-Za-z0-9._-]+(\[\d+-\d+\](%[1-9]\d*)?)?",
    "-q": r"\S+",
    "-P": r"\S+",
    "-gpu": r"num=[1-9]\d*(/task|/host)?(:(mode|mps|j_exclusive|gmodel|gmem)=[\w.-]+)*",
    "-n": r"[1-9]\d*(,[1-9]\d*)?",
    "-R": r"(\w+\[[^\[\]]+\]\s*)+",
    "-M": r"[1-9]\d*(KB|MB|GB|TB|K|M|G|T)?",
    "-W": r"(\d+:)?\d+(/\S+)?",
    "-o": r".+",
    "-e": r".+",
    "-wa": r"[A-Z0-9]+",
    "-wt": r"(\d+:)?\d+",
    "-r": None,
}


class RefusedError(Exception):
    """What LSF says, with exit code 255."""


def parse_options(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options of bsub and what comes after them. Raises RefusedError as bsub refuses."""
    found: dict[str, list[str]] = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in OPTIONS:
            raise RefusedError(f"{name}: Illegal option. Job not submitted.")
        form = OPTIONS[name]
        if form is None:
            found[name] = []
            continue
        if not rest or not re.fullmatch(form, rest[0]):
            raise RefusedError(f"{name} {''.join(rest[:1])}: Bad argument. Job not submitted.")
        found.setdefault(name, []).append(rest.pop(0))
    return found, rest
