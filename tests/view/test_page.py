"""`predict view` in a real browser: layers, places, values, states of blocks, predictions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.io import open_input
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.ledger import State, records_of
from blockwise_predict.view.app import Page
from blockwise_predict.view.computed import open_on_demand
from blockwise_predict.view.output import output_scene
from blockwise_predict.view.predicting import predicting_scene
from blockwise_predict.view.subject import open_subject
from tests.support.browser import Browser, browser
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, until, write_volume

# Anisotropic and not whole, away from the origin, and a ROI that begins within a chunk.
VOXEL_SIZE, OFFSET = (4.5, 4, 8), (900, -40, 16)
SHAPE = (30, 40, 44)
ROI_VOXELS = ((5, 29), (3, 35), (7, 39))


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume, a network of affinities, and its prediction of the ROI, in blocks of 16 voxels."""
    folder = tmp_path_factory.mktemp("view")
    raw = np.random.default_rng(0).integers(1, 255, SHAPE, np.uint8)
    write_volume(folder / "raw.zarr", raw, VOXEL_SIZE, OFFSET)
    predict("run", *options(folder), "--roi", roi_text(), "--output", folder / "out.zarr/affs")
    return folder


def options(folder: Path) -> list[object]:
    """The options of the prediction."""
    neighborhood = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    task = {"__type__": "AffinitiesTaskConfig", "neighborhood": neighborhood}
    weights, architecture = save_network(folder, task=task)
    words = ["--checkpoint", weights, "--architecture", architecture]
    words += ["--input", folder / "raw.zarr" / "raw", "--device", "cpu", "--precision", "float32"]
    return [*words, "--block-shape", "16,16,16", "--chunk-shape", "8,8,8"]


def world(voxel: tuple[float, ...]) -> tuple[float, float, float]:
    """The position (nm, x y z) of a voxel's corner, or of its centre with halves."""
    z, y, x = (o + v * s for o, v, s in zip(OFFSET, voxel, VOXEL_SIZE, strict=True))
    return x, y, z


def roi_text() -> str:
    """The ROI in nm."""
    corners = [world(corner)[::-1] for corner in zip(*ROI_VOXELS, strict=True)]
    return f"[{','.join(f'{low}:{high}' for low, high in zip(*corners, strict=True))}]"


# In the planes that are shown, which go through the middle of the ROI.
MIDDLE = tuple((low + high) / 2 for low, high in ROI_VOXELS)
CENTER = tuple(int(m) for m in MIDDLE)
SEEN = [(CENTER[0], 9, 11), (CENTER[0], 30, 33), (6, CENTER[1], 20), (21, 8, CENTER[2])]


def centers(voxels: list[tuple[int, ...]]) -> list[tuple[float, float, float]]:
    return [world(tuple(v + 0.5 for v in voxel)) for voxel in voxels]


def test_raw_and_prediction_have_their_values_at_their_places(tab: Browser, folder: Path) -> None:
    output = str(folder / "out.zarr" / "affs")
    raw = open_input(folder / "raw.zarr" / "raw").read((0, 0, 0), SHAPE)[0]
    predicted = read_output(output)
    with tab.showing(Page(*output_scene(open_subject(output)))):
        assert not tab.errors
        names = tab.evaluate("neuroglancer.layerManager.managedLayers.map((one) => one.name)")
        assert names == ["raw", "affs", "ROI", "blocks"]
        assert tab.values_at("raw", *centers(SEEN)) == [raw[voxel] for voxel in SEEN]
        inside = [tuple(v - low for v, (low, _) in zip(p, ROI_VOXELS, strict=True)) for p in SEEN]
        found = np.array(tab.values_at("affs", *centers(SEEN)))
        assert np.allclose(found, [predicted[(slice(None), *voxel)] for voxel in inside], rtol=1e-6)
        # A tenth of a voxel within the ROI's first voxel, and as much before it.
        first = (CENTER[0], CENTER[1], ROI_VOXELS[2][0])
        values = tab.values_at("affs", *(world((*first[:2], first[2] + d)) for d in (0.1, -0.1)))
        assert np.allclose(values[0], predicted[:, first[0] - 5, first[1] - 3, 0])
        assert values[1] is None
        begin, end = (world(corner) for corner in zip(*ROI_VOXELS, strict=True))
        seen = tab.evaluate("boxOnScreen()")
        assert seen["center"] == [(low + high) / 2 for low, high in zip(begin, end, strict=True)]
        # Four panels show all axes, and the ROI fits into them.
        assert all(s > high - low for s, low, high in zip(seen["size"], begin, end, strict=True))
        box = tab.evaluate("neuroglancer.state.toJSON().layers[2].annotations[0]")
        assert (box["pointA"], box["pointB"]) == ([*begin[::-1]], [*end[::-1]])


