"""The kinds of files that are mutated: how real ones are made, and how `predict` opens them."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import chdir, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
import zarr
from safetensors.torch import save_file

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.checkpoint.describe import describe_checkpoint
from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.io import (
    create_output,
    describe_array,
    missing_sample,
    open_input,
    open_output,
    sample_digests,
)
from blockwise_predict.plan.make import make_plan
from blockwise_predict.records import RunDir
from blockwise_predict.records.address import Address
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.find import find_run
from blockwise_predict.records.ledger import State
from blockwise_predict.records.output_spec import output_specs
from blockwise_predict.records.workerlogs import worker_logs
from tests.support.arrays import write_array
from tests.support.mutations import (
    mutated_bytes,
    mutated_json,
    mutated_lines,
    mutated_yaml,
    mutated_zip,
)
from tests.support.networks import save_network

Mutate = Callable[[bytes, random.Random], bytes]
TASK = {"__type__": "AffinitiesTaskConfig", "neighborhood": [[1, 0, 0], [0, 1, 0]]}


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name in a folder that `prepare` fills, and how it is mutated and opened.

    named: whether every refusal names a path in the folder.
    """

    name: str
    path: str
    prepare: Callable[[Path], None]
    open: Callable[[Path], None]
    mutated: Mutate
    named: bool = True

    def file(self, folder: Path) -> Path:
        """The file in a folder."""
        return folder / self.path


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    weights, _ = save_network(folder, task=TASK)
    state: dict[str, torch.Tensor] = torch.load(weights)
    return state


def _torch_file(folder: Path) -> None:
    save_network(folder, task=TASK)


def _older_torch_file(folder: Path) -> None:
    torch.save(_weights(folder), folder / "weights.pt", _use_new_zipfile_serialization=False)


def _safetensors(folder: Path) -> None:
    save_file(_weights(folder), folder / "weights.safetensors")


def _dacapo_run(folder: Path) -> None:
    """A run folder with one pickled `dacapo.store.weights_store.Weights`, and its YAML."""
    names = ("dacapo", "dacapo.store", "dacapo.store.weights_store")
    modules = {name: ModuleType(name) for name in names}
    kind = type("Weights", (), {"__module__": names[-1]})
    modules[names[-1]].Weights = kind  # type: ignore[attr-defined]
    weights: Any = kind()
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}
    weights.model = _weights(folder)
    weights.optimizer = {"state": moments, "param_groups": [{"lr": np.float64(1e-3)}]}
    iterations = folder / "net" / "checkpoints" / "iterations"
    runs = folder / "configs" / "runs"
    for place in (iterations, runs):
        place.mkdir(parents=True)
    sys.modules.update(modules)
    torch.save(weights, iterations / "100")
    for name in names:
        del sys.modules[name]
    given = yaml.safe_load((folder / "architecture.yaml").read_text())
    shape = tuple(given["architecture"]["input_shape"])
    architecture = {"__type__": "CNNectomeUNetConfig", "name": "net", **given["architecture"]}
    architecture |= {"_eval_shape_increase": shape, "input_shape": shape, "padding": "valid"}
    run = {"name": "net", "architecture_config": architecture, "task_config": given["task"]}
    (runs / "net.yaml").write_text(yaml.dump(run))


def _inspect(name: str) -> Callable[[Path], None]:
    def opened(folder: Path) -> None:
        architecture = None if name == "net" else folder / "architecture.yaml"
        describe_checkpoint(open_checkpoint(folder / name, architecture=architecture))

    return opened


def _array(format_: str, attributes: dict[str, Any], group: dict[str, Any] | None = None) -> Any:
    def prepare(folder: Path) -> None:
        path = write_array(folder, format_, np.ones((8, 9, 10), np.uint8), attributes)
        if group is not None:
            kind = 2 if format_.startswith("zarr2") else 3
            zarr.open_group(str(path.parent), mode="a", zarr_format=kind).attrs.update(group)

    return prepare


def _open_array(folder: Path) -> None:
    path = next(folder.glob("volume.*")) / "raw"
    array = open_input(path)
    describe_array(array)
    array.current_sha256()
    missing_sample(array, (0,) * array.dims, array.shape)
    sample_digests(array)


def _multiscales(version: str) -> dict[str, Any]:
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    transformations = [
        {"type": "scale", "scale": [4.24, 4, 4]},
        {"type": "translation", "translation": [0, 8, 120]},
    ]
    datasets = [{"path": "raw", "coordinateTransformations": transformations}]
    multiscale = {"axes": axes, "datasets": datasets, "name": "raw"}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [multiscale]}}
    return {"multiscales": [{**multiscale, "version": version}]}


FUNLIB = {"voxel_size": [4.24, 4, 4], "offset": [0, 8, 120], "axis_names": ["z", "y", "x"]}
N5 = {
    "resolution": [4, 4, 4.24],
    "offset": [0, 8, 120],
    "units": ["nm", "nm", "nm"],
    "pixelResolution": {"unit": "nm", "dimensions": [4, 4, 4.24]},
    "transform": {"axes": ["z", "y", "x"], "scale": [4.24, 4, 4], "translate": [0, 8, 1]},
}


