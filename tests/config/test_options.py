"""Options as they are declared, and what becomes of their values."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Literal, get_args, get_origin

import click
import pytest
import yaml
from click.testing import CliRunner

from blockwise_predict.cli import predict as predict_group
from blockwise_predict.cli.options import RunOption
from blockwise_predict.cli.run import run
from blockwise_predict.config.model import JOB_OPTIONS, OPTIONS, RunConfig, load_config, load_value
from blockwise_predict.config.option import Group, option_name
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.grid import RequestedRoi
from tests.support.shared import ROOT

NEEDED = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/out"}
# What commands other than run and plan take of a run's options.
SHARED = {
    "inspect": {
        "iteration",
        "architecture",
        "unsafe_load_pickle",
        "factory",
        "voxel_size",
        "offset",
    },
    "logs": {"run_dir", "trust_run_dir"},
    "scale": {"run_dir", "trust_run_dir"},
    "verify": {"run_dir", "trust_run_dir", "unsafe_load_pickle", "factory"},
    "retry": {
        "run_dir",
        "trust_run_dir",
        "unsafe_load_pickle",
        "factory",
        "fleet",
        "submit_options",
        "metrics_port",
        "notify",
    },
    "worker": {"device", "slots", "trust_run_dir", "unsafe_load_pickle", "factory"},
}


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {str(p.name): p for p in command.params if isinstance(p, click.Option)}


@pytest.mark.parametrize("key", RunConfig.model_fields)
def test_every_key_is_an_option_with_its_description_in_its_group(key: str) -> None:
    declared = RunConfig.model_fields[key]
    option = options_of(run)[key]
    assert isinstance(option, RunOption)
    assert option.opts == [option_name(key)]
    assert declared.description
    assert str(option.help).startswith(declared.description)
    assert option.group is OPTIONS[key].group
    # What is left out on the command line may be in the file.
    assert option.default is None
    # A default is part of the help, unless it is a flag's or there is none.
    shown = declared.default not in (None, False, ()) and not declared.is_required()
    assert not shown or "[default: " in str(option.help)


@pytest.mark.parametrize("key", [key for key, option in OPTIONS.items() if option.choices])
def test_choices_are_those_of_the_literal_type(key: str) -> None:
    annotation = RunConfig.model_fields[key].annotation
    literals = [kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is Literal]
    (choices,) = map(get_args, literals)
    offered = options_of(run)[key].type
    assert isinstance(offered, click.Choice)
    assert tuple(offered.choices) == choices
    for choice in choices:
        assert getattr(load_config({**NEEDED, "augment": "flips", key: choice}), key) == choice


def test_some_options_are_choices() -> None:
    offered = {key for key, option in options_of(run).items() if type(option.type) is click.Choice}
    assert offered == {
        *("activation", "border", "bad_input", "format", "precision"),
        *("augment", "augment_channels"),
    }


def test_the_help_lists_every_group_once_in_order() -> None:
    text = CliRunner().invoke(predict_group, ["run", "--help"]).output
    headings = [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == [*Group, "Other options"]
    assert text.index("--queue NAME") > text.index(f"{Group.CLUSTER}:")


def test_the_options_of_jobs_are_those_of_their_group() -> None:
    assert set(JOB_OPTIONS) == {
        *("queue", "project", "gpus", "cores", "job_memory", "wall_time", "throttle"),
        "submit_options",
    }


@pytest.mark.parametrize("name", SHARED)
def test_other_commands_take_their_share_of_the_options(name: str) -> None:
    options = options_of(predict_group.commands[name])
    assert set(options) & set(RunConfig.model_fields) == SHARED[name]
    for key in SHARED[name]:
        assert str(options[key].help).startswith(OPTIONS[key].description)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "x", "--voxel-size", "4,four,4"], "--voxel-size '4,four,4': write one length"),
        (["inspect", "x", "--iteration", "-1"], "--iteration -1: "),
        (["worker", ".", "--device", "gpu"], "--device 'gpu': write auto, cpu, cuda or cuda:N"),
        (["worker", ".", "--slots", "17"], "--slots 17: "),
        (["retry", "x", "--fleet", "none"], "--fleet 'none': write local, slurm, lsf"),
    ],
)
def test_other_commands_check_them_as_a_run_does(words: list[str], message: str) -> None:
    error = CliRunner().invoke(predict_group, words).exception
    assert isinstance(error, ConfigError)
    assert str(error).startswith(message)
    key = words[2].removeprefix("--").replace("-", "_")
    with pytest.raises(ConfigError) as caught:
        load_config({**NEEDED, key: words[3]})
    assert str(error).split(": ", 1)[1] == str(caught.value).split(": ", 1)[1]


def test_the_roi_is_parsed_once_and_recorded_as_it_was_written() -> None:
    text = " [0:1e3, :, 1/3:8.50]"
    config = load_config({**NEEDED, "roi": text})
    bounds = ((0, 1000), (None, None), (Fraction(1, 3), Fraction(17, 2)))
    assert config.roi == RequestedRoi(text, bounds)
    assert config.model_dump()["roi"] == config.model_dump(mode="json")["roi"] == text
    assert json.loads(config.model_dump_json())["roi"] == text
    assert load_config(config.model_dump(exclude_none=True)) == config


def test_lengths_are_exact_and_recorded_as_decimals() -> None:
    config = load_config({**NEEDED, "voxel_size": "4.24x4x1/3", "offset": [-8, 0.5, "1e3"]})
    assert config.voxel_size == (Fraction(106, 25), 4, Fraction(1, 3))
    recorded = config.model_dump(mode="json")
    assert recorded["voxel_size"] == ["4.24", "4", "1/3"]
    assert recorded["offset"] == ["-8", "0.5", "1000"]
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_a_recorded_configuration_is_plain_yaml() -> None:
    given = {"roi": "[0:1,:,:]", "voxel_size": "4.24,4,4", "memory": "8GiB"}
    recorded = load_config({**NEEDED, **given}).model_dump(mode="json", exclude_none=True)
    again = yaml.safe_load(yaml.safe_dump(recorded))
    assert again["roi"] == "[0:1,:,:]"
    assert again["voxel_size"] == ["4.24", "4", "4"]
    assert again["memory"] == 8 * 2**30


@pytest.mark.parametrize("name", ["local", "slurm", "lsf"])
def test_keys_that_shipped_configurations_only_mention_are_valid(name: str) -> None:
    file = ROOT / "configs" / f"{name}.yaml"
    mentioned = re.findall(r"^# (\w+: .+)$", file.read_text(), re.MULTILINE)
    given = {key: value for line in mentioned for key, value in yaml.safe_load(line).items()}
    assert len(given) >= 3
    assert load_config(given, file)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("8GiB", 8 << 30), ("8Gi", 8 << 30), ("8 GiB", 8 << 30), (" 8GiB ", 8 << 30)],
        *[("500 MB", 500_000_000), ("8G", 8 * 10**9), ("1k", 1000), ("2TiB", 2 << 40)],
        *[("1.5 G", 1_500_000_000), ("1.GiB", 1 << 30), ("4096", 4096), (4096.0, 4096)],
        *[("0.5KiB", 512), ("7B", 7), (1 << 60, 1 << 60)],
    ],
)
def test_sizes_of_memory_in_bytes(text: object, size: int) -> None:
    assert load_value("memory", text) == size


@pytest.mark.parametrize(
    "text", ["", "much", "-1", "1,5GiB", "8GiB free", "8 G B", "8 bit", "0x10", "1e9", True, [1]]
)
def test_what_is_no_size_of_memory(text: object) -> None:
    with pytest.raises(ConfigError, match=r"--memory .*: write a size of at most"):
        load_value("memory", text)


@pytest.mark.parametrize("text", [1 << 61, "2000000TiB"])
def test_a_size_of_memory_has_a_limit(text: object) -> None:
    with pytest.raises(ConfigError, match=f"less than or equal to {1 << 60}"):
        load_value("memory", text)
