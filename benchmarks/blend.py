"""Compares blended tiles with the sliding windows of MONAI and nnU-Net.

    python benchmarks/blend.py                               with MONAI's
    python benchmarks/blend.py --nnunet path/to/python       and with nnU-Net's

All run one TorchScript file (MONAI's DynUNet: three levels, instance norm, random weights) on tiles
of one shape and overlap. nnU-Net runs in an interpreter that has nnunetv2 installed: as it is, and
with its differences from ours replaced, which shows what each of them is worth.
"""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.dynunet import DynUNet
from numpy.typing import NDArray
from torch import nn

import blockwise_predict as bp
from blockwise_predict.checkpoint import TrainedModel

RESULTS = Path(__file__).parent / "results"
NNUNET = Path(__file__).with_name("blend_nnunet.py")
TILE = 64
# Whole steps of half a tile, so that nnU-Net's tiles are ours.
EVEN = (128, 96, 96)
# Along the first axis nnU-Net's tiles begin at 0, 23 and 46, ours at 0, 32 and 46.
UNEVEN = (110, 64, 64)
BLOCK = (64, 96, 96)
ROUNDS = 3

NOTES = f"""Differences are relative to the span of the values. Inside: at least a quarter of a
tile ({TILE // 4} voxels) from the volume's border. The weights are random and the volume is
noise, so overlapping tiles differ more than those of a trained network.
"""

Values = NDArray[np.float32]


def save_network(file: Path) -> None:
    """Save the network as TorchScript."""
    torch.manual_seed(0)
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[8, 16, 32],
        norm_name="instance",
    )
    torch.jit.trace(network.eval(), torch.zeros(1, 1, TILE, TILE, TILE)).save(str(file))


def ours(model: TrainedModel, volume: Values, block: tuple[int, ...] | None = None) -> Values:
    """Our prediction; in one block if none is given."""
    predicted = bp.predict(
        model,
        volume,
        blend=True,
        border="valid",
        tile_shape=f"{TILE},{TILE},{TILE}",
        block_shape=",".join(map(str, block or volume.shape)),
        normalize="none",
        precision="float32",
        device="cpu",
        progress=False,
    )
    return np.asarray(predicted.data)


@torch.inference_mode()
def monais(network: nn.Module, volume: Values) -> Values:
    """MONAI's prediction."""
    batch = torch.from_numpy(volume)[None, None]
    found = sliding_window_inference(batch, (TILE,) * 3, 1, network, overlap=0.5, mode="gaussian")
    assert isinstance(found, torch.Tensor)
    return np.asarray(found[0].numpy())


@dataclass(frozen=True)
class Run:
    """Values, and the fewest CPU seconds of the rounds."""

    values: Values
    seconds: float


def measured(predictions: dict[str, Callable[[], Values]]) -> dict[str, Run]:
    """Run all of them in each of the rounds."""
    runs: dict[str, Run] = {}
    for _ in range(ROUNDS):
        for name, predict in predictions.items():
            begin = time.process_time()
            values = predict()
            seconds = time.process_time() - begin
            runs[name] = Run(values, min(seconds, runs[name].seconds if name in runs else seconds))
    return runs


@dataclass(frozen=True)
class NnUNet:
    """nnU-Net's predictions by the names of blend_nnunet.py, its version and its CPU seconds."""

    predicted: dict[str, Values]
    version: str
    seconds: float


def nnunets(python: str, folder: Path, even: Values, uneven: Values) -> NnUNet:
    """What nnU-Net gives in another interpreter; `folder` has the network."""
    np.save(folder / "even.npy", even)
    np.save(folder / "uneven.npy", uneven)
    words = [python, str(NNUNET), str(folder), str(TILE), str(ROUNDS)]
    printed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    version, seconds = printed.split()[-2:]
    with np.load(folder / "predicted.npz") as predicted:
        return NnUNet(dict(predicted), version, float(seconds))


