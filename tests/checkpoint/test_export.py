"""A checkpoint as a plain torch module, and as files for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import blockwise_predict as bp
from blockwise_predict.architectures import NetworkShapes, UNetShapes
from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.checkpoint.export import export_checkpoint, exported_files
from blockwise_predict.checkpoint.head import TrainedHead, parse_task, task_document
from blockwise_predict.errors import CheckpointError, ConfigError
from tests.support.dacapo_runs import write_run
from tests.support.networks import save_network
from tests.support.refusals import refused

UNKNOWN = TrainedHead(None, newer=False)
SHAPES = UNetShapes.from_layers([(2, 2)], [[(3, 3)]] * 2, [[(3, 3)]], "valid")


FUNLIB = ("unet_backbone.", "final_conv.")


class Plain(TrainedModel):
    """A model of a given module, `[B, 1, *in]` to `[B, 1, *out]`."""

    module: nn.Module
    shapes: NetworkShapes = SHAPES
    in_channels = 1
    output_range = None
    usual_input_shape = SHAPES.valid_input_shape((20, 20))
    flops_without_halo = 1.0

    trained_outputs = ()

    def build(self) -> nn.Module:
        return self.module.eval()

    def flops(self, _: tuple[int, ...]) -> int:
        return 1

    peak_elements = flops

    def architecture_dict(self) -> dict[str, Any]:
        return {}

    head_dict = architecture_dict  # type: ignore[assignment]


def plain(forward: Callable[[torch.Tensor], torch.Tensor]) -> TrainedModel:
    """A model that computes a function."""

    class Function(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(x)

    model = Plain(path="net", channel_names=("a",), weights={})
    object.__setattr__(model, "module", Function())
    return model


def exported(model: TrainedModel, file: Path) -> dict[str, str]:
    return dict(export_checkpoint(model, exported_files(file, overwrite=False)))


def test_the_module_is_the_callers_own(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    opened = bp.open_checkpoint(run)
    module, of_path = bp.as_module(opened), bp.as_module(run)
    x = torch.rand(2, 1, 24, 20)
    before = opened.build()(x)
    assert not module.training
    assert torch.equal(module(x), before)
    assert torch.equal(of_path(x), before)

    sha256 = opened.sha256
    module(x).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter -= parameter.grad
    assert not torch.equal(module(x), before)
    assert torch.equal(opened.build()(x), before)
    assert not any(parameter.requires_grad for parameter in opened.build().parameters())
    del opened.__dict__["sha256"]
    assert opened.sha256 == sha256


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize(
    "task",
    [
        {"__type__": "AffinitiesTaskConfig", "neighborhood": [[1, 0, 0], [0, -12, 3]]},
        {"__type__": "AffinitiesTaskConfig", "neighborhood": [[1, 0, 0]], "lsds": True},
        {"__type__": "OneHotTaskConfig", "classes": ["bg", 7], "kernel_size": 5},
        {"__type__": "DistanceTaskConfig", "channels": ["a_distance", "b"]},
        {"__type__": "InnerDistanceTaskConfig", "channels": ["a"]},
        {"__type__": "HotDistanceTaskConfig", "channels": ["a", "b_distance"]},
    ],
)
def test_a_head_is_described_by_its_task(task: dict[str, Any], newer: bool) -> None:
    trained = TrainedHead(11 if "lsds" in task else None, newer)
    head, names = parse_task(task, 3, Path("given"), trained)
    document = task_document(head, names)
    assert parse_task(document, 3, Path("written"), trained) == (head, names)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_architecture_are_read_back_the_same(tmp_path: Path, dtype) -> None:
    weights, architecture = save_network(tmp_path, batch_norm=True, constant_upsample=False)
    state = torch.load(weights)
    torch.save(
        {key: v.to(dtype) if v.is_floating_point() else v for key, v in state.items()}, weights
    )
    model = open_checkpoint(weights, architecture=architecture)
    rows = exported(model, tmp_path / "out.safetensors")
    read = open_checkpoint(tmp_path / "out.safetensors", architecture=tmp_path / "out.yaml")
    assert read.sha256 == model.sha256 == rows["sha256"]
    assert read.architecture_dict() == model.architecture_dict()
    assert (tmp_path / "out.safetensors").stat().st_mode == weights.stat().st_mode


@pytest.mark.parametrize(("architecture", "head"), [("chain.0.", "chain.1."), FUNLIB])
def test_keys_say_whose_head_it_is(architecture: str, head: str, tmp_path: Path) -> None:
    """Of DaCapo's main branch, whose affinities have other names, and of fly_organelles."""
    task = {"__type__": "AffinitiesTaskConfig", "neighborhood": [[1, 0, 0], [0, 0, -1]]}
    weights, document = save_network(tmp_path, task=task)
    state = torch.load(weights)
    renamed = {
        key.replace("architecture.unet.", architecture).replace("prediction_head.", head): value
        for key, value in state.items()
    }
    torch.save(renamed, weights)
    if (architecture, head) == FUNLIB:
        document.write_text(yaml.safe_dump(yaml.safe_load(document.read_text())["architecture"]))
    model = open_checkpoint(weights, architecture=document)
    assert model.channel_names == (
        ("channel_0", "channel_1") if head == FUNLIB[1] else ("aff_1.0.0", "aff_0.0.-1")
    )
    exported(model, tmp_path / "out.safetensors")
    read = open_checkpoint(tmp_path / "out.safetensors", architecture=tmp_path / "out.yaml")
    assert (read.sha256, read.channel_names) == (model.sha256, model.channel_names)
    assert (read.head_dict(), read.undeclared) == (model.head_dict(), model.undeclared)


