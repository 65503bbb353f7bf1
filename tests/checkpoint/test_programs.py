"""Files with programs: what they hold is read as data, and nothing but operators is run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.programs import Dilated, Flat, lively, save_exported, save_script


class Writing(torch.nn.Module):
    """Maps a file, which makes it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file(self.path, shared=True, size=1)


def test_torchscript_with_an_operator_that_writes_files_is_refused(tmp_path: Path) -> None:
    file = save_script(Writing(tmp_path / "written"), tmp_path / "net.ts")
    with pytest.raises(CheckpointError, match=r"nothing in it was run: .* names from_file"):
        open_checkpoint(file)
    assert not (tmp_path / "written").exists()


def rewritten(file: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """The archive with one record changed."""
    target = file.with_name(f"other{file.suffix}")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(target, "w") as archive:
        for record in source.infolist():
            data = source.read(record)
            archive.writestr(record, change(data) if record.filename.endswith(name) else data)
    return target


def test_an_operator_in_setstate_is_seen_before_anything_is_loaded(tmp_path: Path) -> None:
    """torch would run it while it loads the file."""
    file = save_script(lively(Flat()), tmp_path / "net.ts")
    path = tmp_path / "written"
    hidden = f"""
  def __setstate__(self, state: int) -> None:
    _0 = torch.from_file("{path}", True, 1)
    return None
"""
    hostile = rewritten(file, "programs.py", lambda text: text + hidden.encode())
    with pytest.raises(CheckpointError, match="from_file"):
        open_checkpoint(hostile)
    assert not path.exists()


@pytest.mark.parametrize("target", ["torch.hub.load", "torch.ops.aten.from_file.default"])
def test_an_exported_program_cannot_name_anything_but_operators(
    target: str, tmp_path: Path
) -> None:
    file = save_exported(lively(Flat()), tmp_path / "net.pt2", (1, 20, 20), dynamic=False)

    def change(data: bytes) -> bytes:
        model = json.loads(data)
        model["graph_module"]["graph"]["nodes"][0]["target"] = target
        return json.dumps(model).encode()

    hostile = rewritten(file, "models/model.json", change)
    with pytest.raises(CheckpointError, match=f"nothing in it was run: it names '{target}'"):
        open_checkpoint(hostile)


def test_texts_of_an_exported_program_are_not_evaluated(tmp_path: Path) -> None:
    """torch.export.load would evaluate the sizes of dynamic axes, and unpickle the example."""
    file = save_exported(lively(Flat()), tmp_path / "net.pt2", (1, 20, 20), dynamic=True)
    made = tmp_path / "made"
    call = f"__import__('pathlib').Path('{made}').touch()"

    def change(data: bytes) -> bytes:
        model = json.loads(data)
        for value in model["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = call
        return json.dumps(model).encode()

    hostile = rewritten(file, "models/model.json", change)
    assert open_checkpoint(hostile).in_channels == 1
    assert not made.exists()


@pytest.mark.parametrize("suffix", [".ts", ".pt2", ".onnx"])
def test_a_damaged_file_is_a_message(suffix: str, tmp_path: Path) -> None:
    network, file = lively(Flat()), tmp_path / f"net{suffix}"
    if suffix == ".onnx":
        file.write_bytes(b"\x08\x07not a network")
    elif suffix == ".ts":
        save_script(network, file)
        file = rewritten(file, "data.pkl", lambda data: data[: len(data) // 2])
    else:
        save_exported(network, file, (1, 20, 20), dynamic=False)
        file = rewritten(file, "models/model.json", lambda data: data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cannot be"):
        open_checkpoint(file)


def test_a_program_is_probed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = save_script(lively(Dilated()), tmp_path / "net.ts")
    first = open_checkpoint(file)
    monkeypatch.setattr(
        "blockwise_predict.checkpoint.programs.open.probe_network",
        lambda *_: pytest.fail("probed again"),
    )
    again = open_checkpoint(file)
    assert again.shapes == first.shapes
    assert again.sha256 == first.sha256
    # The same network in another file, with other weights, is another one.
    other = save_script(lively(Dilated(), seed=1), tmp_path / "other.ts")
    with pytest.raises(pytest.fail.Exception):
        open_checkpoint(other)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
