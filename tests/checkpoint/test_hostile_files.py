"""Files made to harm: each is refused with a message that says what and where, at once."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from blockwise_predict.checkpoint import load_checkpoint
from blockwise_predict.checkpoint.unpickle import read_weights
from blockwise_predict.config.model import load_config
from blockwise_predict.config.untrusted import (
    MAX_JSON_BYTES,
    MAX_YAML_BYTES,
    MalformedError,
    parse_json,
    parse_yaml,
)
from blockwise_predict.errors import ArrayError, CheckpointError, ConfigError, InputError, shown
from blockwise_predict.io import (
    create_output,
    missing_sample,
    open_input,
    open_output,
    sample_digests,
)
from tests.support.arrays import output_spec, write_array, write_json
from tests.support.networks import TINY_3D, save_network
from tests.support.runs import predict, write_volume
from tests.support.shared import ROOT

NEEDED = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/out"}
FUNLIB = {"voxel_size": [4, 4, 4], "offset": [0, 0, 0], "axis_names": ["z", "y", "x"]}
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(autouse=True)
def _bounded() -> Any:
    """Each of these tests has 10 s and 1 GiB."""
    begin, taken = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - begin < 60, "with room for a busy machine"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - taken < 1 << 20


def refused(kind: type[InputError], action: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 1500
    return str(caught.value)


# YAML

YAML_CASES = {
    "billion laughs": (LAUGHS, r"line 5, column 4: with its aliases written out"),
    "an alias in itself": ("a: &a [*a]\n", "line 1, column 4: an alias stands inside"),
    "deep nesting": ("a: " + "[" * 5000, "line 1, column 67: it is nested deeper than 64"),
    "no date": ("a: 2001-99-99\n", "line 1, column 4: '2001-99-99' is not a valid timestamp"),
    "many digits": ("a:\n  b: " + "9" * 5000, "line 2, column 6: the number .* has 5000 digits"),
    "half a character": ('a: "\\ud800"\n', "line 1, column 4: "),
    "no UTF-8": ("a: \udcff", "invalid start byte"),
    "too large": ("a: b\n" * (MAX_YAML_BYTES // 5 + 1), "more than 1 MiB"),
    "too many nodes": ("a: [" + "1, " * 30_000 + "]", "more than 10000 nodes"),
    "a list in a key": ("? !!python/tuple [[1]]\n: 2\n", "line 1, column 1: a key"),
}


@pytest.mark.parametrize("case", YAML_CASES)
def test_yaml_that_is_refused_says_where(case: str, tmp_path: Path) -> None:
    text, place = YAML_CASES[case]
    weights, architecture = save_network(tmp_path)
    architecture.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=place) as caught:
        load_checkpoint(weights, architecture=architecture)
    assert str(caught.value).startswith(f"{architecture} is not YAML")
    with pytest.raises(ConfigError, match=place) as wrong:
        load_config({}, architecture)
    assert str(wrong.value).startswith(f"{architecture}: is not valid YAML")
    assert len(str(caught.value)) < 800


def test_the_command_line_refuses_a_billion_laughs(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    architecture.write_text(LAUGHS)
    output = predict("inspect", weights, "--architecture", architecture, code=2)
    assert f"{architecture} is not YAML that is data alone: line 5" in output


def test_aliases_within_bounds_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: [*a, *a]\n") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}


def test_keys_that_are_not_text(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("1: 2\n")
    assert f"{file}: is not valid YAML of keys and values: the key 1 is not text" in refused(
        ConfigError, lambda: load_config({}, file)
    )
    weights, architecture = save_network(tmp_path)
    architecture.write_text(yaml.safe_dump({"architecture": {**TINY_3D, 5: 6, None: 7}}))
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert f"{architecture}: in the architecture the key 5 is not text" in message


def test_many_mistakes_are_counted_not_listed(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("".join(f"key{number}: 1\n" for number in range(3000)))
    with pytest.raises(ConfigError, match="and 2983 more mistakes") as caught:
        load_config({}, file)
    assert len(str(caught.value)) < 20_000


# What a YAML says


def architecture_error(tmp_path: Path, document: dict[str, Any]) -> str:
    weights, architecture = save_network(tmp_path)
    architecture.write_text(yaml.safe_dump(document))
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert str(architecture) in message
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_fmaps": 10**9}, "num_fmaps: 1000000000"),
        ({"num_fmaps": 60_000, "fmap_inc_factor": 60}, "3600000 feature maps at the deepest"),
        ({"fmaps_in": 10**60}, "fmaps_in: 100000"),
        ({"downsample_factors": [[64, 64, 64]] * 3}, "multiply to 262144; 4096 is the most"),
        ({"downsample_factors": [[2, 2, 2]] * 100}, "downsample_factors: "),
        ({"kernel_size_down": [[[10**9] * 3]] * 2}, "kernel_size_down: "),
        ({"input_shape": [1, {"x": [1] * 500}, 1]}, "input_shape: "),
        ({"padding": ["x" * 1000] * 1000}, "padding: "),
    ],
)
def test_networks_of_absurd_size(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in architecture_error(tmp_path, {"architecture": {**TINY_3D, **changes}})


def test_a_network_that_is_wider_than_its_weights_takes_no_memory(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    architecture.write_text(yaml.safe_dump({"architecture": {**TINY_3D, "num_fmaps": 50_000}}))
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert f"{weights}: the weights do not fit the architecture" in message


def test_a_pretrained_task_in_itself(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    task = "&t {__type__: PretrainedTaskConfig, sub_task_config: *t}"
    architecture.write_text(yaml.safe_dump({"architecture": TINY_3D}) + f"task: {task}\n")
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert "column 7: an alias stands inside what it names" in message


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"__type__": ["x"] * 1000}, "task ['x', 'x',"),
        ({"__type__": "OneHotTaskConfig", "classes": [["x"]]}, "which is no name"),
        ({"__type__": "OneHotTaskConfig", "classes": ["x"] * 5000}, "at most 4096"),
        ({"__type__": "OneHotTaskConfig", "classes": ["x"], "kernel_size": 10**9}, "kernel_size"),
        ({"__type__": "AffinitiesTaskConfig", "neighborhood": [1]}, "no list of whole numbers"),
        ({"__type__": "AffinitiesTaskConfig", "neighborhood": [[1e9, 0, 0]]}, "whole numbers"),
    ],
)
def test_tasks_with_absurd_values(task: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert message in architecture_error(tmp_path, {"architecture": TINY_3D, "task": task})


# Weights


def state_error(tmp_path: Path, state: dict[str, Any], **options: Any) -> str:
    file = tmp_path / "weights.pt"
    torch.save(state, file, **options)
    message = refused(CheckpointError, lambda: read_weights(file))
    assert str(file) in message
    return message


def quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.qint8)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (quantised, "'w' is a quantised tensor.*before it was quantised"),
        (lambda: torch.eye(3).to_sparse(), r"'w' is a sparse tensor.*\.to_dense\(\)"),
        (lambda: torch.empty(3, device="meta"), "'w' is a meta tensor.*once its weights are in it"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_that_are_no_plain_values(
    tensor: Callable[[], torch.Tensor], message: str, zipped: bool, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": tensor()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=message):
        read_weights(file)
    if tensor is not quantised:
        return
    # Also where everything is unpickled.
    torch.save({"w": tensor(), "x": os.getcwd}, file)
    with pytest.raises(CheckpointError, match=r"'x' is no tensor"):
        read_weights(file, unsafe=True)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    state = torch.load(weights)
    name = "architecture.unet.l_conv.0.conv_pass.0.weight"
    state[name] = state[name].to(dtype)
    torch.save(state, weights)
    message = refused(CheckpointError, lambda: load_checkpoint(weights, architecture=architecture))
    assert f"not floating-point numbers: {name} is {str(dtype).removeprefix('torch.')}" in message
    assert str(weights) in message


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_whose_values_share_memory(zipped: bool, tmp_path: Path) -> None:
    tensor = torch.ones(1000).as_strided((4_000_000_000,), (0,))
    message = state_error(tmp_path, {"w": tensor}, _use_new_zipfile_serialization=zipped)
    assert "its tensors claim 16000000000 bytes, it has" in message
    message = state_error(tmp_path, {"w": torch.ones(9).as_strided((4, 4), (1, 1))})
    assert "'w': its shape (4, 4) with strides (1, 1) has values that share memory" in message


def test_many_tensors_of_one_storage(tmp_path: Path) -> None:
    whole = torch.ones(1_000_000)
    message = state_error(tmp_path, {f"w{number}": whole[:] for number in range(5000)})
    assert "its tensors claim 20000000000 bytes" in message


def test_strides_in_another_order_are_read(tmp_path: Path) -> None:
    tensor = torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d)
    whole = torch.randn(10, 10)
    torch.save({"w": tensor, "part": whole[2:5, 3:7], "scalar": whole[0, 0]}, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")
    assert torch.equal(read["w"], tensor)
    assert torch.equal(read["part"], whole[2:5, 3:7])
    assert torch.equal(read["scalar"], whole[0, 0])


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.uint16, torch.float8_e4m3fn, torch.bool],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_plain_dtype_is_read(dtype: torch.dtype, zipped: bool, tmp_path: Path) -> None:
    state = OrderedDict(w=torch.arange(6).reshape(2, 3).to(dtype), none=torch.empty(0, dtype=dtype))
    state["p"] = torch.nn.Parameter(torch.ones(2))
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    read = read_weights(tmp_path / "w.pt")
    assert read.keys() == state.keys()
    for key, tensor in state.items():
        assert read[key].dtype == tensor.dtype
        assert torch.equal(read[key].view(torch.uint8), tensor.detach().view(torch.uint8))


def rewritten(
    file: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    """Write a zip archive anew, each record as `change` gives it."""
    with zipfile.ZipFile(file) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in records:
            archive.writestr(name, change(name, content))


def test_a_pickle_that_swells(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(3)}, file)
    bomb = b"\x80\x02" + b"]" * (1 << 30 >> 3) + b"."
    rewritten(
        file,
        lambda name, content: bomb if name.endswith("data.pkl") else content,
        zipfile.ZIP_DEFLATED,
    )
    assert file.stat().st_size < 2 << 20
    message = refused(CheckpointError, lambda: read_weights(file))
    assert "data.pkl' is compressed, which torch never does" in message
    rewritten(file, lambda _, content: content)
    message = refused(CheckpointError, lambda: read_weights(file))
    assert f"data.pkl has {len(bomb)} bytes, beyond 4194304" in message


def test_claims_beyond_the_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(300)}, file)
    numel, shape = b"M,\x01", b"M,\x01"
    assert numel == shape

    def larger(name: str, content: bytes) -> bytes:
        # A storage of 300 values becomes one of 10**12; a long integer of the pickle.
        many = b"\x8a\x06" + (10**12).to_bytes(6, "little")
        return content.replace(numel, many, 1) if name.endswith("data.pkl") else content

    rewritten(file, larger)
    message = refused(CheckpointError, lambda: read_weights(file))
    assert "'w': storage '0' is said to have 4000000000000 bytes" in message


def test_damaged_values_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.full((300,), 1.2345)}, file)
    content = bytearray(file.read_bytes())
    place = content.index(struct.pack("<f", 1.2345) * 20)
    content[place + 2] ^= 16
    file.write_bytes(content)
    message = refused(CheckpointError, lambda: read_weights(file))
    assert "Bad CRC-32 for file" in message


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x8c\x01a" + b"\x94" * 10 + b"r\xff\xff\xff\xff" + b".", "holds a str"),
        (b"\x96" + (1 << 60).to_bytes(8, "little") + b"x.", "expected 115"),
        (b"\x8d" + (1 << 60).to_bytes(8, "little") + b"x.", "expected 115"),
        (b"(" * 100_000 + b".", "at byte"),
        (b"}" + b"\x94h\x00h\x00s.", "no state dictionary"),
        (b"]" * 3_000_000 + b".", "more than 300000 steps"),
        (
            b"(" + b"N" * 50_000 + b"t\x94" + b"cbuiltins\nset\nh\x00R0" * 30_000 + b".",
            "50000 arguments",
        ),
        (
            b"(" + b"N" * 50_000 + b"l\x94" + b"cdacapo.store.weights_store\nWeights\n)\x81"
            b"}X\x01\x00\x00\x00ah\x00sb" * 20_000 + b".",
            "holds a NoneType",
        ),
        (b"N" + b"\x94" + b"h\x00h\x00\x86\x94h\x01h\x01\x86" * 100 + b".", "holds a tuple"),
    ],
)
def test_pickles_that_only_take_memory(program: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(3)}, file)
    pickled = b"\x80\x04" + program
    rewritten(file, lambda name, data: pickled if name.endswith("data.pkl") else data)
    assert message in refused(CheckpointError, lambda: read_weights(file))


def test_a_safetensors_header_beyond_the_file(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    message = refused(CheckpointError, lambda: read_weights(file))
    assert f"{file} cannot be read as safetensors: its header is said to have" in message


# Arrays


def array_error(path: Path) -> str:
    message = refused(ArrayError, lambda: open_input(path))
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5"])
def test_an_empty_input(kind: str, tmp_path: Path) -> None:
    path = write_array(tmp_path, kind, np.zeros((4, 4, 4), np.uint8), FUNLIB)
    name, key = {
        "zarr2": (".zarray", "shape"),
        "zarr3": ("zarr.json", "shape"),
        "n5": ("attributes.json", "dimensions"),
    }[kind]
    write_json(path / name, {key: [4, 0, 4]})
    assert "is empty: its shape is (4, 0, 4)" in array_error(path)


def test_an_empty_input_ends_a_plan(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    raw = write_volume(tmp_path / "volume.zarr", np.zeros((0, 8, 8), np.uint8))
    output = predict(
        *("plan", "--checkpoint", weights, "--architecture", architecture, "--input", raw),
        *("--output", tmp_path / "out.zarr/a"),
        code=2,
    )
    assert f"{raw} is empty: its shape is (0, 8, 8)" in output


METADATA = {
    "digits": ('{"voxel_size": [' + "9" * 400 + ", 4, 4]}", "the number 9999999999 ... .* 400"),
    "large": ('{"voxel_size": [1e40, 4, 4]}', "'voxel_size' of raw/.zattrs holds 1e.40, which is"),
    "NaN": ('{"voxel_size": [NaN, 4, 4]}', "holds nan, which is not a finite number"),
    "deep": ('{"a": ' + "[" * 100_000, "nested deeper than 64"),
    "deep and whole": ('{"a": ' + "[" * 80 + "]" * 80 + "}", "nested deeper than 64"),
    "no UTF-8": ('{"a": "\udcff"}', "is not UTF-8"),
    "half": ('{"a": "\\ud800"}', "unpaired surrogate"),
    "cut": ('{"voxel_size": [4, 4', "line 1 column 21"),
    "a list": ("[1]", "holds a JSON list; an object is needed"),
    "text": ('{"voxel_size": ["4", 4, 4]}', "holds '4', which is not a number"),
    "long": ('{"voxel_size": [' + "1," * 50_000 + "1]}", "has 50001 numbers"),
}


@pytest.mark.parametrize("case", METADATA)
def test_attributes_that_are_refused_say_where(case: str, tmp_path: Path) -> None:
    text, place = METADATA[case]
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8))
    (path / ".zattrs").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ArrayError, match=place):
        open_input(path)
    array_error(path)


def test_metadata_of_a_gigabyte_are_not_read(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr3", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    os.truncate(path / "zarr.json", 8 << 30)
    assert f"{path}/zarr.json: it has more than 16 MiB" in array_error(path)


def test_metadata_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr3", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    (path / "zarr.json").unlink()
    os.mkfifo(path / "zarr.json")
    assert f"{path}/zarr.json: it is not a regular file" in array_error(path)


def test_chunks_of_absurd_size(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"chunks": [10_000] * 3, "shape": [20_000] * 3})
    message = array_error(path)
    assert "has chunks of (10000, 10000, 10000) voxels, 1000000000000 bytes each" in message
    assert "at most 4 GiB can be read. Store it in smaller chunks" in message


def test_large_chunks_are_not_decoded_for_a_sample(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"chunks": [1000] * 3, "shape": [2000] * 3})
    assert sample_digests(open_input(path)) == {}


def test_a_volume_with_more_chunks_than_can_be_counted(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.ones((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"shape": [10**12] * 3})
    array = open_input(path)
    assert missing_sample(array, (0, 0, 0), array.shape) == (63, 64)


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"compressor": {"id": "jpegxl", "level": 3}})
    assert "jpegxl" in array_error(path)


def test_a_scale_of_many_transformations(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8))
    scale = {"type": "scale", "scale": [1e29, 1e29, 1e29]}
    dataset = {"path": "raw", "coordinateTransformations": [scale] * 100_000}
    axes = [{"name": name, "type": "space", "unit": "meter"} for name in "zyx"]
    write_json(path.parent / ".zgroup", {"zarr_format": 2})
    write_json(path.parent / ".zattrs", {"multiscales": [{"axes": axes, "datasets": [dataset]}]})
    assert "multiscales[0].datasets[0] of .zattrs has 100000 transformations" in array_error(path)
    dataset["coordinateTransformations"] = [scale] * 9
    write_json(path.parent / ".zattrs", {"multiscales": [{"axes": axes, "datasets": [dataset]}]})
    assert "is not between 1e-30 and 1e+30 nm" in array_error(path)


def test_an_output_that_claims_more_channels(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr" / "a"
    create_output(output_spec(path))
    write_json(path / "zarr.json", {"shape": [2**32, 5, 9, 14]})
    message = refused(ArrayError, lambda: open_output(path))
    assert f"{path} has 4294967296 channels in chunks of 2" in message


# Values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("roi", "[1/0:100,:,:]", "'1/0:100' is not BEGIN:END in nm (1/0 divides by zero)"),
        ("roi", "[0:1e999999999,:,:]", "has too many digits"),
        ("roi", "[" + "9" * 4000 + ":,:,:]", "has too many digits"),
        ("voxel_size", "1e99999999,4,4", "one length in nm"),
        ("normalize", "range:nan,1", "both numbers must be finite"),
        ("normalize", "range:nan,nan", "both numbers must be finite"),
        ("normalize", "range:-inf,1", "both numbers must be finite"),
        ("normalize", "range:0,1e-320", "HIGH - LOW must be between 1e-30 and 1e+30"),
        ("normalize", "range:-1e308,1e308", "HIGH - LOW must be between"),
        ("normalize", "zscore:0,inf", "both numbers must be finite"),
        ("normalize", "zscore:0,1e-320", "STD must be between 1e-30 and 1e+30"),
        ("normalize", "zscore:1e40,1", "no number may be beyond 1e+30"),
        ("output_range", "0,1e-320", "HIGH - LOW must be between"),
        ("output_range", [0, 10**400], "write LOW,HIGH"),
        ("memory", "9" * 400, "at most"),
        ("wall_time", "9" * 400 + "h", "write hours:minutes:seconds"),
        ("block_shape", [10**30, 1, 1], "every size must be at most"),
        ("block_timeout", float("inf"), "finite"),
        ("input", "a\0b", "control characters"),
        ("output", "x" * 300 + ".zarr/a", "each name in it 255"),
        ("architecture", "x/" * 3000, "at most 4000 bytes"),
    ],
)
def test_values_without_bounds(key: str, value: object, message: str) -> None:
    given = {**NEEDED, "output_dtype": "uint8", key: value}
    text = refused(ConfigError, lambda: load_config(given))
    assert message in text
    assert f"--{key.replace('_', '-')}" in text


def test_the_command_line_names_a_division_by_zero() -> None:
    output = predict("plan", "--roi", "[1/0:100,:,:]", code=2)
    assert "--roi '[1/0:100,:,:]'" in output
    assert "1/0 divides by zero" in output


def test_json_is_bounded() -> None:
    with pytest.raises(MalformedError, match="more than 16 MiB"):
        parse_json(b" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(MalformedError, match="more than 1000000 values"):
        parse_json("[" + "0," * 1_000_000 + "0]")
    with pytest.raises(MalformedError, match="more than 1000000 values"):
        parse_json(b"[" + (b"[" * 400 + b"]" * 400 + b",") * 5000 + b"0]")
    with pytest.raises(MalformedError, match="Infinity stands where a finite number is needed"):
        parse_json('{"a": Infinity}', finite=True)
    assert parse_json('{"a": [1, 2.5, "\\u00e9", null]}') == {"a": [1, 2.5, "é", None]}


def test_what_is_shown_is_short() -> None:
    assert len(shown(["x" * 10_000] * 10_000)) < 1500
    assert shown("\x1b[31m") == repr("\x1b[31m")
    assert shown([1, (2, 3)]) == "[1, (2, 3)]"


# Mutated files of every kind


@pytest.mark.slow
def test_mutated_files_are_opened_or_refused(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "tests/support/fuzz_files.py", "--count", "40", "--save", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.dumps(result.stdout).count("MiB") >= 20
