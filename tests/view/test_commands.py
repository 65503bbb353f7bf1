"""`predict view` and `predict serve` as they are typed."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import blockwise_predict
from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.cli import predict as command_line
from blockwise_predict.io import create_output
from blockwise_predict.plan.make import make_plan
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.output_spec import output_specs
from blockwise_predict.view.names import name_of, unique_names
from blockwise_predict.view.output import output_scene
from blockwise_predict.view.subject import open_subject
from tests.support.networks import save_network
from tests.support.runs import (
    command,
    completed_run,
    predict,
    recorded_run,
    tiny_config,
    write_volume,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def raw(folder: Path) -> str:
    return write_volume(folder / "volume.zarr", np.zeros((8, 8, 8), np.uint8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name what to look at: an array, or a --checkpoint and an --input"),
        (["nothing.zarr/raw"], "nothing.zarr/raw: there is no zarr, N5 or precomputed array"),
        (
            ["RAW", "--checkpoint", "x"],
            "stored; options of predictions on demand (--checkpoint) go",
        ),
        (["--checkpoint", "nothing.pt", "--input", "RAW"], "nothing.pt"),
        (["--checkpoint", "nothing.pt"], "--input is missing"),
        (["RAW", "--run-dir", "nowhere"], "nowhere holds no run of"),
        (["RAW", "--port", "99999"], "99999 is not in the range 0<=x<=65535"),
        (["RAW", "--host", "192.0.2.1", "--no-browser"], "--host 192.0.2.1 --port 0: this address"),
        (["RAW", "--screenshot", "picture.jpg"], "the name of a PNG file ends in .png"),
        (["RAW", "--screenshot", "no/such/picture.png"], "there is no folder"),
    ],
)
def test_mistakes_are_plain_messages(words: list[str], message: str, raw: str) -> None:
    told = predict("view", *(raw if word == "RAW" else word for word in words), code=2)
    assert message.replace("RAW", raw) in told


def test_predictions_are_served_as_an_array(tmp_path: Path) -> None:
    """To a program that reads zarr: its values are those of the network in one pass."""
    weights, architecture = save_network(tmp_path)
    data = np.random.default_rng(0).integers(0, 256, (20, 24, 28), np.uint8)
    source = write_volume(tmp_path / "raw.zarr", data)
    words = ["--checkpoint", weights, "--architecture", architecture, "--input", source]
    words += ["--device", "cpu", "--precision", "float32", "--block-shape", "16,16,16"]
    with subprocess.Popen(command("serve", *words), stdout=subprocess.PIPE, text=True) as server:
        url = next(iter(server.stdout or ())).strip()
        assert url.endswith("/data/prediction/s0")
        found = zarr.open_array(url, mode="r")[...]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    model = open_checkpoint(weights, architecture=architecture)
    expected = blockwise_predict.predict(model, source, precision="float32", progress=False)
    assert np.allclose(found, expected.data, atol=1e-5)
    assert found.std() > 0


@pytest.mark.parametrize("path", [".", "./", "../affs", "/data/affs/."])
def test_a_relative_path_has_the_name_of_its_folder(
    path: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "affs").mkdir(exist_ok=True)
    monkeypatch.chdir(folder / "affs")
    assert unique_names([name_of(path)]) == ["affs"]


def test_names_that_a_url_cannot_have_are_replaced() -> None:
    assert unique_names([".", "..", "", "a b"]) == ["array", "array_2", "array_3", "a_b"]


def test_without_chromium_a_screenshot_says_what_to_install(
    raw: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    words = ["view", raw, "--screenshot", str(folder / "picture.png")]
    found = CliRunner().invoke(command_line, words)
    assert "apt-get install chromium" in str(found.exception)
    assert not (folder / "picture.png").exists()


def test_an_output_is_served_until_it_is_interrupted(folder: Path) -> None:
    (folder / "run").mkdir()
    output = completed_run(folder / "run", (20, 20, 20))
    with subprocess.Popen(
        command("view", output, "--no-browser"), stdout=subprocess.PIPE, text=True
    ) as shown:
        lines = [next(iter(shown.stdout or ())) for _ in range(2)]
        url = lines[0].strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
        with urllib.request.urlopen(f"{url}scene.json", timeout=60) as answer:
            assert b'"blocks"' in answer.read()
        shown.send_signal(signal.SIGINT)
        assert shown.wait(60) == 0
    assert "Whoever has the URL" in lines[1]


def test_an_output_whose_input_and_records_are_gone_is_shown(tmp_path: Path) -> None:
    config = recorded_run(tmp_path)
    for gone in ("raw.zarr", "out.zarr.predict-run"):
        (tmp_path / gone).rename(tmp_path / f"{gone}.gone")
    subject = open_subject(config.output)
    scene, images = output_scene(subject)
    assert [layer["name"] for layer in scene.layers] == [
        *("prediction channel_0", "prediction channel_1"),
        "ROI",
    ]
    assert [image.name for image in images] == ["prediction"]
    states, source = subject.notes
    assert states.startswith("the states of blocks are not shown: ")
    assert source.startswith("the input is not shown: ")


def test_the_arrays_of_a_group_are_shown_where_they_have_been_moved_to(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20), split="each")
    # One name ends with the other.
    save_network(tmp_path, task={"__type__": "OneHotTaskConfig", "classes": ["affs", "fg_affs"]})
    plan = make_plan(config).plan
    RunDir(default_run_dir(config.output)).record(plan, "predict run")
    for spec in output_specs(plan, "predict run"):
        create_output(spec)
    for name in ("out.zarr", "out.zarr.predict-run"):
        (tmp_path / name).rename(tmp_path / name.replace("out", "moved"))
    moved = f"{tmp_path}/moved.zarr/prediction"
    scene, images = output_scene(open_subject(moved))
    names = [array.name for array in plan.output.arrays]
    assert names == ["affs", "fg_affs"]
    assert [layer["name"] for layer in scene.layers] == ["raw", *names, "ROI", "blocks"]
    assert {image.name for image in images} == {"raw", *names, "blocks"}
    # One of them alone.
    scene, _ = output_scene(open_subject(f"{moved}/{names[1]}"))
    assert [layer["name"] for layer in scene.layers] == ["raw", names[1], "ROI", "blocks"]
