"""Several tasks of one network: how they are declared, and how their heads are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from blockwise_predict.checkpoint import UNetModel, open_checkpoint
from blockwise_predict.checkpoint.describe import describe_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.two_tasks import TwoTasks


@pytest.fixture
def job(tmp_path: Path) -> TwoTasks:
    return TwoTasks(tmp_path)


def opened(folder: Path) -> UNetModel:
    model = open_checkpoint(folder / "weights.pt", architecture=folder / "architecture.yaml")
    assert isinstance(model, UNetModel)
    return model


def rewrite(folder: Path, **changes: Any) -> None:
    """Change keys of the document; None removes one."""
    file = folder / "architecture.yaml"
    document = {**yaml.safe_load(file.read_text()), **changes}
    kept = {key: value for key, value in document.items() if value is not None}
    file.write_text(yaml.safe_dump(kept, sort_keys=False))


@pytest.mark.parametrize(("num_heads", "kernel"), [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_the_network_is_that_of_the_file(num_heads: int, kernel: int, tmp_path: Path) -> None:
    job = TwoTasks(tmp_path, num_heads, kernel)
    model = opened(tmp_path)
    assert model.channel_names == tuple(n for o in model.outputs for n in o.channel_names)
    assert [output.output_range for output in model.outputs] == [(0.0, 1.0), (-1.0, 1.0)]
    rows = dict(describe_checkpoint(model))
    assert rows["output lsds"] == "2: lsds_0, lsds_1; -1 to 1, Tanh"
    assert ("2 expanding paths" in rows["layers"]) == (num_heads == 2)
    assert "output affs      0 to 1, Sigmoid" in repr(model)
    x = torch.rand((2, 1, 40, 40, 40))
    with torch.inference_mode():
        found, expected = model.build()(x), job.model(x)
    margin = (kernel - 1) // 2
    inner = slice(margin, -margin or None)
    torch.testing.assert_close(found[:, :3], expected["affs"][..., inner, inner, inner])
    torch.testing.assert_close(found[:, 3:], expected["lsds"])


def test_expanding_paths_without_tasks_are_outputs(tmp_path: Path) -> None:
    job = TwoTasks(tmp_path, num_heads=2)
    torch.save(job.model.unet.state_dict(), tmp_path / "weights.pt")
    rewrite(tmp_path, tasks=None)
    model = opened(tmp_path)
    assert [output.name for output in model.outputs] == ["head_0", "head_1"]
    x = torch.rand((1, 1, 30, 30, 30))
    with torch.inference_mode():
        torch.testing.assert_close(model.build()(x), torch.cat(job.model.unet(x), 1))


def test_a_joint_prediction_head_is_taken_as_it_is(job: TwoTasks) -> None:
    separate = opened(job.folder)
    torch.save(dict(separate.weights), job.folder / "weights.pt")
    assert opened(job.folder).sha256 == separate.sha256


def test_a_head_may_have_any_name(job: TwoTasks) -> None:
    state = job.model.state_dict()
    renamed = {f"module.{key.replace('lsd_head', 'descriptors.0')}": state[key] for key in state}
    torch.save(renamed, job.folder / "weights.pt")
    with pytest.raises(CheckpointError, match=r"no head of task lsds: no layer .*, only unet, aff"):
        opened(job.folder)
    tasks = yaml.safe_load((job.folder / "architecture.yaml").read_text())["tasks"]
    tasks["lsds"]["head"] = "descriptors"
    rewrite(job.folder, tasks=tasks)
    assert len(opened(job.folder).channel_names) == 5


PLAIN = {"channels": 2, "activation": "Tanh"}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "tasks is .*, but must be a mapping"),
        ({"a/b": PLAIN}, "'a/b' cannot name a task"),
        ({"affs": 3}, "task affs must be a mapping"),
        ({"affs": {}}, "task affs lacks channels"),
        ({"affs": {**PLAIN, "kernel": 3}}, "task affs has the unknown key 'kernel'"),
        ({"affs": {**PLAIN, "activation": "Softmax"}}, "can be Sigmoid, Tanh, ReLU, or left out"),
        ({"affs": {**PLAIN, "kernel_size": 0}}, "kernel_size of task affs is 0"),
        ({"affs": {**PLAIN, "channels": 0}}, "task affs: channels is 0, but must be a list"),
        ({"affs": {**PLAIN, "head": 3}}, "head of task affs is 3, not the name of a layer"),
        ({"affs": {"__type__": "Nothing"}}, "task 'Nothing' is not supported"),
        ({"affs": {**PLAIN, "channels": 3}, "lsds": {**PLAIN, "kernel_size": 2}}, "common centre"),
        (
            {"affs": {**PLAIN, "channels": 3, "kernel_size": 3}, "lsds": PLAIN},
            r"the head aff_head has a kernel of \(1, 1, 1\), but kernel_size of task affs is 3",
        ),
        ({"affs": PLAIN, "lsds": PLAIN}, "wrong shape: prediction_head.weight"),
    ],
)
def test_mistakes_in_tasks_are_named(tasks: Any, message: str, job: TwoTasks) -> None:
    rewrite(job.folder, tasks=tasks)
    with pytest.raises(CheckpointError, match=message):
        opened(job.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": {"__type__": "OneHotTaskConfig", "classes": ["a"]}}, "has both task and tasks"),
        ({"num_heads": 3}, "num_heads is 3, but there are 2 tasks"),
        ({"num_heads": 2, "upsample_factors": [[2, 2, 2]]}, "super-resolution has one head"),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], message: str, job: TwoTasks) -> None:
    document = yaml.safe_load((job.folder / "architecture.yaml").read_text())
    architecture = {**document["architecture"], **changes}
    architecture.pop("task", None)
    task = changes.get("task")
    rewrite(job.folder, architecture=architecture, **({"task": task} if task else {}))
    with pytest.raises(CheckpointError, match=message):
        opened(job.folder)


def test_a_head_of_several_convolutions_is_refused(job: TwoTasks) -> None:
    state = job.model.state_dict()
    state["lsd_head.more.weight"] = torch.zeros(2, 2, 1, 1, 1)
    torch.save(state, job.folder / "weights.pt")
    with pytest.raises(CheckpointError, match="lsd_head is not one convolution"):
        opened(job.folder)
