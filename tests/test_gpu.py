"""The engine on a GPU: the same numbers as on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.config.postprocess import parse_postprocess
from blockwise_predict.engine.encode import encode
from blockwise_predict.engine.precision import choose_precision, faster_precisions
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.values import Encoding, Normalization, Part
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from blockwise_predict.io import read_attributes
from tests.support.networks import save_network
from tests.support.nonfinite import network, pattern, references, spoil, tile
from tests.support.runs import predict, read_output, write_volume

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")

GREY = Normalization(1 / 255)
TOLERANCE = {"float32": 1e-5, "tfloat32": 5e-3, "float16": 5e-3, "bfloat16": 5e-2}


@pytest.mark.parametrize("streaming", [Streaming((0, 1, 2), 8), Streaming((2, 0, 1), 16), None])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_gpu_gives_the_values_of_a_cpu(
    precision: str, streaming: Streaming | None, tmp_path: Path
) -> None:
    weights, architecture = save_network(tmp_path, num_fmaps=8)
    trained = open_checkpoint(weights, architecture=architecture)
    model, shapes = trained.build(), trained.shapes
    raw = np.random.default_rng(0).integers(0, 256, (1, 52, 60, 44), np.uint8)
    with torch.inference_mode():
        expected = model(torch.from_numpy(GREY.apply(raw))[None])[0].movedim(0, -1).numpy()
    network = make_pass(
        model,
        shapes,
        volume_dims=3,
        streaming=streaming,
        precision=precision,
        normalization=GREY,
        device=torch.device("cuda"),
    )
    found = predict_tile(network, raw)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=TOLERANCE[precision] * scale)


@pytest.mark.parametrize("name", ["two levels, factors 2 and 3", "transposed", "batch norm", "2-D"])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_nan_and_infinity_are_where_torch_has_them(
    precision: str, name: str, tmp_path: Path
) -> None:
    trained = network(tmp_path, name)
    model, shapes = trained.build(), trained.shapes
    raw = tile(trained)
    spoil(raw, [(0.1, np.nan), (0.45, np.inf), (0.8, -np.inf)])
    streaming = Streaming((0, 1, 2)[: shapes.dims], 5)
    made = make_pass(
        model,
        shapes,
        volume_dims=shapes.dims,
        streaming=streaming,
        precision=precision,
        normalization=Normalization(1.0),
        device=torch.device("cuda"),
    )
    np.testing.assert_array_equal(
        pattern(predict_tile(made, raw)), pattern(references(model, raw)[0])
    )


def test_a_gpus_precision_is_one_of_its_own(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, num_fmaps=8)
    trained = open_checkpoint(weights, architecture=architecture)
    raw = np.random.default_rng(0).integers(0, 256, (1, 52, 60, 44), np.uint8)
    device, streaming = torch.device("cuda"), Streaming((0, 1, 2), 8)

    def values(precision: str) -> list[np.ndarray]:
        network = make_pass(
            trained.build(),
            trained.shapes,
            volume_dims=3,
            streaming=streaming,
            precision=precision,
            normalization=GREY,
            device=device,
        )
        return [predict_tile(network, raw)]

    faster = faster_precisions(device, trained.streamed_shapes)
    choice = choose_precision(values, [Part(1, Encoding("float32"))], faster)
    assert choice.precision in ("float32", *faster)


@pytest.mark.parametrize("rule", ["threshold:0.1", "argmax"])
def test_a_gpu_decides_as_a_cpu(rule: str) -> None:
    some = np.array([-np.inf, -1.5, 0, 0.1, 2, np.inf, np.nan], np.float32)
    values = torch.from_numpy(np.random.default_rng(0).choice(some, (50, 40, 3)))
    encoding = Encoding("uint8", postprocess=parse_postprocess(rule))
    found, expected = encode(values.cuda(), encoding), encode(values.clone(), encoding)
    assert found.data.is_cuda
    assert torch.equal(found.data.cpu(), expected.data)
    assert found.nonfinite == expected.nonfinite


def test_a_run_on_a_gpu_equals_one_on_a_cpu(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    raw = np.random.default_rng(0).integers(0, 256, (60, 55, 50), np.uint8)
    source = write_volume(tmp_path / "raw.zarr", raw)
    outputs = []
    for device in ("cpu", "cuda"):
        output = f"{tmp_path}/{device}.zarr/prediction"
        options = ("--precision", "float32", "--device", device, "--output", output)
        network = ("--checkpoint", weights, "--architecture", architecture)
        predict("run", *network, "--input", source, *options)
        assert read_attributes(output)["blockwise_predict"]["complete"]
        outputs.append(read_output(output))
    np.testing.assert_allclose(*outputs, atol=1e-5 * np.abs(outputs[0]).max())
