"""Compares blended tiles with the sliding windows of MONAI and nnU-Net.

    python benchmarks/blend.py                               with MONAI's
    python benchmarks/blend.py --nnunet path/to/python       and with nnU-Net's

All predict the same volume with the same network (MONAI's BasicUNet, with instance norm and random
weights), tiles, overlap and precision, one after another. nnU-Net runs in an interpreter that has
nnunetv2 installed. The volume holds whole steps, so that all have the same tiles.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.basic_unet import BasicUNet
from numpy.typing import NDArray
from torch import nn

import blockwise_predict as bp
from blockwise_predict.architectures import NetworkShapes
from blockwise_predict.checkpoint import TrainedModel

RESULTS = Path(__file__).parent / "results"
NNUNET = Path(__file__).with_name("blend_nnunet.py")
TILE, VOLUME = 32, (64, 64, 48)
FEATURES = (8, 8, 16, 32, 64, 8)

NOTES = """nnU-Net's window has its centre at voxel size // 2 instead of (size - 1) / 2, and no
lower bound, and its sums are float16. How much of the difference each of these makes was not
measured: the weights are random and the padding is zeros, so values of neighbouring tiles differ
much, and so do their means.
"""

Values = NDArray[np.float32]


@dataclass(frozen=True)
class SameShapes:
    """The output has the input's shape; sizes are multiples of 16."""

    dims: int = 3
    equivariant: bool = False
    period: tuple[int, ...] = (16, 16, 16)
    scale: tuple[int, ...] = (1, 1, 1)
    context: tuple[int, ...] = (0, 0, 0)
    lost: tuple[tuple[int, int], ...] = ((0, 0),) * 3

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The input's shape."""
        return tuple(input_shape)

    def valid_input_shape(self, wanted: Sequence[int], rounding: str = "nearest") -> Any:  # noqa: ARG002
        """The wanted shape in whole periods."""
        return tuple(max(16, round(size / 16) * 16) for size in wanted)


@dataclass(frozen=True, repr=False, kw_only=True)
class Net(TrainedModel):
    """MONAI's BasicUNet."""

    module: nn.Module

    @property
    def shapes(self) -> NetworkShapes:
        return SameShapes()

    @property
    def in_channels(self) -> int:
        return 1

    @property
    def output_range(self) -> None:
        return None

    @property
    def usual_input_shape(self) -> tuple[int, ...]:
        return (TILE,) * 3

    def flops(self, input_shape: tuple[int, ...]) -> int:
        return prod(input_shape)

    @cached_property
    def flops_without_halo(self) -> float:
        return 1.0

    def peak_elements(self, input_shape: tuple[int, ...]) -> int:
        return 4 * FEATURES[0] * prod(input_shape)

    def build(self) -> nn.Module:
        return self.module

    def architecture_dict(self) -> dict[str, Any]:
        return {"name": "BasicUNet"}

    def head_dict(self) -> None:
        return None


def network() -> nn.Module:
    """The network, with random weights."""
    torch.manual_seed(0)
    return BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, features=FEATURES).eval()


def ours(module: nn.Module, volume: Values, **options: Any) -> Values:
    """Our prediction."""
    model = Net(
        path="basic_unet",
        channel_names=("a", "b"),
        weights=module.state_dict(),
        options={"checkpoint": "basic_unet"},
        module=module,
    )
    predicted = bp.predict(
        model,
        volume,
        blend=True,
        border="valid",
        precision="float32",
        device="cpu",
        progress=False,
        **options,
    )
    return np.asarray(predicted.data)


@torch.inference_mode()
def monais(module: nn.Module, volume: Values) -> Values:
    """MONAI's prediction."""
    batch = torch.from_numpy(volume)[None, None]
    found = sliding_window_inference(batch, (TILE,) * 3, 1, module, overlap=0.5, mode="gaussian")
    assert isinstance(found, torch.Tensor)
    return np.asarray(found[0].numpy())


def timed(predict: Callable[[], Values]) -> tuple[Values, float, float]:
    """Values, seconds, and seconds of the processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    values = predict()
    return values, time.perf_counter() - wall, time.process_time() - cpu


def nnunets(python: str, module: nn.Module, volume: Values) -> tuple[Values, float, float]:
    """nnU-Net's prediction and its times, from another interpreter."""
    with TemporaryDirectory() as folder:
        torch.jit.trace(module, torch.zeros(1, 1, *(TILE,) * 3)).save(f"{folder}/net.pt")
        np.save(f"{folder}/volume.npy", volume)
        words = [python, str(NNUNET), folder, str(TILE), str(torch.get_num_threads())]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        wall, cpu = map(float, printed.split()[-2:])
        return np.load(f"{folder}/predicted.npy"), wall, cpu


@click.command()
@click.option("--nnunet", metavar="PYTHON", help="Interpreter with nnunetv2.")
def main(nnunet: str | None) -> None:
    """Measure, print a table, and write it to benchmarks/results/blend.md."""
    module = network()
    volume = np.random.default_rng(0).random(VOLUME, np.float32)
    monais(module, volume[:TILE, :TILE, :TILE])
    runs = {
        "MONAI's sliding_window_inference": timed(lambda: monais(module, volume)),
        "ours, one block": timed(
            lambda: ours(module, volume, block_shape=",".join(map(str, VOLUME)))
        ),
        "ours, blocks of 32 x 32 x 48": timed(lambda: ours(module, volume, block_shape="32,32,48")),
    }
    if nnunet:
        runs["nnU-Net's predict_sliding_window (float16 sums)"] = nnunets(nnunet, module, volume)
    reference = runs["ours, one block"][0]
    span = float(np.ptp(reference))
    lines = [
        "# Blended tiles",
        "",
        f"`python benchmarks/blend.py`, {date.today()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}. Volume "
        f"{' x '.join(map(str, VOLUME))}, tiles of {TILE}, overlap 0.5, float32. Differences are "
        "from ours in one block, relative to the span of the values.",
        "",
        "| | seconds | CPU seconds | largest difference | rms difference |",
        "|---|---|---|---|---|",
    ]
    for name, (values, wall, cpu) in runs.items():
        difference = np.abs(values - reference) / span
        rms = float(np.sqrt(np.mean(difference**2)))
        lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} | {difference.max():.2g} | {rms:.2g} |")
    text = "\n".join([*lines, "", NOTES])
    (RESULTS / "blend.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
