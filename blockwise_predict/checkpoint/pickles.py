"""Pickles of weights, read as data: a small interpreter that builds plain values only.

A pickle is a program for a stack machine, and Python's unpickler calls whatever it names. This one
knows lists, dictionaries, numbers, text, and the names that torch, numpy and DaCapo use for tensors
and optimizer states. It refuses any other name and never calls one: a tensor becomes a
`StoredTensor`, which says where its values are, so that it can be checked before memory is
allocated.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from blockwise_predict.checkpoint.stored import (
    Global,
    Placeholder,
    PlainWeights,
    Storage,
    StoredTensor,
    UnsupportedTensor,
)
from blockwise_predict.config.untrusted import MalformedError

# A tensor takes about 300 bytes: a thousand tensors with optimizer state stay below 1 MiB.
MAX_PICKLE_BYTES = 4 << 20
# A tensor takes about 30 steps.
MAX_STEPS = 300_000
# Per call. A pickle can use one long tuple in a million calls.
_MAX_ARGUMENTS = 16

DACAPO_WEIGHTS = "dacapo.store.weights_store.Weights"
_ALLOWED_NAMES = re.compile(
    r"""
    _codecs\.encode | builtins\.(bytearray|complex|set) | collections\.(Counter|OrderedDict)
    | torch\.(Size|Tensor|device|nn\.parameter\.Parameter|serialization\._get_layout)
    | torch\.(cuda\.)?[A-Z]\w*(Storage|Tensor) | torch\.storage\.(Typed|Untyped)Storage
    | torch\.(bfloat|bool|bits|complex|float|q?u?int|per_(tensor|channel)_)\w*
    | torch\._utils\._rebuild_\w+ | torch\._tensor\._rebuild_from_type_v2
    | numpy\.(_core|core)\.multiarray\.scalar | numpy\.dtype | numpy\.dtypes\.\w+DType
    """,
    re.VERBOSE,
)
_UNSUPPORTED_TENSORS = {
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a meta tensor, which has no values",
}


class RefusedNameError(MalformedError):
    """A pickle needs `name`, which is not plain data."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def read_pickle(stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
    """Read the pickle at a stream's position; returns its value and its storages by key.

    Raises RefusedNameError for a name that is not plain data, and MalformedError with the byte's
    position for anything else.
    """
    return PickleMachine().run(stream)


