"""Trains the small network that ships with the package for `predict demo`.

    python benchmarks/train_demo.py

Phantoms with fixed seeds are generated; the network learns three affinities (whether the next voxel
along z, y, x is in the same cell) with a balanced cross entropy. It is scored on a held-out
phantom, and compared with the best result of smoothing and thresholding the image. Weights,
architecture and score are written to blockwise_predict/demo/model/. The score's file records the
settings and the time, about a quarter of an hour on two cores.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file

import blockwise_predict.demo
from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig
from blockwise_predict.demo.fields import gaussian_blur
from blockwise_predict.demo.phantom import Phantom, make_phantom
from blockwise_predict.demo.score import Score, score

MODEL_FOLDER = Path(blockwise_predict.demo.__file__).parent / "model"
NEIGHBORHOOD = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
TRAINING_SEEDS = range(1000, 1024)
HELD_OUT_SEED = 7
PHANTOM_SHAPE = (144, 144, 144)
INPUT_SHAPE = (92, 92, 92)
LEARNING_RATE = 1e-3
MAX_GRADIENT_NORM = 1.0  # crops with little membrane have gradients that destabilise training
BASELINE_SIGMAS = (0.7, 1.0, 1.5, 2.0, 3.0)

ARCHITECTURE = {
    "name": "demo_unet",
    "input_shape": INPUT_SHAPE,
    "fmaps_in": 1,
    "fmaps_out": 12,
    "num_fmaps": 12,
    "fmap_inc_factor": 2,
    "downsample_factors": [(2, 2, 2), (2, 2, 2)],
    "constant_upsample": True,
    "padding": "valid",
    "batch_norm": False,
}
TASK = {
    "name": "demo_affinities",
    "neighborhood": NEIGHBORHOOD,
    "lsds": False,
    "affs_weight_clipmin": 0.05,
    "affs_weight_clipmax": 0.95,
}

Volume = NDArray[np.float32]


class DemoNet(torch.nn.Module):
    """U-Net and 1x1x1 head without the sigmoid, with DaCapo's attribute names."""

    def __init__(self) -> None:
        super().__init__()
        self.architecture = CNNectomeUNet(CNNectomeUNetConfig(**ARCHITECTURE))
        self.prediction_head = torch.nn.Conv3d(ARCHITECTURE["fmaps_out"], len(NEIGHBORHOOD), 1)
        for convolution in self.modules():
            if isinstance(convolution, torch.nn.Conv3d):
                # PyTorch's default shrinks activations layer by layer, which delays training.
                torch.nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                torch.nn.init.zeros_(convolution.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 1, z, y, x] in 0 to 1 -> logits [B, 3, z', y', x']."""
        return self.prediction_head(self.architecture(x))


@click.command()
@click.option("--steps", default=1500, show_default=True, help="Optimiser steps.")
@click.option("--threads", default=2, show_default=True, help="PyTorch threads.")
@click.option("--seed", default=0, show_default=True, help="Seed of weights and training crops.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=MODEL_FOLDER,
    show_default="the package's demo/model",
    help="Folder for weights, architecture and score.",
)
def main(steps: int, threads: int, seed: int, output: Path) -> None:
    """Train the network, score it on the held-out phantom, and save it."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    begin = time.perf_counter()
    phantoms = [make_phantom(PHANTOM_SHAPE, s) for s in TRAINING_SEEDS]
    click.echo(f"{len(phantoms)} phantoms in {time.perf_counter() - begin:.0f} s")

    net = DemoNet().to(memory_format=torch.channels_last_3d)
    train(net, phantoms, rng, steps)
    seconds = time.perf_counter() - begin

    report = evaluate(net, make_phantom(PHANTOM_SHAPE, HELD_OUT_SEED))
    report["training"] = {
        "command": f"python benchmarks/train_demo.py --steps {steps} --seed {seed}",
        "seconds": round(seconds),
        "threads": threads,
        "steps": steps,
        "parameters": sum(p.numel() for p in net.parameters()),
    }
    save(net, report, output)
    click.echo(json.dumps(report, indent=2))


def train(net: DemoNet, phantoms: list[Phantom], rng: np.random.Generator, steps: int) -> None:
    """Adam with one cosine cycle, one crop per step, in bfloat16 autocast."""
    optimiser = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1
    )
    begin, recent = time.perf_counter(), []
    for step in range(1, steps + 1):
        raw, truth = draw_crop(phantoms[rng.integers(len(phantoms))], rng)
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(torch.from_numpy(raw[None, None]))
        loss = balanced_loss(logits.float()[0], truth)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 0:
            seconds = time.perf_counter() - begin
            click.echo(f"step {step}: loss {np.mean(recent[-50:]):.4f}, {seconds:.0f} s")


def draw_crop(phantom: Phantom, rng: np.random.Generator) -> tuple[Volume, NDArray[np.bool_]]:
    """A random crop in a random orientation: raw [z, y, x], true affinities of the whole crop."""
    corner = rng.integers(0, np.array(PHANTOM_SHAPE) - INPUT_SHAPE + 1)
    crop = tuple(slice(c, c + n) for c, n in zip(corner, INPUT_SHAPE, strict=True))
    axes = rng.permutation(3)
    flips = tuple(int(axis) for axis in np.flatnonzero(rng.integers(0, 2, 3)))

    def orient(volume: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(np.flip(volume[crop].transpose(axes), flips))

    turned = Phantom(*(orient(v) for v in (phantom.raw, phantom.membrane, phantom.labels)))
    raw = normalise(turned.raw)
    raw = (raw - 0.5) * rng.uniform(0.8, 1.25) + 0.5 + rng.uniform(-0.1, 0.1)
    raw += rng.normal(0, rng.uniform(0, 0.03), raw.shape)
    return raw.astype(np.float32), turned.affinities(NEIGHBORHOOD)


def balanced_loss(logits: torch.Tensor, truth: NDArray[np.bool_]) -> torch.Tensor:
    """Cross entropy in which both classes of a channel have the same weight."""
    target = torch.from_numpy(crop_to(truth, logits.shape[1:])).float()
    share = target.mean(dim=(1, 2, 3), keepdim=True).clamp(0.05, 0.95)
    weight = target * 0.5 / share + (1 - target) * 0.5 / (1 - share)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target, weight)


def normalise(raw: NDArray[np.uint8]) -> Volume:
    """Normalise as `predict run` does for uint8 by default."""
    return raw.astype(np.float32) / 255


def crop_to(volume: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Centre-crop the last three axes, to the output of valid convolutions."""
    margins = [(have - want) // 2 for have, want in zip(volume.shape[-3:], shape, strict=True)]
    window = tuple(slice(m, m + want) for m, want in zip(margins, shape, strict=True))
    return volume[(..., *window)]


def evaluate(net: DemoNet, phantom: Phantom) -> dict[str, Any]:
    """Score affinities of the network and of smoothed grey values; boundaries are the positives."""
    with torch.inference_mode():
        raw = torch.from_numpy(normalise(phantom.raw)[None, None])
        predicted = net.eval()(raw).sigmoid()[0].numpy()
    shape = predicted.shape[1:]
    # The last voxel along an axis has no neighbour, but lies in the margin that is cropped.
    boundary = ~crop_to(phantom.affinities(NEIGHBORHOOD), shape)
    smoothed = {
        sigma: crop_to(255 - gaussian_blur(phantom.raw.astype(np.float32), sigma), shape)
        for sigma in BASELINE_SIGMAS
    }
    scores = {
        sigma: score(np.broadcast_to(v, boundary.shape), boundary) for sigma, v in smoothed.items()
    }
    best_sigma = max(scores, key=lambda sigma: scores[sigma].roc_auc)
    return {
        "held_out_seed": HELD_OUT_SEED,
        "phantom_shape": PHANTOM_SHAPE,
        "scored_shape": shape,
        "boundary_fraction": round(float(boundary.mean()), 4),
        "network": rounded(score(1 - predicted, boundary)),
        "smoothed_intensity": {"sigma_voxels": best_sigma, **rounded(scores[best_sigma])},
    }


def rounded(result: Score) -> dict[str, float]:
    """A score with four decimals, for the report."""
    return {name: round(value, 4) for name, value in asdict(result).items()}


def save(net: DemoNet, report: dict[str, Any], folder: Path) -> None:
    """Write weights.safetensors, architecture.yaml and score.json."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "weights.safetensors").chmod(0o644)  # safetensors: owner only
    description = {
        "architecture": {"__type__": "CNNectomeUNetConfig", **ARCHITECTURE},
        "task": {"__type__": "AffinitiesTaskConfig", **TASK},
    }
    plain = json.loads(json.dumps(description))  # tuples become lists: YAML without tags
    (folder / "architecture.yaml").write_text(
        "# Written by benchmarks/train_demo.py, with weights.safetensors and score.json.\n"
        + yaml.safe_dump(plain, sort_keys=False)
    )
    (folder / "score.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
