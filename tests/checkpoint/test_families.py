"""Checkpoints of other programs: recognised, and computing what those programs compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig
from blockwise_predict.checkpoint import TrainedModel, UNetModel, open_checkpoint
from blockwise_predict.checkpoint.describe import describe_checkpoint
from blockwise_predict.checkpoint.families import recognise
from blockwise_predict.checkpoint.from_tensors import settings_of
from blockwise_predict.checkpoint.head import TrainedHead, parse_task
from blockwise_predict.errors import CheckpointError
from tests.support.families import (
    NEWER_UNET,
    recorded,
    seeded,
    write_cosem,
    write_fly_organelles,
    write_newer_run,
)
from tests.support.funlib_unet import UNet
from tests.support.networks import liven

AFFINITIES = {"__type__": "AffinitiesTaskConfig", "neighborhood": [[0, 1], [-1, 0]]}


def assert_computes(model: TrainedModel, x: np.ndarray, expected: np.ndarray) -> None:
    with torch.inference_mode():
        output = model.build()(torch.from_numpy(x)).numpy()
    assert expected.std() > 0.01 * np.abs(expected).max()
    np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())


def family(model: TrainedModel) -> str:
    assert isinstance(model, UNetModel)
    return dict(describe_checkpoint(model))["family"]


def test_a_run_of_dacapo_after_0_3_5(tmp_path: Path) -> None:
    network = recorded("dacapo_newer")
    model = open_checkpoint(write_newer_run(tmp_path, AFFINITIES, network.state))
    assert_computes(model, network.input, network.output)
    assert model.channel_names == ("aff_0.1", "aff_-1.0")
    assert (model.run, model.iteration) == ("net", 100)
    assert "DaCapo after 0.3.5 (tensors chain.0.*)" in family(model)
    # Its own super-resolution kernels are part of what a run must be resumed with. Settings at
    # their defaults are not: a run recorded before there were such settings must be resumed, too.
    described = model.architecture_dict()
    assert described["super_resolution_kernels"] == [[3, 3], [3, 1], [1, 3]]
    assert not described.keys() & {"activation", "activation_on_upsample", "upsample_convolution"}


def test_a_run_without_a_task_has_no_head(tmp_path: Path) -> None:
    state = recorded("dacapo_newer").state
    bare = {name.removeprefix("chain.0."): tensor for name, tensor in state.items()}
    bare = {n: t for n, t in bare.items() if not n.startswith(("chain.", "prediction_head."))}
    model = open_checkpoint(write_newer_run(tmp_path, None, bare))
    assert model.head_dict() is None
    assert len(model.channel_names) == NEWER_UNET["fmaps_out"]


@pytest.mark.parametrize(
    ("channels", "names"),
    [(2, ("aff_1_0", "aff_0_1")), (8, ("aff_1_0", "aff_0_1", *(f"lsd_{i}" for i in range(6))))],
)
def test_shape_descriptors_are_channels_if_the_head_has_them(
    channels: int, names: tuple[str, ...]
) -> None:
    # The head of 0.3.5 has none, whatever `lsds` says; that of earlier versions does.
    task = {**AFFINITIES, "neighborhood": [[1, 0], [0, 1]], "lsds": True, "num_lsd_voxels": 10}
    trained = TrainedHead(channels, newer=False)
    head, found = parse_task(task, 2, Path("run.yaml"), trained)
    assert (head.channels, found) == (channels, names)


@pytest.mark.parametrize(("name", "factor"), [("cosem", 2), ("cosem_setup45", 1)])
def test_cosems_networks(name: str, factor: int, tmp_path: Path) -> None:
    network = recorded(name)
    document = write_cosem(tmp_path / "1000", network, {"upsample_factors": [[factor] * 3]})
    model = open_checkpoint(tmp_path / "1000", architecture=document)
    assert_computes(model, network.input, network.output)
    assert model.shapes.scale == (factor,) * 3


def cosem_shapes(prefix: str, classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published network, at its full size."""
    config = CNNectomeUNetConfig(
        name="cosem",
        input_shape=(216,) * 3,
        fmaps_in=1,
        fmaps_out=72,
        num_fmaps=12,
        fmap_inc_factor=6,
        downsample_factors=[(2,) * 3, (3,) * 3, (3,) * 3],
        upsample_factors=[(2,) * 3],
    )
    with torch.device("meta"):
        state = CNNectomeUNet(config).unet.state_dict()
    shapes = {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in state.items()}
    return shapes | {"prediction_head.weight": (classes, 72, 1, 1, 1)}


