"""One network on one device: raw numpy block in, predicted numpy block out."""

from __future__ import annotations

import threading

import numpy as np
import torch
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.errors import ConfigError
from blockwise_predict.lattice import Lattice


def choose_device(name: str, worker: int = 0) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`; `auto` and `cuda` deal out the GPUs.

    Raises ConfigError if the GPU that was asked for is not there.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    index = int(name.partition(":")[2] or worker % max(count, 1))
    if index >= count:
        raise ConfigError(
            f"--device {name}: this machine has {count} usable CUDA GPUs. "
            "Use --device cpu, or check the driver and CUDA_VISIBLE_DEVICES."
        )
    return torch.device("cuda", index)


class Predictor:
    """Runs the forward passes of a block; safe to call from several threads.

    `model` maps `[B, C, *input]` to `[B, K, *output]`, in eval mode. A network with one axis less
    than the volume (2-D on 3-D) sees the slices of the first axis as a batch.
    """

    def __init__(self, model: torch.nn.Module, lattice: Lattice, dims: int, device: torch.device):
        # TF32 would round the inputs of every product to 10 bits; float32 is what was promised.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.device = device
        self.lattice = lattice
        self._slices = len(lattice.axes) == dims + 1
        self._layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        # torch's type hints leave out that modules take a memory format too.
        self._model = model.to(device=device, memory_format=self._layout)  # type: ignore[call-overload]
        self._compute = threading.Lock()

    def predict(self, raw: NDArray[np.float32], read: Roi, block: Roi) -> NDArray[np.float32]:
        """Predict a block.

        `raw` is `[C, *spatial]`, normalised, and covers the input ROI `read` (voxels from the
        input's origin), which must hold what `Lattice.read_roi(block)` says. `block` is in output
        voxels from the same origin. Returns `[K, *block.shape]`.
        """
        output: NDArray[np.float32] | None = None
        with self._compute:
            for tile in self.lattice.cover(block):
                source = (tile.read - read.begin).to_slices()
                predicted = self._forward(raw[(slice(None), *source)])
                if output is None:
                    output = np.empty((predicted.shape[0], *block.shape), np.float32)
                target = (tile.keep - block.begin).to_slices()
                kept = predicted[(slice(None), *tile.crop.to_slices())]
                output[(slice(None), *target)] = kept.cpu().numpy()
        if output is None:
            raise ValueError(f"block {block} is empty")
        return output

    @torch.inference_mode()
    def _forward(self, tile: NDArray[np.float32]) -> torch.Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(tile)).to(self.device)
        # [C, z, y, x] -> [z, C, y, x] for slices, else [1, C, ...]
        batch = batch.movedim(0, 1) if self._slices else batch[None]
        result: torch.Tensor = self._model(batch.contiguous(memory_format=self._layout))
        return result.movedim(0, 1) if self._slices else result[0]
