"""Checkpoints and documents that do not fit, or are missing: what is said about them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.dacapo_runs import ARCHITECTURE, TASK, dacapo_model, write_run, write_yaml
from tests.support.programs import save_script
from tests.support.shared import ROOT


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architecture": {**ARCHITECTURE, "__type__": "DummyArchitectureConfig"}}, "Dummy"),
        (
            {"architecture": {**ARCHITECTURE, "fmaps": 3}},
            "unknown keys .*: fmaps. Known: name",
        ),
        ({"architecture": {**ARCHITECTURE, "fmaps_in": None}}, "lacks fmaps_in"),
        ({"architecture": {**ARCHITECTURE, "fmaps_in": "one"}}, "fmaps_in: 'one'"),
        ({"architecture": {**ARCHITECTURE, "padding": "zero"}}, "padding is 'zero'"),
        ({"architecture": {**ARCHITECTURE, "downsample_factors": [2]}}, r"factors: \[2\]"),
        ({"architecture": {**ARCHITECTURE, "downsample_factors": []}}, r"factors: \[\]"),
        (
            {"architecture": {**ARCHITECTURE, "input_shape": (20, 20, 20)}},
            "differ in their number of axes",
        ),
        ({"architecture": ARCHITECTURE, "task": {"__type__": "DummyTaskConfig"}}, "Affinities"),
        ({"architecture": ARCHITECTURE, "task": {"neighborhood": [(1, 0)]}}, "has no key __type__"),
        ({"architecture": ARCHITECTURE, "task": "affinities"}, "must be a mapping"),
        ({"architecture": ARCHITECTURE, "task": {"__type__": "OneHotTaskConfig"}}, "lacks classes"),
        (
            {"architecture": ARCHITECTURE, "task": {**TASK, "neighborhood": [(1, 0, 0)]}},
            "must have 2 axes",
        ),
        (["a list"], "must be a mapping"),
    ],
)
def test_a_wrong_document_is_explained(document: Any, message: str, tmp_path: Path) -> None:
    torch.save(dacapo_model().state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(tmp_path / "w.pt", architecture=write_yaml(tmp_path, document))
    assert "arch.yaml" in str(caught.value)


def test_yaml_with_other_python_tags_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    mark = tmp_path / "executed"
    document = tmp_path / "configs" / "runs" / "net.yaml"
    document.write_text(f"a: !!python/object/apply:os.mkdir ['{mark}']\n{document.read_text()}")
    with pytest.raises(CheckpointError, match=r"python/object/apply:os\.mkdir"):
        open_checkpoint(run)
    assert not mark.exists()


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = dacapo_model().state_dict()
    torch.save(state, tmp_path / "w.pt")

    def refused(changes: dict[str, Any], task: dict[str, Any] | None = TASK) -> str:
        document: dict[str, Any] = {"architecture": {**ARCHITECTURE, **changes}}
        if task:
            document["task"] = task
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(tmp_path / "w.pt", architecture=write_yaml(tmp_path, document))
        return str(caught.value)

    assert "add its task" in refused({}, None)
    assert "batch_norm in the YAML" in refused({"batch_norm": True})
    assert "use_attention in the YAML" in refused({"use_attention": True})
    message = refused({"num_fmaps": 4})
    assert "architecture.unet.l_conv.0.conv_pass.0.weight (2, 1, 3, 3) instead of (4," in message
    assert "of another run" in message
    torch.save(dacapo_model().architecture.state_dict(), tmp_path / "w.pt")
    assert "missing: prediction_head.weight" in refused({})
    assert "num_heads in the YAML" in refused({"num_heads": 2}, None)


def test_a_half_copied_file_is_named(tmp_path: Path) -> None:
    torch.save(dacapo_model().state_dict(), tmp_path / "whole.pt")
    (tmp_path / "w.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:3000])
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": TASK})
    with pytest.raises(CheckpointError, match="its end is missing, as in an incomplete copy"):
        open_checkpoint(tmp_path / "w.pt", architecture=document)


def test_a_single_network_has_no_other_iteration(tmp_path: Path) -> None:
    folder = ROOT / "tests" / "data" / "cellmap" / "sigmoid"
    assert open_checkpoint(folder, iteration=1000).iteration == 1000
    with pytest.raises(CheckpointError, match="a single network, of iteration 1000"):
        open_checkpoint(folder, iteration=50)
    save_script(nn.Conv3d(1, 1, 3), tmp_path / "net.ts")
    for options in ({}, {"factory": "nothing.py:build"}):
        with pytest.raises(CheckpointError, match=r"net\.ts holds a single network\. Leave"):
            open_checkpoint(tmp_path / "net.ts", iteration=50, **options)


def test_what_describes_itself_needs_no_architecture(tmp_path: Path) -> None:
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": TASK})
    for name in ("cellmap/sigmoid", "bioimage/v0_5"):
        with pytest.raises(CheckpointError, match=f"{name} describes its own network.* Leave"):
            open_checkpoint(ROOT / "tests" / "data" / name, architecture=document)
    with pytest.raises(CheckpointError, match=r"--factory n\.py:build builds the network; only"):
        open_checkpoint(tmp_path / "w.pt", architecture=document, factory="n.py:build")


def test_a_factory_that_fails_says_where_in_the_users_code(tmp_path: Path) -> None:
    code = "import torch\ndef build():\n    return torch.nn.Conv2d(1, 1, 3)(torch.rand(2))\n"
    (tmp_path / "n.py").write_text(code)
    with pytest.raises(CheckpointError, match=r"n\.py, line 3\.$"):
        open_checkpoint(tmp_path / "w.pt", factory=f"{tmp_path}/n.py:build")
    with pytest.raises(CheckpointError, match=r"there is no file .*m\.py\.$"):
        open_checkpoint(tmp_path / "w.pt", factory=f"{tmp_path}/m.py:build")


def test_two_copies_of_a_layer_must_agree(tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in dacapo_model().state_dict().items()}
    state["chain.1.bias"] += 1
    torch.save(state, tmp_path / "w.pt")
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": TASK})
    with pytest.raises(CheckpointError, match=r"prediction_head\.bias and chain\.1\.bias"):
        open_checkpoint(tmp_path / "w.pt", architecture=document)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, (100, 200))
    with pytest.raises(CheckpointError, match=r"iteration 150: .* 100, 200"):
        open_checkpoint(run, iteration=150)
    with pytest.raises(CheckpointError, match=rf"base folder.*{run}"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        open_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="goes with a run folder"):
        open_checkpoint(run / "checkpoints" / "iterations" / "100", iteration=200)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no network found.*It holds nothing"):
        open_checkpoint(tmp_path / "empty")
    shutil.copy(run / "checkpoints" / "iterations" / "100", tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"--architecture arch\.yaml"):
        open_checkpoint(tmp_path / "w.pt")
    (tmp_path / "configs" / "runs" / "net.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"net\.yaml is missing"):
        open_checkpoint(run)


def test_arguments_of_other_types_are_explained(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (None, {}),
        (5, {}),
        (run, {"iteration": "latest"}),
        (run, {"iteration": 1.5}),
        (run, {"architecture": 3}),
    ]
    for path, options in wrong:
        with pytest.raises(CheckpointError, match="are paths, the iteration is a whole number"):
            open_checkpoint(path, **options)
    assert open_checkpoint(run, iteration=np.int64(100)).iteration == 100  # type: ignore[arg-type]


def test_a_path_that_the_system_refuses_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_checkpoint(tmp_path / ("x" * 5000))
