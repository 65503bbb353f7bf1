"""Checkpoints of every kind, found and read; and what is said about those that are wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
import zarr
from safetensors.torch import save_file
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig
from blockwise_predict.checkpoint import Head, TrainedModel, open_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.shared import shared_path

ARCHITECTURE: dict[str, Any] = {
    "__type__": "CNNectomeUNetConfig",
    "name": "tiny",
    "input_shape": (20, 20),
    "_eval_shape_increase": (8, 8),
    "fmaps_in": 1,
    "fmaps_out": 3,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [(2, 2)],
}
TASK: dict[str, Any] = {"__type__": "AffinitiesTaskConfig", "neighborhood": [(1, 0), (0, 1)]}


class DaCapoModel(nn.Module):
    """Layers registered twice, as DaCapo's model does."""

    def __init__(self, architecture: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.prediction_head = head
        self.chain = nn.Sequential(architecture, head)


def dacapo_model(head: nn.Module | None = None, **changes: Any) -> DaCapoModel:
    settings = {**ARCHITECTURE, **changes}
    settings["eval_shape_increase"] = settings.pop("_eval_shape_increase")
    del settings["__type__"]
    torch.manual_seed(0)
    unet = CNNectomeUNet(CNNectomeUNetConfig(**settings))
    return DaCapoModel(unet, head or nn.Conv2d(3, 2, 1)).eval()


def write_run(base: Path, iterations: tuple[int, ...] = (100,)) -> Path:
    """A DaCapo base folder with one run, `net`; its YAML has DaCapo's tuple tags."""
    document = base / "configs" / "runs" / "net.yaml"
    document.parent.mkdir(parents=True)
    # PyYAML's default Dumper writes tuples as DaCapo does.
    text = yaml.dump({"architecture_config": ARCHITECTURE, "task_config": TASK, "name": "net"})
    assert "!!python/tuple" in text
    document.write_text(text)
    folder = base / "net" / "checkpoints" / "iterations"
    folder.mkdir(parents=True)
    for number in iterations:
        torch.save({"model": dacapo_model().state_dict(), "optimizer": {}}, folder / str(number))
    return base / "net"


def write_yaml(folder: Path, content: Any) -> Path:
    file = folder / "arch.yaml"
    file.write_text(yaml.dump(content))
    return file


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_a_run_folder_gives_its_latest_iteration(tmp_path: Path) -> None:
    run = write_run(tmp_path, (900, 1000, 100))
    model = open_checkpoint(run)
    assert (model.run, model.iteration) == ("net", 1000)
    assert model.path == str(run / "checkpoints" / "iterations" / "1000")
    assert open_checkpoint(run, iteration=100).iteration == 100
    assert model.head == Head("affinities", 1, 2, "Sigmoid")
    assert model.channel_names == ("aff_1_0", "aff_0_1")
    assert model.output_range == (0, 1)
    assert model.architecture.eval_shape_increase == (8, 8)
    assert model.num_parameters == sum(p.numel() for p in dacapo_model().parameters())
    described = model.architecture_dict()
    assert described == json.loads(json.dumps(described))
    assert described["downsample_factors"] == [[2, 2]]


def test_an_iteration_file_finds_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path)
    file = run / "checkpoints" / "iterations" / "100"
    assert open_checkpoint(file).run == "net"
    assert open_checkpoint(file).iteration == 100
    monkeypatch.chdir(run)
    assert open_checkpoint(Path("checkpoints/iterations/100")).run == "net"
    assert open_checkpoint(".").run == "net"


