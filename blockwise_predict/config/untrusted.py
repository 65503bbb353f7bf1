"""Text from files that somebody else may have written: bounded before it takes memory.

A few hundred bytes of YAML can expand to gigabytes, and a number may have a million digits. So the
size of a file is limited before it is read, and its depth, nodes and digits while it is parsed.
Errors name the line and column.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from blockwise_predict.errors import shortened, shown

# Metadata of the largest multiscale volumes and plans take some 100 KiB; consolidated metadata of
# a container with thousands of arrays, some MiB.
MAX_JSON_BYTES = 16 << 20
MAX_JSON_VALUES = 1_000_000
# PyYAML reads about 300 KiB a second. Run files of DaCapo take 10 KiB.
MAX_YAML_BYTES = 1 << 20
MAX_DEPTH = 64
# Of a YAML document with its aliases written out.
MAX_YAML_NODES = 10_000
MAX_DIGITS = 100


class MalformedError(ValueError):
    """What is wrong with a text, and where."""


def read_bounded(file: str | Path, limit: int) -> bytes:
    """The content of a file. Raises OSError, and MalformedError beyond `limit` bytes."""
    with open(file, "rb") as handle:
        data = handle.read(limit + 1)
    check_size(len(data), limit)
    return data


def check_size(size: int, limit: int) -> None:
    """Raise MalformedError for a file of more than `limit` bytes."""
    if size > limit:
        raise MalformedError(f"it has more than {limit >> 20} MiB, the most that is read")


def check_regular(status: Any) -> None:
    """Raise MalformedError unless a file is regular: reading a pipe may never end."""
    if not stat.S_ISREG(status.st_mode):
        raise MalformedError("it is not a regular file")


def parse_json(data: bytes | str, *, finite: bool = False) -> Any:
    """A JSON value; `finite` refuses NaN and Infinity, which are not JSON, but are often written.

    Raises MalformedError for anything else, and beyond the bounds of size, depth and digits.
    """
    check_size(len(data), MAX_JSON_BYTES)
    text = data.decode("latin1") if isinstance(data, bytes) else data
    if sum(map(text.count, "[{,")) > MAX_JSON_VALUES:
        raise MalformedError(f"it has more than {MAX_JSON_VALUES} values")
    constant = _refuse_constant if finite else None
    try:
        value = json.loads(data, parse_int=_whole_number, parse_constant=constant)
    except RecursionError:
        raise MalformedError(_TOO_DEEP) from None
    except UnicodeDecodeError as error:
        raise MalformedError(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise MalformedError(str(error)) from None
    _check_tree(value)
    return value


_TOO_MANY_NODES = f"with its aliases written out it has more than {MAX_YAML_NODES} nodes"
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"


def _refuse_constant(text: str) -> NoReturn:
    raise MalformedError(f"{text} stands where a finite number is needed")


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise MalformedError(f"the number {shortened(text, 20)} has {len(text)} digits")
    return int(text)


def _check_tree(value: object) -> None:
    """Raise MalformedError for what is nested too deeply, and for text that is not Unicode."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                below += item
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
        if not level:
            return
    raise MalformedError(_TOO_DEEP)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        place = f"{text[error.start]!a} in {shown(text)}"
        raise MalformedError(f"{place} is an unpaired surrogate of UTF-16") from None


def parse_yaml(data: bytes | str) -> Any:
    """A YAML document that is only data, with tuples as DaCapo writes them.

    Raises MalformedError, with line and column, for anything else, and beyond the bounds of size,
    depth, nodes (aliases written out) and digits.
    """
    check_size(len(data), MAX_YAML_BYTES)
    try:
        # A subclass of SafeLoader: it makes tuples and YAML's own types, nothing else.
        return yaml.load(data, Loader=_BoundedLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise MalformedError(place + shortened(problem)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MalformedError(shortened(" ".join(str(error).split()))) from None


def read_yaml(file: str | Path) -> Any:
    """The document in a YAML file. Raises OSError, and as `parse_yaml`."""
    return parse_yaml(read_bounded(file, MAX_YAML_BYTES))


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, and with the one Python tag that DaCapo writes."""

    def __init__(self, stream: bytes | str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        # Number of nodes and levels of each complete node, with aliases expanded.
        self._extent: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node and all below it, counted."""
        mark = self.peek_event().start_mark
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, _TOO_DEEP, mark)
        if self._nodes > MAX_YAML_NODES:
            raise yaml.composer.ComposerError(None, None, _TOO_MANY_NODES, mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and not is_alias:
            self._extent[id(node)] = self._measured(node)
        return node

    def _measured(self, node: yaml.Node) -> tuple[int, int]:
        children = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        nodes, levels = 1, 0
        for child in children:
            if id(child) not in self._extent:
                problem = "an alias stands inside what it names"
                raise yaml.composer.ComposerError(None, None, problem, child.start_mark)
            nodes += self._extent[id(child)][0]
            levels = max(levels, self._extent[id(child)][1])
        if nodes > MAX_YAML_NODES or levels >= MAX_DEPTH:
            problem = _TOO_MANY_NODES if nodes > MAX_YAML_NODES else _TOO_DEEP
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return nodes, levels + 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A node's value. Raises ConstructorError for a scalar that does not fit its tag."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            kind = node.tag.rpartition(":")[2]
            text = shown(node.value) if isinstance(node.value, str) else "this"
            problem = f"{text} is not a valid {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping. Raises ConstructorError for a key that is not hashable."""
        try:
            return super().construct_mapping(node, deep)  # type: ignore[arg-type]
        except TypeError:
            raise yaml.constructor.ConstructorError(
                None, None, "a key of this mapping holds a list or a mapping", node.start_mark
            ) from None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """A scalar's text."""
        text = super().construct_scalar(node)
        if node.tag == "tag:yaml.org,2002:int" and len(text) > MAX_DIGITS:
            problem = f"the number {shortened(text, 20)} has {len(text)} digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        _check_text(text)
        return text

    def construct_tuple(self, node: yaml.Node) -> tuple[Any, ...]:
        """A `!!python/tuple`, with whatever it holds complete."""
        if not isinstance(node, yaml.SequenceNode):
            raise yaml.constructor.ConstructorError(
                None, None, "a python/tuple must be a sequence", node.start_mark
            )
        return tuple(self.construct_sequence(node, deep=True))


_BoundedLoader.add_constructor("tag:yaml.org,2002:python/tuple", _BoundedLoader.construct_tuple)


def text_keys(mapping: dict[Hashable, Any]) -> dict[str, Any]:
    """The mapping unchanged. Raises a MalformedError that names a key which is not text."""
    others = [key for key in mapping if not isinstance(key, str)]
    if others:
        raise MalformedError(f"the key {shown(others[0])} is not text")
    return mapping  # type: ignore[return-value]