def test_a_program_takes_every_size(tmp_path: Path) -> None:
    """Of a network whose feature maps have a size of 1 for the smallest valid input."""
    settings = {"input_shape": [20, 20], "downsample_factors": [[2, 2]]}
    weights, architecture = save_network(tmp_path, padding="same", **settings)
    model = open_checkpoint(weights, architecture=architecture)
    rows = exported(model, tmp_path / "out.pt2")
    assert rows["size"] == "4,4 + n * 2,2, any batch size"
    program = torch.export.load(tmp_path / "out.pt2").module()
    for shape in ((1, 1, 4, 4), (3, 1, 20, 6)):
        x = torch.rand(shape)
        np.testing.assert_allclose(program(x).detach(), model.build()(x), atol=1e-5, rtol=0)
    with pytest.raises(AssertionError, match="Guard failed"):
        program(torch.rand(1, 1, 5, 4))
    assert str(Path(__file__).parents[2]).encode() not in (tmp_path / "out.pt2").read_bytes()


def test_a_program_of_one_size(tmp_path: Path) -> None:
    weights = torch.rand(Plain.usual_input_shape)
    rows = exported(plain(lambda x: (x * weights)[..., 6:-6, 6:-6]), tmp_path / "out.pt2")
    size = ",".join(map(str, Plain.usual_input_shape))
    assert rows["size"].startswith(f"{size} only, with a batch size of 1 (tracing it for every")
    assert "activation" not in rows
    program = torch.export.load(tmp_path / "out.pt2").module()
    x = torch.rand(1, 1, *Plain.usual_input_shape)
    assert torch.equal(program(x), (x * weights)[..., 6:-6, 6:-6])


def test_a_program_without_the_undeclared_activation_says_so(tmp_path: Path) -> None:
    unsaid = plain(lambda x: x[..., 6:-6, 6:-6])
    object.__setattr__(unsaid, "undeclared", ("activation",))
    assert exported(unsaid, tmp_path / "out.pt2")["activation"].startswith("none: the files state")


def test_networks_that_cannot_be_exported(tmp_path: Path) -> None:
    data_dependent = plain(lambda x: x if x.sum() > 0 else -x)
    text = refused(CheckpointError, lambda: exported(data_dependent, tmp_path / "out.pt2"))
    assert "net cannot be exported as .pt2: " in text
    noise = plain(lambda x: x + torch.rand_like(x))
    text = refused(CheckpointError, lambda: exported(noise, tmp_path / "out.pt2"))
    assert "its program's output differs by" in text
    text = refused(CheckpointError, lambda: exported(noise, tmp_path / "out.safetensors"))
    assert "Export it as .pt2" in text
    assert [*tmp_path.iterdir()] == []


def test_any_error_of_tracing_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SpecViolationError(Exception):
        """Of torch.export, for scripted modules among others."""

    def fail(*_: object, **__: object) -> None:
        raise SpecViolationError("State dict entry for w is not a Parameter.\nand more")

    monkeypatch.setattr(torch.export, "export", fail)
    text = refused(CheckpointError, lambda: exported(plain(torch.relu), tmp_path / "out.pt2"))
    assert text.endswith("cannot be exported as .pt2: State dict entry for w is not a Parameter.")


def test_targets_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out.yaml").write_text("mine")
    (tmp_path / "folder.pt2").mkdir()
    for name, message in {
        "out.onnx": "Use .pt2 (torch.export) or .safetensors",
        "out": "Use .pt2 (torch.export) or .safetensors",
        "none/out.pt2": "none is not a folder",
        "folder.pt2": "folder.pt2 is a folder",
        "out.safetensors": "out.yaml exists. Give another name, or --overwrite",
    }.items():
        text = refused(
            ConfigError, lambda name=name: exported_files(tmp_path / name, overwrite=False)
        )
        assert message in text
    assert exported_files(tmp_path / "out.safetensors", overwrite=True)


def test_what_was_there_stays_if_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_checkpoint(write_run(tmp_path))
    files = tmp_path / "out.safetensors", tmp_path / "out.yaml"
    for file in files:
        file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    text = refused(ConfigError, lambda: export_checkpoint(model, files))
    assert "cannot be written (No space left on device)" in text
    assert [file.read_text() for file in files] == ["old", "old"]
    assert not [*tmp_path.glob(".*")]
