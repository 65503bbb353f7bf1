"""The choice of precision, and that runs keep and record it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Roi

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.cli.demonstration import MODEL
from blockwise_predict.demo.phantom import make_phantom
from blockwise_predict.engine import precision as module
from blockwise_predict.engine.precision import (
    CANDIDATES,
    check_precision,
    choose_precision,
    deep_share,
    fast_precisions,
    faster_precisions,
    tolerance_of,
)
from blockwise_predict.engine.settings import PrecisionChoice, Streaming
from blockwise_predict.engine.values import Encoding, Normalization, Part
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.tiling import smallest_tile
from blockwise_predict.io import read_attributes
from blockwise_predict.records import RunDir, default_run_dir
from tests.support.networks import NETWORKS, save_network
from tests.support.predictors import predicted_block, predictor
from tests.support.reference import Held, in_precision, one_pass
from tests.support.runs import forget_blocks, predict, read_output, write_volume

CPU = torch.device("cpu")
UINT8 = [Part(1, Encoding("uint8", (0.0, 1.0)))]
FLOAT32 = [Part(1, Encoding("float32"))]
EXACT = np.linspace(0, 1, 1000, dtype=np.float32)


def tried(**errors: float) -> PrecisionChoice:
    """The choice when precisions are off by these errors."""
    return choose_precision(lambda p: [EXACT + np.float32(errors.get(p, 0))], UINT8, errors)


def test_the_fastest_is_taken_that_is_exact_enough() -> None:
    choice = tried(bfloat16=0.0015, mixed=0.0005)
    assert (choice.precision, choice.decided_by) == ("bfloat16", "error")
    assert choice.error == pytest.approx(0.0015, rel=1e-3)
    assert choice.tolerance == pytest.approx(1 / 510)
    assert str(choice) == (
        "bfloat16: the fastest that is accurate enough, rms error 0.0015 (allowed 0.002), "
        "largest 0.0015, in a sample"
    )


def test_every_output_must_be_accurate_enough() -> None:
    exact = np.stack([EXACT, 100 * EXACT], axis=-1)
    parts = [Part(1, Encoding("uint8", (0.0, 1.0))), Part(1, Encoding("float32"))]
    errors = {
        "float32": (0, 0),
        # Of these, only one output is accurate enough: allowed are 1 / 510 and 0.2 % of 100.
        "float16": (0.001, 0.3),
        "bfloat16": (0.003, 0.1),
        "tfloat32": (0.0005, 0.19),
    }
    choice = choose_precision(
        lambda p: [exact + np.array(errors[p], np.float32)], parts, [*errors][1:]
    )
    assert choice.precision == "tfloat32"
    # What is told is of the output that came closest to its tolerance.
    assert (choice.error, choice.tolerance) == pytest.approx((0.19, 0.2), rel=1e-3)
    assert choice.rejected == pytest.approx({"float16": 0.3, "bfloat16": 0.003}, rel=1e-2)


def test_every_network_must_be_accurate_enough() -> None:
    exact = [EXACT, 100 * EXACT[:700]]
    errors = {"float32": (0, 0), "float16": (0.001, 0.3), "bfloat16": (0.0015, 0.1)}

    def values(precision: str) -> list[np.ndarray]:
        pairs = zip(exact, errors[precision], strict=True)
        return [(tile + np.float32(error))[..., None] for tile, error in pairs]

    choice = choose_precision(values, FLOAT32, ("float16", "bfloat16"))
    assert (choice.precision, choice.error) == ("bfloat16", pytest.approx(0.0015, rel=1e-3))


def test_what_misses_the_tolerance_narrowly_is_followed_by_what_is_between() -> None:
    choice = tried(bfloat16=0.0021, mixed=0.001)
    assert choice.precision == "mixed"
    assert "(allowed 0.002; bfloat16 has 0.0021)" in str(choice)


def test_an_error_of_more_than_half_a_step_is_too_much() -> None:
    choice = tried(bfloat16=0.0041, mixed=0.0021)
    assert (choice.precision, choice.decided_by) == ("float32", "error")
    assert str(choice) == (
        "float32: no faster precision was accurate enough (rms error allowed 0.002; "
        "bfloat16 has 0.0041; mixed has 0.0021)"
    )


def test_where_a_device_does_nothing_faster_nothing_is_tried() -> None:
    choice = choose_precision(lambda _: pytest.fail("tried"), UINT8, ())
    assert str(choice) == "float32: no precision is faster on this device"
    assert choice.decided_by == "device"


def test_what_is_not_finite_is_left_out_but_must_be_in_the_same_places() -> None:
    values = {name: EXACT.copy() for name in ("float32", "float16", "bfloat16")}
    for each in values.values():
        each[3] = np.nan
    values["float16"][7] = np.inf
    choice = choose_precision(lambda p: [values[p]], FLOAT32, ("float16", "bfloat16"))
    assert choice.precision == "bfloat16"
    assert choice.error == 0
    assert choice.rejected == {"float16": None}
    json.dumps(choice.as_dict(), allow_nan=False)


def test_nothing_is_concluded_from_nan_alone() -> None:
    choice = choose_precision(lambda _: [EXACT * np.nan], FLOAT32, ("bfloat16",))
    assert choice.precision == "float32"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512f", "avx512_bf16"}, ("bfloat16", "mixed")),
        ({"amx_bf16"}, ("bfloat16", "mixed")),
        # oneDNN emulates bfloat16 here, which takes longer than float32.
        ({"avx512f", "avx512bw", "avx512vl", "avx512dq"}, ()),
        (set(), ()),
    ],
)
def test_a_cpu_is_known_by_its_instructions(
    flags: set[str], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cpu_flags", lambda: flags)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert fast_precisions(CPU) == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((6, 1), ()),
        ((7, 5), ("float16",)),
        ((8, 6), CANDIDATES["cuda"]),
        ((12, 0), CANDIDATES["cuda"]),
    ],
)
def test_a_gpu_is_known_by_its_compute_capability(
    capability: tuple[int, int], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert fast_precisions(torch.device("cuda", 0)) == expected


def test_mixed_is_tried_where_there_is_much_to_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fast_precisions", lambda _: CANDIDATES["cpu"])
    found = {}
    for factor in (1, 6):
        weights, architecture = save_network(tmp_path, fmap_inc_factor=factor)
        shapes = open_checkpoint(weights, architecture=architecture).shapes
        found[factor] = deep_share(shapes), faster_precisions(CPU, shapes)
        assert faster_precisions(CPU, None) == ("bfloat16",)
    assert found[1][0] < 0.2 < found[6][0]
    assert found[1][1] == ("bfloat16",)
    assert found[6][1] == ("bfloat16", "mixed")


@contextmanager
def busy_machine() -> Iterator[None]:
    """Processes beside this one that keep all cores busy."""
    spin = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(3)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_the_choice_is_the_same_twenty_times_beside_other_work(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, num_fmaps=4, seed=3)
    trained = open_checkpoint(weights, architecture=architecture)
    model, shapes = trained.build(), trained.shapes
    raw = np.random.default_rng(0).random((1, 24, 24, 24), np.float32)

    def values(precision: str) -> list[np.ndarray]:
        streaming = Streaming((0, 1, 2), 8)
        as_it_is = Normalization(1.0)
        network = make_pass(
            model,
            shapes,
            volume_dims=3,
            streaming=streaming,
            precision=precision,
            normalization=as_it_is,
            device=CPU,
        )
        return [predict_tile(network, raw)]

    with busy_machine():
        choices = [choose_precision(values, FLOAT32, CANDIDATES["cpu"]) for _ in range(20)]
    assert choices == [choices[0]] * 20
    assert choices[0].decided_by == "error"


def test_no_clock_plays_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for clock in ("perf_counter", "process_time", "monotonic", "time"):
        monkeypatch.setattr(f"time.{clock}", lambda: pytest.fail("a clock was read"))
    choices = [tried(bfloat16=0.0015, mixed=0.0005) for _ in range(20)]
    monkeypatch.undo()
    assert {choice.precision for choice in choices} == {"bfloat16"}


def test_floats_have_a_tolerance_of_their_span() -> None:
    assert tolerance_of(Encoding("float32"), np.array([-2, 3], np.float32)) == pytest.approx(0.01)
    values = np.array([-2, 3, np.nan, np.inf], np.float32)
    assert tolerance_of(Encoding("float32"), values) == pytest.approx(0.01)


@pytest.mark.parametrize("precision", ["tfloat32", "float16"])
def test_what_a_cpu_does_not_do_fast_is_refused(precision: str) -> None:
    with pytest.raises(ConfigError, match=f"--precision {precision} is not available on cpu"):
        check_precision(precision, CPU, streamed=True)


def test_mixed_is_refused_for_passes_that_are_not_streamed() -> None:
    check_precision("mixed", CPU, streamed=True)
    with pytest.raises(ConfigError, match="mixed is not available for networks with attention"):
        check_precision("mixed", CPU, streamed=False)


@pytest.mark.parametrize("precision", ["mixed", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_equal_one_pass_in_the_same_precision(
    name: str, precision: str, tmp_path: Path
) -> None:
    weights, architecture = save_network(tmp_path, **NETWORKS[name])
    trained = open_checkpoint(weights, architecture=architecture)
    shapes = trained.shapes
    volume = Held(np.random.default_rng(1).random((1, *(30, 27, 25)[: shapes.dims]), np.float32))
    block = Roi((5, 3, 4)[: shapes.dims], (17, 16, 14)[: shapes.dims])
    tile = [n + p for n, p in zip(smallest_tile(shapes), shapes.period, strict=True)]
    axes = tuple(reversed(range(shapes.dims)))
    found = predicted_block(predictor(trained, tile, Streaming(axes, 5), precision), volume, block)
    expected = one_pass(in_precision(trained.build(), precision), shapes, volume, block)
    scale = np.abs(expected).max()
    error = np.sqrt(np.mean((found - expected) ** 2)) / scale
    assert error < 0.01
    # A voxel beside would be farther off by far.
    shifted = np.sqrt(np.mean((found[..., 1:] - expected[..., :-1]) ** 2)) / scale
    assert shifted > 5 * error


def test_mixed_is_more_exact_than_bfloat16() -> None:
    trained = open_checkpoint(
        MODEL / "weights.safetensors", architecture=MODEL / "architecture.yaml"
    )
    model, shapes = trained.build(), trained.shapes
    shape = [n + 4 * p for n, p in zip(shapes.min_input_shape, shapes.period, strict=True)]
    raw = make_phantom(shape, seed=1).raw[None]
    values = {}
    for precision in ("float32", "bfloat16", "mixed"):
        streaming, grey = Streaming((0, 1, 2), 8), Normalization(1 / 255)
        values[precision] = predict_tile(
            make_pass(
                model,
                shapes,
                volume_dims=3,
                streaming=streaming,
                precision=precision,
                normalization=grey,
                device=CPU,
            ),
            raw,
        )
    error = {p: np.sqrt(np.mean((v - values["float32"]) ** 2)) for p, v in values.items()}
    assert 0 < error["mixed"] < 0.7 * error["bfloat16"]


def test_the_first_worker_settles_it(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    first = PrecisionChoice("bfloat16", "error", 0.001, 0.01, 0.002)
    assert run_dir.precision() is None
    assert run_dir.settle_precision(first) == first
    assert run_dir.settle_precision(PrecisionChoice("float32")) == first
    assert [file.name for file in tmp_path.iterdir()] == ["precision.json"]


def run_of(folder: Path, output: Path, *more: object) -> list[object]:
    """The words of a run over a volume of 40^3 voxels, which are made."""
    weights, architecture = save_network(folder)
    data = np.random.default_rng(0).integers(0, 256, (40, 40, 40), np.uint8)
    volume = write_volume(folder / "volume.zarr", data)
    return [
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", output, "--device", "cpu", *more),
    ]


def test_a_run_keeps_what_was_chosen_and_records_it(tmp_path: Path) -> None:
    output = tmp_path / "out.zarr" / "out"
    options = run_of(tmp_path, output)
    # As if an earlier worker of this run had chosen: what this machine would choose plays no part.
    predict(*options, "--roi", "[:200,:,:]")
    run_dir = default_run_dir(str(output))
    chosen = PrecisionChoice("bfloat16", "error", 0.001, 0.01, 0.002)
    (run_dir / "precision.json").write_text(json.dumps(chosen.as_dict()))
    forget_blocks(run_dir)
    text = predict(*options, "--roi", "[:200,:,:]")
    assert "Precision bfloat16: the fastest that is accurate enough, rms error 0.001" in text
    record = read_attributes(output)["blockwise_predict"]["precision"]
    assert record == chosen.as_dict()
    low = read_output(str(output))
    exact = tmp_path / "exact.zarr" / "out"
    predict(*options, "--roi", "[:200,:,:]", "--output", exact, "--precision", "float32")
    difference = np.abs(low - read_output(str(exact))).max()
    assert 0 < difference < 0.05 * np.abs(low).max()


def test_a_run_in_mixed_precision_is_resumed_and_verified_as_such(tmp_path: Path) -> None:
    output = tmp_path / "out.zarr" / "out"
    shapes = ("--block-shape", "16,40,40", "--chunk-shape", "16,40,40")
    options = run_of(tmp_path, output, "--precision", "mixed", *shapes)
    assert "Precision mixed." in predict(*options)
    first = read_output(str(output))
    assert read_attributes(output)["blockwise_predict"]["precision"]["precision"] == "mixed"
    forget_blocks(default_run_dir(str(output)))
    predict(*options)
    np.testing.assert_array_equal(read_output(str(output)), first)
    predict("verify", output, "--sample", 2)
    exact = tmp_path / "exact.zarr" / "out"
    predict(*options, "--output", exact, "--precision", "float32")
    assert 0 < np.abs(first - read_output(str(exact))).max() < 0.05 * np.abs(first).max()
