"""A tiny network of two tasks, in the layout of the LSD repository's MTLSD, and runs with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from funlib.geometry import Roi

from blockwise_predict.architectures import CNNectomeUNetConfig, CNNectomeUNetModule, UNetShapes
from blockwise_predict.records import default_run_dir
from tests.support.networks import TINY_3D, liven
from tests.support.reference import Held, one_pass
from tests.support.runs import read_output, write_volume

NEIGHBORHOOD = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
TASKS: dict[str, Any] = {
    "affs": {"__type__": "AffinitiesTaskConfig", "neighborhood": NEIGHBORHOOD},
    "lsds": {"channels": 2, "activation": "Tanh"},
}
SIZE = (40, 36, 33)
# Of uint8 that spans 0 to 1.
HALF_STEP = 0.5 / 255 + 1e-5


class MTLSDModel(torch.nn.Module):
    """One U-Net, and a head for each task; with two expanding paths each head has its own."""

    def __init__(self, num_heads: int, lsd_kernel: int) -> None:
        super().__init__()
        self.unet = CNNectomeUNetModule(
            in_channels=1,
            num_fmaps=TINY_3D["num_fmaps"],
            num_fmaps_out=4,
            fmap_inc_factor=TINY_3D["fmap_inc_factor"],
            downsample_factors=TINY_3D["downsample_factors"],
            num_heads=num_heads,
            constant_upsample=True,
            batch_norm=False,
            activation_on_upsample=True,
            upsample_channel_contraction=[False],
        )
        self.aff_head = torch.nn.Module()
        self.aff_head.conv_pass = torch.nn.Sequential(torch.nn.Conv3d(4, 3, 1), torch.nn.Sigmoid())
        self.lsd_head = torch.nn.Conv3d(4, 2, lsd_kernel)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.unet(x)
        first, second = maps if isinstance(maps, list) else (maps, maps)
        lsds = torch.tanh(self.lsd_head(second))
        return {"affs": self.aff_head.conv_pass(first), "lsds": lsds}


class TwoTasks:
    """The network's files, a volume of 27 blocks of 16^3, and the options of runs over it."""

    def __init__(self, folder: Path, num_heads: int = 1, lsd_kernel: int = 1) -> None:
        self.folder = folder
        torch.manual_seed(1)
        self.model = MTLSDModel(num_heads, lsd_kernel).eval()
        liven(self.model)
        torch.save(self.model.state_dict(), folder / "weights.pt")
        architecture = {**TINY_3D, "fmaps_out": 4}
        if num_heads > 1:
            architecture["num_heads"] = num_heads
        lsds = {**TASKS["lsds"], "kernel_size": lsd_kernel}
        document = {"architecture": architecture, "tasks": {**TASKS, "lsds": lsds}}
        (folder / "architecture.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        self.raw = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
        self.input = write_volume(folder / "volume.zarr", self.raw)
        self.options: list[object] = [
            *("--checkpoint", folder / "weights.pt"),
            *("--architecture", folder / "architecture.yaml", "--input", self.input),
            *("--chunk-shape", "16,16,16", "--block-shape", "16,16,16", "--device", "cpu"),
            *("--precision", "float32"),
        ]

    def arguments(self, output: str, *more: object) -> list[object]:
        return ["run", *self.options, "--output", self.folder / output, *more]

    def array(self, output: str, name: str) -> str:
        """The path of one of an output's arrays."""
        return str(self.folder / output / name)

    def run_dir(self, output: str) -> Path:
        return default_run_dir(str(self.folder / output))

    def check(self, output: str, roi: Roi) -> None:
        """Hold both arrays, of a ROI in voxels, to the network itself."""
        for name in TASKS:
            expected, stored = self.expected(name, roi), read_output(self.array(output, name))
            assert np.ptp(expected) > 0.2
            is_integer = stored.dtype == np.uint8
            values, allowed = (stored / 255, HALF_STEP) if is_integer else (stored, 1e-5)
            np.testing.assert_allclose(values, expected, rtol=0, atol=allowed)

    def expected(self, name: str, roi: Roi) -> np.ndarray:
        """An output of the network itself, in one pass, over a ROI in voxels."""
        config = CNNectomeUNetConfig(name="tiny", **{**TINY_3D, "fmaps_out": 4})
        kernel = (self.model.lsd_head.kernel_size[0],) * 3
        shapes = UNetShapes.from_config(config, kernel)
        model = _Only(self.model, name, margin=(kernel[0] - 1) // 2 if name == "affs" else 0)
        return one_pass(model, shapes, Held(self.raw[None] / np.float32(255)), roi)


class _Only(torch.nn.Module):
    """One of the outputs, without a margin that another output does not have."""

    def __init__(self, model: torch.nn.Module, name: str, margin: int) -> None:
        super().__init__()
        self.model, self.name, self.margin = model, name, margin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.model(x)[self.name]
        inner = [slice(self.margin, size - self.margin) for size in values.shape[2:]]
        return values[(slice(None), slice(None), *inner)]
