"""Checkpoints of networks with a time axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.checkpoint.describe import describe_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.networks import TINY_3D, save_network
from tests.support.time_networks import TIME_NETWORKS

AFFINITIES = {"__type__": "AffinitiesTaskConfig", "name": "t"}
ONE_HOT = {"__type__": "OneHotTaskConfig", "name": "t", "classes": ["a", "b"]}


def opened(folder: Path, name: str, **kwargs: Any) -> Any:
    weights, architecture = save_network(folder, **{**TIME_NETWORKS[name], **kwargs})
    return open_checkpoint(weights, architecture=architecture)


def test_inspect_says_what_happens_to_time(tmp_path: Path) -> None:
    dropped = dict(describe_checkpoint(opened(tmp_path, "time dropped at once")))
    assert dropped["architecture"].endswith("4-D, 2 levels")
    assert dropped["time"] == "3 frames give one; then the network is 3-D"
    assert dropped["context"] == "1,8,8,8 output voxels on each side"
    assert dropped["period"] == "1,2,2,2 input voxels"
    assert dropped["valid input"] == "3,18,18,18 + n * 0,2,2,2"
    assert dropped["tile 3,20,20,20"].startswith("output 1,4,4,4, halo ")
    kept = dict(describe_checkpoint(opened(tmp_path, "time kept")))
    assert kept["time"] == "9 frames, as in training, give 3; more give more"
    assert kept["valid input"].endswith("n * 1,2,2,2")


@pytest.mark.parametrize(("name", "dims"), [("time dropped at once", 5), ("time kept", 6)])
def test_the_head_acts_on_each_frame(name: str, dims: int, tmp_path: Path) -> None:
    trained = opened(tmp_path, name, task=ONE_HOT)
    rows = dict(describe_checkpoint(trained))
    assert rows["head"].startswith("one_hot, convolution of 3,3,3, ")
    network, shapes = trained.build(), trained.shapes
    shape = shapes.valid_input_shape(TIME_NETWORKS[name]["input_shape"])
    output = network(torch.rand(1, 1, *shape))
    assert output.dim() == dims
    assert output.shape[-3:] == shapes.output_shape(shape)[1:]
    features = network.architecture(torch.rand(1, 1, *shape))
    frames = features.movedim(2, 1)[0] if dims == 6 else features
    assert network.prediction_head(frames).shape[-3:] == output.shape[-3:]


@pytest.mark.parametrize("offset", [[1, 0, 0], [0, 1, 0, 0]])
def test_affinities_may_be_of_space_or_of_time_and_space(offset: list[int], tmp_path: Path) -> None:
    trained = opened(tmp_path, "time kept", task={**AFFINITIES, "neighborhood": [offset]})
    assert trained.channel_names == ("aff_" + "_".join(map(str, offset)),)
    assert trained.output_range == (0, 1)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"downsample_factors": [[1, 2, 2, 2]]}, "differ in their number of axes. With time "),
        ({"input_shape": [2, 3, 20, 20, 20]}, "differ in their number of axes"),
        ({"eval_shape_increase": [40, 40, 40]}, "differ in their number of axes"),
        ({"input_shape": [4, 20, 20, 20]}, "acts on 3 frames, but 2 are left"),
        ({"padding": "same"}, "padding 'same' is not implemented for networks with a time axis"),
        ({"use_attention": True}, "attention is not implemented"),
    ],
)
def test_what_cannot_be_is_refused(kwargs: dict[str, Any], problem: str, tmp_path: Path) -> None:
    document = {**TINY_3D, "input_shape": [3, 20, 20, 20], **kwargs}
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(document))
    torch.save({"l_conv.0.conv_pass.0.weight": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(tmp_path / "w.pt", architecture=tmp_path / "net.yaml")
