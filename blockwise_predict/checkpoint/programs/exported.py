"""Programs of torch.export (.pt2), read as data: their graph is a list of operators to call.

`torch.export.load` evaluates texts of the file as Python and unpickles constants, so it is not
used. The graph is JSON; each of its nodes names an operator, which must be one of `operators`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from blockwise_predict.checkpoint.archive import has_record, read_records
from blockwise_predict.checkpoint.probing.probe import Hints
from blockwise_predict.checkpoint.probing.sizes import Candidate
from blockwise_predict.checkpoint.programs.graph import DTYPES, GraphNetwork, Node, UserInput
from blockwise_predict.checkpoint.programs.loaded import Loaded, candidates_of
from blockwise_predict.checkpoint.programs.module import JoinedOutputs
from blockwise_predict.config.untrusted import MalformedError, parse_json
from blockwise_predict.errors import CheckpointError, shown

_KIND = "torch.export"
_MODEL = "models/model.json"
_WEIGHTS = ("data/weights/", "data/weights/model_weights_config.json")
_CONSTANTS = ("data/constants/", "data/constants/model_constants_config.json")


def is_exported(file: Path) -> bool:
    """Whether a file is an archive of torch.export."""
    return has_record(file, "models/")


def load_exported(file: Path) -> Loaded:
    """The program of a file of torch.export.

    Raises CheckpointError for a file that is damaged, or holds something else than a graph of the
    operators of `operators` with one input.
    """
    try:
        _, records = read_records(file)
        return _load(records)
    except (MalformedError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as torch.export's: {error}.") from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise CheckpointError(f"{file} {error}") from None
        raise CheckpointError(
            f"{file} cannot be read as torch.export's: its graph is not of the form that is known "
            f"({type(error).__name__}: {shown(str(error))}). Save it again with torch "
            f"{torch.__version__}."
        ) from None


def _load(records: dict[str, bytes]) -> Loaded:
    if _MODEL not in records:
        raise MalformedError(f"it has no {_MODEL}; save it with torch.export.save of torch 2.8 on")
    graph_module = parse_json(records[_MODEL])["graph_module"]
    weights = {**_tensors(records, *_WEIGHTS), **_tensors(records, *_CONSTANTS)}
    graph = graph_module["graph"]
    bound, user_input = _inputs(graph_module["signature"]["input_specs"], graph["tensor_values"])
    network = GraphNetwork(
        nodes=[Node.of(node) for node in graph["nodes"]],
        weights={name: weights[key] for name, key in bound.items()},
        user_input=user_input,
        outputs=graph["outputs"],
    )
    return Loaded(
        kind=_KIND,
        module=JoinedOutputs(network).eval().requires_grad_(False),
        sha256=_digest(records),
        hints=_hints(user_input, weights),
        weights=weights,
    )


def _inputs(
    specs: list[dict[str, Any]], values: Mapping[str, Any]
) -> tuple[dict[str, str], UserInput]:
    """Names in the graph of weights, with their keys; and the input."""
    bound, given = {}, []
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            given.append(content["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            bound[content["arg"]["name"]] = content[f"{kind}_name"]
        else:
            raise CheckpointError(f"has an input of kind {shown(kind)}, which is not supported.")
    if len(given) != 1:
        raise CheckpointError(f"takes {len(given)} inputs; a network must take one tensor.")
    return bound, UserInput.of(given[0], values[given[0]]["sizes"])


def _tensors(records: dict[str, bytes], folder: str, config: str) -> dict[str, torch.Tensor]:
    """The weights or constants that a table in the archive lists."""
    if config not in records:
        raise MalformedError(f"it has no {config}; save it with torch.export.save of torch 2.8 on")
    return {
        name: _tensor(name, records[folder + entry["path_name"]], entry)
        for name, entry in parse_json(records[config])["config"].items()
    }


def _tensor(name: str, data: bytes, entry: Mapping[str, Any]) -> torch.Tensor:
    if entry["use_pickle"]:
        raise CheckpointError(
            f"was refused, and nothing in it was run: its {shown(name)} is a pickle, not a tensor."
        )
    meta = entry["tensor_meta"]
    dtype = DTYPES[meta["dtype"]]
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    if not data:
        return torch.empty(sizes, dtype=dtype)
    values = torch.frombuffer(bytearray(data), dtype=dtype)
    return torch.as_strided(values, sizes, strides, meta["storage_offset"]["as_int"])


def _hints(user_input: UserInput, weights: Mapping[str, torch.Tensor]) -> Hints:
    sizes = user_input.sizes
    if not 4 <= len(sizes) <= 5:
        raise CheckpointError(
            f"takes an input of {len(sizes)} axes; a network must take (batch, channels, spatial "
            "axes), 2-D or 3-D."
        )
    dims, channels = len(sizes) - 2, sizes[1]
    candidates = [one for one in candidates_of(weights) if one.dims == dims]
    if channels is not None:
        candidates = [Candidate(dims, channels)]
    fixed = [size is not None for size in sizes[2:]]
    return Hints(candidates, tuple(user_input.example[2:]), fixed)


def _digest(records: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(records):
        if name == _MODEL or name.startswith((_WEIGHTS[0], _CONSTANTS[0])):
            digest.update(f"{name} {len(records[name])}\n".encode())
            digest.update(records[name])
    return digest.hexdigest()
