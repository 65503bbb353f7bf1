"""Architectures and tasks made to harm are refused before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from blockwise_predict.checkpoint import load_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.networks import TINY_3D, save_network
from tests.support.refusals import refused

pytestmark = pytest.mark.usefixtures("bounded")


def architecture_error(tmp_path: Path, document: dict[str, Any]) -> str:
    weights, architecture = save_network(tmp_path)
    architecture.write_text(yaml.safe_dump(document))
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert str(architecture) in message
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_fmaps": 10**9}, "num_fmaps: 1000000000"),
        ({"num_fmaps": 60_000, "fmap_inc_factor": 60}, "3600000 feature maps at the deepest"),
        ({"fmaps_in": 10**60}, "fmaps_in: 100000"),
        ({"downsample_factors": [[64, 64, 64]] * 3}, "multiply to 262144; 4096 is the most"),
        ({"downsample_factors": [[2, 2, 2]] * 100}, "downsample_factors: "),
        ({"kernel_size_down": [[[10**9] * 3]] * 2}, "kernel_size_down: "),
        ({"input_shape": [1, {"x": [1] * 500}, 1]}, "input_shape: "),
        ({"padding": ["x" * 1000] * 1000}, "padding: "),
    ],
)
def test_networks_of_absurd_size(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in architecture_error(tmp_path, {"architecture": {**TINY_3D, **changes}})


def test_a_network_that_is_wider_than_its_weights_takes_no_memory(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    architecture.write_text(yaml.safe_dump({"architecture": {**TINY_3D, "num_fmaps": 50_000}}))
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert f"{weights}: the weights do not fit the architecture" in message


def test_a_pretrained_task_in_itself(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    task = "&t {__type__: PretrainedTaskConfig, sub_task_config: *t}"
    architecture.write_text(yaml.safe_dump({"architecture": TINY_3D}) + f"task: {task}\n")
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert "column 7: an alias stands inside what it names" in message


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"__type__": ["x"] * 1000}, "task ['x', 'x',"),
        ({"__type__": "OneHotTaskConfig", "classes": [["x"]]}, "which is no name"),
        ({"__type__": "OneHotTaskConfig", "classes": ["x"] * 5000}, "at most 4096"),
        ({"__type__": "OneHotTaskConfig", "classes": ["x"], "kernel_size": 10**9}, "kernel_size"),
        ({"__type__": "AffinitiesTaskConfig", "neighborhood": [1]}, "no list of whole numbers"),
        ({"__type__": "AffinitiesTaskConfig", "neighborhood": [[1e9, 0, 0]]}, "whole numbers"),
    ],
)
def test_tasks_with_absurd_values(task: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in architecture_error(tmp_path, {"architecture": TINY_3D, "task": task})
