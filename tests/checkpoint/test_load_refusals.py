"""Checkpoints and documents that do not fit, or are missing: what is said about them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from blockwise_predict.checkpoint import load_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.dacapo_runs import ARCHITECTURE, TASK, dacapo_model, write_run, write_yaml


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architecture": {**ARCHITECTURE, "__type__": "DummyArchitectureConfig"}}, "Dummy"),
        ({"architecture": {**ARCHITECTURE, "fmaps": 3}}, "no key fmaps.*Known: name"),
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
        ({"architecture": ARCHITECTURE, "task": "affinities"}, "must be a mapping"),
        ({"architecture": ARCHITECTURE, "task": {"__type__": "OneHotTaskConfig"}}, "lacks classes"),
        (
            {"architecture": ARCHITECTURE, "task": {**TASK, "neighborhood": [(1, 0, 0)]}},
            "does not suit a 2-D",
        ),
        (["a list"], "must be a mapping"),
    ],
)
def test_a_wrong_document_is_explained(document: Any, message: str, tmp_path: Path) -> None:
    torch.save(dacapo_model().state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path / "w.pt", architecture=write_yaml(tmp_path, document))
    assert "arch.yaml" in str(caught.value)


def test_yaml_with_other_python_tags_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    mark = tmp_path / "executed"
    document = tmp_path / "configs" / "runs" / "net.yaml"
    document.write_text(f"a: !!python/object/apply:os.mkdir ['{mark}']\n{document.read_text()}")
    with pytest.raises(CheckpointError, match=r"python/object/apply:os\.mkdir"):
        load_checkpoint(run)
    assert not mark.exists()


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = dacapo_model().state_dict()
    torch.save(state, tmp_path / "w.pt")

    def refused(changes: dict[str, Any], task: dict[str, Any] | None = TASK) -> str:
        document: dict[str, Any] = {"architecture": {**ARCHITECTURE, **changes}}
        if task:
            document["task"] = task
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / "w.pt", architecture=write_yaml(tmp_path, document))
        return str(caught.value)

    assert "give its task" in refused({}, None)
    assert "batch_norm in the YAML" in refused({"batch_norm": True})
    assert "use_attention in the YAML" in refused({"use_attention": True})
    message = refused({"num_fmaps": 4})
    assert "architecture.unet.l_conv.0.conv_pass.0.weight (2, 1, 3, 3) instead of (4," in message
    assert "of another run" in message
    torch.save(dacapo_model().architecture.state_dict(), tmp_path / "w.pt")
    assert "missing: prediction_head.weight" in refused({})


def test_two_copies_of_a_layer_must_agree(tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in dacapo_model().state_dict().items()}
    state["chain.1.bias"] += 1
    torch.save(state, tmp_path / "w.pt")
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": TASK})
    with pytest.raises(CheckpointError, match=r"prediction_head\.bias and chain\.1\.bias"):
        load_checkpoint(tmp_path / "w.pt", architecture=document)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, (100, 200))
    with pytest.raises(CheckpointError, match=r"--iteration 150: .* 100, 200"):
        load_checkpoint(run, iteration=150)
    with pytest.raises(CheckpointError, match=rf"base folder.*{run}"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file or folder"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="goes with a run folder"):
        load_checkpoint(run / "checkpoints" / "iterations" / "100", iteration=200)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no iterations"):
        load_checkpoint(tmp_path / "empty")
    shutil.copy(run / "checkpoints" / "iterations" / "100", tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"--architecture arch\.yaml"):
        load_checkpoint(tmp_path / "w.pt")
    (tmp_path / "configs" / "runs" / "net.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"net\.yaml is missing"):
        load_checkpoint(run)
