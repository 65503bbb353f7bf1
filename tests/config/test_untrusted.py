"""Malicious YAML and JSON is refused at once, with a message that says where."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.config.model import load_config
from blockwise_predict.config.untrusted import (
    MAX_JSON_BYTES,
    MAX_YAML_BYTES,
    MalformedError,
    parse_json,
    parse_yaml,
)
from blockwise_predict.errors import CheckpointError, ConfigError
from tests.support.networks import TINY_3D, save_network
from tests.support.refusals import refused
from tests.support.runs import predict

pytestmark = pytest.mark.usefixtures("bounded")

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


YAML_CASES = {
    "billion laughs": (LAUGHS, r"line 5, column 4: with its aliases written out"),
    "an alias in itself": ("a: &a [*a]\n", "line 1, column 4: an alias stands inside"),
    "deep nesting": ("a: " + "[" * 5000, "line 1, column 67: it is nested deeper than 64"),
    "no date": ("a: 2001-99-99\n", "line 1, column 4: '2001-99-99' is not a valid timestamp"),
    "many digits": ("a:\n  b: " + "9" * 5000, "line 2, column 6: the number .* has 5000 digits"),
    "half a character": ('a: "\\ud800"\n', "line 1, column 4: "),
    "no UTF-8": ("a: \udcff", "invalid start byte"),
    "too large": ("a: b\n" * (MAX_YAML_BYTES // 5 + 1), "more than 1 MiB"),
    "too many nodes": ("a: [" + "1, " * 30_000 + "]", "more than 10000 nodes"),
    "a list in a key": ("? !!python/tuple [[1]]\n: 2\n", "line 1, column 1: a key"),
}


@pytest.mark.parametrize("case", YAML_CASES)
def test_yaml_that_is_refused_says_where(case: str, tmp_path: Path) -> None:
    text, place = YAML_CASES[case]
    weights, architecture = save_network(tmp_path)
    architecture.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=place) as caught:
        open_checkpoint(weights, architecture=architecture)
    assert str(caught.value).startswith(f"{architecture} is not plain YAML data")
    with pytest.raises(ConfigError, match=place) as wrong:
        load_config({}, architecture)
    assert str(wrong.value).startswith(f"{architecture}: is not valid YAML")
    assert len(str(caught.value)) < 800


def test_the_command_line_refuses_a_billion_laughs(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    architecture.write_text(LAUGHS)
    output = predict("inspect", weights, "--architecture", architecture, code=2)
    assert f"{architecture} is not plain YAML data: line 5" in output


def test_aliases_within_bounds_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]\n") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_keys_that_are_not_text(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("1: 2\n")
    assert f"{file}: is not valid YAML of keys and values: the key 1 is not text" in refused(
        ConfigError, lambda: load_config({}, file)
    )
    weights, architecture = save_network(tmp_path)
    architecture.write_text(yaml.safe_dump({"architecture": {**TINY_3D, 5: 6, None: 7}}))
    message = refused(CheckpointError, lambda: open_checkpoint(weights, architecture=architecture))
    assert f"{architecture}: in the architecture, the key 5 is not text" in message


def test_many_mistakes_are_counted_not_listed(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("".join(f"key{number}: 1\n" for number in range(3000)))
    with pytest.raises(ConfigError, match="and 2983 more mistakes") as caught:
        load_config({}, file)
    assert len(str(caught.value)) < 20_000


def test_json_is_bounded() -> None:
    with pytest.raises(MalformedError, match="more than 16 MiB"):
        parse_json(b" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(MalformedError, match="more than 1000000 values"):
        parse_json("[" + "0," * 1_000_000 + "0]")
    with pytest.raises(MalformedError, match="more than 1000000 values"):
        parse_json(b"[" + (b"[" * 400 + b"]" * 400 + b",") * 5000 + b"0]")
    with pytest.raises(MalformedError, match="Infinity stands where a finite number is needed"):
        parse_json('{"a": Infinity}', finite=True)
    assert parse_json('{"a": [1, 2.5, "\\u00e9", null]}') == {"a": [1, 2.5, "é", None]}
