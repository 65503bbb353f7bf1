"""Options with a value for each output of a network."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.errors import ConfigError

NEEDED = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/both"}


def test_text_and_mappings_mean_the_same(tmp_path: Path) -> None:
    typed = load_config(
        {
            **NEEDED,
            "output_dtype": "affs=uint8, lsds=int16",
            "output_range": "affs=0,1,lsds=-1.5,1",
        }
    )
    file = tmp_path / "run.yaml"
    mappings = {
        "output_dtype": {"affs": "uint8", "lsds": "int16"},
        "output_range": {"affs": [0, 1], "lsds": "-1.5,1"},
    }
    file.write_text(yaml.safe_dump({**NEEDED, **mappings}))
    read = load_config({}, file)
    assert read == typed
    assert (read.dtype_of("lsds"), read.range_of("lsds")) == ("int16", (-1.5, 1.0))
    assert (read.dtype_of("other"), read.range_of("other")) == ("float32", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RunConfig.model_validate_json(read.model_dump_json()) == read


def test_one_value_is_for_every_output() -> None:
    config = load_config({**NEEDED, "output_dtype": "uint8", "output_range": "0,2"})
    assert (config.dtype_of("affs"), config.range_of("affs")) == ("uint8", (0.0, 2.0))
    assert config.named_outputs == {}
    # A range for all is for those that are integers.
    mixed = {"output_dtype": "affs=uint8,lsds=float32", "output_range": "0,2"}
    assert load_config({**NEEDED, **mixed}).range_of("affs") == (0.0, 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_dtype": "affs="}, "Input should be 'uint8'"),
        ({"output_dtype": {}}, "name outputs of the network, each with its value"),
        ({"output_dtype": {"affs": ["uint8"]}}, "Input should be 'uint8'"),
        ({"output_dtype": 8}, "Input should be 'uint8'"),
        ({"output_dtype": "uint8", "output_range": "affs=0"}, "write LOW,HIGH"),
        ({"output_dtype": "uint8", "output_range": "affs=1,0"}, "HIGH must be greater than LOW"),
        (
            {"output_dtype": "affs=float32,lsds=float16", "output_range": "0,1"},
            "output_range is only for integer outputs, but output_dtype is float32",
        ),
    ],
)
def test_mistakes_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({**NEEDED, **options})


def test_decisions_are_written_in_one_way() -> None:
    config = load_config({**NEEDED, "postprocess": "mito=threshold:.5, er=argmax"})
    assert config.postprocess == {"mito": "threshold:0.5", "er": "argmax"}
    assert config.postprocess_of("other") is None
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert load_config({**NEEDED, "postprocess": "threshold:-1e2"}).postprocess == "threshold:-100"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"postprocess": "threshold"}, "write threshold:VALUE, for example threshold:0.5"),
        ({"postprocess": "threshold:half"}, "write threshold:VALUE"),
        ({"postprocess": "threshold:nan"}, "must be a finite float32"),
        ({"postprocess": "threshold:1e39"}, "must be a finite float32"),
        ({"postprocess": "argmax:2"}, "or argmax"),
        ({"postprocess": "mito=softmax"}, "or argmax"),
        (
            {"postprocess": "argmax", "output_dtype": "uint8"},
            "output_dtype: postprocess argmax stores integers of its own; leave output_dtype out",
        ),
        (
            {"postprocess": "mito=argmax", "output_dtype": "er=uint8,mito=uint16"},
            "output_dtype of mito: postprocess argmax stores integers of its own",
        ),
    ],
)
def test_decisions_that_cannot_be_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config({**NEEDED, **options})
