"""TorchScript files, loaded only if their text names no operator but those that compute.

`torch.jit.load` does not run Python, but it does run the program's own `__setstate__`, and an
operator such as `aten::save` writes files. So the text is read before anything is loaded. Every
word in it counts, also in comments and most texts: where a word could be the name of an operator,
it must be a permitted one. That does not depend on how torch parses the text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from blockwise_predict.checkpoint.archive import has_record, read_records, written
from blockwise_predict.checkpoint.probing.probe import Hints
from blockwise_predict.checkpoint.programs.loaded import Loaded, candidates_of
from blockwise_predict.checkpoint.programs.module import JoinedOutputs
from blockwise_predict.checkpoint.programs.operators import SCRIPT_OPERATORS
from blockwise_predict.config.untrusted import MalformedError
from blockwise_predict.errors import CheckpointError, shortened, shown

_KIND = "TorchScript"
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")
# A line that assigns or raises a plain text. Without quotation marks in the text, it is no code
# even where the line is a part of a longer text.
_MESSAGE = re.compile(
    rb"""^[ ]*(_\d+ = "[^"'\\\n]*"|ops\.prim\.RaiseException\("[^"'\\\n]*"\))$""", re.MULTILINE
)
# Classes of torch's own C++, which a pickle can ask for.
_CLASSES = re.compile(rb"torch.{0,4}classes", re.DOTALL)
# Records that do not change what a program computes, and are not given to torch.
_LEFT_OUT = re.compile(r".*\.debug_pkl|traced_inputs.*|extra/.*|\.data/serialization_id")


def is_torchscript(file: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    return has_record(file, "code/")


def load_torchscript(file: Path) -> Loaded:
    """The program of a TorchScript file.

    Raises CheckpointError for a file that is damaged, or whose program names other operators than
    those of `operators`.
    """
    try:
        folder, found = read_records(file)
    except (MalformedError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as TorchScript: {error}.") from None
    records = {name: data for name, data in found.items() if not _LEFT_OUT.fullmatch(name)}
    _check_text(file, records)
    try:
        module = torch.jit.load(written(folder, records), map_location="cpu")
    except RuntimeError as error:
        reason = shortened(str(error).strip())
        raise CheckpointError(f"{file} cannot be loaded as TorchScript: {reason}") from None
    weights = module.state_dict()
    return Loaded(
        kind=_KIND,
        module=JoinedOutputs(module).eval().requires_grad_(False),
        sha256=_digest(records),
        hints=Hints(candidates_of(weights)),
        weights=weights,
    )


def _check_text(file: Path, records: dict[str, bytes]) -> None:
    for name, data in records.items():
        if name.startswith("code/") and name.endswith(".py"):
            for word in _forbidden(data):
                raise CheckpointError(
                    f"{file} was refused, and nothing in it was run: {shown(name)} in it names "
                    f"{word}, which is not among the operators that a network may use. Build the "
                    "network in Python instead, and name the function with --factory."
                )
        if name.endswith(".pkl") and _CLASSES.search(data):
            raise CheckpointError(
                f"{file} was refused, and nothing in it was run: {shown(name)} in it asks for a "
                "class of torch's own, as quantised networks do. Save the network before it is "
                "quantised."
            )


def _forbidden(text: bytes) -> Iterator[str]:
    """Words that name an operator which is not permitted."""
    words = {word.decode() for word in _WORD.findall(_MESSAGE.sub(b"", text))}
    yield from sorted(words & _registered() - SCRIPT_OPERATORS)
    if "classes" in words:
        yield "torch.classes"


@cache
def _registered() -> frozenset[str]:
    """Names of all operators that torch knows, without their namespaces, and those namespaces that
    hold nothing else."""
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    spaces = {name.partition("::")[0] for name in names} - {"aten", "prim"}
    return frozenset({name.partition("::")[2] for name in names} | (spaces - _ORDINARY))


# Namespaces whose names are ordinary words in the text of networks.
_ORDINARY = frozenset({"quantization", "onnx", "inductor", "export"})


def _digest(records: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(records):
        digest.update(f"{name} {len(records[name])}\n".encode())
        digest.update(records[name])
    return digest.hexdigest()
