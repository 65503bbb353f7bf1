"""TorchScript files, read as text: which operations their program computes.

A traced network is a tree of modules whose `forward` methods are written in a small part of
Python's syntax. They are followed here from one call to the next, with names for tensors and
without any values; nothing is loaded or run.
"""

from __future__ import annotations

import ast
import io
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from blockwise_predict.checkpoint.pickles import PickleMachine
from blockwise_predict.checkpoint.recognition.operators import Parameter, Scalar, Tensor, record
from blockwise_predict.checkpoint.recognition.program import (
    INPUT,
    Program,
    Recorder,
    UnreadableProgramError,
)
from blockwise_predict.checkpoint.stored import StoredTensor
from blockwise_predict.checkpoint.torchfile import strided
from blockwise_predict.config.untrusted import MalformedError

_OWN = "__torch__."
_MAX_DEPTH, _MAX_STEPS = 64, 50_000
_MAX_PICKLE_BYTES = 4 << 20
# Of a module's text, whose syntax tree takes a hundred times as much.
_MAX_TEXT_BYTES = 1 << 20
# What converts a number into a number.
_CONVERSIONS = ("int", "float", "bool")


@dataclass
class ScriptObject:
    """A module of a program: the name of its class, and its attributes."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)


class _ScriptMachine(PickleMachine):
    """Reads the pickle of a module tree, whose classes are named `__torch__...`."""

    def _step(self, code: pickletools.OpcodeInfo, argument: Any) -> None:
        stack = self._stack
        match code.name:
            case "GLOBAL" if argument.replace(" ", ".", 1).startswith(_OWN):
                stack.append(argument.replace(" ", ".", 1))
            case "NEWOBJ" if isinstance(stack[-2], str) and stack[-2].startswith(_OWN):
                stack.pop()
                stack.append(ScriptObject(stack.pop()))
            case "BUILD" if isinstance(stack[-2], ScriptObject):
                state = stack.pop()
                if not isinstance(state, dict):
                    raise TypeError("the state of a module is not a dictionary")
                stack[-1].attributes = state
            case _:
                super()._step(code, argument)


def read_script(records: Mapping[str, bytes]) -> Program:
    """The operations and weights of a TorchScript archive.

    Raises UnreadableProgramError for programs that were not traced, and MalformedError for damage.
    """
    data = records.get("data.pkl", b"")
    if len(data) > _MAX_PICKLE_BYTES:
        raise MalformedError(f"its data.pkl has {len(data)} bytes")
    root, _ = _ScriptMachine().run(io.BytesIO(data))
    if not isinstance(root, ScriptObject):
        raise MalformedError("its data.pkl is not a module")
    follower = _Follower(records)
    result = follower.call(_Module("", root), [Tensor(INPUT)], 0)
    operations = follower.recorder.operations
    if not isinstance(result, Tensor) or result.position != len(operations) - 1:
        raise UnreadableProgramError("it does not return the result of its last operation")
    return Program(tuple(operations), _weights(root, records))


@dataclass(frozen=True)
class _Module:
    path: str
    content: ScriptObject


class _Follower:
    """Follows calls of `forward`."""

    def __init__(self, records: Mapping[str, bytes]) -> None:
        self.recorder = Recorder()
        self._records = records
        self._methods: dict[str, ast.FunctionDef] = {}
        self._steps = 0

    def call(self, module: _Module, arguments: list[Any], depth: int) -> Any:
        """The result of a module's `forward`."""
        if depth > _MAX_DEPTH:
            raise UnreadableProgramError(f"its modules are nested deeper than {_MAX_DEPTH} levels")
        method = self._method(module.content.kind)
        names = [argument.arg for argument in method.args.args]
        if len(names) != len(arguments) + 1:
            raise UnreadableProgramError(f"{module.path or 'it'} takes {len(names) - 1} inputs")
        frame = _Frame(self, dict(zip(names, [module, *arguments], strict=True)), depth)
        for statement in method.body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                return frame.value(statement.value)
            frame.run(statement)
        raise UnreadableProgramError(f"{module.path or 'it'} returns nothing")

    def count(self) -> None:
        """Count a step, of which only so many are taken."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise UnreadableProgramError(f"it has more than {_MAX_STEPS} steps")

    def _method(self, kind: str) -> ast.FunctionDef:
        if kind not in self._methods:
            folder, _, name = kind.rpartition(".")
            text = self._records.get(f"code/{folder.replace('.', '/')}.py", b"")
            if len(text) > _MAX_TEXT_BYTES:
                raise UnreadableProgramError(f"the text of {name[:40]} has {len(text)} bytes")
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                raise UnreadableProgramError("its text is not that of a traced network") from None
            found = [
                method
                for definition in tree.body
                if isinstance(definition, ast.ClassDef) and definition.name == name
                for method in definition.body
                if isinstance(method, ast.FunctionDef) and method.name == "forward"
            ]
            if len(found) != 1:
                raise UnreadableProgramError(f"{name[:40]} has no forward method")
            self._methods[kind] = found[0]
        return self._methods[kind]


@dataclass(frozen=True)
class _Frame:
    """The names within one call."""

    follower: _Follower
    names: dict[str, Any]
    depth: int

    def run(self, statement: ast.stmt) -> None:
        """Follow a statement."""
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise UnreadableProgramError("it has control flow: it was scripted, and not traced")
        value, target = self.value(statement.value), statement.targets[0]
        if not isinstance(target, ast.Name):
            raise UnreadableProgramError("it takes results apart")
        self.names[target.id] = value

    def value(self, node: ast.expr) -> Any:
        """What an expression stands for."""
        self.follower.count()
        match node:
            case ast.Constant():
                return node.value
            case ast.Name() if node.id in self.names:
                return self.names[node.id]
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.List() | ast.Tuple():
                return [self.value(item) for item in node.elts]
            case ast.Attribute(value=ast.Name(id="CONSTANTS")):
                return Scalar()
            case ast.Attribute():
                return self._attribute(self.value(node.value), node.attr)
            case ast.Call():
                return self._call(node)
        raise UnreadableProgramError(f"it has an expression ({ast.unparse(node)[:40]})")

    def _attribute(self, owner: Any, name: Any) -> Any:
        if not isinstance(owner, _Module) or name not in owner.content.attributes:
            raise UnreadableProgramError(f"it takes {str(name)[:40]} of something else")
        path = f"{owner.path}.{name}".lstrip(".")
        content = owner.content.attributes[name]
        if isinstance(content, ScriptObject):
            return _Module(path, content)
        return Parameter(path) if isinstance(content, StoredTensor) else content

    def _call(self, node: ast.Call) -> Any:
        match node.func:
            case ast.Name(id="getattr") if len(node.args) == 2:
                return self._attribute(self.value(node.args[0]), self.value(node.args[1]))
            case ast.Name(id="annotate" | "unchecked_cast") if len(node.args) == 2:
                return self.value(node.args[1])
            case ast.Name(id=name) if name in _CONVERSIONS:
                return Scalar()
            case ast.Attribute(attr="forward"):
                module = self.value(node.func.value)
                if isinstance(module, _Module):
                    arguments = [self.value(argument) for argument in node.args]
                    return self.follower.call(module, arguments, self.depth + 1)
            case ast.Attribute(attr=name):
                values = [self.value(argument) for argument in node.args]
                named = {word.arg or "": self.value(word.value) for word in node.keywords}
                return record(self.follower.recorder, name, values, named)
        raise UnreadableProgramError(f"it calls {ast.unparse(node.func)[:40]}")


def _weights(root: ScriptObject, records: Mapping[str, bytes]) -> dict[str, torch.Tensor]:
    """The tensors of a module tree by their names; those of one storage share memory."""
    data: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    pending = [("", root)]
    for _ in range(_MAX_STEPS):
        if not pending:
            return found
        path, module = pending.pop()
        for name, content in module.attributes.items():
            if isinstance(content, ScriptObject):
                pending.append((f"{path}{name}.", content))
            elif isinstance(content, StoredTensor):
                key = content.storage.key
                if key not in data:
                    stored = bytearray(records.get(f"data/{key}", b""))
                    data[key] = torch.frombuffer(stored or bytearray(1), dtype=torch.uint8)
                found[f"{path}{name}"] = strided(content, data[key])
    raise MalformedError(f"it has more than {_MAX_STEPS} modules")
