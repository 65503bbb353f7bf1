"""Some of a network's channels: their values are those of the whole network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.config.model import load_config
from blockwise_predict.engine.passes import StreamedPass, WholePass
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import ConfigError
from blockwise_predict.plan.channels import selected_model
from tests.support.networks import save_network
from tests.support.programs import Twofold, lively, save_script
from tests.support.two_tasks import TwoTasks

ONE_HOT = {
    "__type__": "OneHotTaskConfig",
    "name": "t",
    "classes": ["mito", "er", "nucleus", "golgi", "er"],
}
RAW = np.random.default_rng(0).integers(0, 256, (1, 30, 30, 30), np.uint8)


def networks(folder: Path, kind: str) -> TrainedModel:
    """A tiny network of five channels."""
    if kind in ("two tasks", "two paths"):
        TwoTasks(folder, num_heads=1 + (kind == "two paths"), lsd_kernel=3)
        return open_checkpoint(folder / "weights.pt", architecture=folder / "architecture.yaml")
    task = ONE_HOT if kind == "head" else None
    weights, architecture = save_network(folder, task=task, fmaps_out=5)
    return open_checkpoint(weights, architecture=architecture)


def chosen(model: TrainedModel, **options: object) -> TrainedModel:
    needed = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/out"}
    return selected_model(load_config({**needed, **options}), model)


def outputs(model: TrainedModel) -> list[np.ndarray]:
    """The output over a tile, streamed and in a whole pass, `[*out, K]`."""
    settings = {
        **{"precision": "float32", "device": torch.device("cpu")},
        "normalization": Normalization.parse("auto", np.dtype("uint8")),
    }
    assert isinstance(model.shapes, UNetShapes)
    streamed = StreamedPass(model.build(), model.shapes, Streaming((0, 1, 2), 12), **settings)
    whole = WholePass(model.build(), 3, **settings)
    return [
        np.concatenate([each.activate(planes.values).numpy() for planes in each.run(RAW)])
        for each in (streamed, whole)
    ]


@pytest.mark.parametrize("kind", ["head", "no head", "two tasks", "two paths"])
def test_values_are_those_of_the_whole_network(kind: str, tmp_path: Path) -> None:
    model = networks(tmp_path, kind)
    every = outputs(model)
    assert np.ptp(every[1], axis=(0, 1, 2)).min() > 0.01
    for numbers in ([0], [3, 1], [4], [4, 0, 2, 1]):
        some = chosen(model, channels=numbers)
        assert some.channel_names == tuple(model.channel_names[number] for number in numbers)
        for found, expected in zip(outputs(some), every, strict=True):
            # A sigmoid rounds by where a value lies in memory.
            ulps = 2 if kind.startswith("two") else 0
            np.testing.assert_array_max_ulp(found, expected[..., numbers], ulps)
        assert some.sha256 == model.sha256
    np.testing.assert_array_equal(outputs(model)[0], every[0])


def test_what_is_not_wanted_is_not_computed(tmp_path: Path) -> None:
    model = networks(tmp_path, "two paths")
    shape = model.usual_input_shape
    one_path = chosen(model, channels="affs")
    assert len(one_path.build().architecture.unet.r_conv) == one_path.shapes.channels.heads == 1
    assert one_path.flops(shape) < 0.9 * model.flops(shape)
    # A single channel is computed with another one.
    assert chosen(model, channels="aff_1_0_0,lsds_1").shapes.channels.head == 4
    assert chosen(model, channels="aff_1_0_0,lsds_1").build().prediction_head[0].out_channels == 2


def test_names_outputs_numbers_and_ranges(tmp_path: Path) -> None:
    model = networks(tmp_path, "two tasks")
    arrays = [(each.name, each.channel_names) for each in chosen(model, channels="4,affs").outputs]
    assert arrays == [("lsds", ("lsds_1",)), ("affs", ("aff_1_0_0", "aff_0_1_0", "aff_0_0_1"))]
    grouped = chosen(model, split="near=2,aff_0_1_0,shape=3:").outputs
    assert [(each.name, each.channel_names, each.output_range) for each in grouped] == [
        ("near", ("aff_0_0_1", "aff_0_1_0"), (0.0, 1.0)),
        ("shape", ("lsds_0", "lsds_1"), (-1.0, 1.0)),
    ]
    (mixed,) = chosen(model, split={"both": [0, "lsds"]}).outputs
    assert (mixed.output_range, mixed.activation) == (None, None)
    assert [each.name for each in chosen(model, split="each", channels=":2").outputs] == [
        "aff_1_0_0",
        "aff_0_1_0",
    ]
    # What the network does anyway is no selection.
    assert chosen(model, channels=":") is chosen(model, channels="affs,lsds") is model


def test_a_program_gives_the_chosen_channels(tmp_path: Path) -> None:
    file = save_script(lively(Twofold()), tmp_path / "twofold.ts")
    model = open_checkpoint(file, activation="tanh")
    some = chosen(model, channels="3,affinities_1")
    assert [each.name for each in some.outputs] == ["distances", "affinities"]
    x = torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(some.build()(x), model.build()(x)[:, [3, 1]], rtol=0, atol=0)
    assert some.sha256 == model.sha256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"channels": "mito,lyso"},
            "--channels lyso: .* its channels are mito, er, nucleus, golgi",
        ),
        ({"channels": "5"}, r"--channels 5: .* has no such channel; .* \(0 to 4\)"),
        ({"channels": "2:9"}, "--channels 2:9: .* has no such channel"),
        ({"channels": "er"}, "several channels of that name. Use their numbers: 1, 4"),
        ({"channels": "mito,0"}, r"--channels: channel mito \(0\) is chosen twice"),
        ({"split": "a=mito,b=0:2"}, r"--split: channel mito \(0\) is chosen twice"),
        ({"split": "a=mito,b=lyso"}, "--split b=lyso: .* has no such channel"),
        ({"split": "each"}, "several channels that are called er. Name the arrays: --split NAME=4"),
        ({"split": "a=0", "channels": "1"}, "split names the channels already"),
        ({"split": "a/b=0"}, "'a/b' cannot name an array"),
        ({"split": "a=0,a=1"}, "an array is named twice"),
        ({"split": "every"}, "write each, or arrays with their channels"),
        ({"channels": ""}, "write names or numbers of channels"),
        ({"channels": [0.5]}, "write names or numbers of channels"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    model = networks(tmp_path, "head")
    with pytest.raises(ConfigError, match=message):
        chosen(model, **options)


def test_a_name_precedes_a_number(tmp_path: Path) -> None:
    task = {**ONE_HOT, "classes": ["a", "0"]}
    weights, architecture = save_network(tmp_path, task=task)
    selected = chosen(open_checkpoint(weights, architecture=architecture), channels="0").selected
    assert selected is not None
    assert selected.channels == (1,)
