"""torch.export files (.pt2), read as JSON: which operations their program computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from blockwise_predict.checkpoint.recognition.operators import Parameter, Scalar, Tensor, record
from blockwise_predict.checkpoint.recognition.program import (
    INPUT,
    Program,
    Recorder,
    UnreadableProgramError,
)
from blockwise_predict.checkpoint.stored import Storage, StoredTensor
from blockwise_predict.checkpoint.torchfile import strided
from blockwise_predict.config.untrusted import MalformedError, parse_json

_PROGRAM, _WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
_OPERATORS = "torch.ops.aten."
# The serialised numbers of torch's dtypes, as storage classes.
_STORAGES = {
    **{1: "ByteStorage", 2: "CharStorage", 3: "ShortStorage", 4: "IntStorage", 5: "LongStorage"},
    **{6: "HalfStorage", 7: "FloatStorage", 8: "DoubleStorage", 12: "BoolStorage"},
    13: "BFloat16Storage",
}
_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_string")


def read_exported(records: Mapping[str, bytes]) -> Program:
    """The operations and weights of a torch.export archive, as torch 2.8 and later write it.

    Raises UnreadableProgramError for others, and MalformedError for damage.
    """
    if _PROGRAM not in records:
        raise UnreadableProgramError("it was exported by a version of torch before 2.8")
    try:
        content = parse_json(records[_PROGRAM])["graph_module"]
        names = _names(content["signature"]["input_specs"])
        (entering,) = [name for name, value in names.items() if value == Tensor(INPUT)]
        operations = _operations(content["graph"], names)
        sizes = content["graph"]["tensor_values"][entering]["sizes"]
        shape = tuple(size.get("as_int") for size in sizes[2:])
        weights = _weights(parse_json(records[_WEIGHTS])["config"], records)
    except MalformedError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableProgramError(f"its description is an unknown one ({error})") from None
    return Program(operations, weights, shape if all(shape) else None)


def _operations(graph: Any, names: dict[str, Any]) -> Any:
    recorder = Recorder()
    for node in graph["nodes"]:
        if all("as_sym_int" in output for output in node["outputs"]):
            # Arithmetic on sizes that are not fixed.
            continue
        target = str(node["target"])
        if not target.startswith(_OPERATORS):
            raise UnreadableProgramError(f"it calls {target[:40]}")
        arguments = {item["name"]: _value(item["arg"], names) for item in node["inputs"]}
        operator = target.removeprefix(_OPERATORS).partition(".")[0]
        result = record(recorder, operator, [], arguments)
        for output in node["outputs"]:
            names[next(iter(output.values()))["name"]] = result
    (output,) = graph["outputs"]
    result = names[output["as_tensor"]["name"]]
    if result != Tensor(len(recorder.operations) - 1):
        raise UnreadableProgramError("it does not return the result of its last operation")
    return tuple(recorder.operations)


def _names(specs: Any) -> dict[str, Any]:
    """What the graph's inputs stand for."""
    found: dict[str, Any] = {}
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input":
            found[content["arg"]["as_tensor"]["name"]] = Tensor(INPUT)
        else:
            found[content["arg"]["name"]] = Parameter(str(content[f"{kind}_name"]))
    return found


def _value(argument: Any, names: Mapping[str, Any]) -> Any:
    ((kind, content),) = argument.items()
    if kind == "as_tensor":
        return names[content["name"]]
    if kind == "as_tensors":
        return [names[item["name"]] for item in content]
    if kind == "as_none":
        return None
    return content if kind in _PLAIN else Scalar()


def _weights(config: Any, records: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    return dict(_read_weights(config, records))


def _read_weights(config: Any, records: Mapping[str, bytes]) -> Iterator[tuple[str, torch.Tensor]]:
    data: dict[str, torch.Tensor] = {}
    for name, entry in config.items():
        if entry["use_pickle"]:
            raise UnreadableProgramError(f"its weight {name[:40]} is pickled")
        key, meta = str(entry["path_name"]), entry["tensor_meta"]
        if key not in data:
            stored = bytearray(records[f"data/weights/{key}"])
            data[key] = torch.frombuffer(stored or bytearray(1), dtype=torch.uint8)
        shape, strides = (tuple(s["as_int"] for s in meta[part]) for part in ("sizes", "strides"))
        storage = Storage(key, _STORAGES[meta["dtype"]], 0)
        offset = meta["storage_offset"]["as_int"]
        if min((*shape, *strides, offset), default=0) < 0:
            raise MalformedError(f"its weight {name[:40]} has negative sizes")
        yield str(name), strided(StoredTensor(storage, offset, shape, strides), data[key])
