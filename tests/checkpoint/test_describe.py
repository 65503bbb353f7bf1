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


def test_halo_overhead_of_a_well_known_network() -> None:
    """COSEM's setup04: 12 features, factor 6, downsampling by 2, 3 and 3."""
    shapes = UNetShapes.from_config(
        CNNectomeUNetConfig("setup04", (216,) * 3, 72, 1, 12, 6, [(2, 2, 2), (3, 3, 3), (3, 3, 3)])
    )
    overheads = [halo_overhead(shapes, (size,) * 3) for size in (216, 288, 396, 540, 720)]
    assert overheads == pytest.approx([19.9, 2.94, 1.63, 1.30, 1.17], rel=0.03)