@pytest.mark.parametrize("prefix", ["architecture.unet.", "backbone."])
def test_cosems_published_networks_are_recognised_by_shapes_and_setup(prefix: str) -> None:
    found = recognise(cosem_shapes(prefix, 2), ["625000", "setup45", "cosem"])
    assert found is not None
    assert (found.name, found.channel_names) == ("COSEM", ("ecs", "pm"))
    assert found.config.upsample_factors == [(1, 1, 1)]
    assert not found.config.activation_on_upsample
    assert found.undeclared == ("normalization",)
    assert "setup45" in found.text
    # The same tensors in another setup's folder, and in none.
    found = recognise(cosem_shapes(prefix, 3), ["650000.pth", "setup26_1"])
    assert found is not None
    assert found.config.upsample_factors == [(2, 2, 2)]
    assert recognise(cosem_shapes(prefix, 2), ["625000", "run"]) is None
    assert recognise(cosem_shapes(prefix, 2), ["625000", "setup04"]) is None


def test_a_checkpoint_of_fly_organelles(tmp_path: Path) -> None:
    write_fly_organelles(tmp_path, number=9)
    network = write_fly_organelles(tmp_path, number=10)
    for path in (tmp_path, tmp_path / "model_checkpoint_10"):
        model = open_checkpoint(path)
        assert isinstance(model, UNetModel)
        assert (model.run, model.iteration) == (None, 10)
        assert model.architecture.input_shape == (178, 178, 178)
        assert model.undeclared == ("activation", "normalization")
        assert family(model).startswith("fly_organelles: tensors unet_backbone.* and final_conv.*")
    x = seeded(1, 1, 130, 130, 130)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    assert_computes(model, x, expected)


def test_what_tensors_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    network = write_fly_organelles(tmp_path, levels=3)
    file = tmp_path / "model_checkpoint_10"
    with pytest.raises(
        CheckpointError, match=r"do not determine its downsample_factors.*--architecture"
    ):
        open_checkpoint(file)
    described = {
        "input_shape": [80, 80, 80],
        "fmaps_in": 1,
        "fmaps_out": 2,
        "num_fmaps": 2,
        "fmap_inc_factor": 2,
        "downsample_factors": [[2, 2, 2], [2, 2, 2]],
        "kernel_size_down": [[[3, 3, 3]] * 3] * 3,
    }
    (tmp_path / "arch.yaml").write_text(yaml.safe_dump(described))
    model = open_checkpoint(file, architecture=tmp_path / "arch.yaml")
    x = seeded(1, 1, 62, 62, 62)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    assert_computes(model, x, expected)
    assert model.undeclared == ("activation",)


@pytest.mark.parametrize(
    "kinds",
    [
        {"constant_upsample": True},
        {"constant_upsample": False},
        {"constant_upsample": False, "activation": "ELU"},
        {"constant_upsample": True, "fmap_inc_factor": 1},
    ],
)
def test_a_bare_unet_of_funlib(kinds: dict[str, Any], tmp_path: Path) -> None:
    settings = {
        "num_fmaps": 3,
        "fmap_inc_factor": 2,
        "downsample_factors": [[1, 2], [2, 3]],
        **kinds,
    }
    network = liven(UNet(in_channels=1, **settings)).eval()
    torch.save(network.state_dict(), tmp_path / "unet.pt")
    described = {"input_shape": [60, 60], "fmaps_in": 1, "fmaps_out": 3, **settings}
    (tmp_path / "arch.yaml").write_text(yaml.safe_dump(described))
    model = open_checkpoint(tmp_path / "unet.pt", architecture=tmp_path / "arch.yaml")
    shape = model.shapes.valid_input_shape((60, 60))
    x = seeded(1, 1, *shape)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    assert_computes(model, x, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"upsample_convolution": False}, "upsampling has no activation"),
        ({"upsample_channel_contraction": [True, False]}, "has 2 levels, but needs 1"),
        ({"activation": "Softmax"}, "invalid values in the architecture: activation: 'Softmax'"),
        ({"super_resolution_kernels": [[3, 3, 3]]}, "super_resolution_kernels has .* is 2-D"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    torch.save(recorded("dacapo_newer").state, tmp_path / "w.pt")
    (tmp_path / "arch.yaml").write_text(yaml.safe_dump({**NEWER_UNET, **settings}))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "w.pt", architecture=tmp_path / "arch.yaml")


def test_tensors_of_other_networks_are_not_taken_for_a_unet() -> None:
    assert settings_of({"conv.weight": (8, 1, 3, 3)}) is None
    shapes = cosem_shapes("chain.0.", 2)
    assert settings_of(shapes) is not None
    for name in ("chain.0.0.r_conv.0.1.conv_pass.0.weight", "chain.0.2.conv_pass.0.weight"):
        kernel = shapes[name]
        assert settings_of({**shapes, name: (kernel[0] + 1, *kernel[1:])}) is None


def test_what_else_is_known_completes_a_family() -> None:
    network = CNNectomeUNet(
        CNNectomeUNetConfig("n", (20, 20), 3, 1, 2, 2, [(2, 2)], constant_upsample=False)
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = recognise(shapes, known={"input_shape": (20, 20)})
    assert found is not None
    # A transposed convolution has the factor in its shape.
    assert found.config.downsample_factors == [(2, 2)]
    rebuilt: nn.Module = CNNectomeUNet(found.config)
    assert rebuilt.state_dict().keys() == network.state_dict().keys()
    assert found.undeclared == ("activation", "normalization")
