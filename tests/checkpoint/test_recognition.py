"""Programs in which a U-Net is recognised, and those in which none is."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNetConfig, UNetShapes
from blockwise_predict.checkpoint import UNetModel, open_checkpoint
from blockwise_predict.checkpoint.recognition import Recognised, recognise_file
from blockwise_predict.checkpoint.unet_model import PredictionModel
from blockwise_predict.errors import CheckpointError
from tests.support.networks import NETWORKS, TINY_3D
from tests.support.shared import ROOT

pytestmark = [
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
CELLMAP = ROOT / "tests" / "data" / "cellmap"


def built(**settings: Any) -> tuple[nn.Module, CNNectomeUNetConfig]:
    """A random network, and its configuration."""
    config = CNNectomeUNetConfig(name="net", **{**TINY_3D, **settings})
    torch.manual_seed(0)
    return PredictionModel(config, None).eval(), config


def traced(module: nn.Module, size: int, dims: int, file: Path) -> Path:
    """A TorchScript file of a network."""
    torch.jit.trace(module, torch.rand(1, 1, *(size,) * dims)).save(file)
    return file


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "plain"])
def test_every_variant_is_recognised(name: str, tmp_path: Path) -> None:
    network, config = built(**NETWORKS[name])
    dims = len(config.input_shape)
    x = torch.rand(1, 1, *UNetShapes.from_config(config).valid_input_shape((24,) * dims, "up"))
    file = tmp_path / "net.ts"
    torch.jit.trace(network, x).save(file)
    model = open_checkpoint(file)
    assert isinstance(model, UNetModel)
    assert "family" in model.record
    torch.testing.assert_close(model.build()(x), torch.jit.load(file)(x), rtol=0, atol=1e-6)
    assert model.undeclared == ("activation", "normalization")


@pytest.mark.parametrize("kind", ["sigmoid", "logits"])
def test_files_of_cellmap_models(kind: str) -> None:
    model = open_checkpoint(CELLMAP / kind)
    x = torch.rand(1, 1, 20, 20, 20)
    if kind == "sigmoid":
        expected = torch.jit.load(CELLMAP / kind / "model.ts")(x)
    else:
        expected = torch.export.load(CELLMAP / kind / "model.pt2").module()(x)
    torch.testing.assert_close(model.build()(x), expected, rtol=0, atol=1e-6)
    assert model.channel_names == ("mito", "er")
    assert (model.iteration, model.voxel_size) == (1000, (8, 8, 8))
    assert ("activation" in model.undeclared) == (kind == "logits")
    assert "normalization" in model.undeclared


class Scaled(nn.Module):
    """A network that normalises its input itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.architecture = network.architecture

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.architecture(x * 2 - 1)
        return result


def test_a_network_with_one_more_operation_is_not_recognised(tmp_path: Path) -> None:
    network, _ = built()
    found = recognise_file(traced(Scaled(network), 20, 3, tmp_path / "net.ts"))
    assert found == (
        "its operation 1 is mul, where a CNNectomeUNet with its layers has conv valid of "
        "unet.l_conv.0.conv_pass.0"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ELU", "is relu, where a CNNectomeUNet with its layers has elu"),
        ("strided", "convolution with unusual arguments"),
        ("pooling", "max_pool with unusual arguments"),
    ],
)
def test_other_layers_are_not_taken_for_it(change: str, reason: str, tmp_path: Path) -> None:
    network, _ = built()
    unet: Any = network.architecture.unet
    if change == "ELU":
        unet.l_conv[0].conv_pass[1] = nn.ELU()
    elif change == "strided":
        unet.l_conv[0].conv_pass[0].dilation = (2, 2, 2)
        unet.l_conv[0].conv_pass[0].padding = (1, 1, 1)
    else:
        unet.l_down[0].down = nn.MaxPool3d(2, 2, ceil_mode=True)
    found = recognise_file(traced(network, 20, 3, tmp_path / "net.ts"))
    assert isinstance(found, str)
    assert reason in found


def test_scripted_and_foreign_programs_say_why(tmp_path: Path) -> None:
    torch.jit.script(nn.Sequential(nn.Conv3d(1, 1, 3), nn.Dropout())).save(tmp_path / "a.ts")
    assert "it was scripted" in str(recognise_file(tmp_path / "a.ts"))
    traced(nn.Sequential(nn.Conv3d(1, 1, 3), nn.ReLU()), 8, 3, tmp_path / "b.ts")
    assert "do not have a U-Net's names" in str(recognise_file(tmp_path / "b.ts"))


def test_a_program_is_recognised_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(torch.jit, "load", refuse)
    monkeypatch.setattr(torch.export, "load", refuse)
    for kind, name in (("sigmoid", "model.ts"), ("logits", "model.pt2")):
        assert isinstance(recognise_file(CELLMAP / kind / name), Recognised)


def test_metadata_that_contradict_the_network_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shutil.copytree(CELLMAP / "sigmoid", folder)
    metadata = json.loads((folder / "metadata.json").read_text())

    def opened(**changes: Any) -> str:
        (folder / "metadata.json").write_text(json.dumps({**metadata, **changes}))
        with pytest.raises(CheckpointError) as refused:
            open_checkpoint(folder)
        return str(refused.value)

    assert "states 3 input channels, but the network in" in opened(in_channels=3)
    assert 'name 3 channels (["a", "b", "c"])' in opened(channels_names=["a", "b", "c"]).replace(
        "'", '"'
    )
    assert 'format_version "2"' in opened(format_version="2").replace("'", '"')
    assert "in_channels is" in opened(in_channels="many")
    (folder / "model.ts").unlink()
    assert "but none of model.ts, model.pt2, model.onnx" in opened()


@pytest.mark.parametrize("name", ["sigmoid/model.ts", "logits/model.pt2"])
def test_damaged_programs_are_refused(name: str, tmp_path: Path) -> None:
    data = (CELLMAP / name).read_bytes()
    file = tmp_path / Path(name).name
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cannot be read as a program"):
        open_checkpoint(file)
    file.write_bytes(data.replace(b"l_conv", b"k_conv", 1))
    with pytest.raises(CheckpointError, match="damaged"):
        open_checkpoint(file)


def test_a_text_that_expands_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.ts", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02N.")
        archive.writestr("net/code/__torch__.py", b" " * (20 << 20))
    with pytest.raises(CheckpointError, match="bytes of text"):
        open_checkpoint(tmp_path / "net.ts")
