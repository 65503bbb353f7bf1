"""The options of the command line that are keys of `RunConfig`, made from its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from blockwise_predict.cli.completing import PATH, completion_of, takes_path
from blockwise_predict.config.model import (
    OPTIONS,
    WORKER_OPTIONS,
    RunConfig,
    load_config,
    load_value,
)
from blockwise_predict.config.option import Group, Option
from blockwise_predict.config.price import Price

Command = Callable[..., None]


class RunOption(click.Option):
    """An option of a run, which is listed under the heading of its group."""

    def __init__(self, *names: Any, group: Group, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options by groups; those without one come last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in Group}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                title = parameter.group if isinstance(parameter, RunOption) else "Other options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def run_options(function: Command) -> Command:
    """Give a command the argument CONFIG.yaml and all options of a run, and pass it one `config`.

    Options of the command's own are passed on.
    """

    def command(config: str | None, **options: Any) -> None:
        options = {key: None if value == () else value for key, value in options.items()}
        own = {key: options.pop(key) for key in [*options] if key not in RunConfig.model_fields}
        function(load_config(options, config), **own)

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    for option in reversed(OPTIONS.values()):
        # The default is None, not False, where the file may say otherwise.
        declared = click.option(
            option.name,
            cls=RunOption,
            group=option.group,
            help=option.help(),
            default=None,
            multiple=option.repeatable,
            **_value(option),
        )
        command = declared(command)
    return click.argument("config", required=False, metavar="[CONFIG.yaml]", type=PATH)(command)


def run_option(
    key: str, *, unset: str | None = None, repeated: bool = False
) -> Callable[[Command], Command]:
    """One option of a run, for another command, which gets the value as `RunConfig` would hold it.

    `unset` says what leaving it out means there, if that is something else. `repeated` tells that
    what is repeatable for a run is so there, too.
    """

    def checked(_: click.Context, __: click.Parameter, value: object) -> object:
        return None if value is None or value == () else load_value(key, value)

    option = OPTIONS[key]
    told: dict[str, Any] = {"cls": RunOption, "group": option.group, "help": option.help(unset)}
    if option.kind is bool:
        return click.option(option.name, **told, is_flag=True)
    told |= {"callback": checked, "multiple": repeated and option.repeatable}
    return click.option(option.name, **told, **_value(option))


def _price(_: click.Context, __: click.Parameter, value: str | None) -> Price | None:
    return None if value is None else Price.parse(value)


price_option = click.option(
    "--price",
    metavar="AMOUNT",
    callback=_price,
    help='Price of a worker for an hour, for example 2.50 or "2.50 USD": show the cost.',
)


def worker_options(**unset: str) -> Callable[[Command], Command]:
    """All options of workers but their device, for a command that needs no network.

    `unset` says what leaving some of them out means there.
    """

    def decorate(function: Command) -> Command:
        for key in (key for key in reversed(WORKER_OPTIONS) if key != "device"):
            function = run_option(key, unset=unset.get(key))(function)
        return function

    return decorate


def _value(option: Option) -> dict[str, Any]:
    """How click reads the value of an option, and the shell completes it."""
    if option.kind is bool:
        return {"is_flag": True}
    if option.choices:
        return {"type": click.Choice(option.choices)}
    kind = PATH if takes_path(option) else option.kind
    return {"type": kind, "metavar": option.metavar, "shell_complete": completion_of(option)}
