"""Configuration from options and YAML."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import click
import pytest

from blockwise_predict.cli.run import run
from blockwise_predict.config.model import RunConfig, load_config, load_value
from blockwise_predict.errors import ConfigError

NEEDED = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/out"}


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("checkpoint: from_file\ninput: i\noutput: o\nworkers: 4\n")
    config = load_config({"workers": 2, "checkpoint": None}, file)
    assert (config.workers, config.checkpoint) == (2, "from_file")


def test_all_mistakes_are_reported_at_once_with_their_origin(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("input: i\nborder: mirror\nblock_shpae: [1, 2, 3]\n")
    with pytest.raises(ConfigError) as caught:
        load_config({"tile_shape": "64,sixty,64", "roi": "[1-2]"}, file)
    text = str(caught.value)
    assert "--checkpoint is missing" in text
    assert "--output is missing" in text
    assert f"{file}: border 'mirror'" in text
    assert f"{file}: block_shpae: there is no such key" in text
    assert "--tile-shape '64,sixty,64': write one whole number" in text
    assert "--roi '[1-2]'" in text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("workers", -1, "greater than or equal to 0"),
        ("voxel_size", "4,four,4", "one length in nm"),
        ("voxel_size", "4,1/0,4", "one length in nm"),
        ("chunk_shape", "0,64,64", "at least 1"),
        ("output_range", "1,0", "HIGH must be greater"),
        ("output_range", "0", "LOW,HIGH"),
        ("normalize", "minmax", "auto, none, range:LOW,HIGH"),
        ("normalize", "range:5,5", "HIGH must be greater"),
        ("normalize", "zscore:5", "two numbers"),
        ("device", "gpu", "write auto, cpu, cuda or cuda:N"),
        ("output_dtype", "int64", "uint8"),
    ],
)
def test_each_mistake_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config({**NEEDED, key: value})
    assert f"--{key.replace('_', '-')}" in str(caught.value)
    assert str(value) in str(caught.value)


def test_a_range_without_an_integer_dtype_is_refused() -> None:
    with pytest.raises(ConfigError, match="only for integer outputs"):
        load_config({**NEEDED, "output_range": "0,1"})


@pytest.mark.parametrize(
    "given", [{"overlap": 0.25}, {"augment_channels": "scalars"}], ids=["overlap", "channels"]
)
def test_an_option_without_effect_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(given))}: has no effect without"):
        load_config({**NEEDED, **given})
    load_config({**NEEDED, **given, "blend": True, "augment": "flips"})


def test_one_value_is_read_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for key, value in {"factory": "net.py:build", "iteration": 3, "architecture": "a"}.items():
            assert load_value(key, value) == value
    with pytest.raises(ConfigError, match="greater than or equal to 0"):
        load_value("iteration", -1)


def test_shapes_and_lengths_as_people_write_them() -> None:
    config = load_config({**NEEDED, "block_shape": "64x64x64", "voxel_size": [4.24, 4, 4]})
    assert config.block_shape == (64, 64, 64)
    assert config.voxel_size == (Fraction(106, 25), 4, 4)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 * 2**30), ("1KB", 1000), ("1kiB", 1024), ("1.5 G", 1_500_000_000), (4096, 4096)],
)
def test_sizes_of_memory_as_people_write_them(text: object, size: int) -> None:
    assert load_config({**NEEDED, "memory": text}).memory == size


def test_a_file_that_is_not_there_or_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config({}, tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        load_config({}, tmp_path / "bad.yaml")


def test_the_configuration_survives_its_own_json() -> None:
    config = load_config({**NEEDED, "roi": "[0:1,:,:]", "output_dtype": "uint8"})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_every_key_is_an_option_and_every_option_a_key() -> None:
    options = {p.name for p in run.params if isinstance(p, click.Option)}
    # How much is said is no option of the run itself.
    assert options - {"quiet", "verbose"} == set(RunConfig.model_fields)


def test_several_checkpoints_are_written_without_a_warning() -> None:
    config = load_config({**NEEDED, "checkpoint": ["one", "other"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = config.model_dump_json()
    assert RunConfig.model_validate_json(written) == config
