"""Ways to damage a file: its bytes, its JSON or YAML, its zip records."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

import yaml

_NUMBERS = (0, 1, -1, 7, 255, 2**31, 2**32 - 1, 2**62, 2**63, 10**12, 10**18, 10**30, 10**99)
_HUGE = (10**120, 10**400, 1e30, 1e-320, 1e308, -1e308, float("nan"), float("inf"))
_TEXTS = ("", "x", "nan", "1/0", "../..", "\x1b[31m", "\0", "é" * 300, "x" * 20_000, "<f8", "|V9")


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """Bits flipped, bytes set, and ranges cut out, doubled, moved, or put in."""
    mutated = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        place = chance.randrange(len(mutated) + 1)
        length = chance.choice((1, 4, 16, 200))
        match chance.randrange(9):
            case 0 | 1 if place < len(mutated):
                mutated[place] ^= 1 << chance.randrange(8)
            case 2 if place < len(mutated):
                mutated[place] = chance.choice((0, 255, chance.randrange(256)))
            case 3:
                del mutated[place:]
            case 4:
                del mutated[place : place + length]
            case 5:
                mutated[place:place] = mutated[place : place + length]
            case 6:
                origin = chance.randrange(len(mutated) + 1)
                mutated[place : place + length] = mutated[origin : origin + length]
            case 7:
                mutated[place:place] = chance.randbytes(length)
            case _:
                number = chance.choice((0, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
                size = chance.choice((4, 8))
                mutated[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(mutated)


def mutated_json(data: bytes, chance: random.Random) -> bytes:
    """Values of a JSON document replaced, removed, renamed or nested; or its bytes changed."""
    if chance.random() < 0.2:
        return mutated_bytes(data, chance)
    return json.dumps(mutated_tree(json.loads(data), chance)).encode()


def mutated_lines(data: bytes, chance: random.Random) -> bytes:
    """One line of JSON changed, or the bytes of the file."""
    lines = data.splitlines()
    if chance.random() < 0.4:
        return mutated_bytes(data, chance)
    place = chance.randrange(len(lines))
    lines[place] = mutated_json(lines[place], chance)
    return b"\n".join(lines) + b"\n"


def mutated_yaml(data: bytes, chance: random.Random) -> bytes:
    """Values of a YAML document replaced, removed, renamed or nested; or its bytes changed."""
    if chance.random() < 0.4:
        return mutated_bytes(data, chance)
    document = yaml.unsafe_load(data)
    try:
        text = yaml.dump(mutated_tree(document, chance))
    except RecursionError:
        text = data.decode() + "x: " + "[" * 1000
    if chance.random() < 0.1:
        text += chance.choice(
            ("x: 2001-99-99\n", "&a y: [*a]\n", "1: 2\n", "? [1]\n: 2\n", "z: !!int x\n", "- 3\n")
        )
    return text.encode("utf-8", "replace")


def mutated_tree(tree: Any, chance: random.Random) -> Any:
    """A document with some of its parts changed; the given one is left as it is."""
    tree = _thawed(tree)
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = chance.choice(_places(tree))
        if holder is None:
            return _replaced(tree, chance) if chance.random() < 0.3 else tree
        match chance.randrange(6):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 0:
                holder.pop(key)
            case 1 if isinstance(holder, dict):
                holder[chance.choice((*_TEXTS, f"{key}_"))] = holder.pop(key)
            case 1:
                holder.insert(key, holder[key])
            case _:
                holder[key] = _replaced(holder[key], chance)
    return tree


def _thawed(tree: Any) -> Any:
    """With lists for tuples, and no part in two places."""
    if isinstance(tree, dict):
        return {key: _thawed(value) for key, value in tree.items()}
    return [_thawed(item) for item in tree] if isinstance(tree, list | tuple) else tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    places, pending = [(None, None)], [tree]
    while pending:
        item = pending.pop()
        children = list(item.items()) if isinstance(item, dict) else []
        children += enumerate(item) if isinstance(item, list) else []
        for key, child in children:
            places.append((item, key))
            pending.append(child)
    return places


def _replaced(value: Any, chance: random.Random) -> Any:
    match chance.randrange(9):
        case 0:
            return chance.choice((None, True, False, [], {}, [[]], {"x": 1}))
        case 1 | 2:
            return chance.choice(_NUMBERS)
        case 3:
            return chance.choice(_HUGE)
        case 4:
            return chance.choice(_TEXTS)
        case 5:
            return str(value)[:1000]
        case 6:
            most = max(2, 100_000 // len(str(value)[:100_000] or "x"))
            return [value] * min(most, chance.choice((1, 2, 3, 40, 5000)))
        case 7 if isinstance(value, int | float) and not isinstance(value, bool):
            return value * chance.choice((-1, 0.5, 2, 1000, 10**6))
        case 7:
            return {"name": value}
        case _:
            nested = value
            for _ in range(chance.choice((2, 30, 80, 400))):
                nested = [nested]
            return nested


def mutated_zip(data: bytes, chance: random.Random) -> bytes:
    """Records of a zip archive compressed, doubled, left out or changed; or the archive's bytes.

    What is changed within a record has the right checksum, so that it is read.
    """
    if chance.random() < 0.3:
        return mutated_bytes(data, chance)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = [(record.filename, archive.read(record)) for record in archive.infolist()]
    place = next(i for i, (name, _) in enumerate(records) if name.endswith("data.pkl"))
    if chance.random() < 0.3:
        place = chance.randrange(len(records))
    name, content = records[place]
    compression = zipfile.ZIP_STORED
    match chance.randrange(10):
        case 0:
            compression = zipfile.ZIP_DEFLATED
        case 1:
            records.append(records[place])
        case 2:
            del records[place]
        case 3:
            records[place] = (chance.choice(("x", "../x", name + "x")), content)
        case _:
            records[place] = (name, mutated_bytes(content, chance))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in records:
            archive.writestr(name, content)
    return target.getvalue()
