"""What `predict inspect` says about a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes
from blockwise_predict.architectures.trace import halo_overhead
from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.checkpoint.describe import describe_checkpoint

SETTINGS: dict[str, Any] = {
    "input_shape": [44, 44],
    "eval_shape_increase": [40, 40],
    "fmaps_in": 1,
    "fmaps_out": 2,
    "num_fmaps": 2,
    "fmap_inc_factor": 3,
    "downsample_factors": [[2, 2], [2, 2]],
}


def trained(folder: Path, **changes: Any) -> TrainedModel:
    settings = {**SETTINGS, **changes}
    torch.save(
        CNNectomeUNet(CNNectomeUNetConfig(name="n", **settings)).state_dict(), folder / "w.pt"
    )
    (folder / "arch.yaml").write_text(yaml.safe_dump(settings))
    return open_checkpoint(folder / "w.pt", architecture=folder / "arch.yaml")


def test_everything_worth_knowing_is_there(tmp_path: Path) -> None:
    model = trained(tmp_path)
    rows = dict(describe_checkpoint(model))
    assert rows["checkpoint"] == str(tmp_path / "w.pt")
    assert rows["architecture"] == "CNNectomeUNet 'arch', 2-D, 3 levels"
    assert rows["feature maps"] == "1 -> 2,6,18 -> 2"
    assert rows["parameters"] == f"{model.num_parameters:,}"
    assert rows["head"] == "none"
    assert rows["channels"] == "2: channel_0, channel_1"
    assert rows["values"] == "unbounded"
    assert rows["context"] == "20,20 output voxels on each side"
    assert rows["period"] == "4,4 input voxels"
    assert rows["scale"] == "1,1 output voxels per input voxel"
    assert rows["sha256"] == model.sha256
    assert rows["tile 44,44"].startswith("output 4,4, halo ")
    assert rows["tile 84,84"].startswith("output 44,44, halo ")
    assert "fixed tiles" not in rows


@pytest.mark.parametrize(
    ("changes", "label", "text"),
    [
        ({"padding": "same"}, "fixed tiles", "zeros reach"),
        ({"use_attention": True}, "fixed tiles", "attention"),
        ({"upsample_factors": [[2, 2]]}, "super-resolution", "2,2"),
        ({"batch_norm": True, "constant_upsample": False}, "layers", "transposed convolutions"),
    ],
)
def test_what_is_special_is_said(
    changes: dict[str, Any], label: str, text: str, tmp_path: Path
) -> None:
    assert text in dict(describe_checkpoint(trained(tmp_path, **changes)))[label]


def test_the_repr_describes_the_network_in_a_few_lines(tmp_path: Path) -> None:
    model = trained(tmp_path)
    assert repr(model).splitlines() == [
        f"TrainedModel('{tmp_path}/w.pt')",
        "  architecture     CNNectomeUNet 'arch', 2-D, 3 levels, feature maps 1 -> 2,6,18 -> 2, "
        "downsampling 2,2 2,2, valid padding, constant upsampling",
        f"  parameters       {model.num_parameters:,}",
        "  input channels   1",
        "  output channels  2: channel_0, channel_1",
        "  output values    unbounded, no activation",
        "  context          20,20 output voxels on each side",
        "  period           4,4 input voxels",
        "  scale            1,1 output voxels per input voxel",
    ]


def test_the_repr_of_a_run_names_it_and_its_output(tmp_path: Path) -> None:
    offsets = [[0, step] for step in range(1, 11)]
    task = {"__type__": "AffinitiesTaskConfig", "neighborhood": offsets}
    settings = {**SETTINGS, "name": "n", "upsample_factors": [[2, 2]]}
    network = CNNectomeUNet(CNNectomeUNetConfig(**settings))
    head = torch.nn.Conv2d(2, len(offsets), 1)
    state = {f"architecture.{key}": value for key, value in network.state_dict().items()}
    state |= {f"prediction_head.{key}": value for key, value in head.state_dict().items()}
    file = tmp_path / "net" / "checkpoints" / "iterations" / "100"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    document = tmp_path / "configs" / "runs" / "net.yaml"
    document.parent.mkdir(parents=True)
    document.write_text(yaml.safe_dump({"architecture": settings, "task": task}))
    lines = dict(line.split(maxsplit=1) for line in repr(open_checkpoint(file)).splitlines()[1:])
    assert lines["run"] == "net, iteration 100"
    assert "super-resolution 2,2" in lines["architecture"]
    lines = repr(open_checkpoint(file)).splitlines()
    names = ", ".join(f"aff_0_{step}" for step in range(1, 9))
    assert f"  output channels  10: {names} and 2 more" in lines
    assert "  output values    0 to 1, Sigmoid" in lines
    assert "  scale            2,2 output voxels per input voxel" in lines


def test_halo_overhead_of_a_well_known_network() -> None:
    """COSEM's setup04: 12 features, factor 6, downsampling by 2, 3 and 3."""
    shapes = UNetShapes.from_config(
        CNNectomeUNetConfig("setup04", (216,) * 3, 72, 1, 12, 6, [(2, 2, 2), (3, 3, 3), (3, 3, 3)])
    )
    overheads = [halo_overhead(shapes, (size,) * 3) for size in (216, 288, 396, 540, 720)]
    assert overheads == pytest.approx([19.9, 2.94, 1.63, 1.30, 1.17], rel=0.03)