def test_the_states_of_blocks_are_where_the_blocks_are_and_are_read_again(
    tab: Browser, folder: Path
) -> None:
    output = str(folder / "out.zarr" / "affs")
    records = RunDir(default_run_dir(output))
    plan = records.plan()
    states = np.full(plan.blocks_per_axis, State.DONE, np.uint8)
    states[0, 0, 0], states[1, 1, 0] = State.FAILED, State.TODO
    records.replace_ledger(plan, records_of(states))
    corners = [
        tuple(low + 16 * i for i, (low, _) in zip(place, ROI_VOXELS, strict=True))
        for place in ((0, 0, 0), (1, 1, 0), (0, 1, 1))
    ]
    with tab.showing(Page(*output_scene(open_subject(output)))):
        assert not tab.errors
        in_view = "neuroglancer.position.value = Float32Array.from"
        expected = [State.FAILED, State.TODO, State.DONE]
        for corner, state in zip(corners, expected, strict=True):
            place = world(tuple(v + 1.5 for v in corner))
            tab.evaluate(f"{in_view}({list(place)})")
            tab.wait()
            assert tab.values_at("blocks", place) == [state]
        assert tab.evaluate("document.getElementById('facts').textContent").startswith(
            "stopped6 of 8 blocks"
        )
        states[1, 1, 0] = State.DONE
        records.replace_ledger(plan, records_of(states))
        place = world(tuple(v + 1.5 for v in corners[1]))
        until(lambda: "new" in tab.evaluate("document.getElementById('refresh').textContent"))
        tab.evaluate(f"document.getElementById('refresh').click(); {in_view}({list(place)})")
        tab.wait()
        assert tab.values_at("blocks", place) == [State.DONE]


@pytest.mark.parametrize(
    ("dtype", "first", "last"),
    # Those of 64 bits are numbers that JavaScript has.
    [("uint64", (1 << 63) + 2048, (1 << 64) - 2048), ("uint32", 0, (1 << 32) - 1)],
)
def test_large_integers_are_shown(
    tab: Browser, tmp_path: Path, dtype: str, first: int, last: int
) -> None:
    data = np.full((8, 8, 8), first, dtype)
    data[:, :, 4:] = last
    path = write_volume(tmp_path / "raw.zarr", data)
    with tab.showing(Page(*output_scene(open_subject(path)))):
        assert not tab.errors
        layer = "neuroglancer.layerManager.getLayerByName('raw').layer"
        problems = f"{layer}.shaderControlState?.parseErrors.value.map((one) => one.message) ?? []"
        assert tab.evaluate(problems) == []
        places = [(x, 45.0, 45.0) for x in (15.0, 65.0)]
        assert tab.values_at("raw", *places) == [first, last]


def test_what_is_looked_at_is_predicted(tab: Browser, folder: Path) -> None:
    predicted = read_output(str(folder / "out.zarr" / "affs"))
    words = iter(map(str, options(folder)))
    given = {word[2:].replace("-", "_"): next(words) for word in words}
    given.pop("chunk_shape")
    made = open_on_demand({**given, "roi": roi_text()})
    scene, images = predicting_scene(made)
    with tab.showing(Page(scene, images, made.demand.running)):
        assert not tab.errors
        voxels = [voxel for voxel in SEEN if voxel[0] == CENTER[0]]
        found = tab.values_at("prediction", *centers(voxels))
        inside = [tuple(v - low for v, (low, _) in zip(p, ROI_VOXELS, strict=True)) for p in voxels]
        assert np.array_equal(
            np.float32(found), [predicted[(slice(None), *voxel)] for voxel in inside]
        )
        # One plane is shown: the blocks of the other half of the ROI are not computed.
        assert made.demand.cached_bytes == predicted.nbytes * 16 // 24
        facts = tab.evaluate("document.getElementById('facts').textContent")
        assert "last chunk" in facts
        assert "cpu, float32" in facts
        tab.evaluate("document.getElementById('show-command').click()")
        text = "document.getElementById('command-text').textContent"
        until(lambda: "--roi" in tab.evaluate(text))
        # The whole plane is in view, and along z the blocks that it is in.
        z = (900 + 5 * 4.5, 900 + 21 * 4.5)
        assert f"[{z[0]:g}:{z[1]:g},-28:100,72:328]" in tab.evaluate(text)
