"""nnU-Net's sliding window for blend.py; needs nnunetv2 and nothing of this package.

    python benchmarks/blend_nnunet.py FOLDER TILE ROUNDS

FOLDER has net.pt (TorchScript), even.npy and uneven.npy, and gets predicted.npz with nnU-Net's own
prediction of even.npy, and those with its window and number format replaced. Prints nnU-Net's
version and its CPU seconds, the fewest of the rounds.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from numpy.typing import NDArray
from torch import nn


class Remembering(nn.Module):
    """The network; predicts a tile once (the time for that copy is negligible)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: dict[bytes, torch.Tensor] = {}

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        """The output, which nnU-Net multiplies in place."""
        key = tile.numpy().tobytes()
        if key not in self.seen:
            self.seen[key] = self.network(tile)
        return self.seen[key].clone()


def make_predictor(folder: str, tile: int) -> predict_from_raw_data.nnUNetPredictor:
    """nnU-Net's predictor, with what a plans file would give."""
    predictor = predict_from_raw_data.nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = Remembering(torch.jit.load(f"{folder}/net.pt").eval())
    predictor.configuration_manager = SimpleNamespace(patch_size=[tile] * 3)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
    predictor.allowed_mirroring_axes = None
    return predictor


def gaussian(tile: int, *, centre: float, smallest: float) -> torch.Tensor:
    """A Gaussian of maximum 10, as nnU-Net scales it, and at least `smallest` of that."""
    along = torch.exp(-((torch.arange(tile) - centre) ** 2) / (2 * (tile / 8) ** 2))
    return 10 * torch.einsum("i,j,k->ijk", along, along, along).clamp(min=smallest)


def main(folder: str, tile: int, rounds: int) -> None:
    """Predict the volumes."""
    torch.set_num_threads(1)
    predictor = make_predictor(folder, tile)
    even, uneven = (
        torch.from_numpy(np.load(f"{folder}/{n}.npy"))[None] for n in ("even", "uneven")
    )

    def predict(volume: torch.Tensor) -> NDArray[np.float32]:
        return np.asarray(predictor.predict_sliding_window_return_logits(volume), np.float32)

    def replaced(
        window: torch.Tensor, volume: torch.Tensor = even, dtype: torch.dtype = torch.float32
    ) -> NDArray[np.float32]:
        """nnU-Net's prediction with this window, and with `dtype` for its float16."""
        window = window.to(dtype)
        with (
            patch.object(predict_from_raw_data, "compute_gaussian", lambda *_, **__: window),
            patch.object(torch, "half", dtype),
        ):
            return predict(volume)

    predict(even[:, :tile, :tile, :tile])
    seconds = []
    for _ in range(rounds):
        predictor.network.seen.clear()
        begin = time.process_time()
        own = predict(even)
        seconds.append(time.process_time() - begin)

    between = (tile - 1) / 2
    ours = gaussian(tile, centre=between, smallest=1e-3)
    np.savez(
        f"{folder}/predicted.npz",
        own=own,
        float32=replaced(gaussian(tile, centre=tile // 2, smallest=0)),
        bound=replaced(gaussian(tile, centre=between, smallest=0)),
        centre=replaced(gaussian(tile, centre=tile // 2, smallest=1e-3)),
        float16=replaced(ours, dtype=torch.float16),
        none=replaced(ours),
        positions=replaced(ours, uneven),
    )
    print(version("nnunetv2"), min(seconds))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
