"""YAML documents of runs and architectures, read as data."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from blockwise_predict.architectures import CNNectomeUNetConfig, UNetShapes
from blockwise_predict.errors import CheckpointError

_COUNTS = ("fmaps_out", "fmaps_in", "num_fmaps", "fmap_inc_factor")
_FLAGS = ("constant_upsample", "use_attention", "batch_norm")
# How deep lists of voxel counts are nested: a shape, shapes, shapes per level.
_NESTED = {
    "input_shape": 1,
    "eval_shape_increase": 1,
    "downsample_factors": 2,
    "upsample_factors": 2,
    "kernel_size_down": 3,
    "kernel_size_up": 3,
}


class _TupleLoader(yaml.SafeLoader):
    """PyYAML's safe loader, and the one Python tag that DaCapo writes."""

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        """A `!!python/tuple`, with whatever it holds complete."""
        if not isinstance(node, yaml.SequenceNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a python/tuple must be a sequence", node.start_mark
            )
        return tuple(self.construct_sequence(node, deep=True))


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _TupleLoader.construct_tuple)


def read_document(file: Path) -> dict[str, Any]:
    """A YAML mapping; CheckpointError if it cannot be read, is none, or holds other Python tags."""
    try:
        # A subclass of SafeLoader: makes tuples and YAML's own kinds, nothing else.
        content = yaml.load(file.read_text(), Loader=_TupleLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}).") from None
    except yaml.YAMLError as error:
        raise CheckpointError(f"{file} is not YAML that is data alone: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must be a mapping of keys to values.")
    return content


def split_document(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Architecture and task of a DaCapo run, of a mapping with `architecture` and perhaps `task`,
    or of an architecture alone.
    """
    for architecture, task in (("architecture_config", "task_config"), ("architecture", "task")):
        if isinstance(document.get(architecture), dict):
            return document[architecture], document.get(task)
    return document, None


def parse_architecture(mapping: dict[str, Any], origin: Path) -> CNNectomeUNetConfig:
    """The configuration in a mapping.

    Raises CheckpointError that names missing and unknown keys, wrong values, and levels or axes
    that do not go together.
    """
    values = dict(mapping)
    kind = values.pop("__type__", "CNNectomeUNetConfig")
    if kind != "CNNectomeUNetConfig":
        raise CheckpointError(
            f"{origin}: architecture {kind} is not supported, only CNNectomeUNetConfig."
        )
    if "_eval_shape_increase" in values:
        values["eval_shape_increase"] = values.pop("_eval_shape_increase")
    values.setdefault("name", origin.stem)
    known = {field.name: field for field in fields(CNNectomeUNetConfig)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise CheckpointError(
            f"{origin}: an architecture has no key {', '.join(unknown)}. Known: {', '.join(known)}."
        )
    needed = [name for name, field in known.items() if field.default is MISSING]
    missing = [name for name in needed if values.get(name) is None]
    if missing:
        raise CheckpointError(f"{origin}: the architecture lacks {', '.join(missing)}.")
    _check_values(values, origin)
    dims = {len(values["input_shape"]), *map(len, values["downsample_factors"])}
    if len(dims) > 1:
        raise CheckpointError(
            f"{origin}: input_shape {values['input_shape']} and downsample_factors "
            f"{values['downsample_factors']} differ in their number of axes."
        )
    config = CNNectomeUNetConfig(**values)
    try:
        # Raises if levels, kernels and padding do not go together, or if no size is valid.
        _ = UNetShapes.from_config(config).min_input_shape
    except RuntimeError as error:
        raise CheckpointError(f"{origin}: {error}.") from None
    return config


def _check_values(values: dict[str, Any], origin: Path) -> None:
    wrong = [key for key in _COUNTS if not _is_count(values[key])]
    wrong += [key for key in _FLAGS if not isinstance(values.get(key, False), bool)]
    wrong += [
        key
        for key, depth in _NESTED.items()
        if values.get(key) is not None and not _is_nested(values[key], depth, key)
    ]
    if wrong:
        shown = ", ".join(f"{key}: {values[key]!r}" for key in wrong)
        raise CheckpointError(f"{origin}: the architecture has values that cannot be, {shown}.")


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_nested(value: Any, depth: int, key: str) -> bool:
    if depth == 0:
        return _is_count(value, 0 if key == "eval_shape_increase" else 1)
    if not isinstance(value, (list, tuple)) or (not value and key != "upsample_factors"):
        return False
    return all(_is_nested(item, depth - 1, key) for item in value)
