"""Real FIB-SEM and a network that DaCapo trained: `predict run` gives the reference's values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.runs import predict, read_output
from tests.support.shared import shared_path

VOXEL_NM = 10
TOLERANCE = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format_", "workers", "block", "chunk", "part", "begin", "end"),
    [
        # On the lattice, one block.
        ("zarr3", 1, "64,64,64", "64,64,64", "center", (0, 0, 0), (64, 64, 64)),
        # Off the lattice (the period is 4), several blocks.
        ("zarr3", 2, "32,32,64", "32,32,32", "center", (3, 1, 6), (64, 50, 64)),
        ("zarr3", 1, "48,32,48", "16,16,16", "corner_of_valid", (1, 2, 3), (62, 61, 63)),
        ("zarr2", 1, "64,64,64", "64,64,64", "corner_of_valid", (0, 0, 0), (64, 64, 64)),
        ("zarr2", 2, "48,32,48", "16,16,16", "center", (1, 2, 3), (62, 61, 63)),
        ("n5", 1, "32,32,64", "32,32,32", "center", (3, 1, 6), (64, 50, 64)),
        ("n5", 2, "64,64,64", "64,64,64", "corner_of_valid", (0, 7, 0), (64, 64, 5)),
    ],
)
def test_predictions_equal_the_reference(
    format_: str,
    workers: int,
    block: str,
    chunk: str,
    part: str,
    begin: tuple[int, int, int],
    end: tuple[int, int, int],
    tmp_path: Path,
) -> None:
    expected = np.load(shared_path("data/flyem-medulla-sample1-expected.npz"))
    first = expected[f"{part}_begin_voxels"]
    bounds = [
        f"{(f + b) * VOXEL_NM}:{(f + e) * VOXEL_NM}"
        for f, b, e in zip(first, begin, end, strict=True)
    ]
    output = tmp_path / ("out.n5" if format_ == "n5" else "out.zarr") / "group" / "affs"
    predict(
        *("run", "--checkpoint", shared_path("data/dacapo/flyem_affs")),
        *("--input", shared_path("data/flyem-medulla.zarr/sample1/raw")),
        *("--output", output, "--format", format_, "--roi", f"[{','.join(bounds)}]"),
        *("--block-shape", block, "--chunk-shape", chunk, "--workers", workers, "--device", "cpu"),
        *("--precision", "float32"),
    )
    window = (slice(None), *(slice(b, e) for b, e in zip(begin, end, strict=True)))
    predicted = read_output(str(output))
    np.testing.assert_allclose(predicted, expected[part][window], rtol=0, atol=TOLERANCE)
