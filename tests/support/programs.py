"""Small networks of layers that the package does not know, and what one pass of them gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.networks import liven


class Dilated(nn.Module):
    """Dilated convolutions without padding, on two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 4, 3)
        self.second = nn.Conv3d(4, 4, (1, 3, 3), dilation=(1, 3, 2))
        self.last = nn.Conv3d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return torch.sigmoid(self.last(x))


class OddPooling(nn.Module):
    """A U-Net with one level, pooling by three, and neither padding nor a crop to whole windows."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv3d(1, 3, 3)
        self.deep = nn.Conv3d(3, 4, 3)
        self.up = nn.ConvTranspose3d(4, 3, 3, stride=3)
        self.last = nn.Conv3d(6, 2, (1, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = torch.relu(self.down(x))
        deep = torch.relu(self.deep(F.max_pool3d(skipped, 3)))
        up = self.up(deep)
        cropped = skipped[:, :, 3:-3, 3:-3, 3:-3]
        return self.last(torch.cat([cropped, up], 1))


class SuperResolving(nn.Module):
    """Twice as many voxels out as in, in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3)
        self.up = nn.ConvTranspose3d(4, 4, (1, 2, 2), stride=(1, 2, 2))
        self.last = nn.Conv3d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.up(torch.relu(self.first(x)))))


class Flat(nn.Module):
    """A 2-D network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


class Same(nn.Module):
    """A U-Net with padding, which takes any size: pooling rounds down."""

    def __init__(self, dims: int = 3, norm: bool = False) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        instance = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
        self.down = conv(1, 3, 3, padding=1)
        self.pool = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[dims](2)
        self.deep = conv(3, 4, 3, padding=1)
        self.norm = instance(4) if norm else nn.Identity()
        self.last = conv(7, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = torch.relu(self.down(x))
        deep = torch.relu(self.norm(self.deep(self.pool(skipped))))
        up = F.interpolate(deep, size=skipped.shape[2:], mode="nearest")
        return self.last(torch.cat([skipped, up], 1))


class Gated(nn.Module):
    """Weights its output by the mean of the tile."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class Positioned(nn.Module):
    """Adds a voxel's position in the tile."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + torch.linspace(0, 1, x.shape[2])[:, None]


class Halving(nn.Module):
    """Fewer voxels out than in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x)


class Classifying(nn.Module):
    """One answer for an image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.first(x), 1)


class Twofold(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"affinities": self.first(x), "distances": -self.first(x)}


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights with which its output varies, in eval mode."""
    torch.manual_seed(seed)
    liven(network)
    return network.eval().requires_grad_(False)


def save_script(network: nn.Module, file: Path) -> Path:
    """The network as TorchScript."""
    torch.jit.script(network).save(str(file))
    return file


def save_onnx(network: nn.Module, file: Path, shape: tuple[int, ...], *, dynamic: bool) -> Path:
    """The network as ONNX, exported with an input `[C, *spatial]`."""
    axes = {"x": {axis: f"size{axis}" for axis in range(2, len(shape) + 1)}} if dynamic else None
    example = torch.rand(1, *shape)
    traced = torch.jit.trace(network, example)
    torch.onnx.export(
        traced, (example,), str(file), dynamo=False, input_names=["x"], dynamic_axes=axes
    )
    return file


def save_exported(network: nn.Module, file: Path, shape: tuple[int, ...], *, dynamic: bool) -> Path:
    """The network as a program of torch.export, exported with an input `[C, *spatial]`."""
    sizes = {axis: torch.export.Dim(f"size{axis}", min=8) for axis in range(2, len(shape) + 1)}
    program = torch.export.export(
        network, (torch.rand(1, *shape),), dynamic_shapes=(sizes,) if dynamic else None
    )
    torch.export.save(program, file)
    return file


@dataclass(frozen=True)
class Known:
    """A network, and how one pass covers a volume: known from its layers, not by probing.

    low: voxels to add before the volume; skipped: output voxels before those of the volume.
    added: smallest number of voxels to add in all; sizes are `residue` modulo `step`.
    """

    network: Callable[[], nn.Module]
    channels: int
    scale: tuple[int, ...]
    context: tuple[int, ...]
    low: tuple[int, ...]
    skipped: tuple[int, ...]
    added: tuple[int, ...]
    period: int = 1
    residue: int = 0

    def one_pass(self, network: nn.Module, data: np.ndarray) -> np.ndarray:
        """One pass over `[C, *spatial]`, mirrored at its border: `[K, *spatial * scale]`."""
        pads = [(0, 0)]
        for size, low, added in zip(data.shape[1:], self.low, self.added, strict=True):
            missing = (self.residue - size - added) % self.period
            pads.append((low, added + missing - low))
        padded = np.pad(data, pads, mode="reflect")
        with torch.inference_mode():
            output = network(torch.from_numpy(padded)[None])[0].numpy()
        ends = [b + n * s for b, n, s in zip(self.skipped, data.shape[1:], self.scale, strict=True)]
        return output[(slice(None), *map(slice, self.skipped, ends))]


KNOWN = {
    "dilated": Known(Dilated, 2, (1, 1, 1), (2, 8, 6), (1, 4, 3), (0, 0, 0), (2, 8, 6)),
    "odd pooling": Known(
        *(OddPooling, 1, (1, 1, 1), (8, 10, 10), (4, 5, 5), (0, 0, 0), (8, 10, 10)),
        period=3,
        residue=2,
    ),
    "super-resolving": Known(
        SuperResolving, 1, (1, 2, 2), (4, 6, 6), (2, 2, 2), (0, 1, 1), (4, 4, 4)
    ),
    "2-D": Known(Flat, 1, (1, 1), (6, 6), (3, 3), (0, 0), (6, 6)),
    "same, 2-D": Known(partial(Same, 2), 1, (1, 1), (0, 0), (8, 8), (8, 8), (16, 16), period=2),
    "same": Known(Same, 1, (1, 1, 1), (0, 0, 0), (8, 8, 8), (8, 8, 8), (16, 16, 16), period=2),
}
