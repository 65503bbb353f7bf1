"""The help texts of all commands."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from blockwise_predict.cli import SECTIONS
from blockwise_predict.cli import predict as group

COMMANDS = {
    "": group,
    **group.commands,
    **{
        f"{name} {below}": one
        for name, command in group.commands.items()
        if isinstance(command, click.Group)
        for below, one in command.commands.items()
    },
}


def help_of(name: str) -> str:
    result = CliRunner().invoke(
        group, [*name.split(), "--help"], prog_name="predict", terminal_width=80
    )
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_it_fits_begins_with_a_sentence_and_has_examples(name: str) -> None:
    text = help_of(name)
    assert not [line for line in text.splitlines() if len(line) > 80]
    first = text.split("\n\n")[1]
    assert re.fullmatch(r"  [A-Z][^.]*(\.\w[^.]*)*\.( .*)?", first.replace("\n", " "), re.DOTALL)
    assert re.search(rf"\n  predict {name}".rstrip(), text)
    assert f"Usage: predict {name}".rstrip() in text


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_without_help(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_commands_are_listed_once_and_in_sections() -> None:
    named = [command for commands in SECTIONS.values() for command in commands]
    assert sorted(str(command.name) for command in named) == sorted(group.commands)
    text = help_of("")
    places = [text.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places)
    for name, command in group.commands.items():
        assert re.search(
            rf"^  {name} +{re.escape(command.get_short_help_str(30)[:20])}", text, re.M
        )
