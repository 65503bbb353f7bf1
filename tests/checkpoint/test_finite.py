"""Weights that are not finite are told before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blockwise_predict.checkpoint import TrainedModel, nonfinite_weights, open_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, write_volume

AFFINITIES = {"__type__": "AffinitiesTaskConfig", "name": "t", "neighborhood": [[0, 0, 1]] * 2}
KERNEL = "architecture.unet.l_conv.1.conv_pass.0.weight"
HEAD = "prediction_head.weight"


def damaged(
    folder: Path, spoils: dict[str, tuple[int, float]], head: bool = True
) -> tuple[Path, Path]:
    """A network with a value put into each named tensor, at a place of its flattened values."""
    weights, architecture = save_network(folder, task=AFFINITIES if head else None)
    state = torch.load(weights)
    for name, (place, value) in spoils.items():
        state[name].view(-1)[place] = value
    torch.save(state, weights)
    return weights, architecture


def model(folder: Path, spoils: dict[str, tuple[int, float]], head: bool = True) -> TrainedModel:
    weights, architecture = damaged(folder, spoils, head)
    return open_checkpoint(weights, architecture=architecture)


def test_nothing_is_said_of_finite_weights(tmp_path: Path) -> None:
    assert list(nonfinite_weights(model(tmp_path, {}))) == []


@pytest.mark.parametrize(
    "spoils", [{KERNEL: (5, np.inf)}, {KERNEL: (0, -np.inf), HEAD: (0, np.nan)}]
)
def test_a_warning_names_tensors_and_counts(
    spoils: dict[str, tuple[int, float]], tmp_path: Path
) -> None:
    trained = model(tmp_path, spoils)
    (warning,) = nonfinite_weights(trained)
    assert warning.startswith(f"{tmp_path / 'weights.pt'} has weights that are NaN or infinite: ")
    for name in spoils:
        assert f"1 of {trained.weights[name].numel()} in {name}" in warning


def test_nan_is_refused_where_it_would_be_all_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"1 of 216 in .*l_conv.1.* Every value of the out"):
        list(nonfinite_weights(model(tmp_path, {KERNEL: (5, np.nan)})))
    # In both channels of the head.
    spoils = {HEAD: (0, np.nan), "prediction_head.bias": (1, np.nan)}
    with pytest.raises(CheckpointError, match="Every value of the output would be NaN"):
        list(nonfinite_weights(model(tmp_path, spoils)))
    # Without a head, the last convolution may spoil one channel of several.
    assert list(nonfinite_weights(model(tmp_path, {KERNEL: (5, np.nan)}, head=False)))


def test_the_commands_say_it(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 256, (24, 24, 24), np.uint8)
    volume = write_volume(tmp_path / "volume.zarr", data)
    output = tmp_path / "out.zarr" / "out"
    for value, code in ((np.nan, 2), (np.inf, 0)):
        weights, architecture = damaged(tmp_path, {KERNEL: (5, value)})
        options = [
            *("--checkpoint", weights, "--architecture", architecture, "--input", volume),
            *("--output", output, "--device", "cpu", "--precision", "float32"),
        ]
        said = " ".join(predict("plan", *options, code=code).split())
        assert "in architecture.unet.l_conv.1" in said
    text = predict("run", *options)
    assert "has weights that are NaN or infinite" in text
    stored = read_output(str(output))
    count = int((~np.isfinite(stored)).sum())
    assert count
    assert f"{count} output values are NaN or infinite" in text
