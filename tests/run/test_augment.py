"""Test-time augmentation, held to the mean of the network over transformed whole volumes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from monai.inferers.utils import sliding_window_inference

import blockwise_predict as bp
from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.engine.border import read_padded
from tests.support.networks import save_network
from tests.support.programs import Same, lively, save_script
from tests.support.reference import Held
from tests.support.runs import predict, read_output, write_volume

AFFINITIES = {
    "__type__": "AffinitiesTaskConfig",
    "name": "affs",
    "neighborhood": [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -3], [0, 3, 0]],
}
ONE_HOT = {"__type__": "OneHotTaskConfig", "name": "t", "classes": ["a", "b"]}
ANISOTROPIC = {
    "downsample_factors": [[1, 2, 2]],
    "kernel_size_down": [[[1, 3, 3]], [[3, 3, 3]]],
    "kernel_size_up": [[[1, 3, 3]]],
}
# An even kernel, with which a pass loses one voxel more at one end than at the other.
UNEVEN = {
    "kernel_size_down": [[[3, 3, 3]], [[3, 3, 3]]],
    "kernel_size_up": [[[2, 3, 2]]],
}
# Output voxels around the volume that the reference predicts as well.
MARGIN = 4


@dataclass(frozen=True)
class Transformed:
    """The network's output over a volume of which some axes were flipped and then exchanged."""

    output: np.ndarray
    flips: tuple[bool, ...]
    exchanged: bool


def forward(trained: TrainedModel, raw: np.ndarray, flips: Sequence[bool], exchanged: bool) -> Any:
    """One pass over the transformed volume; its output placed back, from -MARGIN on."""
    shapes = trained.shapes
    lost = [pair[::-1] if flip else pair for pair, flip in zip(shapes.lost, flips, strict=True)]
    begin = [-low - MARGIN for low, _ in lost]
    size = [n + 2 * MARGIN + sum(pair) for n, pair in zip(raw.shape, lost, strict=True)]
    roi = Roi(begin, shapes.valid_input_shape((max(size),) * 3, "up"))
    data = read_padded(Held(raw[None]), roi, "reflect").astype(np.float32)[0] / 255
    axes = [axis for axis, flip in enumerate(flips) if flip]
    data = np.flip(data, axes)
    data = data.swapaxes(1, 2) if exchanged else data
    with torch.inference_mode():
        output = trained.build()(torch.from_numpy(data.copy())[None, None])[0].numpy()
    output = output.swapaxes(2, 3) if exchanged else output
    return Transformed(np.flip(output, [axis + 1 for axis in axes]), tuple(flips), exchanged)


def channel(given: Transformed, offsets: Sequence[Sequence[int]] | None, number: int) -> np.ndarray:
    """A channel of the original volume, from the transformed one; `offsets` of affinities."""
    if offsets is None:
        return given.output[number]
    for source, offset in enumerate(offsets):
        found = [offset[0], *(offset[:0:-1] if given.exchanged else offset[1:])]
        found = [-step if flip else step for step, flip in zip(found, given.flips, strict=True)]
        if found == list(offsets[number]):
            return given.output[source]
        if [-step for step in found] == list(offsets[number]):
            return np.roll(given.output[source], found, (0, 1, 2))
    raise AssertionError("no such affinity")


