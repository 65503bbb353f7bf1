"""Weights made to harm are refused at once; unusual ones that are sound are read."""

from __future__ import annotations

import os
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from blockwise_predict.checkpoint import load_checkpoint
from blockwise_predict.checkpoint.unpickle import read_weights
from blockwise_predict.errors import CheckpointError
from tests.support.networks import save_network
from tests.support.refusals import refused

pytestmark = pytest.mark.usefixtures("bounded")


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
