"""Pictures of plans: what is where, and which files are replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blockwise_predict.errors import ConfigError
from blockwise_predict.io import open_input
from blockwise_predict.run.overview import drawing, picture, planes
from blockwise_predict.run.overview.panel import Panel
from blockwise_predict.run.overview.picture import check_picture, draw_picture, save_picture
from blockwise_predict.run.overview.planes import Cut, levels_of, read_plane
from blockwise_predict.run.overview.scene import Cell, scene_of
from blockwise_predict.run.overview.sheet import SHORTEST, lay_out
from blockwise_predict.run.planned import PlannedRun, plan_run
from tests.support.runs import tiny_config, write_volume

SHAPE = (40, 36, 33)


def planned(folder: Path, **options: object) -> PlannedRun:
    sizes = {"chunk_shape": "8,8,8", "block_shape": "16,16,16"}
    return plan_run(tiny_config(folder, SHAPE, **{**sizes, **options}))


@pytest.fixture
def masked(tmp_path: Path) -> PlannedRun:
    """A run of the second ROI half, in 3 x 2 x 3 blocks, of which the mask has the first in z."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:10, 5:, 4:20] = 1
    path = write_volume(tmp_path / "mask.zarr", mask)
    return planned(tmp_path, mask=path, roi="[:,40:,:]")


def panels(run: PlannedRun) -> dict[int, Panel]:
    """The panels, by the axis along which they look."""
    return {panel.view.along: panel for panel in lay_out(scene_of(run.subject)).panels}


def test_blocks_are_projected_from_three_sides(masked: PlannedRun) -> None:
    assert masked.plan.blocks_per_axis == (3, 2, 3)
    views = {along: panel.view for along, panel in panels(masked).items()}
    assert views[0].cells.tolist() == [[0, 0, 1], [0, 0, 1]]
    assert views[1].cells.tolist() == [[0, 0, 1], [1, 1, 1], [1, 1, 1]]
    # z is drawn to the right, beside the plane (y, x).
    assert (views[2].v, views[2].h) == (1, 0)
    assert views[2].cells.tolist() == [[0, 1, 1], [0, 1, 1]]
    np.testing.assert_allclose(views[0].share, [[1 / 3, 1 / 3, 0]] * 2)


def test_panels_are_to_scale_and_side_by_side(masked: PlannedRun) -> None:
    found = panels(masked)
    front, below, beside = found[0], found[1], found[2]
    assert front.width / front.height == pytest.approx(33 / 36, rel=0.01)
    assert below.height / below.width == pytest.approx(40 / 33, rel=0.01)
    assert (beside.width, beside.height) == (below.height, front.height)
    assert beside.top == front.top
    assert below.left == front.left
    assert below.top > front.top + front.height
    assert (front.y(40), front.y(360)) == (
        front.top + front.height / 9,
        front.top + front.height,
    )


def test_a_thin_axis_is_stretched_and_the_picture_says_so(tmp_path: Path) -> None:
    run = plan_run(tiny_config(tmp_path, (2, 300, 20), border="reflect"))
    sheet = lay_out(scene_of(run.subject))
    assert min(min(panel.width, panel.height) for panel in sheet.panels) == SHORTEST
    assert set(sheet.stretched) == {"z"}


def test_colours_are_where_the_blocks_are(masked: PlannedRun) -> None:
    panel = panels(masked)[1]
    image = np.asarray(panel.image(None, None), int)

    def colour(z: float, x: float) -> np.ndarray:
        y, left = round(panel.y(z)) - panel.top, round(panel.x(x)) - panel.left
        return image[y - 8 : y + 8, left - 8 : left + 8].reshape(-1, 3).mean(0)

    computed, masked_out = colour(80, 80), colour(240, 80)
    assert computed[2] > computed[0] + 20, "blue"
    assert masked_out[0] > masked_out[2] + 20, "orange"
    above = panels(masked)[0]
    beyond = np.asarray(above.image(None, None), int)[3, 100]
    assert len(set(beyond.tolist())) == 1, "no tint outside of the ROI"


