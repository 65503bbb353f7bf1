"""The demonstration's phantom, its scores, its network and its picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blockwise_predict.demo
from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.demo.phantom import Phantom, make_phantom
from blockwise_predict.demo.picture import save_picture
from blockwise_predict.demo.score import score

MODEL = Path(blockwise_predict.demo.__file__).parent / "model"
NEIGHBORHOOD = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
MAX_WEIGHTS_BYTES = 2_000_000


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """84 voxels leave 44 after the network's context."""
    return make_phantom((84, 84, 84), seed=7)


def test_a_phantom_is_made_of_bytes_cells_and_membranes(phantom: Phantom) -> None:
    assert phantom.raw.shape == phantom.membrane.shape == phantom.labels.shape == (84, 84, 84)
    assert phantom.raw.dtype == np.uint8
    assert phantom.membrane.dtype == bool
    assert phantom.labels.min() >= 1
    assert len(np.unique(phantom.labels)) > 10


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again, other = (make_phantom((24, 40, 33), seed) for seed in (1, 1, 2))
    for name in ("raw", "membrane", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.raw != other.raw).mean() > 0.5


def test_a_phantom_of_any_shape_from_16_voxels_on() -> None:
    assert make_phantom((16, 17, 35), seed=0).raw.shape == (16, 17, 35)
    with pytest.raises(ValueError, match="15"):
        make_phantom((15, 64, 64), seed=0)


def test_grey_values_and_classes_are_those_of_an_em_volume(phantom: Phantom) -> None:
    assert 90 < phantom.raw.mean() < 160
    assert 25 < phantom.raw.std() < 50
    assert np.isin(phantom.raw, (0, 255)).mean() < 1e-3, "clipped"
    assert 0.12 < phantom.membrane.mean() < 0.35
    cytoplasm = np.median(phantom.raw[~phantom.membrane])
    assert np.median(phantom.raw[phantom.membrane]) < cytoplasm - 20


def test_membranes_lie_where_two_cells_meet(phantom: Phantom) -> None:
    labels, membrane = phantom.labels, phantom.membrane
    for axis in range(3):
        a = np.take(labels, range(83), axis), np.take(membrane, range(83), axis)
        b = np.take(labels, range(1, 84), axis), np.take(membrane, range(1, 84), axis)
        change = a[0] != b[0]
        assert (a[1] | b[1])[change].mean() > 0.99


def test_organelles_are_as_dark_as_membranes(phantom: Phantom) -> None:
    dark = phantom.raw < np.median(phantom.raw[phantom.membrane])
    assert 0.03 < (dark & ~phantom.membrane).mean() < 0.4


def test_true_affinities_by_hand() -> None:
    labels = np.array([[[1, 1, 2, 2, 2]]], np.int32)
    membrane = np.array([[[False, False, False, False, True]]])
    phantom = Phantom(np.zeros((1, 1, 5), np.uint8), membrane, labels)
    along_x, two_along_x = phantom.affinities([(0, 0, 1), (0, 0, 2)])
    assert along_x.tolist() == [[[True, False, True, False, False]]]
    assert two_along_x.tolist() == [[[False, False, False, False, False]]]


def test_scores_by_hand() -> None:
    perfect = score(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False]))
    assert (perfect.roc_auc, perfect.average_precision, perfect.best_f1) == (1, 1, 1)
    mixed = score(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False]))
    assert mixed.roc_auc == pytest.approx(3 / 4)
    assert mixed.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert mixed.best_f1 == pytest.approx(0.8)
    ties = score(np.zeros(4), np.array([True, False, True, False]))
    assert ties.roc_auc == pytest.approx(0.5)
    with pytest.raises(ValueError, match="0 positive"):
        score(np.zeros(4), np.zeros(4, bool))


def test_the_shipped_network_is_as_good_as_its_score_says(phantom: Phantom) -> None:
    report = json.loads((MODEL / "score.json").read_text())
    weights = MODEL / "weights.safetensors"
    assert weights.stat().st_size < MAX_WEIGHTS_BYTES
    model = open_checkpoint(weights, architecture=MODEL / "architecture.yaml")
    assert model.channel_names == ("aff_1_0_0", "aff_0_1_0", "aff_0_0_1")
    assert model.num_parameters == report["training"]["parameters"]
    assert model.output_range == (0, 1)

    raw = torch.from_numpy(phantom.raw[None, None].astype(np.float32) / 255)
    with torch.inference_mode():
        predicted = model.build()(raw)[0].numpy()
    begin, end = (84 - predicted.shape[1]) // 2, (84 + predicted.shape[1]) // 2
    inner = (slice(None), *[slice(begin, end)] * 3)
    boundary = ~phantom.affinities(NEIGHBORHOOD)[inner]
    ours = score(1 - predicted, boundary)
    assert ours.roc_auc >= report["network"]["roc_auc"] - 0.02

    grey = score(np.broadcast_to(255.0 - phantom.raw, (3, 84, 84, 84))[inner], boundary)
    assert ours.roc_auc > grey.roc_auc + 0.03
    assert ours.average_precision > grey.average_precision + 0.1


def test_the_picture_has_three_panels_a_bar_and_the_boundaries_in_colour(tmp_path: Path) -> None:
    raw = np.full((60, 80), 120, np.uint8)
    affinities = np.ones((3, 60, 80), np.float32)
    affinities[:, :, 40] = 0
    save_picture(tmp_path / "p.png", raw, affinities, voxel_size_nm=10, magnification=2)
    picture = np.asarray(Image.open(tmp_path / "p.png")).astype(int)
    assert picture.shape[1] > 3 * 160
    coloured = (picture[..., 0] - picture[..., 2] > 100).any(axis=0)
    assert coloured[-180:].any(), "boundary in the overlay"
    assert not coloured[:-180].any(), "nothing coloured elsewhere"
    with pytest.raises(ValueError, match="do not cover"):
        save_picture(tmp_path / "q.png", raw[1:], affinities, voxel_size_nm=10)