def test_the_network_is_dacapos(tmp_path: Path) -> None:
    built = open_checkpoint(write_run(tmp_path)).build()
    assert not built.training
    x = torch.rand(2, 1, 24, 20)
    with torch.inference_mode():
        expected = torch.sigmoid(dacapo_model().chain(x))
        torch.testing.assert_close(built(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "form",
    [
        {"architecture_config": ARCHITECTURE, "task_config": TASK},
        {"architecture": plain(ARCHITECTURE), "task": plain(TASK)},
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
def test_bare_weights_with_an_architecture(
    suffix: str, form: dict[str, Any], tmp_path: Path
) -> None:
    file, state = tmp_path / f"weights.{suffix}", dacapo_model().state_dict()
    if suffix == "safetensors":
        save_file({key: value.clone() for key, value in state.items()}, file)
    else:
        torch.save(state, file)
    model = open_checkpoint(file, architecture=write_yaml(tmp_path, form))
    assert (model.run, model.iteration) == (None, None)
    assert model.sha256 == open_checkpoint(write_run(tmp_path / "base")).sha256


@pytest.mark.parametrize(
    "prefix", ["", "unet.", "module.unet.", "_orig_mod.", "architecture.unet."]
)
def test_bare_weights_without_a_head(prefix: str, tmp_path: Path) -> None:
    state = dacapo_model().architecture.unet.state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "weights.pt")
    model = open_checkpoint(
        tmp_path / "weights.pt", architecture=write_yaml(tmp_path, plain(ARCHITECTURE))
    )
    assert model.head is None
    assert model.channel_names == ("channel_0", "channel_1", "channel_2")
    assert model.output_range is None
    assert model.build()(torch.rand(1, 1, 20, 20)).shape == (1, 3, 4, 4)


def test_newer_keys_of_a_super_resolving_network(tmp_path: Path) -> None:
    model = dacapo_model(upsample_factors=[(2, 2)])
    architecture = {**ARCHITECTURE, "upsample_factors": [(2, 2)]}
    document = write_yaml(tmp_path, {"architecture": architecture, "task": TASK})
    # Newer versions put the bare module into the chain.
    chain = nn.Sequential(model.architecture.unet, model.prediction_head).state_dict()
    torch.save({f"chain.{key}": value for key, value in chain.items()}, tmp_path / "new.pt")
    torch.save(model.state_dict(), tmp_path / "old.pt")
    new, old = (
        open_checkpoint(tmp_path / name, architecture=document) for name in ("new.pt", "old.pt")
    )
    assert new.sha256 == old.sha256
    assert new.shapes.scale == (2, 2)


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    document = write_yaml(tmp_path, plain(ARCHITECTURE))
    state = dacapo_model().architecture.state_dict()
    hashes = []
    for number in range(3):
        file = tmp_path / f"{number}.pt"
        if number == 2:
            next(iter(state.values())).view(-1)[0] += 1e-6
        torch.save(dict(reversed(state.items())) if number else state, file)
        hashes.append(open_checkpoint(file, architecture=document).sha256)
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 64


def test_half_precision_weights_are_run_in_float32(tmp_path: Path) -> None:
    state = dacapo_model().architecture.state_dict()
    torch.save({key: value.bfloat16() for key, value in state.items()}, tmp_path / "w.pt")
    model = open_checkpoint(
        tmp_path / "w.pt", architecture=write_yaml(tmp_path, plain(ARCHITECTURE))
    )
    assert model.build()(torch.rand(1, 1, 20, 20)).dtype == torch.float32
    assert model.sha256


@pytest.mark.parametrize(
    ("task", "head", "names"),
    [
        (
            {"__type__": "OneHotTaskConfig", "classes": ["bg", "cell"]},
            Head("one_hot", 3, 2, None),
            ("bg", "cell"),
        ),
        (
            {"__type__": "OneHotTaskConfig", "classes": ["bg", "cell"], "kernel_size": 1},
            Head("one_hot", 1, 2, None),
            ("bg", "cell"),
        ),
        (
            {"__type__": "DistanceTaskConfig", "channels": ["ecs", "pm"]},
            Head("distance", 1, 2, None),
            ("ecs", "pm"),
        ),
        (
            {"__type__": "InnerDistanceTaskConfig", "channels": ["ecs", "pm"]},
            Head("inner_distance", 1, 2, None),
            ("ecs", "pm"),
        ),
        (
            {"__type__": "HotDistanceTaskConfig", "channels": ["ecs", "pm"], "kernel_size": None},
            Head("hot_distance", 3, 4, None),
            ("ecs", "pm", "ecs_distance", "pm_distance"),
        ),
        (
            {"__type__": "PretrainedTaskConfig", "weights": "w", "sub_task_config": TASK},
            Head("affinities", 1, 2, "Sigmoid"),
            ("aff_1_0", "aff_0_1"),
        ),
    ],
)
def test_heads_are_those_of_dacapos_tasks(
    task: dict[str, Any], head: Head, names: tuple[str, ...], tmp_path: Path
) -> None:
    reference = dacapo_model(nn.Conv2d(3, head.channels, head.kernel_size))
    torch.save(reference.state_dict(), tmp_path / "w.pt")
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": task})
    model = open_checkpoint(tmp_path / "w.pt", architecture=document)
    assert (model.head, model.channel_names) == (head, names)
    x = torch.rand(1, 1, 28, 28)
    with torch.inference_mode():
        expected = reference.chain(x)
        if head.activation:
            expected = torch.sigmoid(expected)
        torch.testing.assert_close(model.build()(x), expected, rtol=0, atol=0)
    assert model.shapes.output_shape((28, 28)) == tuple(expected.shape[2:])
    assert model.output_range == ((0, 1) if head.activation else None)


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


def test_two_copies_of_a_layer_must_agree(tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in dacapo_model().state_dict().items()}
    state["chain.1.bias"] += 1
    torch.save(state, tmp_path / "w.pt")
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": TASK})
    with pytest.raises(CheckpointError, match=r"prediction_head\.bias and chain\.1\.bias"):
        open_checkpoint(tmp_path / "w.pt", architecture=document)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
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
    with pytest.raises(CheckpointError, match="no iterations"):
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


def both_key_styles() -> list[TrainedModel]:
    base = shared_path("data/dacapo")
    return [
        open_checkpoint(base / "flyem_affs"),
        open_checkpoint(
            base / "flyem_affs_newer_keys.pt", architecture=base / "configs/runs/flyem_affs.yaml"
        ),
    ]


def test_the_reference_predictions_come_out_of_both_key_styles() -> None:
    expected_file = np.load(shared_path("data/flyem-medulla-sample1-expected.npz"))
    raw = zarr.open_array(shared_path("data/flyem-medulla.zarr") / "sample1" / "raw", mode="r")
    old, new = both_key_styles()
    assert (old.run, old.iteration) == ("flyem_affs", 4600)
    assert old.sha256 == new.sha256
    names = [name for name in expected_file if name.endswith("_begin_voxels")]
    assert names
    begin = [int(b) for b in expected_file[names[0]]]
    expected = expected_file[names[0].removesuffix("_begin_voxels")][:, :24, :24, :24]
    # The context in voxels, and output voxels at multiples of the period of the input's origin.
    low = [context // 2 for context in old.shapes.context]
    phase = [b % p for b, p in zip(begin, old.shapes.period, strict=True)]
    first = [b - p - c for b, p, c in zip(begin, phase, low, strict=True)]
    size = [s + c for s, c in zip((28, 28, 28), old.shapes.context, strict=True)]
    crop = raw[tuple(slice(b, b + s) for b, s in zip(first, size, strict=True))]
    tile = torch.from_numpy(np.asarray(crop, np.float32) / 255)[None, None]
    for model in (old, new):
        with torch.inference_mode():
            output = model.build()(tile)[0].numpy()
        inside = output[(slice(None), *(slice(p, p + 24) for p in phase))]
        np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-5)
