"""What a package says about the network in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TestTensors:
    """Files of an input and of the network's output for it, if that is scaled and shifted."""

    input: Path
    output: Path
    scale: float
    shift: float

    # Not a class of tests.
    __test__ = False


@dataclass(frozen=True, kw_only=True)
class Package:
    """A network's files, and what stands beside them.

    path: of the package, as it was named.
    programs: TorchScript, torch.export and ONNX files of the same network, the preferred one first.
    in_channels, channel_names: None if they are not stated.
    input_shape: spatial shape that the network was trained on, if it is stated.
    normalization: a rule in the notation of `--normalize`; activation: one of `--activation`; None
        if they are not stated.
    voxel_size: of the training data in nm, and what says so.
    export: of DaCapo's export, with a state dictionary and its run's configuration, the folder that
        holds it; None for others.
    test_tensors: None if there are none, or if they need what is not declared.
    record: further facts for the run's provenance and for `predict inspect`, by their labels.
    """

    path: Path
    programs: tuple[Path, ...]
    in_channels: int | None = None
    channel_names: tuple[str, ...] | None = None
    iteration: int | None = None
    input_shape: tuple[int, ...] | None = None
    normalization: str | None = None
    activation: str | None = None
    voxel_size: tuple[float, ...] | None = None
    voxel_size_source: str = ""
    record: Mapping[str, str] = field(default_factory=dict)
    test_tensors: TestTensors | None = None
    export: Path | None = None


ProgramKind = Literal["torchscript", "exported", "onnx"]
PROGRAM_SUFFIXES: Mapping[str, ProgramKind] = {
    ".ts": "torchscript",
    ".torchscript": "torchscript",
    ".pt2": "exported",
    ".onnx": "onnx",
}
"""Kinds of program files, by suffix."""