class PickleMachine:
    """The stack machine. Calls of names not in `_CONSTRUCTORS` give a `Placeholder`."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        # The stack below each mark.
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, Storage] = {}

    def run(self, stream: io.BytesIO) -> tuple[Any, dict[str, Storage]]:
        """Execute the pickle up to its STOP."""
        place = stream.tell()
        try:
            for step, (code, argument, position) in enumerate(pickletools.genops(stream)):
                place = position or 0
                if step == MAX_STEPS:
                    raise MalformedError(f"its pickle has more than {MAX_STEPS} steps")
                if code.name == "STOP":
                    return self._stack.pop(), self._storages
                self._step(code, argument)
        except MalformedError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
            raise MalformedError(f"at byte {place} of its pickle ({_first_line(error)})") from None
        raise MalformedError("its pickle is truncated")

    def _step(self, code: pickletools.OpcodeInfo, argument: Any) -> None:
        stack = self._stack
        match code.name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._below.append(stack)
                self._stack = []
            case "POP" if stack:
                stack.pop()
            case "POP" | "POP_MARK":
                self._pop_mark()
            case "DUP":
                stack.append(stack[-1])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[code.name])
            case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT" | "EMPTY_SET":
                stack.append({"LIST": [], "TUPLE": (), "DICT": {}, "SET": []}[code.name[6:]])
            case "LIST" | "FROZENSET":
                values = self._pop_mark()
                self._stack.append(values)
            case "TUPLE":
                values = self._pop_mark()
                self._stack.append(tuple(values))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [stack.pop() for _ in range(int(code.name[-1]))]
                stack.append(tuple(values[::-1]))
            case "DICT":
                values = self._pop_mark()
                self._stack.append(_dictionary(values))
            case "APPEND":
                value = stack.pop()
                _instance(stack[-1], list).append(value)
            case "APPENDS" | "ADDITEMS":
                values = self._pop_mark()
                _instance(self._stack[-1], list).extend(values)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _instance(stack[-1], dict).update(_dictionary([key, value]))
            case "SETITEMS":
                values = self._pop_mark()
                _instance(self._stack[-1], dict).update(_dictionary(values))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_global(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(f"{_instance(module, str)}.{_instance(name, str)}"))
            case "INST" | "OBJ":
                values = self._pop_mark()
                called = _global(argument.replace(" ", ".", 1)) if argument else values.pop(0)
                self._stack.append(_make(called, values))
            case "REDUCE" | "NEWOBJ":
                arguments = _instance(stack.pop(), tuple)
                stack.append(_make(stack.pop(), arguments))
            case "NEWOBJ_EX":
                keywords, arguments = stack.pop(), _instance(stack.pop(), tuple)
                stack.append(_make(stack.pop(), (*arguments, keywords)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], PlainWeights):
                    # Not copied, because a million objects may share one state.
                    stack[-1].attributes = _instance(state, dict)
            case "BINPERSID":
                stack.append(self._storage(*stack.pop()[:5]))
            case _ if argument is not None and not code.stack_before:
                # A number, text or bytes.
                stack.append(argument)
            case _:
                raise MalformedError(f"it uses {code.name}, which weights files do not use")

    def _pop_mark(self) -> list[Any]:
        """Remove the topmost mark and the values above it; returns these."""
        values, self._stack = self._stack, self._below.pop()
        return values

    def _storage(self, tag: str, kind: Global, key: str, _location: str, count: int) -> Storage:
        if tag != "storage":
            raise MalformedError("it refers to an object that is not a torch storage")
        storage = Storage(
            _instance(key, str), _instance(kind, Global).name.rpartition(".")[2], _count(count)
        )
        if self._storages.setdefault(storage.key, storage) != storage:
            raise MalformedError(f"it describes the storage {key[:20]!r} in two ways")
        return storage


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:100] or type(error).__name__


def _instance(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a count is not a whole number")
    return value


def _sizes(values: Any) -> tuple[int, ...]:
    # torch has no more than 64 axes.
    return tuple(_count(value) for value in _instance(values, tuple)[:64])


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    """A dictionary from alternating keys and values.

    Keys other than plain scalars are replaced: hashing a deeply nested tuple could take forever.
    """
    plain = (str, int, float, bytes, bool, type(None))
    return {
        key if isinstance(key, plain) else Placeholder(): value
        for key, value in zip(items[::2], items[1::2], strict=True)
    }


def _global(name: str) -> Global:
    if name != DACAPO_WEIGHTS and not _ALLOWED_NAMES.fullmatch(name):
        raise RefusedNameError(name)
    return Global(name)


def _make(called: Any, arguments: Sequence[Any]) -> Any:
    """The value that stands for a call of a name."""
    name = _instance(called, Global).name
    if len(arguments) > _MAX_ARGUMENTS:
        raise ValueError(f"a call with {len(arguments)} arguments")
    if name == "collections.OrderedDict":
        return {}
    if name == DACAPO_WEIGHTS:
        return PlainWeights()
    return _CONSTRUCTORS.get(name.rpartition(".")[2], _placeholder)(*arguments)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    return StoredTensor(_instance(storage, Storage), _count(offset), _sizes(shape), _sizes(strides))


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _grad: Any,
    _hooks: Any,
    dtype: Any,
    *_: Any,
) -> StoredTensor:
    return StoredTensor(
        _instance(storage, Storage),
        _count(offset),
        _sizes(shape),
        _sizes(strides),
        _instance(dtype, Global).name,
    )


def _first(value: Any, *_: Any) -> Any:
    """The first argument: for a parameter, its data."""
    return value


def _from_type(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """The tensor that an instance of a tensor subclass is made from."""
    return _make(function, _instance(arguments, tuple))


def _placeholder(*_: Any) -> Placeholder:
    return Placeholder()


def _unsupported(kind: str) -> Callable[..., UnsupportedTensor]:
    return lambda *_: UnsupportedTensor(kind)


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "Size": _first,
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _first,
    "_rebuild_parameter_with_state": _first,
    "_rebuild_from_type_v2": _from_type,
    "_rebuild_device_tensor_from_numpy": _unsupported("a tensor of an unsupported device"),
    "_rebuild_wrapper_subclass": _unsupported("a tensor of a wrapper subclass"),
    **{name: _unsupported(kind) for name, kind in _UNSUPPORTED_TENSORS.items()},
}