def _config(folder: Path) -> RunConfig:
    """A configuration with paths from the folder, so that it means the same in another one."""
    save_network(folder, task=TASK)
    write_array(folder, "zarr3", np.ones((40, 40, 40), np.uint8), FUNLIB)
    values = {
        "checkpoint": "weights.pt",
        "architecture": "architecture.yaml",
        "input": "volume.zarr/raw",
        "output": "out.zarr/affs",
        "run_dir": "run",
        "roi": "[0:100,:,8:]",
        "voxel_size": [4.24, 4, 4],
        "normalize": "range:0,255",
        "output_dtype": "uint8",
        "output_range": [0, 1],
        "chunk_shape": [16, 16, 16],
        "block_shape": [32, 32, 32],
        "memory": "2GiB",
        "device": "cpu",
        "precision": "float32",
        "workers": 2,
        "block_timeout": 60.0,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    with chdir(folder):
        return load_config({}, folder / "config.yaml").absolute()


def _plan_config(folder: Path) -> None:
    from blockwise_predict.run.planned import plan_run

    with chdir(folder):
        repr(plan_run(load_config({}, folder / "config.yaml")))


def _records(folder: Path) -> None:
    plan = make_plan(_config(folder)).plan
    run_dir = RunDir(folder / "run")
    run_dir.record(plan, "predict run")
    for spec in output_specs(plan, "predict run"):
        create_output(spec)
    with closing(run_dir.ledger(plan)) as ledger:
        ledger.set(0, State.DONE, 1, 2)
        ledger.set(1, State.FAILED)
    # Whatever its number of blocks is, a ledger has one name here.
    os.link(run_dir.ledger_file(plan), run_dir.path / "ledger.npy")
    for block in (1, 2):
        run_dir.failures.add(Failure(block, "[0:1,0:1,0:1]", 3, "ValueError: x", "trace", None))
    run_dir.events.write("join", worker=1, name="host", log="")
    run_dir.events.write("error", worker=1, block=1, error="ValueError: x")
    run_dir.events.write("leave", worker=1, why="the scheduler ends")
    run_dir.settle_precision(PrecisionChoice("float32"))
    address = Address(host="here", here="127.0.0.1", hosts=(), port=7000, key="PEM")
    (run_dir.path / "server.json").write_text(json.dumps(asdict(address)))
    run_dir.request_workers(3)
    jobs = JobRecord(run_dir)
    jobs.begin("slurm", "predict-abc", {"cores": 1})
    jobs.add("123")


def _open_record(read: Callable[[RunDir], Any]) -> Callable[[Path], None]:
    return lambda folder: read(RunDir(folder / "run"))


def _ledger(run_dir: RunDir) -> None:
    with closing(run_dir.ledger(run_dir.plan())) as ledger:
        ledger.totals()
        ledger.blocks(State.FAILED)
        ledger.records()


def _open_output(folder: Path) -> None:
    output = str(folder / "out.zarr" / "affs")
    opened = open_output(output)
    opened.read((0, 0, 0), (1, 1, 1))
    find_run(output, None)


def _events(run_dir: RunDir) -> None:
    found = worker_logs(run_dir)
    _ = [one.title for one in found.all], found.failed


def _record(name: str, path: str, read: Callable[[RunDir], Any], mutate: Mutate) -> Kind:
    return Kind(name, f"run/{path}", _records, _open_record(read), mutate)


_ALL = (
    Kind(
        "DaCapo checkpoint",
        "net/checkpoints/iterations/100",
        _dacapo_run,
        _inspect("net"),
        mutated_zip,
    ),
    Kind("DaCapo YAML", "configs/runs/net.yaml", _dacapo_run, _inspect("net"), mutated_yaml),
    Kind("state dictionary", "weights.pt", _torch_file, _inspect("weights.pt"), mutated_zip),
    Kind(
        "older state dictionary",
        "weights.pt",
        _older_torch_file,
        _inspect("weights.pt"),
        mutated_bytes,
    ),
    Kind(
        "safetensors",
        "weights.safetensors",
        _safetensors,
        _inspect("weights.safetensors"),
        mutated_bytes,
    ),
    Kind("config YAML", "config.yaml", _config, _plan_config, mutated_yaml, named=False),
    Kind(
        "zarr 2 metadata",
        "volume.zarr/raw/.zarray",
        _array("zarr2", FUNLIB),
        _open_array,
        mutated_json,
    ),
    Kind(
        "zarr 2 attributes",
        "volume.zarr/raw/.zattrs",
        _array("zarr2", {**FUNLIB, "units": ["nm"] * 3, "types": ["space"] * 3}),
        _open_array,
        mutated_json,
    ),
    Kind(
        "zarr 3 metadata",
        "volume.zarr/raw/zarr.json",
        _array("zarr3-sharded", FUNLIB),
        _open_array,
        mutated_json,
    ),
    Kind(
        "N5 metadata", "volume.n5/raw/attributes.json", _array("n5", N5), _open_array, mutated_json
    ),
    Kind(
        "OME-NGFF 0.4",
        "volume.zarr/.zattrs",
        _array("zarr2", {}, _multiscales("0.4")),
        _open_array,
        mutated_json,
    ),
    Kind(
        "OME-NGFF 0.5",
        "volume.zarr/zarr.json",
        _array("zarr3", {}, _multiscales("0.5")),
        _open_array,
        mutated_json,
    ),
    Kind("output metadata", "out.zarr/affs/zarr.json", _records, _open_output, mutated_json),
    _record("plan", "plan.json", lambda run_dir: run_dir.plan().identity(), mutated_json),
    _record("identity", "identity.json", RunDir.identity, mutated_json),
    _record("precision", "precision.json", RunDir.precision, mutated_json),
    _record("address", "server.json", RunDir.address, mutated_json),
    _record("scale", "scale.json", RunDir.requested_workers, mutated_json),
    _record("jobs", "jobs.json", lambda run_dir: JobRecord(run_dir).read(), mutated_json),
    _record("failures", "failures.jsonl", lambda r: r.failures.read(), mutated_lines),
    _record("events", "events.jsonl", _events, mutated_lines),
    _record("ledger", "ledger.npy", _ledger, mutated_bytes),
)
KINDS = {kind.name: kind for kind in _ALL}