def test_the_masks_outline_is_drawn_at_its_place(masked: PlannedRun) -> None:
    scene, panel = scene_of(masked.subject), panels(masked)[1]
    mask = scene.mask_plane(panel.view, (panel.height, panel.width))
    assert mask is not None
    image = np.asarray(panel.image(None, mask))
    rows, columns = np.nonzero((image == drawing.MASK).all(2))
    pixel = panel.height / 400
    expected = [20 * pixel, 100 * pixel, 40 * pixel, 200 * pixel]
    found = [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]
    np.testing.assert_allclose(found, expected, atol=1.5)


@pytest.mark.parametrize("shape", [(30, 28), (20, 20, 20)])
def test_raw_data_are_a_plane_through_the_middle(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    path = write_volume(tmp_path / "a.zarr", data, voxel_size=(10,) * len(shape))
    at = [length * 10 * 0.6 for length in shape]
    for axis in range(3) if len(shape) == 3 else (0,):
        cut = Cut(axis, tuple(at), (45.0, 0.0), (100.0, 200.0), (10, 10))
        plane = read_plane(levels_of(open_input(path)), cut)
        assert plane is not None
        expected = data if len(shape) == 2 else data.take(12, axis)
        np.testing.assert_array_equal(plane.data[0], expected[4:10, :20])
        assert (plane.begin, plane.end) == ((40, 0), (100, 200))


def test_a_plane_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(tmp_path)
    view = scene_of(run.subject).views[0]
    assert scene_of(run.subject).raw_plane(view, (9, 9)) is not None
    monkeypatch.setattr(planes, "PLANE_CHUNKS", 8)
    # 3 x 3 chunks.
    assert scene_of(run.subject).raw_plane(view, (9, 9)) is None
    assert draw_picture(scene_of(run.subject), run.overview()).width > 1000


def test_a_small_roi_is_shown_magnified_as_well(tmp_path: Path) -> None:
    run = planned(tmp_path, roi="[100:200,100:180,100:200]", block_shape="8,8,8")
    *sides, closer = lay_out(scene_of(run.subject)).panels
    assert len(sides) == 3
    assert closer.width / closer.height == pytest.approx(100 / 80, rel=0.02)
    assert closer.top == sides[1].top
    assert not sides[0].outlines_blocks or closer.width > sides[0].width / 4
    assert (closer.x(100), closer.y(180)) == (closer.left, closer.top + closer.height)
    raw = closer.scene.raw_plane(closer.view, (closer.height, closer.width))
    assert raw is not None
    assert raw.data.shape == (1, 8, 10)
    assert draw_picture(scene_of(run.subject), run.overview()).width > 1000


def test_only_a_picture_of_a_plan_is_replaced(masked: PlannedRun, tmp_path: Path) -> None:
    file = tmp_path / "plan.png"
    overview = masked.overview()
    save_picture(file, masked.subject, overview)
    first = file.read_bytes()
    with Image.open(file) as image:
        assert image.info[picture.MARK[0]] == picture.MARK[1]
    save_picture(file, masked.subject, overview)
    assert file.read_bytes() == first
    for other in (b"", b"notes", first[:40]):
        file.write_bytes(other)
        with pytest.raises(ConfigError, match="this file exists, and is no picture of a plan"):
            save_picture(file, masked.subject, overview)
        assert file.read_bytes() == other
    Image.new("L", (4, 4)).save(file)
    with pytest.raises(ConfigError, match="is no picture of a plan"):
        check_picture(file)
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        check_picture(tmp_path / "plan.jpg")
    with pytest.raises(ConfigError, match="is not a folder"):
        check_picture(tmp_path / "none" / "plan.png")


def test_cells_are_numbered_as_the_tests_write_them() -> None:
    assert [*Cell] == [Cell.COMPUTED, Cell.MASKED_OUT, Cell.OUTSIDE] == [0, 1, 2]
