"""Pickles are data: DaCapo's own are read, and those that would execute something are not."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.checkpoint.unpickle import read_weights
from blockwise_predict.errors import CheckpointError
from tests.support.pickles import MakesFolder

STATE = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.ones(2))


def save_as_dacapo(
    file: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any = None, **options: Any
) -> None:
    """Pickle a `dacapo.store.weights_store.Weights`, as DaCapo does."""
    names = ("dacapo", "dacapo.store", "dacapo.store.weights_store")
    modules = {name: ModuleType(name) for name in names}
    weights = type("Weights", (), {"__module__": names[-1]})
    modules[names[-1]].Weights = weights  # type: ignore[attr-defined]
    instance = weights()
    instance.__dict__.update(model=STATE, optimizer=optimizer or {"state": {}})
    with monkeypatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        torch.save(instance, file, **options)


def assert_state(read: dict[str, torch.Tensor]) -> None:
    assert read.keys() == STATE.keys()
    for key, tensor in STATE.items():
        assert torch.equal(read[key], tensor)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [STATE, {"model": STATE, "optimizer": {"lr": 1e-3}}])
def test_state_dictionaries(content: Any, zipped: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert_state(read_weights(tmp_path / "w.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_dacapos_weights_are_read_without_dacapo(
    zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}},
        "param_groups": [{"lr": np.float64(1e-3), "betas": (0.9, 0.999), "foreach": None}],
    }
    file = tmp_path / "100"
    save_as_dacapo(file, monkeypatch, optimizer, _use_new_zipfile_serialization=zipped)
    assert "dacapo" not in sys.modules
    assert_state(read_weights(file))
    assert "dacapo" not in sys.modules


def test_dacapos_class_is_not_used_even_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_as_dacapo(tmp_path / "100", monkeypatch)
    module = ModuleType("dacapo.store.weights_store")

    class Weights:
        def __new__(cls) -> Any:
            raise AssertionError("DaCapo's code was run")

    module.Weights = Weights  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dacapo.store.weights_store", module)
    assert_state(read_weights(tmp_path / "100"))


def write_malicious(file: Path, kind: str, payload: Any) -> None:
    if kind == "torch":
        torch.save(payload, file)
    elif kind == "old torch":
        torch.save(payload, file, _use_new_zipfile_serialization=False)
    elif kind == "torch, protocol 4":
        torch.save(payload, file, pickle_protocol=4)
    else:
        file.write_bytes(pickle.dumps(payload, protocol=int(kind[-1])))


@pytest.mark.parametrize(
    "kind",
    ["torch", "old torch", "torch, protocol 4", *(f"pickle, protocol {n}" for n in range(6))],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_would_execute_something_is_refused_and_does_not(
    kind: str, nested: bool, tmp_path: Path
) -> None:
    file, mark = tmp_path / "w.pt", tmp_path / "executed"
    payload: Any = MakesFolder(mark)
    write_malicious(file, kind, {"model": STATE, "optimizer": payload} if nested else payload)
    with pytest.raises(CheckpointError) as caught:
        read_weights(file)
    assert not mark.exists()
    message = str(caught.value)
    assert message.startswith(f"{file} was refused, and nothing in it was run")
    if kind == "torch" or not nested:
        assert "os.makedirs" in message
    assert "--unsafe-load-pickle" in message


def test_a_class_of_the_users_own_is_named(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        read_weights(tmp_path / "w.pt")


def test_the_unsafe_flag_unpickles_everything(tmp_path: Path) -> None:
    file, mark = tmp_path / "w.pt", tmp_path / "executed"
    torch.save({"model": STATE, "optimizer": MakesFolder(mark)}, file)
    assert_state(read_weights(file, unsafe=True))
    assert mark.exists()


def test_the_unsafe_flag_says_what_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("laboratory")
    module.Net = type("Net", (), {"__module__": "laboratory"})  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "laboratory", module)
        torch.save({"model": STATE, "net": module.Net()}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"laboratory.*must be installed"):
        read_weights(tmp_path / "w.pt", unsafe=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not weights"),
        ({}, "it is empty"),
        ({"epoch": 3, "net": {}}, "'epoch' is no tensor"),
    ],
)
def test_what_holds_no_weights(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "w.pt")


def test_damaged_safetensors(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for length in range(0, len(whole) - 1, 41):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cannot be read as weights|was refused"):
            read_weights(file)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_at_all_give_a_message(tmp_path_factory: Any, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "random.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_weights(file)