def differences(values: Values, reference: Values) -> str:
    """Table cells: largest and rms difference of all voxels, and of those inside."""
    relative = np.abs(values - reference) / np.ptp(reference)
    inside = relative[:, *(slice(TILE // 4, -TILE // 4),) * 3]
    parts = (f"{part.max():.1e} | {np.sqrt(np.mean(part**2)):.1e}" for part in (relative, inside))
    return " | ".join(parts)


def table(columns: str, rows: Iterable[str]) -> list[str]:
    """Lines of a table whose last columns are differences."""
    header = f"| {columns} | largest difference | rms | largest, inside | rms, inside |"
    return [header, "|---" * (header.count("|") - 1) + "|", *rows, ""]


def timed_rows(runs: dict[str, Run], reference: Values) -> Iterator[str]:
    """A row for each prediction."""
    for name, run in runs.items():
        yield f"| {name} | {run.seconds:.1f} | {differences(run.values, reference)} |"


def nnunet_rows(predicted: dict[str, Values], even: Values, uneven: Values) -> Iterator[str]:
    """What each of nnU-Net's differences from ours is worth; `even` and `uneven` are ours."""
    compared = {
        "no lower bound of the window (ours: 0.001 of its maximum)": ("bound", even),
        "centre of the window at size // 2 (ours: (size - 1) / 2)": ("centre", even),
        "float16 for window and sums (ours: float32)": ("float16", even),
        f"tiles evenly spread over {UNEVEN} (ours: every {TILE // 2})": ("positions", uneven),
        "none of these": ("none", even),
        "lower bound and centre together": ("float32", even),
    }
    for name, (key, reference) in compared.items():
        yield f"| {name} | {differences(predicted[key], reference)} |"
    own = differences(predicted["own"], predicted["float32"])
    yield f"| float16 as well, that is nnU-Net unchanged, from the row above | {own} |"


def compare(folder: Path, nnunet: str | None) -> list[str]:
    """The lines of the tables."""
    file = folder / "net.pt"
    save_network(file)
    network, model = torch.jit.load(file).eval(), bp.open_checkpoint(file, activation="none")
    even, uneven = (np.random.default_rng(0).random(n, np.float32) for n in (EVEN, UNEVEN))
    monais(network, even[:TILE, :TILE, :TILE])
    runs = measured(
        {
            "MONAI's `sliding_window_inference`": lambda: monais(network, even),
            "ours, one block": lambda: ours(model, even),
            f"ours, blocks of {BLOCK}": lambda: ours(model, even, BLOCK),
        }
    )
    reference = runs["ours, one block"].values
    lines: list[str] = []
    if nnunet:
        found = nnunets(nnunet, folder, even, uneven)
        name = f"nnU-Net {found.version}'s `predict_sliding_window_return_logits`"
        runs[name] = Run(found.predicted["own"], found.seconds)
        rows = nnunet_rows(found.predicted, reference, ours(model, uneven))
        lines = [
            "nnU-Net's algorithm with our choices, except for one of its own:",
            "",
            *table("nnU-Net's own", rows),
        ]
    return [*table("| CPU seconds", timed_rows(runs, reference)), *lines]


@click.command()
@click.option("--nnunet", metavar="PYTHON", help="Interpreter with nnunetv2.")
def main(nnunet: str | None) -> None:
    """Measure, print tables, and write them to benchmarks/results/blend.md."""
    # Threads that wait for each other spin, which a busy machine would count as CPU seconds.
    torch.set_num_threads(1)
    begin = time.perf_counter()
    with TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        tables = compare(Path(folder), nnunet)
    lines = [
        "# Blended tiles",
        "",
        f"{date.today()}, `python benchmarks/blend.py{' --nnunet PYTHON' if nnunet else ''}` "
        f"({time.perf_counter() - begin:.0f} seconds), torch {torch.__version__}, "
        f"one thread, {os.cpu_count()} cores with a load average of "
        f"{os.getloadavg()[0]:.0f}. Volume {EVEN}, tiles of {(TILE,) * 3}, overlap 0.5, float32. "
        f"CPU seconds are the fewest of {ROUNDS} rounds. Differences are from ours in one block.",
        "",
        *tables,
        NOTES,
    ]
    text = "\n".join(lines)
    (RESULTS / "blend.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
