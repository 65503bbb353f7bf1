"""nnU-Net's sliding window over a volume, for blend.py; needs nnunetv2 and nothing of this package.

    python benchmarks/blend_nnunet.py FOLDER TILE THREADS

FOLDER has net.pt (TorchScript) and volume.npy, and gets predicted.npy. Prints seconds and the
seconds of the processors.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def main(folder: str, tile: int, threads: int) -> None:
    """Predict the volume."""
    torch.set_num_threads(threads)
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = torch.jit.load(f"{folder}/net.pt").eval()
    # What a plans file would give.
    predictor.configuration_manager = SimpleNamespace(patch_size=[tile] * 3)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)
    predictor.allowed_mirroring_axes = None
    volume = torch.from_numpy(np.load(f"{folder}/volume.npy"))[None]
    predictor.predict_sliding_window_return_logits(volume[:, :tile, :tile, :tile])
    wall, cpu = time.perf_counter(), time.process_time()
    logits = predictor.predict_sliding_window_return_logits(volume)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(f"{folder}/predicted.npy", np.asarray(logits, np.float32))
    print(wall, cpu)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