def mean_of_copies(
    trained: TrainedModel,
    raw: np.ndarray,
    *,
    exchange: bool = False,
    offsets: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """The mean over all flips, with and without the exchange of y and x."""
    copies = [
        forward(trained, raw, flips, exchanged)
        for flips in itertools.product((False, True), repeat=3)
        for exchanged in ((False, True) if exchange else (False,))
    ]
    inside = tuple(slice(MARGIN, MARGIN + n) for n in raw.shape)
    return np.stack(
        [
            np.mean([channel(copy, offsets, number)[inside] for copy in copies], axis=0)
            for number in range(len(trained.channel_names))
        ]
    )


@pytest.mark.parametrize(
    ("augment", "network", "voxel_size"),
    [
        ("flips", {"task": AFFINITIES}, (10, 10, 10)),
        ("in-plane", {"task": ONE_HOT, **ANISOTROPIC}, (40, 10, 10)),
        ("flips", {"task": ONE_HOT, **UNEVEN}, (10, 10, 10)),
    ],
    ids=["affinities", "anisotropic", "uneven"],
)
def test_a_run_is_the_mean_over_transformed_volumes(
    augment: str, network: dict[str, Any], voxel_size: tuple[int, ...], tmp_path: Path
) -> None:
    weights, architecture = save_network(tmp_path, **network)
    trained = bp.open_checkpoint(weights, architecture=architecture)
    raw = np.random.default_rng(0).integers(0, 256, (17, 15, 19), np.uint8)
    volume = write_volume(tmp_path / "raw.zarr", raw, voxel_size)
    offsets = AFFINITIES["neighborhood"] if network["task"] is AFFINITIES else None
    expected = mean_of_copies(trained, raw, exchange=augment == "in-plane", offsets=offsets)
    z, *_ = voxel_size
    for sizes in (
        ("--chunk-shape", "7,9,8"),
        ("--chunk-shape", "8,8,8", "--tile-shape", "20,20,22"),
    ):
        output = f"{tmp_path}/{len(sizes)}.zarr/out"
        predict(
            *("run", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
            *("--output", output, "--device", "cpu", "--precision", "float32", *sizes),
            *("--augment", augment, "--roi", f"[{3 * z}:{16 * z},0:130,50:]"),
        )
        part = expected[:, 3:16, :13, 5:]
        np.testing.assert_allclose(read_output(output), part, atol=1e-5 * np.abs(part).max())


def test_copies_of_an_equivariant_network_agree(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, task=ONE_HOT)
    state = torch.load(weights)
    for name, tensor in state.items():
        if tensor.dim() == 5:
            turned = [
                tensor.permute(0, 1, *order).flip(axes)
                for order in itertools.permutations((2, 3, 4))
                for axes in ([], [2], [3], [4], [2, 3], [2, 4], [3, 4], [2, 3, 4])
            ]
            state[name] = torch.stack(turned).mean(0).abs()
    torch.save(state, weights)
    raw = np.random.default_rng(0).integers(0, 256, (13, 11, 12), np.uint8)
    options = {"architecture": architecture, "precision": "float32", "progress": False}
    plain = bp.predict(weights, raw, **options).data
    assert plain.std() > 1e-3 * np.abs(plain).max()
    augmented = bp.predict(weights, raw, augment="all", **options).data
    np.testing.assert_allclose(augmented, plain, atol=1e-5 * np.abs(plain).max())


def test_a_2d_network_over_slices(tmp_path: Path) -> None:
    weights, architecture = save_network(
        tmp_path, input_shape=[20, 20], downsample_factors=[[2, 2]]
    )
    raw = np.random.default_rng(0).integers(0, 256, (3, 20, 24), np.uint8)
    options = {"architecture": architecture, "precision": "float32", "progress": False}
    given = {**options, "augment": "all", "augment_channels": "scalars"}
    augmented = bp.predict(weights, raw, **given).data
    copies = [
        np.flip(
            bp.predict(weights, np.flip(raw, axes).copy(), **options).data, [a + 1 for a in axes]
        )
        for axes in ([], [1], [2], [1, 2])
    ]
    turned = raw.swapaxes(1, 2).copy()
    copies += [
        np.flip(
            bp.predict(weights, np.flip(turned, axes).copy(), **options).data, [a + 1 for a in axes]
        ).swapaxes(2, 3)
        for axes in ([], [1], [2], [1, 2])
    ]
    expected = np.mean(copies, axis=0)
    np.testing.assert_allclose(augmented, expected, atol=1e-5 * np.abs(expected).max())


def test_border_valid_keeps_what_needs_no_fill(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, task=AFFINITIES)
    raw = np.random.default_rng(0).integers(0, 256, (30, 28, 27), np.uint8)
    options = {
        "architecture": architecture,
        "precision": "float32",
        "progress": False,
        "augment": "flips",
    }
    valid = bp.predict(weights, raw, border="valid", **options)
    whole = bp.predict(weights, raw, **options).data
    part = tuple(
        slice(*map(int, pair)) for pair in zip(valid.roi.begin, valid.roi.end, strict=True)
    )
    assert 0 < valid.data.size < whole.size
    np.testing.assert_allclose(valid.data, whole[(slice(None), *part)], atol=1e-6)


def test_blended_tiles_are_augmented_as_one_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = lively(Same(dims=2, norm=True))
    trained = bp.open_checkpoint(save_script(network, tmp_path / "net.ts"), activation="none")
    raw = np.random.default_rng(0).integers(0, 256, (46, 31), np.uint8)
    options = {"precision": "float32", "progress": False, "normalize": "auto", "border": "valid"}
    given = {"augment": "flips", "augment_channels": "scalars", "tile_shape": "16,16"}
    augmented = bp.predict(trained, raw, blend=True, block_shape="9,12", **options, **given).data

    def mean_over_flips(tile: torch.Tensor) -> torch.Tensor:
        flips = [axes for n in range(3) for axes in itertools.combinations((2, 3), n)]
        return torch.stack([network(tile.flip(flip)).flip(flip) for flip in flips]).mean(0)

    volume = torch.from_numpy(raw.astype(np.float32) / 255)[None, None]
    expected = sliding_window_inference(
        volume, (16, 16), 1, mean_over_flips, overlap=0.5, mode="gaussian"
    )[0].numpy()
    np.testing.assert_allclose(augmented, expected, atol=1e-5 * np.abs(expected).max())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    def refused(augment: str, voxel_size: str, **network: Any) -> str:
        weights, architecture = save_network(tmp_path, **network)
        with pytest.raises(bp.ConfigError) as caught:
            bp.predict(
                weights,
                np.zeros((20, 20, 20), np.uint8),
                architecture=architecture,
                voxel_size=voxel_size,
                augment=augment,
            )
        return str(caught.value)

    assert "voxel sizes differ (40 x 10 x 10 nm). Use --augment in-plane or flips" in refused(
        "all", "40,10,10", task=ONE_HOT
    )
    assert "(period (1, 2, 2)). Use --augment in-plane or flips" in refused(
        "all", "10,10,10", task=ONE_HOT, **ANISOTROPIC
    )
    assert "channel_0 changes when the volume is flipped is not known" in refused(
        "flips", "10,10,10"
    )
    lone = {**AFFINITIES, "neighborhood": [[1, 0, 0], [0, 1, 0]]}
    assert "Use --augment flips or none" in refused("in-plane", "10,10,10", task=lone)


def test_vectors_change_their_signs(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, fmaps_out=3)
    trained = bp.open_checkpoint(weights, architecture=architecture)
    raw = np.random.default_rng(0).integers(0, 256, (12, 11, 13), np.uint8)
    volume = write_volume(tmp_path / "raw.zarr", raw)
    inside = tuple(slice(MARGIN, MARGIN + n) for n in raw.shape)
    copies = [
        forward(trained, raw, flips, exchanged=False)
        for flips in itertools.product((False, True), repeat=3)
    ]
    signed = [
        copy.output[(slice(None), *inside)]
        * np.where(copy.flips, -1, 1)[:, None, None, None].astype(np.float32)
        for copy in copies
    ]
    output = f"{tmp_path}/out.zarr/out"
    predict(
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", output, "--device", "cpu", "--precision", "float32"),
        *("--augment", "flips", "--augment-channels", "vectors"),
    )
    expected = np.mean(signed, axis=0)
    largest = np.abs(np.stack(signed)).max()
    np.testing.assert_allclose(read_output(output), expected, atol=1e-5 * largest)
